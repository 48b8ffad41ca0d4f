"""Which cluster, and which namespace of it: as the configuration says, or the kubeconfig where that leaves no choice.

Takes `system.context` and `system.namespace`; gives how to connect, or problems. Taken from: `launcher`, `status`.
Never does: guessing (an ambient context is how the wrong cluster is hit); connecting.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.errors import Problem, error
from launchers.refusal import Unfit

if TYPE_CHECKING:
    from lightkube import AsyncClient

CODE = "kubernetes"
FILE = "~/.kube/config"
IN_CLUSTER = "in-cluster"
REQUEST_S, CONNECT_S = 20.0, 10.0


@dataclass(frozen=True, slots=True)
class Context:
    """A cluster and a namespace."""

    name: str
    namespace: str
    server: str
    _config: Any

    def __str__(self) -> str:
        return f"context {self.name}, namespace {self.namespace} ({self.server})"

    def connect(self) -> AsyncClient:
        """A client of lightkube. Raises lightkube's ConfigError, OSError for certificates that cannot be read."""
        import httpx2
        from lightkube import AsyncClient

        timeout = httpx2.Timeout(REQUEST_S, connect=CONNECT_S)
        return AsyncClient(self._config, namespace=self.namespace, timeout=timeout)


def context_of(system: Mapping[str, Any]) -> Context:
    """What `system` of a configuration means. Raises Unfit."""
    import yaml
    from lightkube.core.exceptions import ConfigError
    from msgspec import MsgspecError

    unread = (ConfigError, OSError, ValueError, LookupError, TypeError, AttributeError, MsgspecError)
    wanted, namespace = system.get("context"), system.get("namespace")
    files = _files()
    if not files:
        return _in_cluster(wanted, namespace)
    try:
        found = {name: config for file in reversed(files) for name, config in _contexts(file).items()}
    except (*unread, yaml.YAMLError) as problem:
        said = " ".join(str(problem).split()) or type(problem).__name__
        raise Unfit([_wrong("system.context", wanted, f"the kubeconfig cannot be read: {said}")]) from problem
    return _chosen(found, wanted, namespace)


def _files() -> list[Path]:
    given = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return given or [path for path in [Path(FILE).expanduser()] if path.is_file()]


def _contexts(file: Path) -> dict[str, Any]:
    """Contexts of one kubeconfig, ready to be used; null for one whose cluster or user is not there."""
    import yaml
    from lightkube import KubeConfig

    data = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    if not isinstance(data, Mapping):
        raise ValueError(f"{file} holds no mapping")
    for user in data.get("users") or ():
        plugin = (user.get("user") or {}).get("exec")
        if isinstance(plugin, dict) and plugin.get("apiVersion") == "client.authentication.k8s.io/v1":
            # lightkube knows the version before, which asks and is answered in the same way.
            plugin["apiVersion"] = "client.authentication.k8s.io/v1beta1"
    config = KubeConfig.from_dict({"contexts": [], "clusters": [], **data}, fname=file)
    return {name: _usable(config, name) for name in config.contexts}


def _usable(config: Any, name: str) -> Any:
    from lightkube.config.models import User

    try:
        found = config.get(name)
    except LookupError:
        return None
    return found if found.user else found._replace(user=User())


def _chosen(found: Mapping[str, Any], wanted: str | None, namespace: str | None) -> Context:
    if not found:
        reason, hint = "the kubeconfig holds no contexts", "log in to the cluster first"
        raise Unfit([_wrong("system.context", wanted, reason, hint)])
    several, problems = len(found) > 1, list[Problem]()
    name, listed = wanted if wanted is not None else next(iter(found)), ", ".join(sorted(found)[:12])
    if wanted is None and several:
        reason = f"the kubeconfig holds {len(found)} contexts ({listed})"
        problems.append(_wrong("system.context", None, reason, "say which is meant"))
    elif name not in found:
        problems.append(_wrong("system.context", wanted, f"the kubeconfig has no such context, but {listed}"))
    elif found[name] is None:
        reason = f"context {name} names a cluster or a user that the kubeconfig does not hold"
        problems.append(_wrong("system.context", wanted, reason, "log in to the cluster again"))
    own = found[name].context.namespace if found.get(name) and not several else None
    if namespace is None and own is None and (several or found[name] is not None):
        reason = "is not said, and " + (
            "the kubeconfig holds several contexts" if several else "neither there"
        )
        problems.append(_wrong("system.namespace", None, reason, "say which is meant; none is guessed"))
    if problems:
        raise Unfit(problems)
    return Context(name, str(namespace or own), found[name].cluster.server, found[name])


def _in_cluster(wanted: str | None, namespace: str | None) -> Context:
    from lightkube import KubeConfig
    from lightkube.core.exceptions import ConfigError

    try:
        config: Any = KubeConfig.from_service_account().get()
    except (ConfigError, KeyError, OSError) as problem:
        reason = f"there is no kubeconfig at {FILE}, and KUBECONFIG is not set"
        raise Unfit([_wrong("system.context", wanted, reason, "log in to the cluster first")]) from problem
    if wanted not in (None, IN_CLUSTER):
        raise Unfit([_wrong("system.context", wanted, "this pod has no kubeconfig", f"use {IN_CLUSTER}")])
    return Context(IN_CLUSTER, str(namespace or config.namespace), config.cluster.server, config)


def _wrong(key: str, value: Any, reason: str, hint: str = "") -> Problem:
    return error(CODE, key, value, reason, hint)
