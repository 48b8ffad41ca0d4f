"""Wall time of a whole command, report included, against by_hand.sh with the same AIPerf."""

from __future__ import annotations

from figure import Figure, Line
from measure import median
from pair import pairs


def measure(repeat: int) -> list[Line]:
    """The whole, and AIPerf's part of it, which is not ours to change."""
    ours, by_hand = pairs(repeat)
    whole = [median([one.whole_s for one in runs]) for runs in (ours, by_hand)]
    load = [median([one.load_s for one in runs]) for runs in (ours, by_hand)]
    return [
        Line("whole run, wall", whole[0], "s", whole[1], "by hand", "ratio", 1.10, "issue 2"),
        Line("AIPerf's share of it", load[0], "s", load[1], "by hand", "ratio"),
    ]


FIGURE = Figure("whole_run", "the whole default run", 3, measure)
