"""What a benchmark Job runs: measures the points of one deployment, which is served elsewhere in the cluster.

    python -m launchers.kubernetes.bench FOLDER

Takes a folder with `job.json` (or `job.json.gz`): the plan of the deployment and these points, the frontend's host
name, and what is known already; leaves attempts on the results volume and says events and results in its log
(`frames`), where the command that made the Job reads them. What the volume has of these points is not measured again.
Exit codes: 0 every point has a result, 1 a fault of ours, 75 the rest needs a fresh deployment, 128 more than the
signal that stopped it.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from compiler.plan import Deployment, Plan, Point
from compiler.plan_json import from_json
from compiler.sweep import Group
from launchers import local, run
from launchers.display import Display, View
from launchers.kubernetes.frames import lines
from launchers.kubernetes.pod import OneStart, Spent
from launchers.ledger import is_done
from launchers.listening import listening
from launchers.refusal import Trouble, Unfit, tell
from launchers.results.result import Result, ResultError
from launchers.store import Store
from launchers.turns import Wishes

OK, FAULT, FRESH = 0, 1, 75
SCHEMA = "servix.job/1"
WORK = "job.json"
FRONTEND, RESULTS = "SERVIX_FRONTEND", "SERVIX_RESULTS"
"""Environment variables: host name of the frontend's service; where the results volume is mounted."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a Job is to do."""

    plan: Plan
    frontend: str
    """Host name of the frontend's service."""
    results: Path
    """Root of the store on the results volume."""
    known: tuple[Result, ...] = ()
    """What is known elsewhere, and a search goes on from."""


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

    def __init__(self, frontend: str, display: Display) -> None:
        self.stopped_by: int | None = None
        self._frontend, self._display = frontend, display

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
        claims = {group.deployment.digest: OneStart(group.deployment, self._frontend) for group in groups}
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
        work = read(folder)
        code = measured(work, say)
    except Unfit as unfit:
        tell(unfit.problems, sys.stderr)
        code = FAULT
    except (Trouble, OSError, ValueError) as problem:
        print(f"error: {problem}", file=sys.stderr, flush=True)
        say("fault", {"reason": str(problem)})
        code = FAULT
    return code


def measured(work: Work, say: Teller) -> int:
    """Measures what is not measured yet, then says all of it once more. Gives the exit code."""
    store = Told(work.results, say)
    seed(store, work)
    system, code = Bench(work.frontend, Shown(sys.stderr, say)), OK
    say("begun", {"points": [point.digest for point in work.plan.points]})
    try:
        found = run.attended(work.plan, system, store)
        code = FAULT if found.interrupted else OK
    except Spent:
        code = FRESH
    if system.stopped_by is not None:
        code = 128 + system.stopped_by
    say("over", {"code": code, "results": repeat(store, work, say)})
    return code


def repeat(store: Store, work: Work, say: Teller) -> dict[str, int]:
    """Says every result of the work that is there; gives the attempts, by the point's digest.

    A log that grew too long has lost what was said first.
    """
    told = {}
    for point in work.plan.points:
        deployment = work.plan.deployment(str(point.deployment))
        result = store.latest(deployment, point)
        if result is not None:
            say.result(result, final=True)
            told[str(point.digest)] = result.attempt
    return told


def seed(store: Store, work: Work) -> None:
    """Puts what is known elsewhere where this session looks for it."""
    points = {point.digest: point for point in work.plan.points}
    for result in work.known:
        point = points.get(result.point_digest)
        if point is None:
            continue
        deployment = work.plan.deployment(str(point.deployment))
        if not is_done(deployment, point, store.recorded(deployment, point)):
            folder = store.point_dir(deployment, point) / "attempts" / str(result.attempt)
            folder.mkdir(parents=True, exist_ok=True)
            Store.write_result(store, deployment, point, result)


def read(folder: Path) -> Work:
    """The work in a folder. Raises OSError, ValueError for a file of another form."""
    packed = folder / f"{WORK}.gz"
    text = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / WORK).read_bytes()
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"{folder / WORK} is not of the form {SCHEMA}")
    frontend = os.environ.get(FRONTEND) or data.get("frontend")
    if not frontend:
        raise ValueError(f"{FRONTEND} is not set: nobody says where the frontend is")
    results = os.environ.get(RESULTS) or data.get("results") or "/servix/results"
    try:
        known = tuple(Result.from_json(entry) for entry in data.get("known") or ())
    except ResultError as problem:
        raise ValueError(f"{folder / WORK}: known: {problem}") from problem
    return Work(from_json(data["plan"]), str(frontend), Path(str(results)), known)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
