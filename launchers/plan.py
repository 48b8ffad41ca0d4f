"""Shows a plan and starts nothing: a map of nodes x GPUs x ports for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from compiler import digest
from compiler.errors import format_problem
from compiler.estimate import words
from compiler.plan import Cost, Deployment, Plan, Point, Process
from compiler.plan_json import to_json
from compiler.rules.nodes import spans
from launchers.results.frame import settings_of

MOST_NODES = 16
"""Nodes shown of one deployment; the rest is in the JSON form."""
MOST_POINTS = 40
MOST_DEPLOYMENTS = 8


def print_json(plan: Plan) -> None:
    """Exactly one JSON document on standard output."""
    # Indented where a person may look at it: json's fast encoder does not indent.
    json.dump(to_json(plan), sys.stdout, indent=2 if len(plan.points) <= MOST_POINTS else None)
    print()


def print_text(plan: Plan, reasons: Mapping[str, str]) -> None:
    """Per deployment its map, its start order and its points; then the points that cannot run.

    `reasons` say, by digest, why a point that was measured is failed or invalid.
    """
    print(_summary(plan))
    if plan.estimate.seconds:
        print(f"estimate: {words(plan.estimate)}")
    print()
    for deployment in plan.deployments[:MOST_DEPLOYMENTS]:
        cost = plan.estimate.deployments.get(deployment.digest) if len(plan.deployments) > 1 else None
        print("\n".join(_deployment(deployment, cost)))
        print(
            "\n".join(
                _points(
                    [point for point in plan.points if point.deployment == deployment.digest],
                    lambda point: reasons.get(str(point.digest), ""),
                )
            )
        )
        print()
    if len(plan.deployments) > MOST_DEPLOYMENTS:
        print(
            f"... and {len(plan.deployments) - MOST_DEPLOYMENTS} more deployments (format=json shows all)\n"
        )
    wrong = [point for point in plan.points if not point.valid]
    if wrong:
        print(f"cannot run: {len(wrong)} of {len(plan.points)} points")
        print("\n".join(cannot_run(wrong)))
        print()


def cannot_run(points: Sequence[Point]) -> Iterator[str]:
    """A table of invalid points, the first reason below each."""
    yield from _points(points, _first_error)


def _first_error(point: Point) -> str:
    first, *more = [problem for problem in point.problems if problem.level == "error"]
    others = f" (and {len(more)} more)" if more else ""
    return f"{first.code}: {format_problem(replace(first, hint='', origin=''))}{others}"


def _summary(plan: Plan) -> str:
    states = Counter(point.status for point in plan.points)
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    points, deployments = len(plan.points), len(plan.deployments)
    plural = "s" if points != 1 else "", "s" if deployments != 1 else ""
    return f"plan: {points} point{plural[0]} ({counts}) on {deployments} deployment{plural[1]}"


def _deployment(deployment: Deployment, cost: Cost | None) -> Iterator[str]:
    nodes, gpus = deployment.num_nodes, deployment.gpus_per_node
    yield f"deployment {deployment.name}  ({digest.short(deployment.digest)})"
    yield (
        f"  {deployment.backend} ({deployment.engine} engine), {deployment.topology}, "
        f"{nodes} node{'s' if nodes > 1 else ''} x {gpus} GPUs on {deployment.system}, model {deployment.model}"
    )
    yield ""
    yield from _map(deployment)
    yield ""
    yield from _ports(deployment)
    yield ""
    yield f"  start order  {' -> '.join(_start_order(deployment))}"
    if around := _around(deployment):
        yield f"  hooks        {', '.join(around)}"
    if deployment.container is not None:
        yield f"  container    {deployment.container.name}"
    idle = sum(len(entry.gpus) for entry in deployment.idle_gpus)
    yield f"  idle GPUs    {idle} of {nodes * gpus}"
    if cost is not None:
        yield f"  estimate     {words(cost)}"


def _around(deployment: Deployment) -> list[str]:
    """What is run around the processes, by the keys that say it."""
    found = list(dict.fromkeys(hook.when for hook in deployment.hooks))
    keys = ["node_setup_command" if when == "node_setup" else str(when) for when in found]
    starts = any(process.startup is not None for process in deployment.processes)
    return [*keys, *(["startup_command"] if starts else [])]


def _map(deployment: Deployment) -> Iterator[str]:
    """One row per node: which worker has which GPU, and what runs beside them."""
    shown = deployment.nodes[:MOST_NODES]
    cells = {node.index: _cells(deployment, node.index) for node in shown}
    width = max([3, *(len(cell) for row in cells.values() for cell in row)])
    label = max([6, *(len(_node(deployment, node.index)) for node in shown)])
    heads = "  ".join(str(gpu).rjust(width) for gpu in range(deployment.gpus_per_node))
    yield f"  {'GPU'.ljust(label)}  {heads}  CPU only"
    for node in shown:
        beside = ", ".join(p.name for p in _on(deployment, node.index) if not p.gpus)
        row = "  ".join(cell.rjust(width) for cell in cells[node.index])
        yield f"  {_node(deployment, node.index).ljust(label)}  {row}  {beside}".rstrip()
    if len(deployment.nodes) > MOST_NODES:
        yield f"  ... and {len(deployment.nodes) - MOST_NODES} more nodes (format=json shows all)"
    roles = dict.fromkeys(p.role for p in deployment.processes if p.worker is not None)
    yield "  " + ", ".join(f"{role[0]}N = {role} worker N" for role in roles)


def _cells(deployment: Deployment, node: int) -> list[str]:
    cells = ["."] * deployment.gpus_per_node
    for process in _on(deployment, node):
        for gpu in process.gpus:
            cells[gpu] = f"{process.role[0]}{process.worker}"
    return cells


def _ports(deployment: Deployment) -> Iterator[str]:
    for node in deployment.nodes[:MOST_NODES]:
        start = f"  {_node(deployment, node.index)} ports  "
        for process in _on(deployment, node.index):
            ports = "  ".join(
                f"{name} {_range(port.port, port.count)}" for name, port in process.ports.items()
            )
            if ports:
                yield f"{start}{process.name}: {ports}"
                start = " " * len(start)


def _range(port: int, count: int) -> str:
    return str(port) if count == 1 else f"{port}-{port + count - 1}"


def _start_order(deployment: Deployment) -> list[str]:
    """Processes that start together are named together."""
    waves: dict[tuple[str, ...], list[Process]] = {}
    for process in deployment.processes:
        waves.setdefault(process.after, []).append(process)
    return [_together(wave) for wave in waves.values()]


def _together(wave: Sequence[Process]) -> str:
    singles = [process.name for process in wave if process.worker is None]
    workers: dict[str, list[int]] = {}
    for process in wave:
        if process.worker is not None:
            workers.setdefault(process.role, []).append(process.worker)
    ranges = [f"{role}-{spans(sorted(set(numbers)))}" for role, numbers in workers.items()]
    return ", ".join([*singles, *ranges])


def _points(points: Sequence[Point], reason: Callable[[Point], str]) -> Iterator[str]:
    if not points:
        return
    width = max(len(point.name) for point in points[:MOST_POINTS])
    yield f"  {'point'.ljust(width)}  status   digest      overrides"
    for point in points[:MOST_POINTS]:
        short = digest.short(point.digest) if point.digest else "-"
        yield f"  {point.name.ljust(width)}  {point.status:<7}  {short:<10}  {_overrides(point)}".rstrip()
        if told := reason(point):
            yield f"  {' ' * width}  {told.splitlines()[0]}"
    if len(points) > MOST_POINTS:
        yield f"  ... and {len(points) - MOST_POINTS} more points (format=json shows all)"


def _overrides(point: Point) -> str:
    """What makes the point: without what only says what to do with it."""
    return " ".join(settings_of(point.overrides))


def _on(deployment: Deployment, node: int) -> list[Process]:
    return [process for process in deployment.processes if process.node == node]


def _node(deployment: Deployment, index: int) -> str:
    return deployment.nodes[index].name or f"node {index}"
