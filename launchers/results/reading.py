"""What a load generator's own files say, in one form for every tool. Not yet judged: `measure` does that.

Taken from: `aiperf`, `genai_perf`. Never does: deciding whether to believe it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launchers.results.metrics import UNITS, metric_id, number

_UNIT = re.compile(r"(.*?)\s*\(([^()]*)\)\Z")


@dataclass(frozen=True, slots=True)
class Reading:
    """Numbers of one phase. Null everywhere means that the tool does not tell."""

    metrics: Mapping[str, float]
    tool_version: str | None = None
    complete: bool | None = None
    """The tool says that it finished what it was asked for."""
    cancelled: bool | None = None
    succeeded: int | None = None
    """Requests without error; some of them may have been cut."""
    errors: int | None = None
    truncated: int | None = None
    """Requests without error and without the server's usage."""
    error_messages: tuple[str, ...] = ()
    """What the errors were, most frequent first."""

    @property
    def sent(self) -> int | None:
        """Requests that came back, one way or the other."""
        return None if self.succeeded is None else self.succeeded + (self.errors or 0)


class ReadError(Exception):
    """A report is missing or cannot be read; the message says what and where, and is fit for a user.

    `errors` is the number of requests that failed, where the tool left that much.
    """

    def __init__(self, message: str, errors: int | None = None) -> None:
        super().__init__(message)
        self.errors = errors


def read_table(path: Path) -> dict[str, float]:
    """Metrics of a CSV with one or two tables: distributions ("Metric,avg,...") and scalars ("Metric,Value").

    Both shapes are in facts/aiperf.md, sections 2 and 8. A blank cell is a missing metric.
    Raises ReadError when the file is missing, or a cell or a row is not what its header says.
    """
    metrics: dict[str, float] = {}
    header: list[str] = []
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines):
                if row[:1] == ["Metric"]:
                    header = row
                elif any(cell.strip() for cell in row):
                    metrics.update(_metrics_of_row(header, row))
    except (OSError, UnicodeError, csv.Error, ValueError) as error:
        raise ReadError(f"{path.name} cannot be read: {reason(error)}") from error
    if not metrics:
        raise ReadError(f"{path.name} holds no metrics")
    return metrics


def reason(error: Exception) -> str:
    """What went wrong, without the path that an OSError repeats."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def _metrics_of_row(header: list[str], row: list[str]) -> dict[str, float]:
    if len(row) != len(header):
        raise ValueError(f"the row of {row[0]!r} has {len(row)} cells, its header {len(header)}")
    name, unit = row[0], ""
    match = _UNIT.match(name)
    # "Completed Requests (Success + Error)" ends in parentheses that hold no unit.
    if match and match[2] in UNITS:
        name, unit = match[1], match[2]
    ours = metric_id(name, unit)
    cells = zip(header[1:], row[1:], strict=True)
    scalar = header[1:] == ["Value"]
    values = {ours if scalar else f"{ours}.{title}": number(cell) for title, cell in cells if title != "sum"}
    return {column: value for column, value in values.items() if value is not None}
