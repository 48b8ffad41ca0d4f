"""A deployment and its points -> the objects of a Kubernetes cluster, as plain data and as YAML.

Taken from: the plan, which is the same for every kind of system, and the cluster's settings.
Given to: `action=plan`, which writes them, and the launcher, which applies the same.
Never does: asking a cluster anything; deciding what runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler import quote
from compiler.manifests.benchmark import benchmark as _benchmark
from compiler.manifests.benchmark import fitting, results_claim
from compiler.manifests.bound import Names, names_of
from compiler.manifests.components import components_of
from compiler.manifests.names import DIGEST, MANAGED_BY, ROLE, head_of, labels_of, name_of
from compiler.manifests.operator import graph, quantity
from compiler.manifests.plain import plain
from compiler.manifests.pods import LMCACHE
from compiler.manifests.settings import Settings, settings_of
from compiler.manifests.work import TooLong, Work, of_deployment, work_of
from compiler.plan import Deployment, Point
from compiler.search import is_searched

__all__ = [
    "BENCHMARK",
    "STACK",
    "Manifests",
    "Object",
    "Settings",
    "TooLong",
    "Work",
    "benchmark",
    "files",
    "fitting",
    "manifests",
    "settings_of",
    "work_of",
    "yaml_text",
]

Object = dict[str, Any]
STACK, BENCHMARK = "manifests/stack.yaml", "manifests/benchmark.yaml"
"""What is written for a deployment, in its folder of the store."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """What is applied for one deployment."""

    name: str
    namespace: str | None
    """Null: that of the context."""
    stack: tuple[Object, ...]
    """In the order they are applied. The first owns the others: it goes last, and they with it."""
    benchmark: tuple[Object, ...]
    """ConfigMap and Job of the first attempt, at as many points as fit; empty without points. The owner is the
    same."""
    claim: Object | None
    """Results volume that is made where it is missing, and never removed; null: it is the user's."""

    @property
    def owner(self) -> Object:
        """The DynamoGraphDeployment, or the ConfigMap that stands for it."""
        return self.stack[0]


def manifests(deployment: Deployment, points: Sequence[Point], settings: Settings) -> Manifests:
    """Everything of a deployment and its points, those of other deployments left out.

    Raises ValueError for what `rules.kubernetes` refuses, TooLong for a search of more points than a Job is told of.
    """
    own, names = settings.own, names_of(deployment, settings)
    components = components_of(deployment, own.host_network)
    made: Iterable[Object]
    if own.mode == "plain":
        made = plain(deployment, components, settings, names)
    else:
        made = [graph(deployment, components, settings, names)]
    stack = [*made, _head(deployment), *_lmcache(deployment, names)]
    mine = of_deployment(deployment, points)
    return Manifests(
        name_of(deployment),
        settings.system.namespace,
        _placed(stack, settings),
        _first(deployment, mine, settings) if mine else (),
        _claim(settings),
    )


def benchmark(
    deployment: Deployment, points: Sequence[Point], settings: Settings, attempt: int
) -> tuple[Object, ...]:
    """ConfigMap and Job of one attempt at points of a deployment, in the order they are given."""
    return _placed(_benchmark(deployment, points, settings, attempt), settings)


def _first(deployment: Deployment, points: Sequence[Point], settings: Settings) -> tuple[Object, ...]:
    try:
        return benchmark(deployment, points, settings, 1)
    except TooLong:
        if is_searched(points):
            raise
        return benchmark(deployment, fitting(deployment, points, settings, 1), settings, 1)


def files(deployment: Deployment, points: Sequence[Point], settings: Settings) -> dict[str, str]:
    """The same as text, by path: what is applied is what can be read there."""
    made = manifests(deployment, points, settings)
    claim = [made.claim] if made.claim is not None else []
    found = {STACK: yaml_text(made.stack)}
    return found | ({BENCHMARK: yaml_text([*claim, *made.benchmark])} if made.benchmark else {})


def yaml_text(objects: Iterable[Mapping[str, Any]]) -> str:
    """Documents of YAML. Text is quoted throughout: no reader takes `y` or `1e3` for anything else."""
    return "".join(f"---\n{quote.yaml_block(each)}\n" for each in objects)


def _placed(objects: Iterable[Object], settings: Settings) -> tuple[Object, ...]:
    namespace = settings.system.namespace
    if namespace is None:
        return tuple(objects)
    return tuple({**each, "metadata": {**each["metadata"], "namespace": namespace}} for each in objects)


def _head(deployment: Deployment) -> Object:
    """The frontend's pod by name, with every port, from before it is ready: infrastructure is beside it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": head_of(deployment), "labels": labels_of(deployment)},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {**labels_of(deployment), ROLE: "frontend"},
        },
    }


def _lmcache(deployment: Deployment, names: Names) -> list[Object]:
    if deployment.lmcache is None:
        return []
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{name_of(deployment)}-lmcache",
                "labels": labels_of(deployment),
                "annotations": {DIGEST: deployment.digest},
            },
            "data": {LMCACHE: quote.yaml_block(names.tree(deployment.lmcache)) + "\n"},
        }
    ]


def _claim(settings: Settings) -> Object | None:
    results = settings.own.results
    if results.size_gb is None:
        return None
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": quantity(results.size_gb)}},
    }
    if results.storage_class is not None:
        spec["storageClassName"] = results.storage_class
    made = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": results_claim(settings), "labels": {MANAGED_BY: "servix"}},
        "spec": spec,
    }
    return _placed([made], settings)[0]
