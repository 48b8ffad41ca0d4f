"""A deployment as one DynamoGraphDeployment of Dynamo's operator, in either version of its API.

Both say the same: v1alpha1, for older operators, puts the same pods into other places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.manifests.bound import Names
from compiler.manifests.components import Component
from compiler.manifests.names import DIGEST, labels_of, name_of
from compiler.manifests.pods import pod
from compiler.manifests.settings import Settings
from compiler.plan import Deployment

KIND, GROUP = "DynamoGraphDeployment", "nvidia.com"
FRAMEWORKS = ("sglang", "vllm", "trtllm")
"""Backends that the operator knows; it says nothing of others."""
DISCOVERY = "nvidia.com/dynamo-discovery-backend"
EXECUTOR = "nvidia.com/vllm-distributed-executor-backend"
NVIDIA_GPU = "nvidia.com/gpu"


def graph(
    deployment: Deployment, components: Sequence[Component], settings: Settings, names: Names
) -> dict[str, Any]:
    """The object. Its namespace is left to the caller."""
    version, hints = settings.own.api_version, _hints(deployment, components)
    shape = _components if version == "v1beta1" else _services
    # A simulated engine is of no framework.
    known = deployment.backend in FRAMEWORKS and deployment.engine == "real"
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": KIND,
        "metadata": {
            "name": name_of(deployment),
            "labels": labels_of(deployment),
            "annotations": {DIGEST: deployment.digest, **hints},
        },
        "spec": {
            # Releases differ in which of the two they read.
            **({"annotations": hints} if hints else {}),
            **({"backendFramework": deployment.backend} if known else {}),
            **shape(deployment, components, settings, names),
        },
    }


def _hints(deployment: Deployment, components: Sequence[Component]) -> dict[str, str]:
    """What the operator would do otherwise, and the plan says: how workers are found, and joined over nodes."""
    found = {}
    backends = {process.env.get("DYN_DISCOVERY_BACKEND") for process in deployment.processes}
    if "etcd" in backends:
        found[DISCOVERY] = "etcd"
    if deployment.backend == "vllm" and any(component.node_count > 1 for component in components):
        found[EXECUTOR] = "mp"
    return found


def _components(
    deployment: Deployment, components: Sequence[Component], settings: Settings, names: Names
) -> dict[str, Any]:
    return {"components": [_component(deployment, each, settings, names) for each in components]}


def _component(
    deployment: Deployment, component: Component, settings: Settings, names: Names
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": component.name,
        "type": component.type,
        "replicas": component.replicas,
        "podTemplate": pod(deployment, component, settings, names),
    }
    if (size := shared_memory(component, settings)) is not None:
        found["sharedMemorySize"] = size
    return found | _of_both(component, settings)


def _of_both(component: Component, settings: Settings) -> dict[str, Any]:
    """What is spelled the same in both versions."""
    found: dict[str, Any] = {}
    if component.node_count > 1:
        found["multinode"] = {"nodeCount": component.node_count}
    if settings.own.runtime_version is not None:
        found["runtimeVersionOverride"] = settings.own.runtime_version
    return found


def shared_memory(component: Component, settings: Settings) -> str | None:
    """Size of a worker's /dev/shm; null where the operator's own is left."""
    size_gb = settings.own.shared_memory_gb
    if size_gb is None or component.role == "frontend":
        return None
    return quantity(size_gb)


def quantity(size_gb: float) -> str:
    """GiB as Kubernetes writes them, in whole MiB where they are no whole number.

    >>> quantity(80), quantity(0.5)
    ('80Gi', '512Mi')
    """
    return f"{size_gb:.0f}Gi" if float(size_gb).is_integer() else f"{size_gb * 1024:.0f}Mi"


def _services(
    deployment: Deployment, components: Sequence[Component], settings: Settings, names: Names
) -> dict[str, Any]:
    return {"services": {each.name: _service(deployment, each, settings, names) for each in components}}


def _service(
    deployment: Deployment, component: Component, settings: Settings, names: Names
) -> dict[str, Any]:
    made = pod(deployment, component, settings, names)
    spec = dict(made["spec"])
    main = {k: v for k, v in spec["containers"][0].items() if k != "resources"}
    others = spec.pop("containers")[1:]
    found: dict[str, Any] = {
        **_type(component),
        "replicas": component.replicas,
        "extraPodMetadata": made["metadata"],
        "extraPodSpec": {**spec, **({"containers": others} if others else {}), "mainContainer": main},
    }
    if resources := _resources(made["spec"]["containers"][0].get("resources", {})):
        found["resources"] = resources
    if (size := shared_memory(component, settings)) is not None:
        found["sharedMemory"] = {"size": size}
    return found | _of_both(component, settings)


def _type(component: Component) -> dict[str, str]:
    """Only these very words are understood; any other makes a plain worker of it without a word."""
    if component.type in ("prefill", "decode"):
        return {"componentType": "worker", "subComponentType": component.type}
    return {"componentType": component.type}


def _resources(given: Mapping[str, Any]) -> dict[str, Any]:
    """`limits` and `requests` in the form of v1alpha1, where every quantity is text and others than these custom."""
    own = {"cpu": "cpu", "memory": "memory", NVIDIA_GPU: "gpu"}
    found: dict[str, Any] = {}
    for kind, quantities in given.items():
        if not isinstance(quantities, Mapping):
            found[kind] = quantities
            continue
        known = {own[name]: str(value) for name, value in quantities.items() if name in own}
        custom = {name: str(value) for name, value in quantities.items() if name not in own}
        found[kind] = {**known, **({"custom": custom} if custom else {})}
    return found
