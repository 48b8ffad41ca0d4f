"""CPU time of planning one point in a fresh process, against a Hydra program that does nothing."""

from __future__ import annotations

import sys

from figure import Figure, Line
from measure import HERE, Took, fresh_folder, interleaved, median, servix, took

TIMEOUT_S = 60.0


def measure(repeat: int) -> list[Line]:
    """One line."""
    _ours(), _bare()  # compiles what Python has not compiled yet
    ours, bare = interleaved(repeat, _ours, _bare)
    cpu, baseline = median([one.cpu_s for one in ours]), median([one.cpu_s for one in bare])
    return [Line("plan one point, CPU", cpu, "ms", baseline, "bare @hydra.main", "ratio", 2.0)]


def _ours() -> Took:
    with fresh_folder() as folder:
        return took(servix("action=plan", f"output_dir={folder}/outputs"), folder, TIMEOUT_S)


def _bare() -> Took:
    with fresh_folder() as folder:
        return took([sys.executable, str(HERE / "bare_hydra.py")], folder, TIMEOUT_S)


FIGURE = Figure("plan_one", "plan one point, cold", 9, measure)
