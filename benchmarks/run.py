"""Measures servix itself against baselines of the same run: `make bench`, or `python benchmarks/run.py plan_one`.

Prints a table; a number over its limit is told and is no failure. Exit code 1 only when a measurement failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime

import asked_again
import kubernetes
import load_sweep
import plan_10000
import plan_manifests
import plan_many
import plan_one
import slurm
import start_stop
import watching
import whole_run
from figure import Line, table
from measure import Failed

FIGURES = {
    module.FIGURE.name: module.FIGURE
    for module in (
        plan_one,
        start_stop,
        whole_run,
        watching,
        asked_again,
        plan_many,
        plan_manifests,
        plan_10000,
        load_sweep,
        slurm,
        kubernetes,
    )
}


def main() -> int:
    """The exit code."""
    asked = _asked()
    lines: list[Line] = []
    failures: dict[str, str] = {}
    loads = [os.getloadavg()]
    for name in asked.figures or [name for name, figure in FIGURES.items() if figure.by_default]:
        figure = FIGURES[name]
        print(f"measuring: {figure.about}", file=sys.stderr, flush=True)
        try:
            lines += figure.measure(asked.repeat or figure.repeat)
        except Failed as failure:
            failures[name] = str(failure)
        loads.append(os.getloadavg())
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average_1min": [round(load[0], 2) for load in loads],
    }
    _show(about, lines, failures, asked.json)
    return 1 if failures else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    known = "; ".join(f"{name}: {figure.about}" for name, figure in FIGURES.items())
    parser.add_argument(
        "figures",
        nargs="*",
        metavar="FIGURE",
        help=f"what to measure (default: all but plan_10000, load_sweep, slurm and kubernetes). {known}",
    )
    parser.add_argument("--repeat", type=int, metavar="N", help="repeats of each side (default: 3 to 9)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    asked = parser.parse_args()
    if unknown := [name for name in asked.figures if name not in FIGURES]:
        parser.error(f"no figure '{unknown[0]}'; known: {', '.join(FIGURES)}")
    if asked.repeat is not None and asked.repeat < 1:
        parser.error("--repeat: should be at least 1")
    return asked


def _show(about: dict[str, object], lines: list[Line], failures: dict[str, str], as_json: bool) -> None:
    if as_json:
        document = {"schema": "servix.benchmarks/1", **about, "lines": [line.as_json() for line in lines]}
        print(json.dumps({**document, "failures": failures}, indent=2))
        return
    print(f"{about['date']}, Python {about['python']}, {about['cores']} cores, medians")
    loads = ", ".join(map(str, about["load_average_1min"]))  # type: ignore[call-overload]
    print(f"load average before, and after each figure: {loads}")
    print()
    if lines:
        print(table(lines))
    for name, reason in failures.items():
        print(f"{name}: FAILED: {reason}")


if __name__ == "__main__":
    sys.exit(main())
