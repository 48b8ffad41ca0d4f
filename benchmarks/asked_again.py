"""A finished sweep of 200 points asked for again: nothing is started, the table and the report are made.

The results are those of one real run, given to every point of the sweep. Baseline: planning the same points.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from figure import Figure, Line
from measure import ROOT, Failed, fresh_folder, interleaved, median, servix, took
from pair import LOAD

POINTS = 200
TIMEOUT_S = 150.0
LIMIT_S = 1.5


def measure(repeat: int) -> list[Line]:
    """Wall and CPU time of asking again."""
    sweep = [*LOAD, "--multirun", f"trial=range(1,{POINTS + 1})"]
    with fresh_folder() as folder:
        outputs = f"output_dir={folder}/outputs"
        took(servix(*LOAD, outputs), folder, TIMEOUT_S)
        _fill(folder / "outputs")
        before = _starts(folder)
        again, plan = interleaved(
            repeat,
            lambda: took(servix(*sweep, outputs), folder, TIMEOUT_S),
            lambda: took(servix(*sweep, outputs, "action=plan"), folder, TIMEOUT_S),
        )
        if _starts(folder) != before:
            raise Failed("a finished sweep started something")
    wall, cpu = median([one.wall_s for one in again]), median([one.cpu_s for one in again])
    planned = median([one.cpu_s for one in plan])
    return [
        Line(f"finished sweep of {POINTS} points asked for again", wall, "s", limit=LIMIT_S),
        Line("the same, CPU", cpu, "s", planned, "action=plan", "ratio"),
    ]


def _starts(folder: Path) -> int:
    return sum(
        log.read_text().count('"deployment_start"') for log in folder.glob("outputs/store/*/events.jsonl")
    )


def _fill(outputs: Path) -> None:
    """Gives every point of the sweep the result of the one that was measured."""
    # As run.py does it: Hydra finds our launchers below launchers/.
    sys.path[:0] = [str(ROOT), str(ROOT / "launchers")]
    from compiler.compose.composer import composer
    from compiler.pipeline import compile_sweep
    from launchers.store import Store

    store = Store(outputs)
    (measured,) = store.results()
    with composer(ROOT / "config") as ours:
        points = [(*LOAD, f"trial={number}", f"output_dir={outputs}") for number in range(1, POINTS + 1)]
        plan = compile_sweep(ours, points)
    for point in plan.points:
        deployment = plan.deployment(str(point.deployment))
        if store.status(deployment, point) != "done":
            attempt = store.new_attempt(deployment, point)
            own = {"point_digest": str(point.digest), "attempt": attempt.number, "config": point.config}
            store.write_result(deployment, point, replace(measured, **own))


FIGURE = Figure("asked_again", "a finished sweep of 200 points asked for again", 5, measure)
