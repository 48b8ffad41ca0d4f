"""What servix itself costs while a load runs, its live display on a terminal included."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
import time
from pathlib import Path

from figure import Figure, Line
from measure import Failed, fresh_folder, median, servix

LOAD = ("aiperf.request_count=400", "aiperf.output_tokens_mean=100", "aiperf.workers_max=1")
LIMIT = 0.02
TIMEOUT_S = 150.0
TICK = os.sysconf("SC_CLK_TCK")


def measure(repeat: int) -> list[Line]:
    """CPU seconds of the command per second of load: its own process, without what it has started."""
    return [
        Line(
            "servix itself, CPU per second of load",
            median([_share() for _ in range(repeat)]),
            "ms",
            limit=LIMIT,
        )
    ]


def _share() -> float:
    with fresh_folder() as folder:
        ours, terminal = pty.openpty()
        argv = servix(*LOAD, f"output_dir={folder}/outputs")
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal)
        os.close(terminal)
        threading.Thread(target=_drain, args=(ours,), daemon=True).start()
        try:
            begun = _when(folder, process, '"phase_start"')
            used, started = _cpu_s(process.pid), time.monotonic()
            _when(folder, process, '"phase_end"')
            return (_cpu_s(process.pid) - used) / (time.monotonic() - started) if begun else 0.0
        finally:
            process.terminate()
            process.wait(30)


def _drain(terminal: int) -> None:
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        os.close(terminal)


def _when(folder: Path, process: subprocess.Popen[bytes], word: str) -> dict[str, object]:
    """The event, as soon as it is in the log."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        for log in folder.glob("outputs/store/*/events.jsonl"):
            for line in log.read_text(encoding="utf-8").splitlines():
                if word in line:
                    return json.loads(line)
        time.sleep(0.02)
    raise Failed(f"no {word} within {TIMEOUT_S:g} s")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


FIGURE = Figure("watching", "what servix costs while a load runs", 1, measure)
