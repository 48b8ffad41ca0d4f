"""Composes every n-th of the points of a sweep with Hydra's own `compose`; prints CPU seconds per point.

`python stock_compose.py SAMPLES key=1,2,3 ...`. Importing and starting are not counted: in Hydra's favour.
"""

import itertools
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "launchers"))

from hydra import compose, initialize_config_dir  # noqa: E402


def main(samples: int, sweep: list[str]) -> float:
    """CPU seconds per point."""
    choices = [[f"{key}={value}" for value in values.split(",")] for key, _, values in map(_split, sweep)]
    points = list(itertools.product(*choices))
    chosen = points[:: max(1, len(points) // samples)]
    with initialize_config_dir(str(ROOT / "config"), version_base="1.3"):
        compose("config", overrides=list(points[0]))
        begun = time.process_time()
        for point in chosen:
            compose("config", overrides=list(point))
        return (time.process_time() - begun) / len(chosen)


def _split(argument: str) -> tuple[str, str, str]:
    return argument.partition("=")


if __name__ == "__main__":
    print(main(int(sys.argv[1]), sys.argv[2:]))
