"""One plan, two clusters: what a pod starts is what a step of a Slurm job starts, with the same overrides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clusters
import pytest
import structure
from compiling import deployment as compiled

from compiler.manifests import manifests, settings_of
from compiler.manifests.bound import RUN_DIR
from compiler.manifests.names import ROLE
from compiler.manifests.pods import BY_OPERATOR
from compiler.plan import Deployment, Process
from launchers.allocated import Allocated

# Both speak to etcd: how workers are found is a setting of the system otherwise.
SAME = ("dynamo.discovery=etcd", "engine=real", "model=qwen3-0.6b")
RENDEZVOUS = {
    "vllm": ["--nnodes", "2", "--node-rank", "0", "--master-addr", "node0", "--master-port", "29500"],
    "sglang": ["--nnodes", "2", "--node-rank", "0", "--dist-init-addr", "node0:29500"],
}
"""By which the processes of one worker find each other on Slurm. The operator gives its pods words of its own."""

CASES: Mapping[str, tuple[str, ...]] = {
    name: tuple(word for word in clusters.CASES[name] if "system.kubernetes" not in word)
    for name in (
        *("aggregated", "separate", "separate-2-3", "shared", "multi-node", "lmcache", "sglang"),
        *("sglang-multi-node", "phases-accuracy", "etcd", "nodes"),
    )
}
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "v1beta1": (),
    "v1alpha1": (clusters.ALPHA,),
    "plain": (clusters.PLAIN,),
    "host network": ("system.kubernetes.host_network=true",),
}


@dataclass(frozen=True)
class Started:
    """What a process is, however it is started."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    gpus: int
    ports: tuple[int, ...]


def hosts(deployment: Deployment) -> tuple[str, ...]:
    return tuple(f"node{node.index}" for node in deployment.nodes)


def by_slurm(deployment: Deployment, process: Process) -> Started:
    """The command line of the process's step, and what of its environment the plan has set."""
    host = Allocated(hosts(deployment), deployment.storage_cache_dir, job="1", nodes=hosts(deployment))
    made = host.command(process, Path(RUN_DIR))
    start = next(index for index, word in enumerate(made.argv) if word.startswith("CUDA_VISIBLE_DEVICES="))
    visible = made.argv[start].partition("=")[2]
    while re.match(r"[A-Z_]+=", made.argv[start]):
        start += 1
    env = {name: made.env[name] for name in process.env}
    return Started(
        made.argv[start:],
        {**env, "CUDA_VISIBLE_DEVICES": ""},
        len([gpu for gpu in visible.split(",") if gpu]),
        tuple(port.port + n for port in process.ports.values() for n in range(port.count)),
    )


def by_kubelet(container: Mapping[str, Any], head: str, node: str) -> Started:
    """What a kubelet starts on that node, where names of Services mean the frontend's."""
    env: dict[str, str] = {}
    for entry in container["env"]:
        source = entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        known = {"status.podIP": node, "metadata.name": "pod", "metadata.namespace": "x", "metadata.uid": "u"}
        env[entry["name"]] = known[source] if source else filled(entry["value"], env)
    words = [filled(word, env) for word in [*container["command"], *container["args"]]]
    limits = container.get("resources", {}).get("limits", {})
    own = ("AA_POD_IP", "POD_NAME", "POD_NAMESPACE", "POD_UID")
    return Started(
        tuple(word.replace(head, "node0") for word in words),
        {
            name: "" if name == "CUDA_VISIBLE_DEVICES" else value.replace(head, "node0")
            for name, value in env.items()
            if name not in own
        },
        int(limits.get("nvidia.com/gpu", 0)),
        tuple(port["containerPort"] for port in container["ports"]),
    )


def filled(text: str, env: Mapping[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda match: env[match[1]], text)


@dataclass(frozen=True)
class Pods:
    """Pods that are alike, of whatever kind of object."""

    role: str
    replicas: int
    node_count: int
    containers: tuple[Mapping[str, Any], ...]


def pods(stack: tuple[dict[str, Any], ...]) -> Iterator[Pods]:
    for each in stack:
        if each["kind"] == "Deployment":
            template = each["spec"]["template"]
            yield Pods(_role(template), each["spec"]["replicas"], 1, _containers(template))
        elif each["kind"] == "DynamoGraphDeployment":
            spec = each["spec"]
            components = [*spec.get("components", ()), *spec.get("services", {}).values()]
            for component, template in zip(components, structure.templates(each), strict=True):
                containers = list(_containers(template))
                if gpu := component.get("resources", {}).get("limits", {}).get("gpu"):
                    containers[0] = {**containers[0], "resources": {"limits": {"nvidia.com/gpu": gpu}}}
                number = component.get("multinode", {}).get("nodeCount", 1)
                yield Pods(_role(template), component["replicas"], number, tuple(containers))


def _role(template: Mapping[str, Any]) -> str:
    return str(template["metadata"]["labels"][ROLE])


def _containers(template: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    return tuple(template["spec"]["containers"])


def without(words: tuple[str, ...], left_out: list[str]) -> tuple[str, ...]:
    """The words without those, which stand together."""
    starts = [n for n in range(len(words)) if list(words[n : n + len(left_out)]) == left_out]
    assert len(starts) == 1, words
    return (*words[: starts[0]], *words[starts[0] + len(left_out) :])


BOTH = [
    (name, variant)
    for name in CASES
    for variant in VARIANTS
    # Refused: a worker over several nodes needs the operator.
    if variant != "plain" or "multi-node" not in name
]


@pytest.mark.parametrize(("name", "variant"), BOTH)
def test_pods_start_what_steps_start(name: str, variant: str) -> None:
    slurm = compiled("system=slurm", *SAME, *CASES[name])
    words = (*SAME, *CASES[name], *VARIANTS[variant])
    made = clusters.planned(*words)
    (plan,) = made.deployments
    found = manifests(plan, made.points, settings_of(made.points[0].config))
    workers = {(p.role, p.worker) for p in slurm.processes if p.worker is not None}
    seen: list[Process] = []
    for each in pods(found.stack):
        mine = of_these_pods(slurm, each, variant == "host network", seen)
        for process, container in zip(mine, each.containers, strict=True):
            expected = by_slurm(slurm, process)
            started = by_kubelet(container, f"{found.name}-head", f"node{process.node}")
            if each.node_count > 1:
                argv = without(expected.argv, RENDEZVOUS[slurm.backend])
                env = {name: value for name, value in expected.env.items() if name not in BY_OPERATOR}
                expected = Started(argv, env, expected.gpus, expected.ports)
            assert started == expected
        seen += mine
    total = sum(each.replicas for each in pods(found.stack) if each.role not in ("frontend",))
    assert total == len(workers)
    assert {process.role for process in seen} == {process.role for process in slurm.processes}


def of_these_pods(slurm: Deployment, each: Pods, by_ports: bool, seen: list[Process]) -> list[Process]:
    """The processes that these pods stand for: the frontend and what is beside it, or the first such worker."""
    if each.role == "frontend":
        beside = [process for process in slurm.processes if process.role == "infrastructure"]
        return [*(process for process in slurm.processes if process.role == "frontend"), *beside]
    alike = [process for process in slurm.processes if process.role == each.role]
    if by_ports:
        first = each.containers[0]["ports"][0]["containerPort"]
        alike = [p for p in alike if next(iter(p.ports.values())).port == first and p not in seen]
    return alike[:1]


def test_every_pod_of_a_worker_over_nodes_has_its_share() -> None:
    (graph, *_) = clusters.objects(*clusters.CASES["multi-node"]).stack
    found = {each.role: each for each in pods((graph,))}
    assert (found["decode"].replicas, found["decode"].node_count) == (1, 2)
    assert by_kubelet(found["decode"].containers[0], "head", "node0").gpus == 8
