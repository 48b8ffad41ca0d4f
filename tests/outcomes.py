"""What every outcome of the compiler must be, whatever it was given: a plan that holds, or problems in words."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from types import FrameType
from typing import Any

import yaml
from compiling import plan
from test_compile import check_deployment

from compiler import digest, late
from compiler.check import check
from compiler.codes import PAGES
from compiler.compose import Composer
from compiler.emit import emit, lmcache_text
from compiler.errors import Problem, format_problem
from compiler.facts import with_facts
from compiler.lower import lower
from compiler.model import Config
from compiler.normalise import normalise
from compiler.place import place
from compiler.plan import Deployment, Plan, Point
from compiler.plan_json import from_json, to_json
from compiler.schema import parse

LIMIT_S = 10
"""CPU seconds one case may take; what is usual is a hundredth of one."""
STACK = 940
"""Frames the compiler may use: Python's limit of 1000, without those of a command around it."""
CODES = {page.code for page in PAGES}
WITHOUT_PLACE = {"duplicate-point", "warm-cache", "idle"}
"""Problems of no single key."""


class TooLong(BaseException):
    """A case took more than its share. No Exception, so that nothing on the way swallows it."""


@contextmanager
def bounded(seconds: float = LIMIT_S) -> Iterator[None]:
    """Ends a case that does not end. CPU time, so that a busy machine proves nothing."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"more than {seconds} CPU seconds")

    before, frames = signal.signal(signal.SIGVTALRM, give_up), sys.getrecursionlimit()
    # Hypothesis allows a deeper stack than a command has.
    sys.setrecursionlimit(depth() + STACK)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        sys.setrecursionlimit(frames)


def depth() -> int:
    """Frames below this one."""
    frame, number = sys._getframe(1), 0
    while frame.f_back is not None:
        frame, number = frame.f_back, number + 1
    return number


def outcome(overrides: Sequence[str], using: Composer | None = None) -> str:
    """Compiles a command twice and looks at everything: "plan" or "problems"."""
    with bounded():
        made = plan(*overrides, using=using)
        check_plan(made)
        if not made.deployments:
            return "problems"
        again = plan(*overrides, using=using)
        assert digests(again) == digests(made), "another digest the second time"
    return "plan"


def digests(made: Plan) -> list[str]:
    """Sorted: `shuffle(1,2)` is in no order."""
    return sorted(point.digest or "" for point in made.points)


def check_plan(made: Plan) -> None:
    """What holds whatever was asked."""
    for point in made.points:
        assert (
            point.valid
            == (point.digest is not None)
            == (point.workload is not None)
            == (point.deployment is not None)
        )
        assert point.problems or point.valid, "refused without a word"
        for problem in point.problems:
            check_problem(problem)
    document = json.loads(json.dumps(to_json(made), allow_nan=False))
    assert to_json(from_json(document)) == document
    for deployment in made.deployments:
        mine = [point for point in made.points if point.deployment == deployment.digest]
        assert mine, "a deployment of no point"
        check_deployment(deployment)
        check_references(deployment)
        check_workers(deployment, mine[0].config)
        check_files(deployment, mine)


def check_problem(problem: Problem) -> None:
    assert problem.code in CODES, problem
    assert problem.reason, problem
    assert problem.origin or problem.code in WITHOUT_PLACE, problem
    line = format_problem(problem)
    assert line.isprintable(), f"not one line that can be printed: {line!r}"
    json.dumps(problem.as_json(), allow_nan=False)


def check_workers(made: Deployment, config: Mapping[str, Any]) -> None:
    """Each worker has exactly its world size, over all its parts."""
    held: Counter[tuple[str, int]] = Counter()
    for process in made.processes:
        if process.worker is not None:
            held[process.role, process.worker] += len(process.gpus)
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    for (role, worker), number in held.items():
        assert number == prod(int(config[role].get(size, 1)) for size in sizes), f"{role}-{worker}"


def check_references(made: Deployment) -> None:
    """Every late-bound word of a plan can be bound."""
    known = {*late.WORDS, *(f"node:{node.index}" for node in made.nodes)}
    for text in texts(json.loads(json.dumps(to_json(Plan((), (made,)))["deployments"]))):
        assert set(late.words_of(text)) <= known, text


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from texts(item)


def check_files(made: Deployment, points: Sequence[Point]) -> None:
    """The files can be written, and no script passes on what only looks like a placeholder."""
    files = emit(made, points)
    for text in files.values():
        text.encode()
    if made.lmcache is not None:
        values = dict.fromkeys((*late.WORDS, *(f"node:{node.index}" for node in made.nodes)), "x y")
        assert isinstance(yaml.safe_load(lmcache_text(made, values)), dict)
    script = files.get("run.sh", "")
    phases = [phase for point in points if point.workload for phase in point.workload.phases]
    runs = [point.workload.accuracy for point in points if point.workload and point.workload.accuracy]
    said = [*(word for phase in phases for word in phase.argv), *texts(json.loads(files["plan.json"]))]
    said += [text for run in runs for text in (*run.argv, run.setup or "", *run.env.values())]
    literal = [piece for text in said for piece, bound in late.pieces(text) if not bound]
    literal += [str(path[-1]) for path in walk(json.loads(files["plan.json"])) if path]
    if not any(map(RAW.search, literal)):
        assert not RAW.search(script), "run.sh passes a raw placeholder"


RAW = re.compile(r"\{(" + "|".join(late.WORDS) + r"|node:\d+)\}")


def walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a tree, the root first."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(item, (*path, key))


def direct(data: Mapping[str, Any]) -> tuple[Config | None, list[Problem], Plan | None]:
    """The passes after composing: the configuration, every problem, and the plan where there is one."""
    config, problems = parse(data)
    if config is None:
        return None, problems, None
    assert normalise(normalise(config)) == normalise(config)
    config = with_facts(normalise(config))
    placement = place(config)
    problems = check(config, placement)
    if any(problem.level == "error" for problem in problems):
        return config, problems, None
    problems = [problem.at("somewhere") for problem in problems]
    lowered = lower(config, placement)
    deployment = replace(lowered.deployment, digest=digest.deployment_digest(lowered.deployment, {}))
    name = digest.point_digest(deployment.digest, lowered.workload)
    point = Point("x", (), name, deployment.digest, lowered.workload, data, tuple(problems))
    return config, problems, Plan((point,), (deployment,))
