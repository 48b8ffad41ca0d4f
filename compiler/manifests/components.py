"""Processes of a plan -> components: what is alike is one component with replicas.

Taken from: a Deployment. Given to: `pods`, `operator`, `plain`.
Never does: changing what a process is. A pod has the frontend's process and, beside it, those of its node that are
no workers: addresses of the plan then mean the same pod.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.manifests.names import COMPONENTS
from compiler.plan import Deployment, Process


@dataclass(frozen=True, slots=True)
class Component:
    """Pods that are alike."""

    name: str
    type: str
    """As the operator knows it: frontend, prefill, decode, worker."""
    role: str
    main: Process
    """What each of its pods runs: the first of them stands for all."""
    beside: tuple[Process, ...]
    """Further containers of its pods."""
    replicas: int
    """Workers."""
    node_count: int
    """Pods of one worker: one for each node it spans."""
    nodes: tuple[int, ...]
    """Nodes of the plan that it is on, one entry for each pod."""

    @property
    def alone(self) -> bool:
        """No two of its pods are on one node."""
        return len(set(self.nodes)) == len(self.nodes)


def components_of(deployment: Deployment, host_network: bool) -> list[Component]:
    """The frontend, then roles in the order of the plan.

    Where pods share the addresses of their hosts, workers with other ports are another component.
    """
    frontend = [
        _frontend(deployment, process) for process in deployment.processes if process.role == "frontend"
    ]
    groups: dict[str, dict[object, list[Process]]] = {}
    ports: dict[object, object] = {}
    for process in deployment.processes:
        if process.worker is not None:
            # Those of a worker over several nodes are those of its first.
            taken = ports.setdefault(
                (process.role, process.worker), _ports(process) if host_network else None
            )
            groups.setdefault(process.role, {}).setdefault(taken, []).append(process)
    workers = [
        _workers(role, number, processes)
        for role, alike in groups.items()
        for number, processes in enumerate(alike.values())
    ]
    return [*frontend, *workers]


def _ports(process: Process) -> object:
    return tuple(sorted((name, port.port) for name, port in process.ports.items()))


def _frontend(deployment: Deployment, process: Process) -> Component:
    beside = tuple(one for one in deployment.processes if one.role == "infrastructure")
    return Component("frontend", "frontend", "frontend", process, beside, 1, 1, (process.node,))


def _workers(role: str, number: int, processes: list[Process]) -> Component:
    kind = COMPONENTS.get(role, role)
    workers = {process.worker for process in processes}
    return Component(
        name=kind if number == 0 else f"{kind}-{number}",
        type=kind,
        role=role,
        main=processes[0],
        beside=(),
        replicas=len(workers),
        node_count=len(processes) // len(workers),
        nodes=tuple(process.node for process in processes),
    )
