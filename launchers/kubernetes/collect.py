"""What a benchmark Job says in its log -> the same attempts in the store of this command, and its events as they come.

Takes lines of a log, in any order and any number of times; leaves results in the store.
Never does: reading a log; writing a result of a point that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compiler.plan import Deployment, Point
from launchers.agenda import MOST_HITS
from launchers.kubernetes.frames import Message, Reader
from launchers.kubernetes.verdict import KILL
from launchers.results.result import Result, ResultError
from launchers.standing import attempt_numbers, read_result
from launchers.store import RESULT, Store
from launchers.supervise import Tell

KEY = "kubernetes"
"""Of `ran` in a result: `namespace`, `graph`, `job`, `pod`, `attempt` (its number on the results volume)."""
UNTOLD = frozenset({"deployment_start", "deployment_stopping", "deployment_stop", "deployment_restart"})
"""Events of the session in the pod that are about a stack which is not its own."""
LINES = 20

Judge = Callable[[Result], Awaitable[Sequence[str]]]
"""Why a measurement cannot count although the session in the pod could not know."""


@dataclass(slots=True)
class Heard:
    """What is known of one Job by its log."""

    begun: set[str] = field(default_factory=set)
    """Names of points whose measurement began."""
    over: Mapping[str, Any] | None = None
    """What the program said at its end: `code`, and `results` by digest."""
    fault: str = ""
    """Why the program could not do its work."""
    tail: list[str] = field(default_factory=list)
    """The last lines that are no data."""

    @property
    def was_stopped(self) -> bool:
        """Whether the program ended because it was told to, which nobody here does while it is followed."""
        return int((self.over or {}).get("code") or 0) > KILL


class Collector:
    """Results and events of one deployment."""

    def __init__(
        self,
        deployment: Deployment,
        points: Sequence[Point],
        store: Store,
        tell: Tell,
        judge: Judge,
        ran: Mapping[str, Any],
    ) -> None:
        """`ran` is added to what results say of where they were measured."""
        self.results: dict[str, Result] = {}
        """What came of points, by digest."""
        self.lost: dict[str, Result] = {}
        """Attempts that are to be made again, by digest: the last of each point."""
        self.again = True
        """Whether a point whose stack was lost is measured again."""
        self._deployment, self._store, self._tell, self._judge = deployment, store, tell, judge
        self._points = {str(point.digest): point for point in points}
        self._ran = ran
        self._reader = Reader()
        self._jobs: dict[str, Heard] = {}
        self._hits: list[tuple[str, str]] = []
        self._reasons: dict[tuple[str, str], tuple[str, ...]] = {}

    def of(self, job: str) -> Heard:
        """What was heard of a Job."""
        return self._jobs.setdefault(job, Heard())

    async def take(self, job: str, line: str) -> None:
        """One line of the Job's log. Raises StoreError."""
        message = self._reader.take(line)
        if message is not None:
            await self._take(job, message)
        elif "@servix" not in line and line.strip():
            tail = self.of(job).tail
            tail.append(line.rstrip())
            del tail[:-LINES]

    def missing(self, job: str) -> list[str]:
        """Digests of points that the Job has results of, and that were not heard."""
        over = self.of(job).over or {}
        told = over.get("results") if isinstance(over.get("results"), Mapping) else {}
        known = self.results.keys() | self.lost.keys()
        return [digest for digest in told or {} if digest in self._points and digest not in known]

    def hits(self, digest: str) -> int:
        """Attempts at a point that took their stack with them."""
        return sum(known == digest for known, _ in self._hits)

    async def _take(self, job: str, message: Message) -> None:
        heard, data = self.of(job), message.data
        if not isinstance(data, dict):
            return
        if message.kind == "event":
            self._event(heard, data)
        elif message.kind == "result":
            await self._result(data)
        elif message.kind == "over":
            heard.over = data
        elif message.kind == "fault":
            heard.fault = str(data.get("reason"))

    def _event(self, heard: Heard, data: dict[str, Any]) -> None:
        name = data.pop("event", None)
        if name == "point_start":
            heard.begun.add(str(data.get("point")))
        if isinstance(name, str) and name not in UNTOLD:
            self._tell(name, **{str(key): value for key, value in data.items()})

    async def _result(self, data: Mapping[str, Any]) -> None:
        try:
            result = Result.from_json(data.get("result"))
        except ResultError:
            return
        point = self._points.get(result.point_digest)
        if point is None or result.deployment_digest != self._deployment.digest:
            return
        attempt = (result.point_digest, result.started_at)
        # What is known of an attempt stays known when its pods are gone.
        reasons = dict.fromkeys((*self._reasons.get(attempt, ()), *await self._judge(result)))
        self._reasons[attempt] = tuple(reasons)
        if attempt in self._hits:
            # Said once more at the end, by a session that did not know better.
            return
        final = bool(data.get("final")) and not (reasons and self.again)
        final = final or self.hits(result.point_digest) + 1 >= MOST_HITS
        if reasons:
            result = replace(result, verdict=result.verdict.also("failed", *reasons))
        result = self._of_here(point, result)
        if final:
            self.results[result.point_digest] = result
        else:
            self._hits.append(attempt)
            self.lost[result.point_digest] = result
        self._store.write_result(self._deployment, point, result, final)

    def _of_here(self, point: Point, result: Result) -> Result:
        """The result as this store has it: with the point's configuration, and a number that is free here."""
        place = {**(result.ran.get(KEY) or {}), **self._ran, "attempt": result.attempt}
        number = self._number(point, result)
        return replace(
            result,
            attempt=number,
            point_name=point.name,
            overrides=point.overrides,
            config=point.config,
            ran={**result.ran, KEY: place},
        )

    def _number(self, point: Point, result: Result) -> int:
        """The attempt's number on the volume, where nothing else is of that number here."""
        parent = self._store.point_dir(self._deployment, point) / "attempts"
        numbers = attempt_numbers(parent) if parent.is_dir() else []
        for number in numbers:
            known = read_result(parent / str(number) / RESULT)
            if isinstance(known, Result) and known.started_at == result.started_at:
                return number
        if result.attempt not in numbers:
            (parent / str(result.attempt)).mkdir(parents=True, exist_ok=True)
            return result.attempt
        return self._store.new_attempt(self._deployment, point).number


def quoted(heard: Heard, job: str) -> list[str]:
    """The end of a Job's log, as reasons quote it."""
    return [f"end of the log of {job}:\n" + "\n".join(heard.tail)] if heard.tail else []
