"""Points that a sweeper asks for batch by batch, because it chooses the next ones by the last ones' numbers.

Takes batches of overrides; gives the objective of each point back to the sweeper, and at the end one table, one report
and one folder for all of them. A point that failed, is invalid, fails a gate or cannot be run at all is told as failed.
Never does: choosing points (the sweeper does); knowing a sweeper by name.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from compiler.compose import Composer
from compiler.errors import Problem, error, format_problem
from compiler.estimate import estimate, over_budget
from compiler.origin import with_origins
from compiler.plan import Estimate, Plan, Point
from launchers import best, command, run, systems
from launchers.ending import OK, Measured, Telling, finish
from launchers.problems import tell_all
from launchers.refusal import PROBLEMS, Unfit, refuse
from launchers.results.table import number
from launchers.store import Store

GUARDS = ("max_points", "max_gpu_hours")


class Lost(Exception):
    """Why a trial has no number; the sweeper reads it from the JobReturn."""


class Missed(JobReturn):
    """A trial without a number. Hydra's own prints a line of its own each time somebody asks for the number."""

    # Nobody sets it.
    @property  # type: ignore[misc]
    def return_value(self) -> Any:
        """Raises Lost."""
        raise self._return_value


class Spent(Exception):
    """All trials together would take more than `max_points` or `max_gpu_hours` allow: `problems` says which."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(format_problem, problems)))
        self.problems = tuple(problems)


class Trials:
    """All batches of one command."""

    def __init__(self, composer: Composer, arguments: Sequence[str], config: dict[str, object]) -> None:
        """`config` is what the fixed arguments compose to."""
        self.composer, self.arguments = composer, tuple(arguments)
        self.format = str(config.get("format", "text"))
        self.store = Store(Path(str(config.get("output_dir", "outputs"))))
        self.measured: list[Measured] = []
        self.plans: list[Plan] = []
        self.left_out: list[Point] = []
        """Trials of which nothing could be started, with the reason among their problems."""
        self.asked = 0
        self._lost: set[str] = set()
        """Why trials have no number, as it was told."""
        self._counted: dict[str, Point] = {}
        """Points that count against the guards, by digest."""
        self._cost = Estimate()
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder of the sweep, where the sweeper, too, may write. Raises StoreError."""
        if self._folder is None:
            self._folder = self.store.new_sweep()
        return self._folder

    def launch(self, batch: Sequence[Sequence[str]]) -> list[JobReturn]:
        """One JobReturn per point, in order: completed with the objective, or failed with the reason.

        Raises KeyboardInterrupt when the command is interrupted, Spent when a guard ends the search, and what ended a
        measurement (Trouble, OSError).
        """
        plan = command.compiled(self.composer, batch)
        try:
            self._count(plan)
        except Spent as spent:
            if len(batch) > 1:
                # The first of them may still be within the guards.
                return [returned for one in batch for returned in self.launch([one])]
            self._leave_out(plan.points, spent.problems if plan.valid else [])
            raise
        return self._launched(plan, batch)

    def _launched(self, plan: Plan, batch: Sequence[Sequence[str]]) -> list[JobReturn]:
        tell_all(plan, sys.stderr)
        self.left_out += [point for point in plan.points if not point.valid]
        if len(plan.points) != len(batch):
            return [self._told(one, None, "its overrides cannot be read") for one in batch]
        # Beside a point that has problems, the others of the batch are measured.
        fit = replace(plan, points=tuple(point for point in plan.points if point.valid))
        measured = self._measured(fit) if fit.points else None
        return [self._returned(one, point, measured) for one, point in zip(batch, plan.points, strict=True)]

    def finish(self, interrupted: bool = False) -> int:
        """Shows and records all trials together. 0 when one of them counts; else what a sweep of them would give."""
        if not self.measured:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            return command.INTERRUPTED if interrupted else PROBLEMS
        points = tuple(point for plan in self.plans for point in plan.points)
        deployments = {one.digest: one for plan in self.plans for one in plan.deployments}
        seen = {entry.point.digest: entry for measured in self.measured for entry in measured.seen}
        together = replace(
            self.measured[0],
            seen=tuple(seen.values()),
            interrupted=interrupted or any(measured.interrupted for measured in self.measured),
            trouble=self.measured[-1].trouble,
        )
        plan = Plan(points, tuple(deployments.values()))
        reproduce = partial(best.reproduced, self.composer)
        telling = Telling(self.format, self.arguments, reproduce, self.left_out, self.folder)
        code = finish(plan, together, self.store, telling)
        results = {result.point_digest: result for result in together.results}
        found = best.best(best.entries(points, results, together.base))
        return OK if found is not None and not together.interrupted else code

    def is_news(self, record: logging.LogRecord) -> bool:
        """False for what a sweeper logs about a trial that was told already."""
        return not any(record.getMessage().endswith(reason) for reason in self._lost)

    def _count(self, plan: Plan) -> None:
        """Adds what a batch asks for to what the guards count. Raises Spent before anything of it is started."""
        told = [problem for point in plan.points for problem in point.problems]
        if alone := [problem for problem in told if problem.key in GUARDS and problem.code == "budget"]:
            raise Spent(list(dict.fromkeys(alone)))
        found = {str(point.digest): point for point in plan.points if point.valid}
        new = [point for digest, point in found.items() if digest not in self._counted]
        # A batch starts its deployments itself.
        cost = estimate(new, plan.deployments)
        total = Estimate(self._cost.seconds + cost.seconds, self._cost.gpu_hours + cost.gpu_hours)
        counted = {**self._counted, **found}
        if problems := over_budget(Plan(tuple(counted.values()), (), total)):
            raise Spent(list(with_origins(self.composer, plan.points[0].overrides, problems)))
        self._counted, self._cost = counted, total

    def _leave_out(self, points: Sequence[Point], problems: Sequence[Problem]) -> None:
        """Keeps points of which nothing was started, for these reasons beside their own."""
        self.left_out += [replace(one, problems=(*one.problems, *problems), digest=None) for one in points]

    def _measured(self, plan: Plan) -> Measured | None:
        try:
            measured = run.attended(plan, systems.system_of(plan, self.composer), self.store)
        except Unfit as unfit:
            refuse(unfit.problems)
            self._leave_out(plan.points, unfit.problems)
            return None
        self.plans.append(plan)
        self.measured.append(measured)
        if measured.interrupted:
            raise KeyboardInterrupt
        if measured.trouble is not None:
            raise measured.trouble
        return measured

    def _returned(self, overrides: Sequence[str], point: Point, measured: Measured | None) -> JobReturn:
        if not point.valid or measured is None:
            errors = [problem for problem in point.problems if problem.level == "error"]
            reason = format_problem(errors[0]) if errors else "nothing could be started"
            return self._told(overrides, None, reason)
        results = {result.point_digest: result for result in measured.results}
        found = best.entries([point], results, measured.base)
        if not found:
            return self._told(overrides, None, "it was not measured")
        entry = found[0]
        metric, _ = best.objective([point]) or ("", "")
        value = entry.result.metrics.get(metric)
        if not entry.result.verdict.valid:
            reason = "; ".join(entry.result.verdict.reasons) or entry.result.verdict.status
        elif not entry.passed:
            reason = "it fails a gate"
        else:
            reason = f"the result has no metric '{metric}'"
        return self._told(overrides, value if entry.passed else None, reason)

    def _told(self, overrides: Sequence[str], value: float | None, reason: str) -> JobReturn:
        """Tells a trial to the user and to the sweeper."""
        self.asked += 1
        said = f"= {number(value)}" if value is not None else f"failed: {reason.splitlines()[0]}"
        print(f"servix: trial {self.asked} {said}", file=sys.stderr, flush=True)
        if value is None:
            self._lost.add(reason)
            return Missed(overrides=overrides, status=JobStatus.FAILED, _return_value=Lost(reason))
        return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=value)


def unfit(
    action: str,
    metric: object,
    wanted: object,
    direction: object,
    detached: bool = False,
    search: object = None,
) -> list[Problem]:
    """What keeps a sweeper that chooses its points from working.

    `wanted` is `objective.direction`, `direction` what the sweeper was given beside it (null: nothing).
    """
    found: list[Problem] = []
    if action != "run":
        reason = "this sweeper chooses points by what the last ones measured, so only action=run has any"
        found.append(error("hydra", "action", action, reason, "leave hydra/sweeper out"))
    if metric is None:
        hint = "e.g. objective.metric=output_token_throughput_per_s objective.direction=maximize"
        reason = "this sweeper needs an objective"
        found.append(error("hydra", "objective.metric", None, reason, hint))
    if detached:
        reason = "each trial waits for the numbers of the one before"
        found.append(error("hydra", "launch.detach", True, reason, "leave it out"))
    if search is not None:
        reason = "chooses points as well as this sweeper does"
        found.append(error("hydra", "search", search, reason, "leave it out, or hydra/sweeper"))
    if metric is not None and wanted is not None and direction not in (None, wanted):
        reason = f"contradicts objective.direction={wanted}"
        found.append(error("hydra", "hydra.sweeper.direction", direction, reason, "leave it out"))
    return found
