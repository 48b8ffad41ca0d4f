"""A container that runs: its process here, its log, and how it ended."""

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .logs import Log

PROGRAM = Path(__file__).parent / "container.py"


@functools.cache
def is_possible() -> bool:
    """Whether containers can run here: root, or user namespaces."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        spec = {
            "argv": ["true"],
            "env": {"PATH": os.environ["PATH"]},
            "workdir": "/",
            "root": str(root),
            "binds": [],
        }
        (Path(folder) / "container.json").write_text(json.dumps(spec))
        words = [sys.executable, "-I", "-S", str(PROGRAM), f"{folder}/container.json"]
        return subprocess.run(words, capture_output=True, timeout=60).returncode == 0


class Running:
    def __init__(
        self,
        folder: Path,
        argv: Sequence[str],
        env: dict[str, str],
        workdir: str,
        binds: Sequence[tuple[str, str, bool]],
        termination: str,
        log: Log,
        network: str | None = None,
    ) -> None:
        """Starts it. `binds` are (source, path inside, read-only)."""
        root, self._message = folder / "root", folder / "termination-log"
        root.mkdir(parents=True, exist_ok=True)
        self._message.write_text("")
        mounts = [*binds, (str(self._message), termination, False)]
        spec = {"argv": list(argv), "env": env, "workdir": workdir, "root": str(root), "binds": mounts}
        spec["network"] = network
        (folder / "container.json").write_text(json.dumps(spec))
        self.ended, self.code, self._log = False, 0, log
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PROGRAM), str(folder / "container.json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"]},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self._reader = log.read_from(self.process.stdout)

    def poll(self) -> None:
        """Notes the end, once all that was printed is in the log."""
        if self.ended or self.process.poll() is None:
            return
        self._reader.join(2)
        code = self.process.returncode
        self.code, self.ended = (code if code >= 0 else 128 - code), True

    def message(self) -> str:
        return self._message.read_text(errors="replace")[:4096]

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """The process that waits for the container goes, and the container with it."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, timeout_s: float) -> None:
        self.process.wait(timeout_s)
        self.poll()
