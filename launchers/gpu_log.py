"""Writes what a command says of a node's GPUs into a file: a program of its own, on each node of a deployment.

    python gpu_log.py FILE COMMAND...

Becomes the command, which runs until it is stopped; ends at once, with exit code 0 and without a file, where that
is not installed. Needs the standard library only.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def main(file: Path, command: list[str]) -> int:
    """The exit code, where the command is not there."""
    program = shutil.which(command[0])
    if program is None:
        print(f"{command[0]} is not installed here: no log of GPU use")
        return 0
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        os.dup2(out.fileno(), sys.stdout.fileno())
    return os.execv(program, command)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
