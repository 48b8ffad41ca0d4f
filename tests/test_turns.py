"""Who works on a deployment when: locks of machines that share files, attaching, several deployments at once."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.plan import Point
from compiler.sweep import Group
from launchers import leave as leaving
from launchers import local, turns
from launchers import lock as locks
from launchers.display import Display
from launchers.follow import Follower
from launchers.lock import Busy, Lock
from launchers.refusal import Trouble
from launchers.results.result import Result
from launchers.search import Choose
from launchers.store import Store
from launchers.turns import Turns, Wishes
from tests.fakes.processes import FOLDER, alive, wait_until
from tests.sessions import deployment, point, start_servix

ELSEWHERE = {"pid": 4711, "host": "elsewhere", "boot": "another"}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SILENCE_S", 1.0)
    monkeypatch.setattr(locks, "BEAT_S", 0.1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lock"
    path.write_text(json.dumps(ELSEWHERE))
    return path


@pytest.fixture
def beating(path: Path) -> Iterator[None]:
    """The holder on another machine, whose lock this file system does not show, is alive."""
    enough = threading.Event()

    def beat() -> None:
        while not enough.wait(0.1):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    enough.set()
    thread.join()


@pytest.mark.usefixtures("short", "beating")
def test_a_holder_elsewhere_that_is_alive_keeps_its_lock(path: Path) -> None:
    assert Lock(path).holder() == ELSEWHERE
    with pytest.raises(Busy, match="process 4711 on elsewhere"):
        Lock(path, timeout_s=2.0).__enter__()
    assert json.loads(path.read_text()) == ELSEWHERE


@pytest.mark.usefixtures("short")
def test_a_holder_elsewhere_that_is_silent_has_lost_its_lock(path: Path) -> None:
    os.utime(path)
    with pytest.raises(Busy):
        Lock(path, timeout_s=0).__enter__()
    begun = time.monotonic()
    with Lock(path, timeout_s=10):
        assert 0.9 < time.monotonic() - begun < 3
        assert json.loads(path.read_text())["pid"] == os.getpid()
        before = path.stat().st_mtime_ns
        assert wait_until(lambda: path.stat().st_mtime_ns > before, 3), "it has a heartbeat of its own"
    assert path.read_text() == ""
    assert Lock(path).holder() is None


def test_a_holder_of_this_machine_that_was_killed_has_lost_its_lock_at_once(path: Path) -> None:
    script = (
        "import os, sys; from launchers.lock import Lock; from pathlib import Path; "
        "Lock(Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), 9)"
    )
    path.unlink()
    subprocess.run([sys.executable, "-c", script, str(path)], cwd=FOLDER.parents[1], check=False, timeout=20)
    assert json.loads(path.read_text())["pid"] != os.getpid()
    begun = time.monotonic()
    with Lock(path, timeout_s=0):
        assert time.monotonic() - begun < 1


def test_a_command_shows_what_another_one_does_and_takes_its_result(tmp_path: Path) -> None:
    with start_servix(tmp_path, 3) as one:
        assert wait_until(lambda: "load starts" in (tmp_path / "said").read_text(), 20)
        before = (tmp_path / "said").read_text()
        with start_servix(tmp_path, 3) as two:
            assert wait_until(lambda: "attached to process" in (tmp_path / "said").read_text(), 20)
            assert (one.wait(30), two.wait(30)) == (0, 0)
    said = (tmp_path / "said").read_text().removeprefix(before)
    assert f"attached to process {one.pid} on" in said
    assert said.count("point point-1: valid") == 2, "both have told it"
    assert said.count("load starts") == 0, "what was before is no news"


def test_who_follows_is_not_misled_by_a_log_that_is_cut_or_foreign(tmp_path: Path) -> None:
    path, seen = tmp_path / "events.jsonl", list[str]()
    path.write_bytes(
        b'{"event": "a", "time": "t"}\n[1]\nnonsense\n\xff\n{"event": "deployment_start", "time": "t"}\n{"event": "b",'
    )
    follower = Follower(path)
    follower.catch_up(lambda event: seen.append(event["event"]))
    assert seen == ["deployment_start"]
    with path.open("ab") as log:
        log.write(b' "time": "t"}\n{"event": "c", "ti')
    follower.look(lambda event: seen.append(event["event"]))
    assert seen == ["deployment_start", "b"]


def test_an_event_that_cannot_be_shown_hides_no_other(tmp_path: Path) -> None:
    path, stream = tmp_path / "events.jsonl", io.StringIO()
    head = {"time": "2026-01-01T00:00:00+00:00"}
    wrong = [
        {"event": "phase_end", "phase": "main", "verdict": "valid", "duration_s": "abc"},
        {"event": "deployment_ready", "durations_s": [1]},
        {"event": "deployment_failed", "reasons": 7},
        {"event": "measurement", "point": "p"},
        {"event": "process_exit", "process": []},
    ]
    right = {"event": "point_start", "point": "after all", "attempt": 1}
    path.write_text("".join(json.dumps({**head, **event}) + "\n" for event in [*wrong, right]))
    with Display(stream) as display:
        Follower(path).look(display.of(deployment()))
    assert "point after all: attempt 1" in stream.getvalue()


@pytest.mark.parametrize("first", [None, 1])
def test_a_stack_is_started_only_for_a_search_that_measures(first: int | None, tmp_path: Path) -> None:
    """What is left to measure is asked when the lock is held: whoever held it before may have found everything."""
    stack, written = deployment(), list[str]()
    points = tuple(replace(point(number), deployment=stack.digest) for number in (0, 1))

    def choosing() -> Choose:
        assert Store(tmp_path).holder(stack) is not None, "the deployment is ours"
        return lambda results: points[first] if first is not None and not results else None

    wishes = Wishes(wanted=lambda *_: True, choose=choosing)
    found = local.realise(
        [Group(stack, points)], Store(tmp_path), lambda one: written.append(one.name), wishes
    )
    assert [result.point_name for result in found.values()] == ([] if first is None else ["point-1"])
    assert len(written) == len(list(tmp_path.glob("store/*/events.jsonl"))) == len(found)


PARALLEL = """
import sys
from dataclasses import replace
from pathlib import Path
from compiler.sweep import Group
from launchers import local
from launchers.store import Store
from launchers.turns import Turns, Wishes
from tests.test_session import deployment, phase, point
load = phase("main", "--takes", "1.5")
stacks = [replace(deployment(), digest=f"d{i}-{i}123456789abcdef", name=f"fake{i}") for i in range(3)]
groups = [Group(stack, (replace(point(1, load), deployment=stack.digest),)) for stack in stacks]
wishes = Wishes(wanted=lambda *_: True, parallel=int(sys.argv[2]), max_nodes=int(sys.argv[3]))
results = local.realise(groups, Store(Path(sys.argv[1])), lambda _: None, wishes)
assert [result.verdict.status for result in results.values()] == ["valid"]
"""


def spans(folder: Path) -> list[tuple[float, float]]:
    """When each deployment ran."""
    found = []
    for log in sorted(folder.glob("store/*/events.jsonl")):
        events = [json.loads(line) for line in log.read_text().splitlines()]
        at = {event["event"]: event["monotonic_s"] for event in events}
        found.append((at["deployment_start"], at["deployment_stop"]))
    return found


@pytest.mark.parametrize(
    ("parallel", "max_nodes", "most"), [(1, 8, 1), (3, 4, 2), (2, 8, 2), (3, 8, 3)], ids=str
)
def test_deployments_run_side_by_side_where_the_nodes_allow(
    tmp_path: Path, parallel: int, max_nodes: int, most: int
) -> None:
    words = [sys.executable, "-c", PARALLEL, str(tmp_path), str(parallel), str(max_nodes)]
    ran = subprocess.run(
        words, cwd=FOLDER.parents[1], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    times = spans(tmp_path)
    assert len(times) == 3
    assert max(sum(begin <= at < end for begin, end in times) for at, _ in times) == most
    assert ("[fake1] frontend is ready" in ran.stderr) == (parallel > 1)
    assert not alive(str(tmp_path))


@pytest.mark.parametrize(("answer", "goes_on"), [(b"\n", True), (b"d\n", True), (b"c\n", False)], ids=str)
def test_ctrl_c_asks_what_to_do_about_another_command(tmp_path: Path, answer: bytes, goes_on: bool) -> None:
    from tests.sessions import SERVIX

    with start_servix(tmp_path, 60) as other:
        assert wait_until(lambda: "load starts" in (tmp_path / "said").read_text(), 20)
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(FOLDER.parents[1])
            os.execv(sys.executable, [sys.executable, "-c", SERVIX.format(takes=60, quick=0), str(tmp_path)])
        said = read_until(terminal, b"load starts")
        assert b"attached to process" in said
        assert b"decode-0" in said, "the table is there at once, although nothing happens"
        os.write(terminal, b"\x03")
        said += read_until(terminal, b"or [c]ancel it?")
        os.write(terminal, answer)
        said += read_until(terminal, b"goes on; the same" if goes_on else b"was told to stop")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
        assert (Store(tmp_path).holder(deployment()) is not None) == goes_on, "its end was waited for"
        os.close(terminal)
        if goes_on:
            assert other.poll() is None
            other.send_signal(signal.SIGINT)
        assert other.wait(20) == 130
    assert wait_until(lambda: not alive(str(tmp_path)))


async def take(one: Turns, group: Group) -> None:
    async with asyncio.timeout(20):
        await one.take([group])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("here", "goes_on", "fault", "told"),
    [
        (True, False, None, "has ended meanwhile"),
        (True, True, ProcessLookupError, "has ended meanwhile"),
        (True, True, PermissionError, "belongs to another user, who has to stop it; it goes on"),
        (False, True, None, "cannot be reached from this machine: stop it there"),
        (True, True, None, "is still stopping; action=status shows when it has"),
    ],
    ids=["ended", "just-ended", "of-another-user", "elsewhere", "does-not-end"],
)
def test_what_cannot_be_cancelled_is_not_said_to_be(
    here: bool, goes_on: bool, fault: type[OSError] | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = []

    def kill(pid: int, number: int) -> None:
        killed.append((pid, number))
        if fault is not None:
            raise fault

    screen = Terminal()
    monkeypatch.setattr(leaving, "ENDS_S", 0.2)
    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(sys, "stdin", Terminal("c\n"))
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(leaving, "is_here", lambda _: here)
    leaving.leave(ELSEWHERE, True, lambda: goes_on)
    assert screen.getvalue().endswith(f"servix: process 4711 on elsewhere {told}\n")
    assert killed == ([(4711, signal.SIGTERM)] if here and goes_on else [])
    assert ("cancelled" in screen.getvalue()) == (fault is None and here and goes_on)


def test_who_has_all_results_does_not_wait_for_the_points_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command measures more on the same deployment, for hours maybe."""
    monkeypatch.setattr(turns, "SETTLED_S", 0.01)
    stack, said, asked = deployment(), io.StringIO(), list[str]()
    points = tuple(replace(point(number), deployment=stack.digest) for number in (1, 2))

    def settled(_: object, one: Point) -> bool:
        asked.append(one.name)
        return len(asked) > 3

    async def measure(group: Group) -> list[Result]:
        raise AssertionError(group)

    wishes = Wishes(wanted=lambda *_: True, settled=settled)
    with Store(tmp_path).lock(stack), Display(said) as display:
        asyncio.run(take(Turns(Store(tmp_path), wishes, display, measure), Group(stack, points)))
        assert Store(tmp_path).holder(stack) is not None
    assert asked == ["point-1", "point-1", "point-1", "point-1", "point-2"]
    assert "all that was asked for on fake is measured; its session goes on" in said.getvalue()


def read_until(terminal: int, words: bytes, within_s: float = 20) -> bytes:
    said, deadline = b"", time.monotonic() + within_s
    while words not in said:
        assert time.monotonic() < deadline, said
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                said += os.read(terminal, 65536)
            except OSError as ended:
                raise AssertionError(said.decode()) from ended
    return said


def test_groups_that_are_free_come_before_those_that_are_not(tmp_path: Path) -> None:
    busy = replace(deployment(), digest="d0-0123456789abcdef", name="fake0")
    words, said = [sys.executable, "-c", PARALLEL, str(tmp_path), "1", "8"], tmp_path / "said"
    with (
        Store(tmp_path).lock(busy),
        said.open("w") as stream,
        subprocess.Popen(words, cwd=FOLDER.parents[1], stderr=stream) as ran,
    ):
        assert wait_until(lambda: "attached to process" in said.read_text(), 30)
        assert len(list(tmp_path.glob("store/*/*/result.json"))) == 2
        ran.send_signal(signal.SIGTERM)
        ran.wait(20)
    assert "detached: process" in said.read_text()


def test_what_could_not_be_stopped_is_told(tmp_path: Path) -> None:
    """Who interrupts a command hears of it, although the interruption is what ends the command."""
    stream, kept = io.StringIO(), Trouble("two objects are not gone in time")

    async def measure(_: Group) -> list[Result]:
        try:
            return await asyncio.Event().wait() or []
        except asyncio.CancelledError:
            raise kept from None

    async def interrupted() -> bool:
        wishes = Wishes(wanted=lambda *_: True)
        turns = Turns(Store(tmp_path), wishes, Display(stream), measure)
        task = asyncio.create_task(turns.take([Group(deployment(), (point(1),))]))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(interrupted())
    assert "warning: two objects are not gone in time" in stream.getvalue()
