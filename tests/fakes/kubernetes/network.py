"""A network of the cluster's own: each pod has an address and all ports, as in a real cluster.

Only for pods that run real engines, and only as root: network namespaces, joined by a bridge in one more. Nothing of it
is seen outside, and it goes with the processes that hold it.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

NEWNET = 0x40000000
HOLD = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(1, 9, 0, 0, 0)
assert libc.unshare(0x40000000) == 0, "network namespaces are not permitted"
print("ready", flush=True)
sys.stdin.read()
"""


def is_possible() -> bool:
    """Whether networks can be made here."""
    return os.getuid() == 0 and all(shutil.which(word) for word in ("ip", "nsenter"))


class Holder:
    """A network namespace, for as long as this is there."""

    def __init__(self) -> None:
        words = [sys.executable, "-I", "-S", "-c", HOLD]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    @property
    def path(self) -> str:
        return f"/proc/{self.process.pid}/ns/net"

    def configure(self, *lines: str) -> None:
        words = ["nsenter", f"--net={self.path}", "ip", "-batch", "-"]
        subprocess.run(words, input="\n".join(lines) + "\n", text=True, check=True, timeout=20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(5)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


class Network:
    def __init__(self) -> None:
        self._hub, self._number = Holder(), 1
        up = (
            "link set lo up",
            "link add br0 type bridge",
            "addr add 10.244.0.1/16 dev br0",
            "link set br0 up",
        )
        self._hub.configure(*up)

    def join(self) -> tuple[Holder, str]:
        """A namespace for a pod, and its address."""
        self._number += 1
        pod, name = Holder(), f"v{self._number}"
        address = f"10.244.{self._number // 250}.{self._number % 250 + 1}"
        self._hub.configure(
            f"link add {name} type veth peer name eth0 netns {pod.process.pid}",
            f"link set {name} master br0 up",
        )
        pod.configure("link set lo up", f"addr add {address}/16 dev eth0", "link set eth0 up")
        return pod, address

    def enter(self) -> None:
        """Puts the calling thread, and no other, where all pods can be reached."""
        enter(self._hub.path)

    def close(self) -> None:
        self._hub.close()


def enter(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(path).open() as file:
        if libc.setns(file.fileno(), NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {path}")
