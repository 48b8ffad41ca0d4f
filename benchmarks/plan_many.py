"""Planning 1,000 points: CPU time per point, growth from 100 points, memory; against stock Hydra composing them.

Stock Hydra is asked for every 20th point only and multiplied: all 1,000 would take minutes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from figure import Figure, Line
from measure import HERE, Failed, Took, fresh_folder, interleaved, median, servix, took

TIMEOUT_S = 90.0
SAMPLES = 50


def sweep(points: int) -> list[str]:
    """Overrides that make so many points (100, 1,000 or 10,000), all of them valid."""
    concurrencies, counts = {100: (5, 10), 1_000: (50, 10), 10_000: (50, 100)}[points]
    return [
        f"aiperf.concurrency={','.join(str(1 + index) for index in range(concurrencies))}",
        f"aiperf.request_count={','.join(str(50 + index) for index in range(counts))}",
        "decode.tensor_parallel_size=1,2",
    ]


def planned(points: int, timeout_s: float = TIMEOUT_S, more: Sequence[str] = ()) -> Took:
    """One plan of so many points as JSON, checked to hold them all without an error."""
    with fresh_folder() as folder:
        # As a shell would: the document goes to a file, and only the file is looked at.
        words = servix("action=plan", "format=json", f"output_dir={folder}/outputs", *sweep(points), *more)
        script = ["bash", "-c", 'out=$1; shift; exec "$@" >"$out"', "bash", "plan.json", *words]
        result = took(script, folder, timeout_s)
        found = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["points"]
    if len(found) != points or any(point["digest"] is None for point in found):
        raise Failed(f"the plan does not hold {points} valid points")
    return result


def measure(repeat: int) -> list[Line]:
    """CPU per point, linearity, speedup over stock Hydra, memory."""
    stock: list[float] = []

    def hundred() -> Took:
        stock.append(_stock())
        return planned(100)

    many, few = interleaved(repeat, lambda: planned(1_000), hundred)
    cpu, cpu_few = median([one.cpu_s for one in many]), median([one.cpu_s for one in few])
    by_stock = median(stock)
    return [
        Line("plan 1,000 points, CPU per point, all in", cpu / 1_000, "ms", limit=0.006),
        Line(
            "the same against stock compose",
            cpu,
            "s",
            by_stock * 1_000,
            f"stock, from {SAMPLES} points",
            "speedup",
            20.0,
        ),
        Line("the same against 100 points", cpu, "s", cpu_few, "100 points", "ratio", 10.5),
        Line("CPU of one more point", (cpu - cpu_few) / 900, "ms"),
        Line("peak memory", max(one.peak_mb for one in many), "MB", limit=300),
    ]


def _stock() -> float:
    with fresh_folder() as folder:
        argv = [sys.executable, str(HERE / "stock_compose.py"), str(SAMPLES), *sweep(1_000)]
        return float(took(argv, folder, TIMEOUT_S).output)


FIGURE = Figure("plan_many", "plan 1,000 points", 3, measure)
