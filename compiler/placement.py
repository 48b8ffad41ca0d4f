"""Where everything is: what `place` gives, and `check` and `lower` read. Never does: anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.model import Role, WorkerPort
from compiler.plan import IdleGpus, Port


@dataclass(frozen=True, slots=True)
class Part:
    """The share of one worker on one node: one process."""

    node: int
    gpus: tuple[int, ...]
    ports: Mapping[str, Port]


@dataclass(frozen=True, slots=True)
class Worker:
    """One engine instance; it has several parts when it spans nodes."""

    role: str
    index: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where everything is."""

    node_names: tuple[str | None, ...]
    role_nodes: Mapping[str, tuple[int, ...]]
    """Role -> indices of its nodes; -1 for a named node that the allocation does not hold."""
    workers: tuple[Worker, ...]
    idle_gpus: tuple[IdleGpus, ...]


def nodes_per_worker(role: Role, gpus_per_node: int) -> int:
    """Nodes one worker spans: 1 unless its world size is larger than a node."""
    return max(1, -(-role.world_size // gpus_per_node))


def ports_taken(family: WorkerPort, role: Role) -> int:
    """Ports one worker of `role` takes of a family."""
    return family.stride if isinstance(family.stride, int) else int(getattr(role, family.stride))
