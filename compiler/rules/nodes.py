"""Rules on nodes: the allocation, the lists of names, and what the topology says about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from compiler.errors import Problem, error, warning
from compiler.model import Config
from compiler.placement import Placement

VIRTUAL = "virtual"
"""Kind of the GPUs that are only counted: the plan shows those without work, nobody pays for them."""


def lists(config: Config, placement: Placement) -> Iterable[Problem]:
    """Every list of names, against itself and its count."""
    held = {"nodes": (config.nodes, "num_nodes", config.num_nodes)}
    held |= {
        f"{name}.nodes": (role.nodes, f"{name}.num_nodes", role.num_nodes)
        for name, role in config.roles.items()
    }
    for key, (names, count_key, count) in held.items():
        if names is None:
            continue
        twice = next((name for name, number in Counter(names).items() if number > 1), None)
        if not names:
            yield error("node-list", key, names, "is empty", "name nodes, or leave it out")
        elif twice is not None:
            yield error("node-list", key, names, f"names '{twice}' twice", "name each node once")
        elif count is not None and count != len(names):
            reason = f"names {len(names)} nodes, {count_key} is {count}"
            yield error("node-list", key, names, reason, f"drop {count_key}, or set it to {len(names)}")


def belong(config: Config, placement: Placement) -> Iterable[Problem]:
    """A role's node that the allocation does not name is a mistake, never a silent addition."""
    if config.nodes is None:
        return
    allocation = set(config.nodes)
    for name, role in config.roles.items():
        missing = [node for node in role.nodes or [] if node not in allocation]
        if missing:
            reason = f"'{missing[0]}' is not in the allocation 'nodes'"
            yield error(
                "node-unknown", f"{name}.nodes", role.nodes, reason, "add it to 'nodes', or drop it here"
            )


def topology(config: Config, placement: Placement) -> Iterable[Problem]:
    """Source: CloudAI switches to shared nodes when lists intersect; here a contradiction is told instead."""
    if config.topology == "aggregated" or config.prefill.nodes is None or config.decode.nodes is None:
        return
    prefill, decode = set(config.prefill.nodes), set(config.decode.nodes)
    both, value = sorted(prefill & decode), config.prefill.nodes
    if both and prefill != decode:
        reason = f"overlaps decode.nodes only in part ('{both[0]}')"
        yield error(
            "topology-nodes",
            "prefill.nodes",
            value,
            reason,
            "make the lists equal (topology=shared) or disjoint",
        )
    elif both and config.topology == "separate":
        reason = "equals decode.nodes, but the topology is separate"
        yield error(
            "topology-nodes", "prefill.nodes", value, reason, "use topology=shared, or name other nodes"
        )
    elif not both and config.topology == "shared":
        reason = "has no node of decode.nodes, but the topology is shared"
        yield error(
            "topology-nodes", "prefill.nodes", value, reason, "use topology=separate, or name the same nodes"
        )


def enough(config: Config, placement: Placement) -> Iterable[Problem]:
    """The allocation against the roles, and the system against the allocation."""
    total, most = config.num_nodes or 1, config.system.max_nodes
    numbers = {name: role.num_nodes or 1 for name, role in config.roles.items()}
    key = "nodes" if config.nodes is not None else "num_nodes"
    value = config.nodes if config.nodes is not None else total
    if config.topology == "separate" and sum(numbers.values()) > total:
        parts = " + ".join(f"{number} {name}" for name, number in numbers.items())
        reason = f"separate roles need {parts} = {sum(numbers.values())} nodes, the allocation has {total}"
        yield error("allocation", key, value, reason, "use topology=shared, more nodes, or smaller roles")
    elif config.topology != "separate":
        for name, number in numbers.items():
            if number > total:
                reason = f"{name} needs {number} nodes, the allocation has {total}"
                yield error(
                    "allocation", f"{name}.num_nodes", number, reason, f"set num_nodes={number}, or less here"
                )
    if most is not None and total > most:
        reason = f"the plan needs {total} nodes, system '{config.system.name}' has {most}"
        yield error(
            "allocation", "num_nodes", total, reason, f"use at most {most} nodes, or raise system.max_nodes"
        )


def idle(config: Config, placement: Placement) -> Iterable[Problem]:
    """Nodes without work: more was asked for than the roles use."""
    available = config.system.gpus_per_node
    empty = [entry.node for entry in placement.idle_gpus if len(entry.gpus) == available]
    named = [
        placement.node_names[node] or f"node {node}" for node in empty if node < len(placement.node_names)
    ]
    if named:
        key, value = ("nodes", config.nodes) if config.nodes is not None else ("num_nodes", config.num_nodes)
        reason = f"{len(named)} of {config.num_nodes} nodes have no work: {', '.join(named)}"
        yield warning("idle", key, value, reason, "use fewer nodes, or give a role more of them")


def idle_gpus(config: Config, placement: Placement) -> Iterable[Problem]:
    """GPUs without work on nodes that have some: told, never handed out silently."""
    available = config.system.gpus_per_node
    partly = [entry for entry in placement.idle_gpus if len(entry.gpus) < available]
    if partly and config.system.gpu.kind != VIRTUAL:
        alike: dict[tuple[int, ...], list[int]] = {}
        for entry in partly:
            alike.setdefault(entry.gpus, []).append(entry.node)
        shown = "; ".join(f"{_named(placement, nodes)}: {spans(gpus)}" for gpus, nodes in alike.items())
        # A job has whole nodes; pods have the GPUs they ask for.
        shared = config.system.kind == "kubernetes"
        what = "are not asked for, and free for others" if shared else "have no work"
        reason = f"{sum(len(entry.gpus) for entry in partly)} GPUs {what} ({shown})"
        yield warning(
            "idle-gpus", "system.gpus_per_node", available, reason, "raise the sizes or workers_per_node"
        )


def _named(placement: Placement, nodes: list[int]) -> str:
    names = [placement.node_names[node] for node in nodes if node < len(placement.node_names)]
    if not all(names):
        return f"node {spans(nodes)}"
    return ", ".join(map(str, names[:4])) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def spans(numbers: Iterable[int]) -> str:
    """Numbers with runs shortened.

    >>> spans([0, 1, 2, 5])
    '0-2,5'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
