"""The time limit of a job that has none of its own: from the estimate of what it measures, with head-room.

Takes seconds of an estimate and the launcher's settings; gives whole minutes.
Never does: asking a cluster how long jobs may be there (launchers do).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from compiler.allocation import Allocation
from compiler.plan import Deployment, Point

LONGEST_MIN = 60 * 24 * 365
"""What is told of a job without a limit; Slurm counts minutes in 32 bits."""


def around_loads_s(
    deployments: Sequence[Deployment], points: Sequence[Point] = (), most: int | None = None
) -> float:
    """Seconds that may pass around loads: the longest start with its hooks, and the accuracy runs of points.

    `most`: points that are measured of them; null: all.
    """
    starts = [one.ready_timeout_s + _hooks_s(one) for one in deployments]
    runs = [one.workload.accuracy for one in points if one.workload is not None]
    return max(starts) + sum(sorted((run.timeout_s for run in runs if run is not None), reverse=True)[:most])


def _hooks_s(deployment: Deployment) -> float:
    """Those of one kind run on all nodes at once."""
    return sum({hook.when: hook.timeout_s for hook in deployment.hooks}.values())


def minutes(asked: Allocation, seconds: float, around_s: float, longest_min: int | None = None) -> int:
    """Minutes after which a job ends that is estimated to take so many seconds.

    `around_s`: `around_loads_s` of it. `longest_min`: what the partition
    allows; null where that is not known.

    >>> auto, seven = Allocation(), Allocation(timeout_min=7)
    >>> minutes(auto, 600, 600), minutes(auto, 600, 600, 20), minutes(seven, 600, 600)
    (30, 20, 7)
    """
    if asked.timeout_min is not None:
        return asked.timeout_min
    wanted = math.ceil((asked.timeout_factor * seconds + _spare_s(asked, around_s)) / 60)
    return max(1, min(wanted, longest_min or LONGEST_MIN, LONGEST_MIN))


def most_seconds(asked: Allocation, around_s: float, longest_min: int | None = None) -> float:
    """Estimated seconds that one job is given at most; what takes longer is several.

    >>> auto, seven = Allocation(), Allocation(timeout_min=7)
    >>> most_seconds(seven, 600), most_seconds(auto, 600, 60), most_seconds(auto, 600)
    (420.0, 1800.0, inf)
    """
    if asked.timeout_min is not None:
        return 60.0 * asked.timeout_min
    if longest_min is None:
        return math.inf
    limit_s = 60.0 * longest_min
    # Where the head-room alone fills the limit, some of it is given up.
    return max((limit_s - _spare_s(asked, around_s)) / asked.timeout_factor, limit_s / 2)


def _spare_s(asked: Allocation, around_s: float) -> float:
    return around_s + 60 * asked.timeout_spare_min
