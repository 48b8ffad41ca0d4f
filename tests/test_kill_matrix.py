"""KILL for every kind of process at every stage of a sweep: a verdict that names it, nothing left, nothing lost.

The real command line, the real Dynamo frontend and mockers. The load generator is one that takes a tenth of a second
and waits where it is told to (tests/fakes/load.py), so that each stage is met for certain; the last test has AIPerf.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commanding import FIRST, SECOND, TELLING, VALID, Command, Start, Sweep, nothing_left, verdicts

from launchers import services
from tests.fakes.processes import wait_until

STACK = ("frontend", "decode-0", "prefill-0")
AGAIN = [(FIRST, 1, "valid"), (SECOND, 1, "failed"), (SECOND, 2, "valid")]
TAKEN_OVER = [(FIRST, 1, "valid"), (SECOND, 1, "none"), (SECOND, 2, "valid")]


def starting(sweep: Sweep, victim: str) -> Command:
    """A process that was just started is not ready yet."""
    command = sweep.begin()
    command.pid(victim if victim in STACK else "decode-0")
    return command


def between(sweep: Sweep, _: str) -> Command:
    """The frontend stops answering before the second point's health probe asks it."""
    sweep.hold("answers-1")
    command = sweep.begin()
    command.until(sweep.held)
    os.kill(command.pid("frontend"), signal.SIGSTOP)
    sweep.release()
    command.until(lambda: len(command.events("point_start")) == 2)
    assert len(command.events("phase_start")) == 1
    return command


def measuring(sweep: Sweep, _: str) -> Command:
    """A request of the second point is under way."""
    sweep.hold("load-2")
    command = sweep.begin()
    command.until(sweep.held)
    return command


def reporting(sweep: Sweep, _: str) -> Command:
    """The load generator has left its report and has not ended."""
    sweep.hold("report-2")
    command = sweep.begin()
    command.until(sweep.held)
    return command


def stopping(sweep: Sweep, _: str) -> Command:
    """The frontend takes the whole grace to stop."""
    command = reporting(sweep, "")
    os.kill(command.pid("frontend"), signal.SIGSTOP)
    sweep.release()
    command.wait_for(lambda event: event["event"] == "deployment_stopping")
    return command


def kill(command: Command, victim: str) -> None:
    os.kill(command.pid(victim), signal.SIGKILL)


def go_on(command: Command, sweep: Sweep) -> None:
    """Nothing is held any more."""
    sweep.release()
    with contextlib.suppress(ProcessLookupError):
        os.kill(command.pid("frontend"), signal.SIGCONT)


def completes(sweep: Sweep, attempts: list[tuple[str, int, str]]) -> str:
    """The same command again: every point valid, measured as often as given here and valid only once. Gives its log."""
    command = sweep.begin()
    code, out, err = command.ended()
    assert code == 0, err
    assert (out.count(" valid "), verdicts(command)) == (2, ["valid"] * 2)
    assert command.attempts() == attempts
    assert sum(verdict == "valid" for _, _, verdict in attempts) == 2
    nothing_left(command)
    return err


@pytest.mark.parametrize("victim", STACK)
def test_a_server_killed_while_starting_fails_every_point(tmp_path: Path, start: Start, victim: str) -> None:
    sweep = Sweep(tmp_path, start)
    command = starting(sweep, victim)
    kill(command, victim)
    code, out, err = command.ended()
    assert code == 3, err
    nothing_left(command)
    assert command.events("deployment_ready") == []
    assert f"{FIRST}, {SECOND}: failed" in out
    assert out.count(f"{victim} was killed by SIGKILL") == 1
    for result in command.results():
        assert result["verdict"]["status"] == "failed"
        assert result["verdict"]["reasons"][:2] == [
            "the stack did not become ready",
            f"{victim} was killed by SIGKILL",
        ]
    failed = [(FIRST, 1, "failed"), (SECOND, 1, "failed")]
    assert command.attempts() == failed
    completes(sweep, sorted([*failed, (FIRST, 2, "valid"), (SECOND, 2, "valid")]))


@pytest.mark.parametrize("victim", STACK)
@pytest.mark.parametrize("stage", [between, measuring])
def test_a_point_that_loses_a_server_is_measured_again(
    tmp_path: Path, start: Start, stage: Callable[[Sweep, str], Command], victim: str
) -> None:
    sweep = Sweep(tmp_path, start)
    command = stage(sweep, victim)
    kill(command, victim)
    sweep.release()
    code, out, err = command.ended()
    assert code == 0, err
    nothing_left(command)
    assert (out.count(" valid "), verdicts(command)) == (2, ["valid"] * 2)
    assert command.attempts() == AGAIN
    assert len(command.events("deployment_start")) == 2
    note = f"measured again: attempt 1 failed: {victim} was killed by SIGKILL"
    assert [result["notes"] for result in command.results()] == [[], [note]]
    lost = command.result_of(SECOND, 1)
    assert lost["verdict"]["reasons"][0] == f"{victim} was killed by SIGKILL"
    assert [phase["verdict"]["status"] for phase in lost["phases"]] == ["failed"] * (stage is measuring)
    events = len(command.events())
    completes(sweep, AGAIN)
    assert len(command.events()) == events


@pytest.mark.parametrize("victim", STACK)
def test_a_server_killed_while_stopping_costs_nothing(tmp_path: Path, start: Start, victim: str) -> None:
    sweep = Sweep(tmp_path, start)
    command = stopping(sweep, victim)
    kill(command, victim)
    code, _, err = command.ended()
    assert code == 0, err
    nothing_left(command)
    exits = {event["process"]: event["code"] for event in command.events("process_exit")}
    assert exits[victim] == -signal.SIGKILL
    completes(sweep, VALID)
    assert len(command.events("deployment_start")) == 1


@pytest.mark.parametrize("stage", [measuring, reporting])
def test_a_load_generator_killed_costs_its_point_alone(
    tmp_path: Path, start: Start, stage: Callable[[Sweep, str], Command]
) -> None:
    sweep = Sweep(tmp_path, start)
    command = stage(sweep, "")
    kill(command, "aiperf-main")
    sweep.release()
    code, out, err = command.ended()
    assert code == 3, err
    nothing_left(command)
    wrong = "failed" if stage is measuring else "invalid"
    assert command.attempts() == [(FIRST, 1, "valid"), (SECOND, 1, wrong)]
    reasons = command.result_of(SECOND, 1)["verdict"]["reasons"]
    assert "aiperf was killed by SIGKILL" in reasons[0]
    assert "aiperf was killed by SIGKILL" in out
    completes(sweep, [(FIRST, 1, "valid"), (SECOND, 1, wrong), (SECOND, 2, "valid")])


@pytest.mark.parametrize(
    ("stage", "left", "after"),
    [
        (starting, [], VALID),
        (between, TAKEN_OVER[:2], TAKEN_OVER),
        (measuring, TAKEN_OVER[:2], TAKEN_OVER),
        (stopping, VALID, VALID),
    ],
)
def test_servix_killed_leaves_what_was_measured_and_nothing_else(
    tmp_path: Path,
    start: Start,
    stage: Callable[[Sweep, str], Command],
    left: list[tuple[str, int, str]],
    after: list[tuple[str, int, str]],
) -> None:
    sweep = Sweep(tmp_path, start)
    command = stage(sweep, "servix")
    command.process.kill()
    code, out, _ = command.ended()
    assert (code, out) == (-signal.SIGKILL, "")
    nothing_left(command)
    sweep.release()
    assert command.attempts() == left
    assert verdicts(command) == [verdict for _, _, verdict in left if verdict != "none"]
    told = "attempt 1 was started and never finished: servix was interrupted or killed"
    assert (told in completes(sweep, after)) == (after is TAKEN_OVER)


@pytest.mark.parametrize("victim", ["session", "servix"])
def test_a_session_and_the_command_that_shows_it_die_alone(tmp_path: Path, start: Start, victim: str) -> None:
    """The session works in the background; the same command attaches to it, and goes on where it was killed."""
    sweep = Sweep(tmp_path, start)
    sweep.hold("load-2")
    _, out, _ = sweep.begin("launch.detach=true").ended()
    session = int(out.split()[2])
    try:
        assert wait_until(sweep.held, 60)
        command = sweep.begin()
        assert command.process.stderr is not None
        assert any(f"attached to process {session} " in line for line in command.process.stderr)
        os.kill(session if victim == "session" else command.process.pid, signal.SIGKILL)
        sweep.release()
        code, out, _ = command.ended()
        if victim == "servix":
            code, out, _ = sweep.begin().ended()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(session, signal.SIGTERM)
    assert (code, out.count(" valid ")) == (0, 2)
    assert command.attempts() == (VALID if victim == "servix" else TAKEN_OVER)
    nothing_left(command)


@pytest.mark.parametrize("stage", [starting, between, measuring, stopping])
def test_a_guardian_killed_is_replaced_and_costs_nothing(
    tmp_path: Path, start: Start, stage: Callable[[Sweep, str], Command]
) -> None:
    sweep = Sweep(tmp_path, start)
    command = stage(sweep, "guardian")
    first = command.guardian()
    os.kill(first, signal.SIGKILL)
    command.wait_for(lambda event: event["event"] == "guardian_restart")
    assert command.guardian() != first
    go_on(command, sweep)
    code, _, err = command.ended()
    assert code == 0, err
    assert "the guardian was killed by SIGKILL" in err
    nothing_left(command)
    completes(sweep, VALID)
    assert len(command.events("deployment_start")) == 1


def test_servix_killed_after_its_guardian_leaves_no_process(tmp_path: Path, start: Start) -> None:
    sweep = Sweep(tmp_path, start)
    command = between(sweep, "")
    os.kill(command.guardian(), signal.SIGKILL)
    command.wait_for(lambda event: event["event"] == "guardian_restart")
    command.process.kill()
    command.ended()
    nothing_left(command)


def test_servix_and_its_guardian_killed_at_once_leave_no_process(tmp_path: Path, start: Start) -> None:
    """The kernel tells the processes, which nobody can see to any more."""
    sweep = Sweep(tmp_path, start)
    command = measuring(sweep, "")
    second = command.guardian()
    os.kill(command.process.pid, signal.SIGSTOP)
    os.kill(second, signal.SIGKILL)
    command.process.kill()
    command.ended()
    nothing_left(command)


def test_aiperf_killed_at_any_moment_is_named(start: Start) -> None:
    """Each time the same command; the last one is let go, and has one valid point to show."""
    sweep = ("aiperf.request_count=12", "aiperf.output_tokens_mean=20", "aiperf.workers_max=1")
    sweep += ("aiperf.record_processors=1", "mocker.speedup_ratio=0.5", TELLING)
    for number, answers in enumerate((0, 1, 12), start=1):
        command = start(*sweep)
        victim = command.pid("aiperf-main")
        command.until(lambda command=command, answers=answers: command.answers() >= answers)
        os.kill(victim, signal.SIGKILL)
        code, out, err = command.ended()
        assert code == 3, err
        nothing_left(command)
        (result,) = command.results()
        assert result["attempt"] == number
        assert result["verdict"]["status"] != "valid"
        assert "aiperf was killed by SIGKILL" in result["verdict"]["reasons"][0]
        assert "aiperf was killed by SIGKILL" in out
    code, _, err = start(*sweep).ended()
    assert code == 0, err
    assert [verdict == "valid" for _, _, verdict in command.attempts()] == [False, False, False, True]


@pytest.mark.parametrize("service", [r"worker_[0-9a-f]{8}", "records_manager"], ids=["worker", "records"])
def test_a_service_of_aiperf_killed_is_named_and_ends_the_wait(start: Start, service: str) -> None:
    """AIPerf itself would wait for it until bench.timeout_s."""
    sweep = ("aiperf.request_count=400", "aiperf.output_tokens_mean=20", "aiperf.concurrency=2", TELLING)
    sweep += ("aiperf.workers_max=1", "aiperf.record_processors=1")
    command = start(*sweep)
    parent = command.pid("aiperf-main")
    command.until(lambda: command.answers() >= 5)
    titles = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in services.children(parent)}
    named = re.compile(rf"aiperf {service}\b")
    (victim,) = [pid for pid, title in titles.items() if named.match(title)]
    os.kill(victim, signal.SIGKILL)
    begun = time.monotonic()
    code, out, err = command.ended()
    assert (code, time.monotonic() - begun < 20) == (3, True), err
    nothing_left(command)
    (result,) = command.results()
    assert result["verdict"]["status"] == "failed"
    assert re.match(rf"aiperf {service} was killed by SIGKILL; ", result["verdict"]["reasons"][0])
    assert "was killed by SIGKILL" in out
