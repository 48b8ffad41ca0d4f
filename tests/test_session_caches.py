"""Prefix caches between the points of a session: emptied, kept, or at the cost of the stack."""

from dataclasses import replace
from pathlib import Path

import pytest

from compiler.errors import format_problem
from compiler.plan import Point, Reset
from launchers.host import Host
from launchers.preflight import preflight
from tests.sessions import count, deployment, frontend, phase, point, process, realise


def reset(text: str, timeout_s: float = 5) -> Reset:
    """A reset that is a text for bash; it knows where the stack leaves its results."""
    return Reset(("bash", "-c", text, "reset", "{results_dir}"), {"MARK": "{node:0}"}, timeout_s)


def with_seed(number: int, seed: int = 7) -> Point:
    return point(number, replace(phase("main"), random_seed=seed))


def test_caches_are_reset_between_points(tmp_path: Path) -> None:
    command = reset('echo "$MARK ${CUDA_VISIBLE_DEVICES-all}" >> "$1/resets"')
    phases = (phase("a"), phase("b"))
    points = [point(1, *phases), with_seed(2), with_seed(3), point(4, isolation="restart"), point(5)]
    results, events = realise(tmp_path, deployment(reset=command), *points)
    assert [result.verdict.status for result in results] == ["valid"] * 5
    assert [result.ran["caches"] for result in results] == ["fresh", "reset", "reset", "fresh", "fresh"]
    assert [result.notes for result in results] == [()] * 5
    told = [event for event in events if event["event"] == "caches_reset"]
    assert [event["ok"] for event in told] == [True, True]
    (seen,) = tmp_path.glob("outputs/store/*/runs/*/resets")
    assert len(seen.read_text().splitlines()) == 2
    assert seen.read_text().startswith("127.")
    assert "reset" not in results[0].durations_s
    own = results[1].durations_s
    others = own["start"] + own["ready"] + own["stop"]
    assert results[1].node_seconds == pytest.approx(2 * (own["reset"] + own["phases"] + others / 3), abs=0.01)


NO_RESET = [
    (
        "fails",
        reset("echo ERROR first; echo worker 7 is busy >&2; exit 3"),
        "exited with code 3: worker 7 is busy",
    ),
    ("too late", reset("sleep 60", timeout_s=0.1), "took longer than launch.reset_timeout_s = 0.1 s"),
    ("not there", Reset(("no-such-program",), {}, 5), "'no-such-program' is not in its PATH"),
]


@pytest.mark.parametrize(("command", "said"), [row[1:] for row in NO_RESET], ids=[row[0] for row in NO_RESET])
def test_caches_that_cannot_be_reset_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Reset, said: str
) -> None:
    monkeypatch.setattr("launchers.caches.GRACE_S", 0.4)
    monkeypatch.setattr("launchers.session.preflight", lambda *_: [])
    points = point(1), with_seed(2, 8), with_seed(3, 9)
    results, events = realise(tmp_path, deployment(reset=command), *points)
    assert [result.verdict.status for result in results] == ["valid"] * 3
    assert [result.ran["caches"] for result in results] == ["fresh", "kept", "kept"]
    assert results[0].notes == ()
    assert "the prefix caches were not reset: reset-caches" in results[1].notes[0]
    assert said in results[1].notes[0]
    assert (count(events, "deployment_start"), count(events, "caches_reset")) == (1, 2)


def test_caches_that_hold_what_a_point_asks_cost_the_stack(tmp_path: Path) -> None:
    stack = deployment(reset=reset("exit 1"), max_restarts=2)
    results, events = realise(tmp_path, stack, *(with_seed(number) for number in (1, 2)), with_seed(3, 8))
    assert [result.ran["caches"] for result in results] == ["fresh", "fresh", "kept"]
    assert [len(result.notes) for result in results] == [0, 0, 1]
    assert [result.attempt for result in results] == [1, 1, 1]
    assert (count(events, "deployment_start"), count(events, "deployment_restart")) == (2, 1)


def test_stacks_that_caches_cost_are_bounded(tmp_path: Path) -> None:
    stack = deployment(reset=reset("exit 1"), max_restarts=1)
    results, events = realise(tmp_path, stack, *(with_seed(number) for number in range(4)))
    assert [result.verdict.status for result in results] == ["valid", "valid", "failed", "failed"]
    assert count(events, "deployment_start") == 2
    said = "the prefix caches were not reset: reset-caches exited with code 1; they hold what seed 7 asks"
    assert said in results[2].verdict.reasons


def test_a_stack_that_dies_while_its_caches_are_reset_is_restarted(tmp_path: Path) -> None:
    fatal = tmp_path / "die"
    command = reset(f"[ -e {tmp_path}/once ] || {{ touch {fatal} {tmp_path}/once; sleep 20; }}")
    worker = process("decode-0", 1, "--die-if", str(fatal), "--code", "3")
    results, events = realise(
        tmp_path, deployment(frontend(), worker, reset=command), *(point(number) for number in range(3))
    )
    assert [result.verdict.status for result in results] == ["valid"] * 3
    assert [result.ran["caches"] for result in results] == ["fresh", "fresh", "reset"]
    assert [event["reasons"][0] for event in events if event["event"] == "deployment_failed"] == [
        "decode-0 exited with code 3"
    ]


def test_what_resets_caches_is_looked_for_before_anything_starts() -> None:
    stack = deployment(reset=Reset(("no-such-program",), {}, 5))
    workloads = [one.workload for one in (point(1), point(2)) if one.workload]
    host = Host(("127.9.9.10", "127.9.9.11"))
    told = [format_problem(problem) for problem in preflight(stack, workloads, host)]
    assert len(told) == 1
    assert "reset-caches = 'no-such-program': this program is not installed" in told[0]
    assert preflight(stack, workloads[:1], host) == []
