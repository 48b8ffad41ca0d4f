"""Runs a command of the user's, then becomes a process of a worker: a program of its own, inside that one's container.

    python startup.py LOG TIMEOUT_S TEXT COMMAND...

TEXT is run by bash with its output in LOG. When it succeeds, COMMAND takes the place of this program; when it fails or
takes longer than TIMEOUT_S seconds, the end of LOG is on standard error and the exit code is 97. Needs the standard
library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

FAILED = 97
TAIL = 4000
"""Bytes of the log's end that are shown."""


def main(log: Path, timeout_s: float, text: str, command: list[str]) -> int:
    """The exit code, where the command is not reached."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        # A group of its own, so that nothing it started is left behind.
        process = subprocess.Popen(
            ["bash", "-c", text], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )

        def stop(*_: object) -> None:
            _kill(process.pid)
            sys.exit(128 + signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, stop)
        how = _wait(process, timeout_s)
        signal.signal(signal.SIGTERM, before)
    if how:
        end = log.read_bytes()[-TAIL:].decode(errors="replace").strip()
        print(f"startup_command {how}{f'; end of {log.name}:' if end else ''}\n{end}", file=sys.stderr)
        return FAILED
    return os.execvp(command[0], command)


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> str:
    """Empty when all went well."""
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process.pid)
        return f"took longer than {timeout_s:g} s (launch.hook_timeout_s) and was killed"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"exited with code {code}" if code else ""


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4:]))
