"""Deployments for a Kubernetes cluster: overrides by name, and their objects."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from compiling import plan, told

from compiler.manifests import Manifests, Settings, manifests, settings_of
from compiler.plan import Deployment, Plan

NEEDED = (
    "system.kubernetes.bench.image=registry.example/servix-bench:1",
    "system.kubernetes.results.claim=results",
)
SYSTEM = ("system=kubernetes", *NEEDED)
OVER_NODES = (
    "decode.tensor_parallel_size=16",
    "decode.num_nodes=2",
    "constraints.tp_times_pp_le_gpus_per_node=false",
)
SITE = (
    "system.namespace=bench",
    "system.hf_home=/models",
    "system.mounts=['/scratch:/scratch:ro']",
    "+system.env.UCX_TLS='$(A)y'",
    "system.kubernetes.model_cache_claim=models",
    "system.kubernetes.results.size_gb=100",
    "system.kubernetes.results.storage_class=fast",
    "system.kubernetes.hf_token_from.name=hf-token",
    "system.kubernetes.runtime_version=1.6.1",
    "+system.kubernetes.bench.pod.securityContext={runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000}",
    "+system.kubernetes.bench.container.resources={limits: {memory: 16Gi}}",
    "+system.kubernetes.bench.container.securityContext={allowPrivilegeEscalation: false}",
    "system.kubernetes.image_pull_secrets=[regcred]",
    "system.kubernetes.image_pull_policy=IfNotPresent",
    "system.kubernetes.service_account=dynamo",
    "system.kubernetes.priority_class=high",
    "system.kubernetes.shared_memory_gb=80",
    "system.kubernetes.networks='rail0,rail1'",
    "+system.kubernetes.node_selector={nvidia.com/gpu.product: NVIDIA-H100}",
    "system.kubernetes.tolerations=[{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]",
    "+system.kubernetes.annotations.note=y",
    "+system.kubernetes.labels.team=llm",
    "+system.kubernetes.pod={schedulerName: gang, volumes: [{name: ib, emptyDir: {}}]}",
    "+system.kubernetes.container.securityContext={capabilities: {add: [IPC_LOCK]}}",
    "+system.kubernetes.container.resources={limits: {rdma/ib: 1}}",
    "+system.kubernetes.container.volumeMounts=[{name: ib, mountPath: /ib}]",
)
ALPHA, PLAIN = "system.kubernetes.api_version=v1alpha1", "system.kubernetes.mode=plain"

CASES: Mapping[str, tuple[str, ...]] = {
    "aggregated": ("topology=aggregated", "aggregated.num_nodes=2", "aggregated.tensor_parallel_size=2"),
    "separate": (),
    "separate-2-3": (
        *("prefill.num_nodes=2", "decode.num_nodes=3"),
        *("prefill.tensor_parallel_size=2", "decode.tensor_parallel_size=4", "decode.workers_per_node=2"),
    ),
    "shared": ("topology=shared", "prefill.tensor_parallel_size=4", "decode.tensor_parallel_size=4"),
    "multi-node": OVER_NODES,
    "lmcache": (
        "lmcache=on",
        "lmcache_controller.command='lmcache_controller --host 0.0.0.0 --port 9000'",
        "lmcache_controller.ports=[9000,8300,8400]",
    ),
    "sglang": ("backend=sglang", "decode.tensor_parallel_size=2"),
    "sglang-multi-node": ("backend=sglang", *OVER_NODES),
    "phases-accuracy": ("phases=[{name: a, concurrency: 2}, {name: b, concurrency: 4}]", "accuracy=mmlu"),
    "plain": (PLAIN, "dynamo.discovery=etcd", "system.kubernetes.shared_memory_gb=16"),
    "plain-discovery": (PLAIN, "system.kubernetes.service_account=dynamo", "topology=shared"),
    "v1alpha1": (ALPHA,),
    "v1alpha1-multi-node": (ALPHA, *OVER_NODES),
    "v1alpha1-site": (ALPHA, *SITE),
    "site": SITE,
    "etcd": ("dynamo.discovery=etcd", "dynamo.request_plane=nats"),
    "host-network": ("topology=shared", "system.kubernetes.host_network=true", "decode.workers_per_node=2"),
    "nodes": ("nodes=[alpha,beta]",),
    "mocker": ("engine=mocker", "model=tiny", "system.gpu.kind=virtual"),
}


@cache
def planned(*arguments: str) -> Plan:
    made = plan(*SYSTEM, *arguments)
    assert made.valid, told(made)
    return made


def deployment(*arguments: str) -> tuple[Deployment, Settings]:
    made = planned(*arguments)
    (only,) = made.deployments
    return only, settings_of(made.points[0].config)


def objects(*arguments: str) -> Manifests:
    """Everything of the only deployment of a command."""
    only, settings = deployment(*arguments)
    return manifests(only, planned(*arguments).points, settings)
