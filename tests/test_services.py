"""Services of a load generator: told when one was killed and nobody noticed, and never otherwise."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from launchers import services

PARENT = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdin=subprocess.PIPE)
{then}
print("there", flush=True)
time.sleep(60)
"""
AT_WORK = "import sys; sys.stdin.read()"
"""It ends with its parent."""
KILL_IT = "os.kill(child.pid, signal.SIGKILL)"
CASES = [
    ("killed", AT_WORK, KILL_IT, True),
    ("crashed", "import ctypes; ctypes.string_at(0)", "", True),
    ("ended", "", "", False),
    ("ended-with-an-error", "raise SystemExit(1)", "", False),
    ("at-work", AT_WORK, "", False),
    ("killed-and-missed", AT_WORK, f"{KILL_IT}; child.wait()", False),
]


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "POLL_S", 0.02)
    monkeypatch.setattr(services, "GRACE_S", 0.3)


@pytest.mark.parametrize(("child", "then", "told"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
@pytest.mark.usefixtures("quickly")
def test_a_killed_service_is_told(child: str, then: str, told: bool) -> None:
    code = PARENT.format(child=child, then=then)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            assert (asyncio.run(_said(parent.pid)) != "") == told
        finally:
            parent.kill()


async def _said(pid: int) -> str:
    try:
        return await asyncio.wait_for(services.maimed(pid), 1.5)
    except TimeoutError:
        return ""


def test_a_process_that_is_not_there_has_no_services() -> None:
    assert services.children(2**22 + 1) == []
    assert services.killed_by(2**22 + 1) is None
