"""Wall time of a whole command, report included, against by_hand.sh with the same AIPerf."""

from __future__ import annotations

from figure import Figure, Line
from measure import median
from pair import pairs


def measure(repeat: int) -> list[Line]:
    """The whole, and its parts that say where a difference comes from: AIPerf's own time is not ours to change."""
    ours, by_hand = pairs(repeat)

    def line(what: str, stage: str) -> Line:
        values = [median([getattr(one, stage) for one in runs]) for runs in (ours, by_hand)]
        if stage == "whole_s":
            return Line(what, values[0], "s", values[1], "by hand", "ratio", 1.10)
        return Line(what, values[0], "s", values[1], "by hand", "difference")

    return [
        line("whole run, wall", "whole_s"),
        line("the load generator's share of it", "load_s"),
        line("whole run without the load generator", "own_s"),
        line("last process gone to end of the command", "gone_to_end_s"),
        line("whole run, CPU of all processes", "cpu_s"),
    ]


FIGURE = Figure("whole_run", "the whole default run", 3, measure)
