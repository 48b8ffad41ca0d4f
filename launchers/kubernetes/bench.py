"""What a benchmark Job runs: measures the points of one deployment, which is served elsewhere in the cluster.

    python -m launchers.kubernetes.bench FOLDER

Takes the files of the Job's ConfigMap (`compiler.manifests.work`), and beside them what a search goes on from; leaves
attempts on the results volume and says events and results in its log (`frames`), where the command that made the Job
reads them. What the volume has of these points is not measured again.
Exit codes: 0 every point has a result, 1 a fault of ours, 75 the rest needs a fresh deployment, 128 more than the
signal that stopped it.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from compiler.errors import format_problem
from compiler.manifests.benchmark import RESULTS_DIR
from compiler.manifests.work import Work, work_of
from compiler.plan import Deployment, Plan, Point
from compiler.sweep import Group
from launchers import local, run
from launchers.display import Display, View
from launchers.kubernetes.exit import FRESH
from launchers.kubernetes.frames import lines
from launchers.kubernetes.pod import OneStart, Spent
from launchers.listening import listening
from launchers.refusal import Trouble, Unfit, tell
from launchers.results.result import Result, ResultError
from launchers.store import Store
from launchers.turns import Wishes

OK, FAULT = 0, 1
KNOWN, BASELINE = "known.json.z", "baseline.json"
"""Results that are known elsewhere, as compressed JSON; the one that gates of a search compare with."""
FRONTEND, RESULTS = "SERVIX_FRONTEND", "SERVIX_RESULTS"
"""Environment variables that say otherwise than the work: the frontend's host, where the results volume is."""


class Teller:
    """Says data in the log of this pod, a whole line at a time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, kind: str, data: Any) -> None:
        """Says it. Raises OSError."""
        for line in lines(kind, data):
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def result(self, result: Result, final: bool) -> None:
        """Says a result without its configuration, which the reader has."""
        data = result.to_json()
        data["config"] = {}
        self("result", {"final": final, "result": data})


class Told(Store):
    """A store that says every result it takes."""

    def __init__(self, root: Path, say: Teller) -> None:
        super().__init__(root)
        self._say = say

    def write_result(self, deployment: Deployment, point: Point, result: Result, final: bool = True) -> Path:
        path = super().write_result(deployment, point, result, final)
        self._say.result(result, final)
        return path


class Shown(Display):
    """Lines for who reads the log, and events for the command that follows it."""

    def __init__(self, stream: TextIO, say: Teller) -> None:
        super().__init__(stream)
        self._say = say

    def show(self, view: View, event: Mapping[str, Any]) -> None:
        super().show(view, event)
        self._say("event", dict(event))


class Bench:
    """The system of the process in a Job (`run.System`)."""

    def __init__(self, names: Mapping[str, str], display: Display) -> None:
        """`names`: late-bound word -> what stands for it in this pod."""
        self.stopped_by: int | None = None
        self._names, self._display = names, display

    def check(self, groups: Sequence[Group]) -> None:
        """What there is to check was checked before the Job was made."""

    def realise(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],  # noqa: ARG002  (who made the Job keeps them)
        wishes: Wishes,
    ) -> Mapping[str, Result]:
        """Measures the points. Raises KeyboardInterrupt when told to stop, Spent."""
        claims = {group.deployment.digest: OneStart(group.deployment, self._names) for group in groups}
        with listening() as stop:
            try:
                return local.work(stop, groups, store, lambda _: None, wishes, claims, self._display)
            finally:
                self.stopped_by = stop.number

    def detach(self, *_: object) -> int:
        """Never asked: a Job stays with its work."""
        raise TypeError("a Job is left already")


def main(folder: Path) -> int:
    """The exit code of the Job's container."""
    say = Teller(sys.stdout)
    try:
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        work = work_of(files)
        baseline = folder / BASELINE if BASELINE in files else None
        points = tuple(_judged_by(baseline, point) for point in work.points)
        return measured(replace(work, points=points), known_in(files), say)
    except Unfit as unfit:
        tell(unfit.problems, sys.stderr)
        reasons = [format_problem(problem) for problem in unfit.problems]
    except (Trouble, OSError, ValueError, KeyError) as problem:
        print(f"error: {problem}", file=sys.stderr, flush=True)
        reasons = [str(problem)]
    say("fault", {"reason": "; ".join(reasons)})
    return FAULT


def measured(work: Work, known: Sequence[Result], say: Teller) -> int:
    """Measures what is not measured yet, then says all of it once more. Gives the exit code."""
    plan, store = Plan(work.points, (work.deployment,)), Told(_volume(work.results), say)
    seed(store, plan, known)
    frontend = os.environ.get(FRONTEND)
    heads = dict.fromkeys(("frontend_node", "frontend_ip", "node:0"), frontend) if frontend else {}
    system = Bench({**work.names, **heads}, Shown(sys.stderr, say))
    say("begun", {"points": [point.digest for point in plan.points], "attempt": work.attempt})
    found = run.attended(plan, system, store)
    if isinstance(found.trouble, Spent):
        code = FRESH
    elif found.trouble is not None:
        raise found.trouble
    else:
        code = FAULT if found.interrupted else OK
    if system.stopped_by is not None:
        code = 128 + system.stopped_by
    say("over", {"code": code, "attempt": work.attempt, "results": repeat(store, plan, say)})
    return code


def repeat(store: Store, plan: Plan, say: Teller) -> dict[str, int]:
    """Says every result of the plan that is there; gives the attempts, by the point's digest.

    A log that grew too long has lost what was said first.
    """
    told = {}
    for point in plan.points:
        deployment = plan.deployment(str(point.deployment))
        result = store.latest(deployment, point)
        if result is not None:
            say.result(result, final=True)
            told[str(point.digest)] = result.attempt
    return told


def seed(store: Store, plan: Plan, known: Sequence[Result]) -> None:
    """Puts what is known elsewhere where this session looks for it."""
    points = {point.digest: point for point in plan.points}
    for result in known:
        point = points.get(result.point_digest)
        if point is None:
            continue
        deployment = plan.deployment(str(point.deployment))
        if store.recorded(deployment, point).result is None:
            number = store.new_attempt(deployment, point).number
            Store.write_result(store, deployment, point, replace(result, attempt=number))


def known_in(files: Mapping[str, bytes]) -> list[Result]:
    """Results in the files. Raises ValueError."""
    if KNOWN not in files:
        return []
    try:
        return [Result.from_json(entry) for entry in json.loads(zlib.decompress(files[KNOWN]))]
    except (zlib.error, ResultError, TypeError) as problem:
        raise ValueError(f"{KNOWN} cannot be read: {problem}") from problem


def _judged_by(baseline: Path | None, point: Point) -> Point:
    """The point with the baseline that is here. Who asked for the points judges them by their own."""
    return replace(point, config={**point.config, "baseline": None if baseline is None else str(baseline)})


def _volume(results: str) -> Path:
    """The folder on the results volume, wherever that is."""
    root, given = Path(RESULTS_DIR), os.environ.get(RESULTS)
    return Path(given) / Path(results).relative_to(root) if given else Path(results)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
