"""The guardian: ends what a session started, also when servix itself was killed with KILL.

Takes: the session's marker, and from standard input that servix begins to start a process (`?`) and has done so (`!`),
the ids of the process groups that it has started (`+ID`) and has seen gone (`-ID`). End of input means that servix is
gone or has finished: what is left gets TERM, after a grace KILL.
Never does: signal a process that is not of its session; import anything but the standard library (it has to be cheap,
and it must work while everything else is broken).

A process belongs to a session when one of three signs says so: its environment carries the marker, or it is in the
operating system's session of a process that servix started, or it descends from such a process. The marker alone is
not enough: a program that sets its process title (every service of AIPerf) overwrites what /proc shows of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

MARKER = "SERVIX_SESSION"
GRACE_S = 2.0
DEADLINE_S = 8.0
PAUSE_S = 0.05
FLIGHT_S = 3.0
"""A process that servix was starting when it was killed carries the marker after so long, if it was started at all.

Between fork and exec it has none of the signs.
"""


class Ending:
    """Brings every process of a session to an end, one `step` after the other.

    `marker` is the value of SERVIX_SESSION (or of another `variable`): all of it, or up to a dot for a whole
    session. `groups` maps the id of each group that servix started to the signal which stops it.
    """

    def __init__(
        self, marker: str, groups: Mapping[int, int], grace_s: float, variable: str = MARKER
    ) -> None:
        self._sign = f"{variable}={marker}".encode()
        self._groups = groups
        self._kill_at = time.monotonic() + grace_s
        self._told: set[tuple[int, str]] = set()

    def step(self) -> bool:
        """Signal what has to be signalled now. True while a process of the session is alive."""
        alive = self._alive()
        late = time.monotonic() >= self._kill_at
        for pid, (session, born) in alive.items():
            if late:
                _send(pid, signal.SIGKILL)
            elif (pid, born) not in self._told:
                # A second TERM means "drop everything" to many programs, so each gets one.
                self._told.add((pid, born))
                _send(pid, self._groups.get(session, signal.SIGTERM))
        return bool(alive)

    def _alive(self) -> dict[int, tuple[int, str]]:
        """Process id -> its session id and its start time, for each living process of the session."""
        table = _processes()
        ours = {
            pid
            for pid, (_, session, born) in table.items()
            if session in self._groups or (pid, born) in self._told or self._marked(pid)
        }
        found, size = ours, -1
        while len(found) != size:
            size = len(found)
            found = found | {pid for pid, (parent, _, _) in table.items() if parent in found}
        return {pid: table[pid][1:] for pid in found - {os.getpid(), os.getppid()}}

    def _marked(self, pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - pathlib would double the guardian's memory
                block = b"\0" + file.read() + b"\0"
        except OSError:
            return False
        end = b"" if self._sign.endswith(b".") else b"\0"
        return b"\0" + self._sign + end in block


def _processes() -> dict[int, tuple[int, int, str]]:
    """Process id -> parent, session id, start time; without processes that only wait to be reaped."""
    table = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                # The name of the program comes in parentheses and may itself hold some.
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in ("Z", "X"):
            table[int(name)] = (int(fields[1]), int(fields[3]), fields[19])
    return table


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def watch(read: Callable[[int], bytes]) -> tuple[set[int], bool]:
    """Groups that are left when the input ends, and whether a process was being started then."""
    groups: set[int] = set()
    starting, text = 0, b""
    while chunk := read(4096):
        *lines, text = (text + chunk).split(b"\n")
        for line in lines:
            if line in (b"?", b"!"):
                starting += 1 if line == b"?" else -1
            else:
                (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    return groups, starting > 0


def main(marker: str, tmp_dir: str | None = None) -> None:
    """Wait for the end of standard input, then end the session and remove its temporary files."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups, starting = watch(lambda size: os.read(0, size))
    ending = Ending(marker, dict.fromkeys(groups, signal.SIGTERM), GRACE_S)
    began = time.monotonic()
    look_until = began + (FLIGHT_S if starting else 0.0)
    while (ending.step() or time.monotonic() < look_until) and time.monotonic() < began + DEADLINE_S:
        time.sleep(PAUSE_S)
    if tmp_dir is not None:
        import shutil

        shutil.rmtree(tmp_dir, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
