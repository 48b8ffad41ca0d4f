"""One line of the table: a number of ours, the baseline of the same run, how they compare, and the limit.

Never does: measuring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Unit = Literal["ms", "s", "MB"]


@dataclass(frozen=True, slots=True)
class Line:
    """A number and what is asked of it. Times are in seconds, memory in MB; `unit` is how they are shown."""

    what: str
    ours: float
    unit: Unit
    baseline: float | None = None
    baseline_is: str = ""
    compare: Literal["ratio", "speedup", "difference", "value"] = "value"
    """ratio: ours / baseline; speedup: baseline / ours; difference: ours - baseline; value: ours alone."""
    limit: float | None = None
    """At most this, for a speedup at least. Null: shown, not judged."""

    @property
    def compared(self) -> float:
        """The number that the limit is about."""
        if self.compare == "value" or self.baseline is None:
            return self.ours
        if self.compare == "difference":
            return self.ours - self.baseline
        return self.ours / self.baseline if self.compare == "ratio" else self.baseline / self.ours

    @property
    def ok(self) -> bool | None:
        """Null when nothing is asked."""
        if self.limit is None:
            return None
        return self.compared >= self.limit if self.compare == "speedup" else self.compared <= self.limit

    def cells(self) -> list[str]:
        """Texts of the table's columns."""
        baseline = "-" if self.baseline is None else f"{self._shown(self.baseline)} ({self.baseline_is})"
        verdict = {True: "ok", False: "OVER", None: "-"}[self.ok]
        least = "at least " if self.compare == "speedup" else ""
        limit = "-" if self.limit is None else f"{least}{self._compared(self.limit)}"
        compared = self._compared(self.compared) if self.compare != "value" else "-"
        return [self.what, self._shown(self.ours), baseline, compared, limit, verdict]

    def as_json(self) -> dict[str, object]:
        """Everything as plain data; times in seconds."""
        return {
            "what": self.what,
            "ours": self.ours,
            "unit": "MB" if self.unit == "MB" else "s",
            "baseline": self.baseline,
            "baseline_is": self.baseline_is,
            "compare": self.compare,
            "compared": self.compared,
            "limit": self.limit,
            "ok": self.ok,
        }

    def _shown(self, value: float) -> str:
        if self.unit == "ms":
            return f"{value * 1000:,.{1 if value < 0.1 else 0}f} ms"
        return f"{value:,.2f} s" if self.unit == "s" else f"{value:,.0f} MB"

    def _compared(self, value: float) -> str:
        if self.compare == "value":
            return self._shown(value)
        return f"{value:+.2f} s" if self.compare == "difference" else f"{value:.2f}x"


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that is measured: `measure(repeat)` gives its lines, or raises `measure.Failed`."""

    name: str
    about: str
    repeat: int
    """Repeats, unless the user says how many."""
    measure: Callable[[int], list[Line]]
    by_default: bool = True


COLUMNS = ("measured", "servix", "baseline", "compared", "limit", "")


def table(lines: list[Line]) -> str:
    """The lines in columns."""
    rows = [list(COLUMNS), *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
