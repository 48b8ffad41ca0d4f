"""Leaves the work of a command to a process of its own, which goes on when the terminal is closed.

Never does: looking at the configuration. The process runs the very command that was typed, without `launch.detach`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from launchers.atomic import guarded
from launchers.store import SWEEP, Store


def detach(store: Store, form: str, points: int) -> int:
    """Starts the process and tells how to come back to it. Returns the exit code. Raises StoreError."""
    folder = store.new_sweep()
    log = folder / "log.txt"
    words = [sys.executable, *sys.argv, "launch.detach=false"]
    with guarded(log), log.open("ab") as out:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, SWEEP: str(folder.resolve())},
        )
    _tell(form, process.pid, points, log)
    return 0


def _tell(form: str, pid: int, points: int, log: Path) -> None:
    if form == "json":
        print(json.dumps({"schema": "servix.detached/1", "pid": pid, "points": points, "log": str(log)}))
        return
    print(f"servix: process {pid} measures {points} point{'s' if points != 1 else ''}; log: {log}")
    print("servix: the same command attaches to it, action=status shows where it is, kill stops it")
