"""A real cluster in place of the fake one, for tests that take it as it is: a namespace of their own in it.

What only the fake one can be told to do skips the test that wants it.
"""

import json
import os
import shlex
import time
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from . import kinds
from .kinds import Kind
from .store import Object

VARIABLE, OVERRIDES = "SERVIX_TEST_KUBECONFIG", "SERVIX_TEST_OVERRIDES"
MADE = (
    kinds.DGD,
    kinds.JOB,
    kinds.DEPLOYMENT,
    kinds.POD,
    kinds.SERVICE,
    kinds.CONFIG_MAP,
    kinds.SECRET,
    kinds.CLAIM,
)
"""What a run might leave."""
ROOT_CA = "kube-root-ca.crt"


@cache
def resource(kind: Kind) -> Any:
    """lightkube's class of a kind, as plain data."""
    from lightkube.generic_resource import create_global_resource, create_namespaced_resource

    make = create_namespaced_resource if kind.namespaced else create_global_resource
    return make(kind.group, kind.versions[0], kind.name, kind.plural)


class Real:
    """The surface of `Cluster` that asks and does not command."""

    shares_files = False

    def __init__(self, given: Path, root: Path) -> None:
        from lightkube import Client, KubeConfig

        root.mkdir(parents=True, exist_ok=True)
        self.namespace = f"servix-test-{uuid.uuid4().hex[:8]}"
        self.kubeconfig = root / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(_with_namespace(given, self.namespace)))
        self.kubeconfig.chmod(0o600)
        self.client = Client(config=KubeConfig.from_file(str(self.kubeconfig)), field_manager="tests")
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})

    def __enter__(self) -> "Real":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.delete_namespace()
        self.client.close()

    def __getattr__(self, name: str) -> Any:
        import pytest

        return pytest.skip(f"a real cluster has no `{name}`")

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the cluster is like: images and the folder of servix in them."""
        return tuple(shlex.split(os.environ.get(OVERRIDES, "")))

    def create(self, body: Object) -> Object:
        return dict(self.client.create(resource(kinds.of_object(body))(body)))

    def get(self, kind: Kind, name: str) -> Object | None:
        return next((one for one in self.all(kind) if one["metadata"]["name"] == name), None)

    def all(self, kind: Kind) -> list[Object]:
        from lightkube import ApiError

        try:
            return [dict(one) for one in self.client.list(resource(kind))]
        except ApiError as error:
            if error.status.code == 404:
                return []
            raise

    def left(self) -> list[str]:
        found = [(kind, one["metadata"]["name"]) for kind in MADE for one in self.all(kind)]
        return [f"{kind.name}/{name}" for kind, name in found if name != ROOT_CA]

    def wait_until(self, holds: Callable[[], object], timeout_s: float = 20) -> bool:
        """A real cluster takes longer than a fake one."""
        deadline = time.monotonic() + 6 * timeout_s
        while time.monotonic() < deadline:
            if holds():
                return True
            time.sleep(0.5)
        return bool(holds())

    def pods_of_job(self, job: str) -> list[Object]:
        pods = self.all(kinds.POD)
        return [one for one in pods if (one["metadata"].get("labels") or {}).get("job-name") == job]

    def delete_namespace(self) -> None:
        self.client.delete(resource(kinds.NAMESPACE), self.namespace)


def _with_namespace(given: Path, namespace: str) -> Object:
    """The kubeconfig with its current context alone, in this namespace."""
    import yaml

    body = dict(yaml.safe_load(given.read_text()))
    current = next(one for one in body["contexts"] if one["name"] == body["current-context"])
    return {**body, "contexts": [{**current, "context": {**current["context"], "namespace": namespace}}]}
