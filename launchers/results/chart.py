"""Points -> the coordinates of a small line chart; the report's template draws them as SVG.

Never does: text of SVG, or points that are not valid (the caller leaves them out).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 40
"""In SVG user units: room for labels around the plot."""


@dataclass(frozen=True, slots=True)
class Line:
    """One series, in SVG coordinates."""

    name: str
    points: tuple[tuple[float, float], ...]
    labels: tuple[str, ...]
    """What each point is, as shown when the mouse rests on it."""

    @property
    def path(self) -> str:
        """For `<polyline points>`."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart. Ticks are (place in SVG units, text)."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]


def chart(
    title: str, x_label: str, y_label: str, series: Mapping[str, Sequence[tuple[float, float]]]
) -> Chart | None:
    """The chart of every series (x, y), both axes linear from zero; null with fewer than two values of x."""
    every = [point for points in series.values() for point in points]
    if len({x for x, _ in every}) < 2:
        return None
    x_steps, y_steps = steps(max(x for x, _ in every)), steps(max(y for _, y in every))

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / x_steps[-1] * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - y / y_steps[-1] * (HEIGHT - TOP - BOTTOM)

    lines = []
    for name, points in series.items():
        ordered = sorted(points)
        labels = tuple(f"{name}: {x:g} {x_label}, {y:.4g} {y_label}" for x, y in ordered)
        lines.append(Line(name, tuple(place(x, y) for x, y in ordered), labels))
    return Chart(
        title,
        x_label,
        y_label,
        tuple((place(x, 0)[0], f"{x:g}") for x in x_steps),
        tuple((place(0, y)[1], f"{y:g}") for y in y_steps),
        tuple(lines),
    )


def steps(largest: float) -> list[float]:
    """Round numbers from zero to at least `largest`, four to seven of them.

    >>> steps(16), steps(552.6)
    ([0.0, 5.0, 10.0, 15.0, 20.0], [0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0])
    """
    if largest <= 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(largest))
    step = next(size * power for size in (0.2, 0.5, 1, 2) if largest / (size * power) <= 6)
    return [round(step * count, 10) for count in range(math.ceil(largest / step - 1e-9) + 1)]
