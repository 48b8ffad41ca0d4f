"""Commands as a user types them, each a process of its own, and what they leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUN = (sys.executable, "run.py")
FAKE = ("--config-dir", "tests/fakes/config", "bench=fake")
"""Real servers, and a load generator that takes a tenth of a second."""
QUICK = (
    "aiperf.request_count=16",
    "aiperf.output_tokens_mean=40",
    "aiperf.workers_max=1",
    "aiperf.record_processors=1",
)
TELLING = "+bench.env.AIPERF_RECORD_EXPORT_BATCH_SIZE=1"
"""AIPerf writes each answer down at once, and not the first hundred together."""


class Command:
    """A servix command under way, and what it leaves in its output folder."""

    def __init__(self, output_dir: Path, *overrides: str, argv: Sequence[str] = RUN) -> None:
        """`argv` starts the command in another way than a user does."""
        self.output_dir = output_dir
        self._since, self._since_s = time.time(), time.monotonic()
        self.process = subprocess.Popen(
            [*argv, f"output_dir={output_dir}", *overrides],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self, timeout_s: float = 120) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, err

    def events(self, *names: str) -> list[dict[str, Any]]:
        found = []
        for path in self.output_dir.glob("store/*/events.jsonl"):
            found += [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        found.sort(key=lambda event: event["monotonic_s"])
        return [event for event in found if not names or event["event"] in names]

    def wait_for(self, what: Callable[[dict[str, Any]], bool], timeout_s: float = 60) -> dict[str, Any]:
        """The first such event of this command."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events() if event["monotonic_s"] >= self._since_s and what(event)]

        self.until(found, timeout_s)
        return found()[0]

    def until(self, holds: Callable[[], object], timeout_s: float = 60) -> None:
        """Returns as soon as `holds()`, which may be at the end of the command and no later."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            if holds():
                return
            assert not ended, self.process.communicate()[1]
            time.sleep(0.02)
        raise AssertionError(f"not seen within {timeout_s} s; events: {self.events()}")

    def pid(self, name: str) -> int:
        """Process id of the newest process of that name, once it runs."""
        self.wait_for(lambda event: event["event"] == "process_start" and event["process"] == name)
        return int([event for event in self.events("process_start") if event["process"] == name][-1]["pid"])

    def guardian(self) -> int:
        """Process id of the newest one."""
        found = []
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid and b"launchers/guard.py" in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
        return max(running(found))

    def wait_for_load(self, timeout_s: float = 90) -> None:
        """Returns when requests have come back: AIPerf's start-up is over, and more are under way. Takes TELLING."""
        self.until(self.answers, timeout_s)

    def answers(self) -> int:
        """Answers to this command's requests that AIPerf has written down."""
        exports = self.output_dir.glob("store/*/*/attempts/*/**/profile_export.jsonl")
        return sum(path.read_text().count("\n") for path in exports if path.stat().st_mtime >= self._since)

    def results(self) -> list[dict[str, Any]]:
        """The result of each point that has one, in the order of their folders."""
        return [
            json.loads(path.read_text()) for path in sorted(self.output_dir.glob("store/*/*/result.json"))
        ]

    def result_of(self, point: str, attempt: int) -> dict[str, Any]:
        """What one attempt came to, whatever came after it."""
        (path,) = self.output_dir.glob(f"store/*/{point}-*/attempts/{attempt}/result.json")
        return dict(json.loads(path.read_text()))

    def attempts(self) -> list[tuple[str, int, str]]:
        """Point, number and verdict of each attempt: "none" where there is no result of it."""
        found = []
        for folder in self.output_dir.glob("store/*/*/attempts/*"):
            result = folder / "result.json"
            verdict = json.loads(result.read_text())["verdict"]["status"] if result.exists() else "none"
            found.append((folder.parent.parent.name.rpartition("-")[0], int(folder.name), verdict))
        return sorted(found)


Start = Callable[..., Command]
"""The fixture `start`."""
FIRST, SECOND = "aiperf-c1-r4", "aiperf-c2-r4"
VALID = [(FIRST, 1, "valid"), (SECOND, 1, "valid")]
"""Attempts of a sweep in which nothing went wrong."""


class Sweep:
    """Two points on one deployment, measured with a load generator that can be held."""

    def __init__(self, folder: Path, start: Start) -> None:
        self._hold, self._start = folder / "hold", start
        self._hold.mkdir()

    def begin(self, *more: str, argv: Sequence[str] = RUN) -> Command:
        """The same command, each time."""
        hold = f"+bench.env.HOLD={self._hold}"
        return self._start(*FAKE, "aiperf.concurrency=1,2", hold, "launch.stop_timeout_s=2", *more, argv=argv)

    def hold(self, stage: str) -> None:
        """From now on the load generator waits there: `load`, `answers` or `report`, and the point's concurrency."""
        (self._hold / stage).touch()

    def held(self) -> bool:
        return (self._hold / "held").exists()

    def release(self) -> None:
        for path in self._hold.iterdir():
            path.unlink(missing_ok=True)


def verdicts(command: Command) -> list[str]:
    return [result["verdict"]["status"] for result in command.results()]


def environment(pid: int) -> dict[str, str]:
    data = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(entry).split("=", 1) for entry in data if b"=" in entry)


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """Addresses and ports on which any of the processes listens, as the kernel says."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            address, port = fields[1].split(":")
            found.add((".".join(str(byte) for byte in bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


def running(pids: list[int]) -> list[int]:
    """Those that still run (a zombie that waits for its parent does not)."""
    alive = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                alive.append(pid)
    return alive


def touching(folder: Path) -> list[int]:
    """Processes that have the folder in their command line, environment or working folder.

    The last tells of AIPerf's services: they overwrite the other two.
    """
    found, wanted = [], os.fsencode(folder)
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):
                said = [(process / name).read_bytes() for name in ("cmdline", "environ")]
                if any(wanted in text for text in [*said, os.fsencode((process / "cwd").readlink())]):
                    found.append(int(process.name))
    return running(found)


def nothing_left(command: Command, within_s: float = 10) -> None:
    pids = [event["pid"] for event in command.events("process_start")]
    deadline = time.monotonic() + within_s
    while (running(pids) or touching(command.output_dir)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running(pids) == []
    assert touching(command.output_dir) == []
