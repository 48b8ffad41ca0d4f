"""Fakes as commands of a supervisor, and what is left of them."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from compiler.plan import Stop
from launchers.supervise import Command

FOLDER = Path(__file__).parent


def server(
    tmp_path: Path, name: str, *options: str, after: tuple[str, ...] = (), grace_s: float = 5
) -> Command:
    return Command(
        name=name,
        argv=(sys.executable, str(FOLDER / "server.py"), "--name", f"{tmp_path}/{name}", *options),
        env={"PATH": os.environ["PATH"]},
        workdir=tmp_path,
        log=tmp_path / "logs" / f"{name}.log",
        after=after,
        stop=Stop("TERM", grace_s),
    )


def client(tmp_path: Path, name: str, *options: str) -> Command:
    argv = (sys.executable, str(FOLDER / "client.py"), *options)
    return Command(name, argv, {"PATH": os.environ["PATH"]}, tmp_path, tmp_path / "logs" / f"{name}.log")


def alive(text: str) -> list[str]:
    """Command lines that hold `text`, of processes that are not only waiting to be reaped."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                words = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            except OSError:
                continue
            if any(text in word for word in words):
                found.append(" ".join(words))
    return found


def wait_until(holds: Callable[[], object], timeout_s: float = 10) -> bool:
    """Whether `holds()` became true in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False
