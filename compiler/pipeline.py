"""The passes in order, and nothing else: overrides -> compose -> parse -> normalise -> place -> check -> lower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from compiler import digest, secret
from compiler.check import check
from compiler.compose import Composed, Composer
from compiler.errors import Problem
from compiler.estimate import estimate, over_budget
from compiler.facts import with_facts
from compiler.keys import KUBERNETES, one_for_all
from compiler.lower import Lowered, lower
from compiler.model import Config, Kubernetes
from compiler.normalise import normalise
from compiler.once import once
from compiler.origin import with_origins
from compiler.place import place
from compiler.plan import Deployment, Plan, Point
from compiler.rules.workload import times
from compiler.schema import parse
from compiler.search import most_measured, search
from compiler.served import stack_of
from compiler.sweep import across


def compile_sweep(composer: Composer, points: Sequence[Sequence[str]]) -> Plan:
    """The plan of all points: every problem of every point, and each distinct deployment once."""
    compiled = [compile_point(composer, overrides) for overrides in points]
    deployments: dict[str, Deployment] = {}
    for _, deployment in compiled:
        if deployment is not None:
            deployments.setdefault(deployment.digest, deployment)
    found = [point for point, _ in compiled]
    told = [
        _told(point, with_origins(composer, point.overrides, warnings))
        for point, warnings in zip(found, across(found), strict=True)
    ]
    if together := search(
        [point for point in told if point.valid or point.config.get("on_invalid") != "skip"]
    ):
        # About the sweep as a whole, so wrong with each of its points.
        together = list(with_origins(composer, told[0].overrides, together))
        told = [_told(point, together) for point in told]
    used = {point.deployment for point in told}
    held = tuple(one for digest, one in deployments.items() if digest in used)
    most = most_measured(told)
    plan = Plan(tuple(told), held, estimate(told, held, most))
    return _refused(composer, plan, over_budget(plan, most))


def _refused(composer: Composer, plan: Plan, problems: Sequence[Problem]) -> Plan:
    """What is wrong with the points taken together forbids each of them; the estimate stays, as it says why."""
    if not problems:
        return plan
    wrong = with_origins(composer, plan.points[0].overrides, problems)
    return replace(plan, points=tuple(_invalid(point, wrong) for point in plan.points), deployments=())


def compile_point(composer: Composer, overrides: Sequence[str]) -> tuple[Point, Deployment | None]:
    """One point and the deployment it runs on; no deployment when it has errors."""
    composed = composer.compose(overrides)
    problems = list(composed.problems)
    lowered, config = None, None
    if composed.data is not None:
        config, wrong = parse(composed.data)
        problems += _not_told_yet(problems, wrong)
    if config is not None:
        config = with_facts(normalise(config))
        placement = place(stack_of(config))
        found = [*check(config, placement), *times(config, composed.time_limit_min)]
        problems += _graded(config, found)
        if not any(problem.level == "error" for problem in problems):
            lowered = lower(config, placement)
    told = with_origins(composer, overrides, problems)
    return _point(composed, config, lowered, told)


TOLD_ONLY = ("idle-gpus",)
"""Warnings that strict leaves as they are: a small model on a large node is what was asked for, and no slip."""


def _graded(config: Config, problems: Sequence[Problem]) -> list[Problem]:
    """With `strict` warnings are errors."""
    if not config.strict:
        return list(problems)
    return [p if p.code in TOLD_ONLY else replace(p, level="error") for p in problems]


def _told(point: Point, problems: Sequence[Problem]) -> Point:
    """The point with problems that come from other points; warnings forbid to run it when it is strict."""
    if point.config.get("strict") is True:
        problems = [replace(problem, level="error") for problem in problems]
    if any(problem.level == "error" for problem in problems):
        return _invalid(point, problems)
    return replace(point, problems=(*point.problems, *problems)) if problems else point


def _invalid(point: Point, errors: Sequence[Problem]) -> Point:
    told = (*point.problems, *errors)
    return replace(point, problems=told, digest=None, deployment=None, workload=None, status="invalid")


def _not_told_yet(told: Sequence[Problem], found: Sequence[Problem]) -> list[Problem]:
    """A key whose override was refused is not told a second time as missing."""
    keys = {problem.key for problem in told}
    return [problem for problem in found if problem.key not in keys]


def _point(
    composed: Composed, config: Config | None, lowered: Lowered | None, problems: tuple[Problem, ...]
) -> tuple[Point, Deployment | None]:
    provenance = composed.data or {}
    if config is None or lowered is None:
        # It may be refused for a secret, which is to be nowhere: a point that runs holds none.
        overrides = tuple(map(secret.masked_override, composed.overrides))
        own = [text for text in overrides if not one_for_all(text.partition("=")[0].lstrip("+~"))]
        name = _name(config) if config is not None else " ".join(own) or "default"
        known = secret.masked_data(provenance)
        return Point(secret.masked(name), overrides, None, None, None, known, problems, "invalid"), None
    name = _name(config)
    deployment = _digested(
        lowered.deployment, config.model.id, config.model.revision, config.system.kubernetes
    )
    identity = digest.point_digest(deployment.digest, lowered.workload)
    point = Point(
        name, composed.overrides, identity, deployment.digest, lowered.workload, provenance, problems
    )
    return point, deployment


_OF_PODS = tuple(field.name for field in fields(Kubernetes) if field.name not in KUBERNETES)


@once
def _digested(
    deployment: Deployment, model: str, revision: str | None, cluster: Kubernetes | None
) -> Deployment:
    identity: dict[str, object] = {"model": model, "revision": revision}
    if cluster is not None:
        # Networks, memory and devices of a pod are in no process of the plan.
        identity["pods"] = {name: getattr(cluster, name) for name in _OF_PODS}
    return replace(deployment, digest=digest.deployment_digest(deployment, identity))


def _name(config: Config) -> str:
    """Readable and short: the tool and its load; the digest tells apart what this does not."""
    arguments = config.arguments
    letters = {"c": "concurrency", "rate": "request_rate", "r": "request_count"}
    parts = [f"{letter}{arguments[key]}" for letter, key in letters.items() if arguments.get(key) is not None]
    phases = [f"{len(config.phases)}phases"] if config.phases else []
    accuracy = [config.accuracy.name] if config.accuracy is not None else []
    trial = [f"trial{config.trial}"] if config.trial != 1 else []
    return "-".join([config.bench.name, *parts, *phases, *accuracy, *trial])
