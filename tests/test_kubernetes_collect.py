"""What a Job says becomes the same attempts in this store, once, whatever else is in its log."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from results_data import deployment, digest, point, result

from launchers.kubernetes.collect import Collector, quoted
from launchers.kubernetes.frames import lines
from launchers.results.result import Result, Verdict
from launchers.store import Store

A, B = point("a"), replace(point("b"), name="b")
FAILED = Verdict("failed", ("the server is gone",))
KILLED = "pod decode: its container ran out of memory and was killed (OOMKilled)"


class Heard:
    """A collector, its store, and the events it told."""

    def __init__(self, folder: Path, *reasons: str) -> None:
        self.store, self.events = Store(folder), list[str]()
        self.reasons = list(reasons)
        self.collector = Collector(
            deployment(), (A, B), self.store, self.tell, self.judge, {"namespace": "bench"}
        )

    def tell(self, event: str, **_: Any) -> None:
        self.events.append(event)

    async def judge(self, _: Result) -> list[str]:
        return self.reasons

    def hear(self, *texts: str, job: str = "j-1") -> None:
        async def main() -> None:
            for text in texts:
                await self.collector.take(job, text)

        asyncio.run(main())

    def attempts(self, asked: Any = A) -> dict[int, str]:
        parent = self.store.point_dir(deployment(), asked) / "attempts"
        found = {int(path.parent.name): path for path in parent.glob("*/result.json")}
        return {number: _verdict(path) for number, path in sorted(found.items())}


def _verdict(path: Path) -> str:
    return str(json.loads(path.read_text())["verdict"]["status"])


def said(found: Result, final: bool = True) -> list[str]:
    return list(lines("result", {"final": final, "result": found.to_json()}))


def of(letter: str, attempt: int = 1, started_at: str = "2026-01-01T00:00:00+00:00", **more: Any) -> Result:
    return result(point_digest=digest(letter), attempt=attempt, started_at=started_at, **more)


def test_a_result_is_stored_once_with_what_is_known_here(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    heard.hear("noise", *said(of("a")), *said(of("a")), *said(of("a", durations_s={"stop": 1.0})))
    assert heard.attempts() == {1: "valid"}
    stored = heard.store.result(deployment(), A)
    assert stored is not None
    assert (stored.point_name, stored.ran["kubernetes"]) == (A.name, {"namespace": "bench", "attempt": 1})
    assert stored.durations_s == {"stop": 1.0}, "what was said later is known better"
    assert list(heard.collector.results) == [A.digest]
    assert quoted(heard.collector.of("j-1"), "j-1") == ["end of the log of j-1:\nnoise"]


def test_another_attempt_of_that_number_stays(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    heard.hear(*said(of("a", verdict=FAILED)))
    heard.hear(*said(of("a", started_at="2026-02-02T00:00:00+00:00")))
    assert heard.attempts() == {1: "failed", 2: "valid"}
    again = Heard(tmp_path)
    again.hear(*said(of("a", started_at="2026-02-02T00:00:00+00:00")))
    assert again.attempts() == {1: "failed", 2: "valid"}, "known from before"


def test_points_that_nobody_asked_for_are_left_alone(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    heard.hear(*said(of("c")), *said(replace(of("a"), deployment_digest=digest("e"))))
    heard.hear(*lines("result", {"result": {"schema": "servix.result/9"}}), *lines("result", [1]))
    assert heard.collector.results == {}


def test_an_attempt_that_lost_its_stack_is_no_answer_until_it_happens_again(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    first = of("a", verdict=FAILED)
    heard.hear(*said(first, final=False), *said(first), *said(of("b")))
    assert list(heard.collector.results) == [B.digest]
    heard.hear(*said(of("a", 2, "2026-02-02T00:00:00+00:00", verdict=FAILED), final=False))
    assert heard.collector.results[str(A.digest)].attempt == 2
    assert heard.attempts() == {1: "failed", 2: "failed"}


def test_a_pod_that_was_killed_makes_a_result_no_result(tmp_path: Path) -> None:
    heard = Heard(tmp_path, KILLED)
    heard.hear(*said(of("a")))
    assert (heard.attempts(), heard.collector.results) == ({1: "failed"}, {})
    # The pods are gone when it is said once more.
    heard.reasons.clear()
    heard.hear(*said(of("a", durations_s={"stop": 1.0})))
    assert heard.collector.results == {}
    heard.hear(*said(of("a", 2, "2026-02-02T00:00:00+00:00")))
    assert heard.store.status(deployment(), A) == "done"


def test_one_point_alone_is_told_at_once(tmp_path: Path) -> None:
    heard = Heard(tmp_path, KILLED)
    heard.collector.again = False
    heard.hear(*said(of("a")))
    assert heard.collector.results[str(A.digest)].verdict.reasons[-1] == KILLED


def test_what_was_not_heard_is_missing(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    over = {"code": 0, "results": {A.digest: 1, B.digest: 1, digest("c"): 1}}
    heard.hear(*said(of("a")), *lines("over", over))
    assert heard.collector.missing("j-1") == [B.digest]
    heard.hear(*said(of("b")))
    assert heard.collector.missing("j-1") == []


def test_events_of_a_stack_that_is_not_the_pods_own_are_not_told(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    for event in ("deployment_start", "phase_start", "point_start", "deployment_stop"):
        heard.hear(*lines("event", {"event": event, "point": "p", "monotonic_s": 1.0}))
    assert heard.events == ["phase_start", "point_start"]
    assert heard.collector.of("j-1").begun == {"p"}
