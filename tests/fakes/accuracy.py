"""An accuracy run that leaves the CSV it is told to, after as long as it is told to take."""

import argparse
import os
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--artifact-dir", type=Path)
    parser.add_argument("--csv", help="text of accuracy_results.csv; none is written without it")
    parser.add_argument("--touch", type=Path, help="make this file first, unless it has been made")
    parser.add_argument("--takes", type=float, default=0)
    parser.add_argument("--code", type=int, default=0)
    options = parser.parse_args()
    print("variables", *(name for name in ("HF_HUB_OFFLINE", "MINE") if name in os.environ), flush=True)
    made = options.touch.with_suffix(".made") if options.touch else None
    if made is None or not made.exists():
        if made is not None:
            made.touch()
            options.touch.touch()
        time.sleep(options.takes)
    if options.csv is not None:
        (options.artifact_dir / "accuracy_results.csv").write_text(options.csv)
    return options.code


if __name__ == "__main__":
    sys.exit(main())
