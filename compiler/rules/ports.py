"""Rules on ports: every port of every process on every host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compiler.errors import JointProblem, Problem, warning
from compiler.kinds import HIGHEST_PORT
from compiler.model import Config
from compiler.placement import Placement
from compiler.rules.nodes import topology

LMCACHE_PORTS = "lmcache.lmcache_worker_ports"
_TP, _PP, _DP = "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"
_SIZES_OF_STRIDE: Mapping[int | str, tuple[str, ...]] = {
    _TP: (_TP,),
    _DP: (_DP,),
    "tensor_times_data_parallel_size": (_TP, _DP),
    "world_size": (_TP, _PP, _DP),
}
"""Stride of a family -> the sizes of a role that it grows with."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Ports `first` to `last` on a node, whose they are, the key that moves them, and sizes that do too."""

    node: int
    first: int
    last: int
    owner: str
    key: str
    value: Any
    sizes: tuple[tuple[str, int], ...] = ()


def overlap(config: Config, placement: Placement) -> Iterable[Problem]:
    """Two owners of one port on a host are told once per pair of keys."""
    if any(topology(config, placement)):
        return  # roles on the wrong nodes would be told once more for every port
    told: set[tuple[str, str]] = set()
    by_node: dict[int, list[Taken]] = {}
    for taken in _taken(config, placement):
        by_node.setdefault(taken.node, []).append(taken)
    for node, entries in by_node.items():
        entries.sort(key=lambda entry: (entry.first, entry.owner))
        for left, right in _touching(entries):
            pair = (left.key, right.key)
            if pair in told or pair[::-1] in told:
                continue
            told.add(pair)
            port = max(left.first, right.first)
            where = f"port {port} on {_name(placement, node)}"
            reason = f"{where} is taken by {left.owner} ({left.key}) and {right.owner} ({right.key})"
            hint = "move one of them by 100 or so"
            if left.key == right.key == LMCACHE_PORTS:
                hint = "a host with several workers needs it to be null"
            others = ((left.key, left.value), *right.sizes, *left.sizes)
            yield JointProblem("error", "port-overlap", right.key, right.value, reason, hint, others=others)


def in_range(config: Config, placement: Placement) -> Iterable[Problem]:
    """A base in range can still run over with many workers."""
    told: set[str] = set()
    for taken in _taken(config, placement):
        if taken.last > HIGHEST_PORT and taken.key not in told:
            told.add(taken.key)
            reason = f"{taken.owner} would need port {taken.last}, the highest is {HIGHEST_PORT}"
            hint = f"lower {taken.key}" + (", or the sizes" if taken.sizes else "")
            yield JointProblem(
                "error", "port-range", taken.key, taken.value, reason, hint, others=taken.sizes
            )


def privileged(config: Config, placement: Placement) -> Iterable[Problem]:
    """Below 1024 only root may listen."""
    told: set[str] = set()
    for taken in _taken(config, placement):
        if taken.first < 1024 and taken.key not in told:
            told.add(taken.key)
            reason = f"{taken.owner} would listen on port {taken.first}, for which it must be root"
            yield warning("port-privileged", taken.key, taken.value, reason, "use a port from 1024 on")


def _touching(entries: list[Taken]) -> Iterator[tuple[Taken, Taken]]:
    """Pairs of sorted entries that share a port."""
    highest: Taken | None = None
    for entry in entries:
        if highest is not None and entry.first <= highest.last:
            yield highest, entry
        if highest is None or entry.last > highest.last:
            highest = entry


def _taken(config: Config, placement: Placement) -> Iterator[Taken]:
    dynamo, controller = config.dynamo, config.lmcache_controller
    single = [("frontend", "dynamo.port", dynamo.port)]
    if dynamo.discovery == "etcd":
        single.append(("etcd", "dynamo.etcd_port", dynamo.etcd_port))
    if "nats" in (dynamo.request_plane, dynamo.event_plane):
        single.append(("nats", "dynamo.nats_port", dynamo.nats_port))
    if controller.command:
        single += [("lmcache-controller", "lmcache_controller.ports", port) for port in controller.ports]
    for owner, key, number in single:
        yield Taken(0, number, number, owner, key, number)
    if config.system.dcgm.command:
        for node in range(config.num_nodes or 1):
            number = config.system.dcgm.port
            yield Taken(node, number, number, f"dcgm-{node}", "system.dcgm.port", number)
    for worker in placement.workers:
        for part in worker.parts:
            for name, port in part.ports.items():
                base = config.backend.ports[name].base
                last = port.port + port.count - 1
                owner, key = f"{name} of {worker.role}-{worker.index}", f"backend.ports.{name}.base"
                sizes = _sizes(config, name, worker.role)
                yield Taken(part.node, port.port, last, owner, key, base, sizes)
    yield from _lmcache_workers(config, placement)


def _sizes(config: Config, family: str, role_name: str) -> tuple[tuple[str, int], ...]:
    """Settings above 1 that move or widen the ports of a family, also those of roles on the same nodes."""
    stride = config.backend.ports[family].stride
    names = ["workers_per_node", *_SIZES_OF_STRIDE.get(stride, ())]
    roles = config.roles if config.topology == "shared" else [role_name]
    keys = ((f"{role}.{name}", getattr(config.roles[role], name)) for role in roles for name in names)
    return tuple((key, value) for key, value in keys if value > 1)


def _lmcache_workers(config: Config, placement: Placement) -> Iterator[Taken]:
    """LMCache's worker ports are one list in one file, so every worker takes the same ones."""
    ports = (config.lmcache or {}).get("lmcache_worker_ports")
    if not isinstance(ports, list):
        return
    # One that is there twice is told by `lmcache`.
    numbers = dict.fromkeys(port for port in ports if isinstance(port, int) and not isinstance(port, bool))
    for worker in placement.workers:
        for part in worker.parts:
            owner = f"{worker.role}-{worker.index} (LMCache)"
            for port in numbers:
                yield Taken(part.node, port, port, owner, LMCACHE_PORTS, ports)


def _name(placement: Placement, node: int) -> str:
    names = placement.node_names
    return names[node] or f"node {node}" if 0 <= node < len(names) else f"node {node}"
