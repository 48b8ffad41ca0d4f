"""From the launch to the first completion, and from the load's end to the last process gone, against by_hand.sh."""

from __future__ import annotations

from figure import Figure, Line
from measure import median
from pair import pairs


def measure(repeat: int) -> list[Line]:
    """Three lines; the one from the start of Python is not judged, the limit counts from the first process."""
    ours, by_hand = pairs(repeat)

    def line(what: str, stage: str, limit: float | None) -> Line:
        values = [median([getattr(one, stage) for one in runs]) for runs in (ours, by_hand)]
        return Line(what, values[0], "s", values[1], "by hand", "difference", limit)

    return [
        line("launch to first completion", "launch_to_completion_s", 1.0),
        line("the same from the start of the command", "exec_to_completion_s", None),
        line("end of load to all processes gone", "load_to_gone_s", 1.0),
    ]


FIGURE = Figure("start_stop", "start and stop the default deployment", 3, measure)
