"""A deployment without Dynamo's operator: a Deployment for each component, and Services by which they are found.

Takes components whose workers fit one pod (`rules.kubernetes` refuses others). The first object owns the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from compiler.manifests.bound import Names
from compiler.manifests.components import Component
from compiler.manifests.merged import merged
from compiler.manifests.names import DIGEST, ROLE, frontend_of, labels_of, name_of
from compiler.manifests.operator import DISCOVERY, quantity
from compiler.manifests.pods import pod
from compiler.manifests.settings import Settings
from compiler.plan import Deployment

ENABLED = "nvidia.com/dynamo-discovery-enabled"
NAMESPACE = "DYN_NAMESPACE"
OF_THE_POD = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_UID": "metadata.uid"}
"""What Dynamo's discovery by Kubernetes asks of a pod's environment."""


def plain(
    deployment: Deployment, components: Sequence[Component], settings: Settings, names: Names
) -> Iterator[dict[str, Any]]:
    """The owner, then what it owns."""
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(deployment, name_of(deployment)),
        "data": {"deployment": deployment.name},
    }
    discovered = any(p.env.get("DYN_DISCOVERY_BACKEND") == "kubernetes" for p in deployment.processes)
    for component in components:
        yield _deployment(deployment, component, settings, names, discovered)
        if component.role == "frontend":
            yield _frontend(deployment, component)
        if discovered:
            yield _discovered(deployment, component)


def _metadata(deployment: Deployment, name: str, **labels: str) -> dict[str, Any]:
    return {
        "name": name,
        "labels": {**labels_of(deployment), **labels},
        "annotations": {DIGEST: deployment.digest},
    }


def _deployment(
    deployment: Deployment, component: Component, settings: Settings, names: Names, discovered: bool
) -> dict[str, Any]:
    template = pod(deployment, component, settings, names)
    # Two components of a role have pods of their own each.
    template["metadata"]["labels"]["servix.dev/component"] = component.name
    if settings.own.shared_memory_gb is not None and component.role != "frontend":
        template["spec"] = merged(template["spec"], _shared_memory(settings.own.shared_memory_gb))
    if discovered:
        main = template["spec"]["containers"][0]
        main["env"] = sorted([*main["env"], *_discovery(deployment, main["env"])], key=itemgetter("name"))
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(
            deployment, f"{name_of(deployment)}-{component.name}", **{ROLE: component.role}
        ),
        "spec": {
            "replicas": component.replicas,
            "selector": {"matchLabels": _selector(deployment, component)},
            "strategy": {"type": "Recreate"},
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": math.ceil(deployment.ready_timeout_s),
            "template": template,
        },
    }


def _discovery(deployment: Deployment, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a process says of itself. Deployments in one namespace of the cluster have each one of Dynamo's."""
    found: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in OF_THE_POD.items()
    ]
    own = {"name": NAMESPACE, "value": name_of(deployment)}
    return found if any(entry["name"] == NAMESPACE for entry in given) else [own, *found]


def _selector(deployment: Deployment, component: Component) -> dict[str, str]:
    return {**labels_of(deployment), "servix.dev/component": component.name}


def _shared_memory(size_gb: float) -> dict[str, Any]:
    volume = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(size_gb)}}
    mount = {"name": "shm", "mountPath": "/dev/shm"}
    return {"volumes": [volume], "containers": [{"name": "main", "volumeMounts": [mount]}]}


def _frontend(deployment: Deployment, component: Component) -> dict[str, Any]:
    port = component.main.ports["http"].port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(deployment, frontend_of(deployment)),
        "spec": {
            "selector": _selector(deployment, component),
            "ports": [{"name": "http", "port": port, "targetPort": port, "protocol": "TCP"}],
        },
    }


def _discovered(deployment: Deployment, component: Component) -> dict[str, Any]:
    """A Service whose endpoints Dynamo watches: a pod behind it that is ready is found."""
    name = f"{name_of(deployment)}-{component.name}-found"
    port = next(iter(component.main.ports.values())).port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(deployment, name, **{DISCOVERY: "kubernetes", ENABLED: "true"}),
        "spec": {
            "clusterIP": "None",
            "selector": _selector(deployment, component),
            "ports": [{"name": "found", "port": port, "targetPort": port, "protocol": "TCP"}],
        },
    }
