"""Signals, terminals and readers that go away: nothing stays behind, and nothing is lost."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launchers.display import Display
from launchers.listening import Stopper
from launchers.store import Store
from tests.fakes.processes import FOLDER, alive, wait_until
from tests.sessions import SERVIX, deployment, point, start_servix


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name
)
def test_an_interrupted_run_leaves_no_process_and_no_result(tmp_path: Path, number: signal.Signals) -> None:
    with start_servix(tmp_path, 60) as servix:
        assert wait_until(lambda: "load starts" in (tmp_path / "said").read_text(), 20)
        servix.send_signal(number)
        code = servix.wait(10)
    assert code == (130 if number != signal.SIGKILL else -number)
    assert wait_until(lambda: not alive(str(tmp_path)))
    assert list(tmp_path.rglob("result.json")) == []
    assert wait_until(lambda: not list((tmp_path / "tmp").iterdir()))
    with start_servix(tmp_path, 0) as again:
        assert again.wait(20) == 0
    assert Store(tmp_path).status(deployment(), point(1)) == "done"


def test_points_of_an_interrupted_sweep_know_what_they_cost(tmp_path: Path) -> None:
    with start_servix(tmp_path, 60, quick=1) as servix:
        assert wait_until(lambda: (tmp_path / "said").read_text().count("load starts") == 2, 20)
        servix.send_signal(signal.SIGTERM)
        assert servix.wait(10) == 130
    result = Store(tmp_path).result(deployment(), point(2))
    assert result is not None
    assert result.verdict.valid
    assert result.durations_s["stop"] > 0
    assert result.node_seconds == pytest.approx(2 * sum(result.durations_s.values()), abs=0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_who_waits_for_another_command_can_be_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    with Store(tmp_path).lock(deployment()), start_servix(tmp_path, 0) as servix:
        assert wait_until(lambda: "attached to process" in (tmp_path / "said").read_text(), 20)
        servix.send_signal(number)
        assert servix.wait(5) == 130


def test_a_terminal_gets_its_cursor_back_from_who_asks_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        patch.setattr(signal, "signal", lambda *_: None)
        patch.setattr(os, "kill", lambda *_: None)
        stop = Stopper()
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                stop(signal.SIGINT, None)
        assert os.read(ours, 100) == b"\x1b[?25h"
    os.close(ours)


def test_a_reader_that_goes_away_costs_no_result(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SERVIX.format(takes=1, quick=1), str(tmp_path)]
    with subprocess.Popen(words, cwd=FOLDER.parents[1], stderr=subprocess.PIPE) as servix:
        assert servix.stderr is not None
        servix.stderr.readline()
        servix.stderr.close()
        servix.wait(20)
    assert {Store(tmp_path).status(deployment(), point(number)) for number in (1, 2)} == {"done"}
    assert not alive(str(tmp_path))


def test_two_commands_do_the_work_once(tmp_path: Path) -> None:
    with start_servix(tmp_path, 1) as one, start_servix(tmp_path, 1) as two:
        assert (one.wait(30), two.wait(30)) == (0, 0)
    events = next(tmp_path.rglob("events.jsonl")).read_text()
    assert events.count('"deployment_start"') == 1


def test_a_terminal_gets_a_table_and_a_pipe_gets_lines() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    entries = [
        {"event": "deployment_start", "deployment": "fake", "run": "1"},
        {"event": "process_start", "process": "frontend", "pid": 4711},
        {"event": "process_ready", "process": "frontend"},
        {"event": "phase_start", "phase": "main", "concurrency": 4, "requests": 20},
    ]
    for stream in (Terminal(), io.StringIO()):
        with Display(stream) as display:
            view = display.of(deployment())
            for entry in entries:
                view({**entry, "time": "2026-01-01T00:00:00+00:00"})
        text = stream.getvalue()
        assert "frontend" in text
        assert "4711" in text
        assert ("\x1b[" in text) == stream.isatty()
        assert "phase main: load starts (concurrency 4, requests 20)" in text
