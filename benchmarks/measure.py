"""Runs one command and says what it took: wall time, CPU time of it and its children, peak memory.

Gives: `Took`. Raises `Failed` for a command that fails, takes too long, or leaves a process behind (which is ended).
Never does: judging a number.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks"
GONE_WITHIN_S = 15.0
TAIL = 2_000


class Failed(Exception):
    """A measurement that gave no number, in words."""


@dataclass(frozen=True, slots=True)
class Took:
    """What a command took, and what it printed."""

    wall_s: float
    cpu_s: float
    """User and system time of the command and of every child it has waited for."""
    peak_mb: float
    """Largest resident set of one process."""
    begun_s: float
    """When it was started, on the clock of `time.time`."""
    output: str


def took(argv: Sequence[str], folder: Path, timeout_s: float, env: Mapping[str, str] | None = None) -> Took:
    """Runs `argv` in the existing `folder`, in a session of its own. Raises Failed."""
    log = folder / "output.log"
    with log.open("wb") as stream:
        begun_s, begun = time.time(), time.monotonic()
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env={**_environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        status, usage, wall_s = _waited(process, begun, timeout_s)
    finally:
        left = _end_rest(process, folder)
    text = log.read_text(encoding="utf-8", errors="replace")
    name = " ".join(Path(word).name if index < 2 else word for index, word in enumerate(argv))[:120]
    if status is None:
        raise Failed(f"{name} took longer than {timeout_s:g} s\n{text[-TAIL:]}")
    if status != 0:
        raise Failed(f"{name} ended with {status}\n{text[-TAIL:]}")
    if left:
        raise Failed(f"{name} left processes behind: {', '.join(map(str, left))}")
    return Took(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, begun_s, text)


def _environment() -> dict[str, str]:
    """Ours without what changes how Python works, such as PYTHONDONTWRITEBYTECODE: every start would compile."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _waited(process: subprocess.Popen[bytes], begun: float, timeout_s: float):
    """Exit status (null: too late), resources and wall time. Looks every 2 ms: wait4 knows no timeout."""
    while time.monotonic() < begun + timeout_s:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage, time.monotonic() - begun
        time.sleep(0.002)
    return None, None, timeout_s


def _end_rest(process: subprocess.Popen[bytes], folder: Path) -> list[int]:
    """Ends what is left of a command; gives what was left although it had ended by itself."""
    ended_itself = process.returncode is not None
    if not ended_itself:
        # TERM first: a servix stops its stack and then needs nobody to clean up after it.
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GONE_WITHIN_S)
    left = _alive(process.pid, folder)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if process.returncode is None:
        process.kill()
        process.wait(GONE_WITHIN_S)
    return left if ended_itself else []


def _alive(session: int, folder: Path) -> list[int]:
    """Processes in the command's session, or whose working directory is below its folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), session):
            continue
        with contextlib.suppress(OSError):
            state, _, _, its_session = (
                (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:4]
            )
            below = (entry / "cwd").readlink().is_relative_to(folder)
            if state not in ("Z", "X") and (int(its_session) == session or below):
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def fresh_folder() -> Iterator[Path]:
    """An empty folder with a short path (sockets live below it), removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="sxb-", ignore_cleanup_errors=True) as name:
        yield Path(name).resolve()


def servix(*overrides: str) -> list[str]:
    """The command line of servix, its interpreter being ours."""
    return [sys.executable, str(ROOT / "run.py"), *overrides]


def interleaved(repeat: int, ours: Callable[[], T], baseline: Callable[[], T]) -> tuple[list[T], list[T]]:
    """Both, in turn and each first as often as the other, so that a machine that gets slower meets both."""
    taken: tuple[list[T], list[T]] = ([], [])
    for number in range(repeat):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            taken[side].append((ours, baseline)[side]())
    return taken


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)
