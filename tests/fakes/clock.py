"""Runs a command under a wall clock that is two days ahead until a file is there, and right from then on.

python tests/fakes/clock.py FILE run.py ...
"""

import datetime
import runpy
import sys
import time
from pathlib import Path
from typing import Any

AHEAD_S = 2 * 86_400.0
FILE = Path(sys.argv[1])
SHOWN = time.time


def ahead_s() -> float:
    return 0.0 if FILE.exists() else AHEAD_S


class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return super().now(tz) + datetime.timedelta(seconds=ahead_s())


if __name__ == "__main__":
    datetime.datetime = Jumping  # type: ignore[misc]
    time.time = lambda: SHOWN() + ahead_s()
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path.cwd())
    runpy.run_path(sys.argv[0], run_name="__main__")
