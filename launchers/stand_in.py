"""Stands in for a node of a simulated worker: a program of its own, started where a real engine would hold ranks.

The mocker plays a worker of any size in one process, on the first of its nodes. This program runs on each other node:
it waits until that node's port answers, says so, and then does nothing until it is stopped. So plans with workers
over several nodes are realised as they are, with the processes, nodes and ports of a cluster; that ranks talk to each
other is not simulated. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import time

PAUSE_S = 0.2


def main() -> int:
    """Exit code 0 when stopped by TERM."""
    parser = argparse.ArgumentParser(description="Stands in for a node of a simulated worker.")
    parser.add_argument("--head", required=True, metavar="HOST:PORT", help="of the worker's first node")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--of", type=int, required=True, help="nodes of the worker")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    host, _, port = options.head.rpartition(":")
    while not _answers(host, int(port)):
        time.sleep(PAUSE_S)
    print(f"rank {options.rank} of {options.of}: reached {options.head}; simulated from here on", flush=True)
    while True:
        signal.pause()


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
