"""Roles -> nodes, GPU slices and ports. Deterministic, and total: what does not fit is placed anyway.

Taken from: `normalise`. Given to: `check` (which tells what does not fit) and `lower`.
Never does: refusing anything; knowing how a port or a GPU is told to an engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.model import Config, Role
from compiler.once import once
from compiler.placement import Part, Placement, Worker, nodes_per_worker, ports_taken
from compiler.plan import IdleGpus, Port


@once
def place(config: Config) -> Placement:
    """The placement of a normalised configuration: decode first, prefill after it, on each node from GPU 0."""
    names = _node_names(config)
    role_nodes = _role_nodes(config, names)
    workers = tuple(worker for name in config.roles for worker in _workers(config, name, role_nodes[name]))
    return Placement(names, role_nodes, workers, _idle(config, workers))


def _node_names(config: Config) -> tuple[str | None, ...]:
    if config.nodes is not None:
        names: list[str | None] = list(config.nodes)
    elif config.topology == "separate":
        names = [name for role in config.roles.values() for name in _named(role)]
    else:
        # Roles share: the role that names most nodes names them for both.
        longest: list[str] = max((role.nodes or [] for role in config.roles.values()), key=len)
        names = list(longest)
    count = config.num_nodes or 1
    return tuple([*names, *[None] * max(0, count - len(names))][: max(count, len(names))])


def _named(role: Role) -> list[str | None]:
    return list(role.nodes) if role.nodes is not None else [None] * (role.num_nodes or 1)


def _role_nodes(config: Config, names: tuple[str | None, ...]) -> dict[str, tuple[int, ...]]:
    index = {name: position for position, name in enumerate(names) if name is not None}
    named = {
        role: tuple(index.get(name, -1) for name in settings.nodes)
        for role, settings in config.roles.items()
        if settings.nodes is not None
    }
    taken = {node for nodes in named.values() for node in nodes} if config.topology == "separate" else set()
    free = [node for node in range(len(names)) if node not in taken]
    result: dict[str, tuple[int, ...]] = {}
    for role, settings in config.roles.items():
        if role in named:
            result[role] = named[role]
            continue
        count = settings.num_nodes or 1
        result[role] = tuple(free[:count])
        if config.topology == "separate":
            free = free[count:]
    return result


def _workers(config: Config, role_name: str, nodes: tuple[int, ...]) -> Iterator[Worker]:
    role = config.roles[role_name]
    span = nodes_per_worker(role, config.system.gpus_per_node)
    first = _first_gpu(config, role_name)
    before = _ports_before(config, role_name)
    # More workers than GPUs are told by `check`; placing all of a mistyped million would only be slow.
    count = 1 if span > 1 else min(role.workers_per_node, config.system.gpus_per_node)
    index = 0
    for start in range(0, len(nodes), span):
        for slot in range(count):
            ports = _ports(config, role_name, span, slot, before)
            gpus = _slice(config, role, slot, first)
            parts = tuple(Part(node, gpus, ports) for node in nodes[start : start + span])
            yield Worker(role_name, index, parts)
            index += 1


def _first_gpu(config: Config, role_name: str) -> int:
    """On shared nodes a role starts after all workers of the roles before it, the same on every node."""
    if config.topology != "shared":
        return 0
    earlier = [role for name, role in _before(config, role_name)]
    return sum(role.workers_per_node * role.world_size for role in earlier)


def _before(config: Config, role_name: str) -> Iterator[tuple[str, Role]]:
    for name, role in config.roles.items():
        if name == role_name:
            return
        yield name, role


def _slice(config: Config, role: Role, slot: int, first: int) -> tuple[int, ...]:
    """GPU indices of the worker in `slot` of a node: of the user's list, or the next ones after `first`."""
    size = min(role.world_size, config.system.gpus_per_node)
    if role.gpu_ids is not None:
        return tuple(role.gpu_ids[slot * size : (slot + 1) * size])
    return tuple(range(first + slot * size, first + (slot + 1) * size))


def _ports(
    config: Config, role_name: str, span: int, slot: int, before: Mapping[str, int]
) -> dict[str, Port]:
    ports: dict[str, Port] = {}
    for name, family in config.backend.ports.items():
        if (family.roles is not None and role_name not in family.roles) or (family.multi_node and span == 1):
            continue
        stride = ports_taken(family, config.roles[role_name])
        ports[name] = Port(family.base + before[name] + slot * stride, stride)
    return ports


def _ports_before(config: Config, role_name: str) -> dict[str, int]:
    """Ports of each family that the roles before it take on a shared node."""
    earlier = list(_before(config, role_name)) if config.topology == "shared" else []
    return {
        name: sum(
            role.workers_per_node * ports_taken(family, role)
            for other, role in earlier
            if family.roles is None or other in family.roles
        )
        for name, family in config.backend.ports.items()
    }


def _idle(config: Config, workers: tuple[Worker, ...]) -> tuple[IdleGpus, ...]:
    busy: dict[int, set[int]] = {}
    for worker in workers:
        for part in worker.parts:
            busy.setdefault(part.node, set()).update(part.gpus)
    idle = (
        IdleGpus(
            node, tuple(gpu for gpu in range(config.system.gpus_per_node) if gpu not in busy.get(node, set()))
        )
        for node in range(config.num_nodes or 1)
    )
    return tuple(entry for entry in idle if entry.gpus)
