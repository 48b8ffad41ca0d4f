"""The best point of a sweep, and how to measure it again.

Takes points with their results; gives the best valid one and a configuration file that reproduces it.
Never does: letting a point win that failed, is invalid, fails a gate, or lacks the metric.

Repeats (points that differ in `trial` only) are one candidate: the mean of its valid trials decides, and a trial
that fails a gate takes them all out.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler import digest
from compiler.emit import render
from compiler.keys import of_command
from compiler.model import OWN_SEED
from compiler.plan import Phase, Point
from launchers import gates
from launchers.atomic import write_atomically
from launchers.results.frame import labels
from launchers.results.result import Result
from launchers.results.table import number

if TYPE_CHECKING:
    # Hydra takes a while to import, and who only asks for the best point does without.
    from compiler.compose import Composer

NAME = "best"
"""Option of the group `experiment` that the file is."""
OFF: Mapping[str, Any] = {
    "action": "run",
    "search": None,
    "budget": None,
    "force": False,
    "launch.detach": False,
}
"""What a file may say of the same, and the value with which a command measures one point and no more."""
Reproduce = Callable[[Point, Path], str | None]
"""Writes the file into a sweep's folder, where there can be one; gives the command that measures the point.

Null: no command does.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A point and what is known of it."""

    point: Point
    result: Result
    passed: bool
    """Its result fails none of its gates; what is not valid passes nothing."""


@dataclass(frozen=True, slots=True)
class Best:
    """The point that the objective chooses."""

    point: Point
    """Of several trials, the first that is valid."""
    label: str
    """A name that no other point of the sweep has."""
    metric: str
    direction: str
    value: float
    """The mean of all valid trials."""
    digests: tuple[str, ...]
    """Points whose results were averaged."""

    def as_json(self) -> dict[str, Any]:
        """Keys point, digest, metric, direction, value, trials."""
        return {
            "point": self.point.name,
            "digest": self.point.digest,
            "metric": self.metric,
            "direction": self.direction,
            "value": self.value,
            "trials": list(self.digests),
        }


def entries(
    points: Sequence[Point], results: Mapping[str, Result], base: Mapping[str, Mapping[str, float]]
) -> list[Entry]:
    """Every distinct point with its result, in the order of the points.

    `results` are by digest; those without one are left out. `base` is what `gates.baselines` found.
    """
    asked: dict[str, list[Point]] = {}
    for point in points:
        asked.setdefault(str(point.digest), []).append(point)
    return [
        Entry(same[0], results[key], passes(same, results[key], base))
        for key, same in asked.items()
        if key in results
    ]


def passes(points: Sequence[Point], result: Result, base: Mapping[str, Mapping[str, float]]) -> bool:
    """True for a valid result that meets every gate of its points (one point may be asked for with several)."""
    return result.verdict.valid and all(one.passed for one in gates.judge(points, [result], base))


def objective(points: Sequence[Point]) -> tuple[str, str] | None:
    """Metric and direction that the points ask for; it is the same for all of them."""
    composed = [point.config["objective"] for point in points if "objective" in point.config]
    asked: Mapping[str, Any] = composed[0] if composed else {}
    metric, direction = asked.get("metric"), asked.get("direction")
    return (str(metric), str(direction)) if metric and direction else None


def repeats(found: Sequence[Entry]) -> list[list[Entry]]:
    """Points that differ in `trial` only together, groups in order of their first point."""
    groups: dict[str, list[Entry]] = {}
    for entry in found:
        groups.setdefault(_untried(entry.point), []).append(entry)
    return list(groups.values())


def best(found: Sequence[Entry]) -> Best | None:
    """The best of the points, of equals the earlier; null without an objective or a point that may win."""
    asked = objective([entry.point for entry in found])
    if asked is None:
        return None
    metric, direction = asked
    candidates = [(_value(group, metric), group) for group in repeats(found)]
    scored = [(value, group) for value, group in candidates if value is not None]
    if not scored:
        return None
    # Both give the first of equals.
    choose = max if direction == "maximize" else min
    value, group = choose(scored, key=lambda candidate: candidate[0])
    counted = [entry for entry in group if entry.passed]
    results = [entry.result for entry in found]
    label = dict(zip([result.point_digest for result in results], labels(results), strict=True))
    return Best(
        point=counted[0].point,
        label=label[str(counted[0].point.digest)],
        metric=metric,
        direction=direction,
        value=value,
        digests=tuple(str(entry.point.digest) for entry in counted),
    )


def told(found: Best) -> str:
    """The best point in one line."""
    trials = f", mean of {len(found.digests)} trials" if len(found.digests) > 1 else ""
    return f"best: {found.label}  {found.metric} = {number(found.value)} ({found.direction}{trials})"


def reproduced(composer: Composer, point: Point, folder: Path) -> str | None:
    """The command line that measures `point` again, and nothing else; null where there is none.

    Where a file can say what the point is, that is `<folder>/experiment/best.yaml`; else the overrides are spelled
    out. Either is compiled once more, and told only if it gives the one point of the same digest.
    """
    settings = [word for word in composer.hydra_overrides if "sweeper" not in word.partition("=")[0]]
    typed = [word for word in point.overrides if not of_command(_key(word))]
    # What is done is found there.
    where = [word for word in point.overrides if _key(word) == "output_dir"]
    overrides = [*typed, *_turned_off(composer, typed)]
    path = folder / "experiment" / f"{NAME}.yaml"
    said = _overlay(composer, point, overrides)
    if said is not None:
        write_atomically(path, said)
        if _measures(composer.beside(folder), [f"experiment={NAME}"], point):
            return _command("--config-dir", str(folder), f"experiment={NAME}", *settings, *where)
        path.unlink()
        path.parent.rmdir()
    own = composer.extra_dir
    if not _measures(composer.beside(own), overrides, point):
        return None
    return _command(*(["--config-dir", str(own)] if own else []), *overrides, *settings, *where)


def _turned_off(composer: Composer, overrides: Sequence[str]) -> list[str]:
    """Overrides against what the files of a selection do with points: choose them, search them, force them."""
    from compiler.compose.choosing import text

    composed = composer.compose(overrides).data or {}
    found = [f"{key}={text(off)}" for key, off in OFF.items() if _held(composed, key) != off]
    said = composer.choosing(overrides)
    chosen = {str(key).lstrip("+").partition(".")[0] for key in said.params or {}}
    if said.zip is not None or "zip" in chosen:
        found.append("zip=null")
    if said.sample.get("count") or said.sample.get("params") or "sample" in chosen:
        found += ["sample.count=0", "sample.params=null"]
    return found


def _held(config: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; what is not there is off.

    >>> _held({"launch": {"detach": True}}, "launch.detach"), _held({}, "budget")
    (True, None)
    """
    head, _, name = key.rpartition(".")
    return (config.get(head, {}) if head else config).get(name, OFF[key])


def _measures(composer: Composer, words: Sequence[str], point: Point) -> bool:
    """True for a command that stands for the point alone."""
    from compiler.compose import COMPLAINTS
    from compiler.pipeline import compile_sweep

    try:
        params = composer.choosing(words).params or {}
        # As Hydra's sweeper does it: what a file sweeps comes before what is typed.
        points, wrong = composer.points([*(f"{key}={value}" for key, value in params.items()), *words])
    except COMPLAINTS:
        return False
    found = compile_sweep(composer, points).points
    same = [one for one in found if one.digest is not None and one.digest == point.digest]
    alone = len(found) == len(same) == 1 and not wrong
    return alone and all(_held(same[0].config, key) == off for key, off in OFF.items())


def _overlay(composer: Composer, point: Point, overrides: Sequence[str]) -> str | None:
    said = composer.overlay(overrides)
    if said is None:
        return None
    try:
        return render(
            "experiment.yaml.j2",
            title=f"{point.name}, digest {point.digest}",
            groups=[(f"override /{group}", option) for group, option in said.groups],
            settings=said.settings,
        )
    except (TypeError, ValueError):
        # What YAML cannot hold, such as keys that are numbers.
        return None


def _value(group: Sequence[Entry], metric: str) -> float | None:
    """The mean over the valid trials; null where none counts."""
    valid = [entry for entry in group if entry.result.verdict.valid]
    values = [entry.result.metrics.get(metric) for entry in valid]
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(valid) or not all(entry.passed for entry in valid):
        return None
    return statistics.fmean(numbers)


def _untried(point: Point) -> str:
    """What equal points have in common whatever their trial."""
    if point.workload is None:
        raise ValueError(f"point {point.name!r} has problems and no workload")
    phases = tuple(_unseeded(phase) for phase in point.workload.phases)
    own = OWN_SEED in _seeds(point)
    same = replace(point.workload, trial=0, phases=phases if own else point.workload.phases)
    return digest.point_digest(str(point.deployment), same)


def _unseeded(phase: Phase) -> Phase:
    """Without a seed that the trial has a part in."""
    return replace(phase, argv=tuple(word for word in phase.argv if word != str(phase.random_seed)))


def _seeds(point: Point) -> list[object]:
    """Random seeds as they were asked for."""
    asked = point.config.get(point.workload.tool if point.workload else "") or {}
    return [part.get("random_seed") for part in (asked, *(point.config.get("phases") or []))]


def _command(*words: str) -> str:
    return shlex.join(["python", "run.py", *words])


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
