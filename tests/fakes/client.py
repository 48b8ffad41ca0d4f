"""A load generator that leaves a report recorded from a real AIPerf, after as long as it is told to take."""

import argparse
import shutil
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=Path, help="folder of a recorded report")
    parser.add_argument("--artifact-dir", type=Path)
    parser.add_argument("--takes", type=float, default=0)
    parser.add_argument("--code", type=int, default=0)
    parser.add_argument("--touch", type=Path, help="make this file half-way")
    parser.add_argument("--once", type=Path, help="of several with the same file only the first touches")
    options = parser.parse_args()
    first = options.once is None or not options.once.exists()
    if options.once:
        options.once.touch()
    time.sleep(options.takes / 2)
    if options.touch and first:
        options.touch.touch()
    time.sleep(options.takes / 2)
    if options.report:
        shutil.copytree(options.report, options.artifact_dir, dirs_exist_ok=True)
    return options.code


if __name__ == "__main__":
    sys.exit(main())
