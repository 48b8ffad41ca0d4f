"""Services of a load generator: processes it has started, and cannot do its work without.

Takes the id of the load generator's process; tells when one of them was killed and the load generator goes on as if
nothing were. AIPerf 0.13 waits for answers of a killed worker until somebody ends it.
Never does: ending anything; taking a service for killed that ended by itself, or that the load generator has missed.

A killed process stays in the table of processes until its parent asks for it, with the signal that killed it. AIPerf
asks at its own end, for every service, and ends those by KILL itself that are late: those are gone at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from launchers.exits import ended

TOOLS = ("aiperf",)
"""Load generators that have services."""
POLL_S = 1.0
GRACE_S = 5.0
"""Time in which a load generator can miss a killed service and say so itself."""
_PROC = Path("/proc")


async def maimed(pid: int) -> str:
    """Returns once a service of the process was killed and not missed for GRACE_S: which one, and by what."""
    titles: dict[int, str] = {}
    killed_at: dict[int, float] = {}
    while True:
        for service in children(pid):
            number = killed_by(service)
            if number is None:
                # A service gives itself a title once it has started.
                titles[service] = _title(service) or titles.get(service, "")
            elif time.monotonic() - killed_at.setdefault(service, time.monotonic()) >= GRACE_S:
                name = titles.get(service) or f"process {service} of the load generator"
                return f"{ended(name, -number)}; nothing noticed that, so the load generator was ended"
        await asyncio.sleep(POLL_S)


def children(pid: int) -> list[int]:
    """Processes that a process has started; none where the kernel does not tell."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def killed_by(pid: int) -> int | None:
    """The signal that killed a process whose parent has not asked for it yet; null for any other."""
    try:
        # The name of the program comes in parentheses and may itself hold some.
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        # Of a process that ended by itself, these bits are 0.
        return (int(fields[49]) & 0x7F) or None if fields[0] == "Z" else None
    except (OSError, ValueError, IndexError):
        return None


def _title(pid: int) -> str:
    """The first words a process shows of itself; "" where there are none."""
    with contextlib.suppress(OSError):
        text = (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return " ".join(text.split()[:2])
    return ""
