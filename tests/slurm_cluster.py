"""A small Slurm of the tests' own (tools/mini_slurm.sh), and what they look at on it.

Fixtures are in conftest.py: a module that says `pytestmark = NEEDED` has a cluster of its own, and an empty queue
before each test; `DAEMONS_NEEDED` is for one whose nodes have no network of their own. `CLUSTER = {"CONF":
"SlurmdTimeout=5"}` in such a module sets MINI_SLURM_CONF for it, and so on.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

import pytest
from commanding import QUICK, ROOT, Command, environment

DAEMONS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "ip", "unshare")
INSTALLED = os.geteuid() == 0 and all(shutil.which(name) for name in DAEMONS)
SPACES = (
    INSTALLED
    and subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0
)
USED = pytest.mark.usefixtures("cluster", "queue")
DAEMONS_NEEDED = [
    pytest.mark.skipif(not INSTALLED, reason="needs root and Slurm's daemons: make slurm-up installs them"),
    USED,
]
NEEDED = [pytest.mark.skipif(not SPACES, reason="needs network namespaces"), *DAEMONS_NEEDED]
ONE = ("system=mini", "topology=aggregated", *QUICK)
SLOW = "bench.command=[bash,-c,'sleep 3; exec python \"$0\" \"$@\"','{servix_dir}/tests/fakes/load.py']"
"""The load generator of FAKE, three seconds later: time enough to look around."""
LOAD = ("bench.command=[bash,-c,'sleep {}',load]", "bench.needs=[]")
"""A load generator that takes its time and measures nothing."""


def load(seconds: float) -> tuple[str, ...]:
    return tuple(text.replace("{}", str(seconds)) for text in LOAD)


class Cluster:
    """One Slurm: its folder and how its daemons are stopped and started again."""

    def __init__(self, folder: Path, knobs: Mapping[str, str]) -> None:
        self.folder = folder
        self._knobs = {f"MINI_SLURM_{name}": value for name, value in knobs.items()}
        self._knobs["MINI_SLURM_DIR"] = str(folder)

    def script(self, word: str) -> None:
        """`start` starts what does not run, and returns once all nodes are idle."""
        argv = [str(ROOT / "tools" / "mini_slurm.sh"), word]
        subprocess.run(argv, env={**os.environ, **self._knobs}, check=True, timeout=120)

    def pid(self, daemon: str) -> int:
        """Process id of `slurmctld`, `slurmdbd`, `slurmd-node1`, ..."""
        return int((self.folder / "run" / f"{daemon}.pid").read_text())

    def kill(self, daemon: str) -> None:
        """Ends it with KILL. A controller forgets what it has not `saved`."""
        os.kill(self.pid(daemon), signal.SIGKILL)

    def saved(self, since: float) -> None:
        """Returns once the controller has written down what was so at that time, which it does every few seconds."""
        wait_until(lambda: (self.folder / "state" / "job_state").stat().st_mtime > since)

    def processes(self) -> dict[str, list[int]]:
        """Ids of all processes of each node, without slurmd."""
        found = {}
        for number in range(1, 5):
            said = slurm("ip", "netns", "pids", f"{self._knobs['MINI_SLURM_PREFIX']}-node{number}")
            found[f"node{number}"] = [
                int(pid) for pid in said.split() if not _words(int(pid)).startswith("slurmd ")
            ]
        return found


def _words(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


@contextlib.contextmanager
def _number() -> Iterator[int]:
    """One that no other test run on this machine has: clusters run side by side."""
    for number in range(40):
        with Path(tempfile.gettempdir(), f"servix-slurm-{number}.lock").open("w") as lock:
            if _locked(lock):
                yield number
                return
    raise RuntimeError("40 clusters run already")


def _clear(prefix: str) -> None:
    """Takes away what a test run that was killed has left under this number, which is ours now."""
    for space in slurm("ip", "netns", "list").splitlines():
        name = space.split(" ")[0]
        if name.startswith(f"{prefix}-node"):
            for pid in slurm("ip", "netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            slurm("ip", "netns", "del", name)
    slurm("ip", "link", "del", f"{prefix}br0")


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def running(knobs: Mapping[str, str]) -> Iterator[Cluster]:
    """A cluster for as long as the context lasts; commands find it through the environment."""
    with _number() as number, tempfile.TemporaryDirectory(prefix="servix-slurm-") as folder:
        own = {
            "PORT": str(18200 + 300 * number),
            "SUBNET": f"10.78.{number}",
            "PREFIX": f"svx{number}",
            "INSTALL": "0",
        }
        _clear(own["PREFIX"])
        # munge wants every folder above its socket to be open to others.
        Path(folder).chmod(0o755)
        found = Cluster(Path(folder) / "mini", {**own, **knobs})
        try:
            found.script("start")
            os.environ["SLURM_CONF"] = str(found.folder / "etc" / "slurm.conf")
            yield found
        finally:
            os.environ.pop("SLURM_CONF", None)
            found.script("stop")


def slurm(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout.strip()


def wait_until(what: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.1)


def tasks(folder: Path) -> dict[str, int]:
    """Name of each process of a deployment (as its step is named) -> id of its first process, on any node."""
    found: dict[str, int] = {}
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError, ValueError):
            env = environment(int(entry.name))
            words = (entry / "cmdline").read_bytes()
            if (
                env.get("HOME", "").startswith(str(folder))
                and "SLURM_STEP_ID" in env
                and b"srun" not in words
            ):
                found.setdefault(env["SLURM_JOB_NAME"], int(entry.name))
    return found


def job_of(command: Command) -> str:
    """Of its first deployment, once it is submitted."""
    notes: list[Path] = []
    wait_until(lambda: notes.extend(command.output_dir.glob("store/*/submitted.json")) or notes)
    return str(json.loads(notes[0].read_text())["job"])


def under_load(command: Command) -> str:
    """The job, once its load generator runs."""
    command.wait_for(lambda event: event["event"] == "phase_start")
    return job_of(command)


def verdict(command: Command, code: int = 3) -> str:
    """Why the only point failed."""
    ended = command.ended()
    assert ended[0] == code, ended
    (result,) = command.results()
    return "\n".join(result["verdict"]["reasons"])
