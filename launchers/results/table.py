"""The short table at the end of a command: one line per point and phase, the reasons below.

Takes results; gives text that never wraps.
Never does: showing a number that is not valid (`results.csv` has it, with its verdict).
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from launchers.results.frame import labels, parts, row_verdict
from launchers.results.result import ACCURACY, PhaseResult, Result, Verdict

NONE = "-"
NARROWEST_POINT = 12
NARROWEST = 20
MOST_REASONS = 6
MOST_NAMES = 3
"""Points of which the same is told that are named."""
COLOURS: Mapping[str, str] = {"valid": "green", "invalid": "yellow", "failed": "red"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    point: str
    """A name that no other point of the table has."""
    phase: str | None
    """Null where the point has one phase only, and in the line about the point itself."""
    verdict: Verdict
    result: Result
    measured: PhaseResult | None
    notes: tuple[str, ...] = ()
    """What is said of the point beside its verdict, in the first of its lines."""


def table_rows(results: Iterable[Result]) -> list[Row]:
    """One row per point and phase, in the order given."""
    found: list[Row] = []
    given = list(results)
    for label, result in zip(labels(given), given, strict=True):
        lines = parts(result)
        several = len(lines) > 1
        for index, phase in enumerate(lines):
            name = phase.name if phase and several else None
            notes = result.notes if index == 0 else ()
            found.append(Row(label, name, row_verdict(result, phase), result, phase, notes))
    return found


def metric(name: str) -> Callable[[Row], str]:
    """A column that shows one metric of rows that are valid."""

    def shown(row: Row) -> str:
        value = row.measured.metrics.get(name) if row.measured and row.verdict.valid else None
        return NONE if value is None else number(value)

    return shown


def number(value: float) -> str:
    """At most six characters up to a million; three significant digits at least.

    >>> number(4.6754), number(219.66), number(6406.2)
    ('4.68', '219.7', '6406')
    """
    size = abs(value)
    return f"{value:.2f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:.0f}"


def concurrency(row: Row) -> str:
    """Concurrency asked for."""
    return str(row.measured.concurrency) if row.measured and row.measured.concurrency else NONE


def requests(row: Row) -> str:
    """Complete answers, and of how many where that differs: "20" or "58/60"."""
    counts = row.measured.counts if row.measured else None
    if counts is None or counts.completed is None:
        return NONE
    same = counts.sent in (None, counts.completed)
    return str(counts.completed) if same else f"{counts.completed}/{counts.sent}"


def accuracy(row: Row) -> str:
    """The point's accuracy, beside each of its phases that is valid."""
    value = row.result.metrics.get(ACCURACY) if row.result.verdict.valid else None
    return NONE if value is None else f"{value:.4f}"


def has_accuracy(found: Iterable[Row]) -> bool:
    """Whether there is an accuracy to show."""
    return any(accuracy(row) != NONE for row in found)


COLUMNS: Sequence[tuple[str, str, Callable[[Row], str]]] = (
    ("", "status", lambda row: row.verdict.status),
    ("", "conc", concurrency),
    ("TTFT", "avg ms", metric("time_to_first_token_ms.avg")),
    ("TTFT", "p99 ms", metric("time_to_first_token_ms.p99")),
    ("ITL", "avg ms", metric("inter_token_latency_ms.avg")),
    ("latency", "avg ms", metric("request_latency_ms.avg")),
    ("output", "tok/s", metric("output_token_throughput_per_s")),
    ("tok/s", "/GPU", metric("output_token_throughput_per_gpu_per_s")),
    ("", "requests", requests),
)
"""Two lines of heading, and what stands below. TTFT: time to first token; ITL: inter-token latency."""

LASTING = frozenset({"status", "tok/s"})
"""Columns that the narrowest terminal keeps."""


def table_text(results: Sequence[Result], width: int = 100) -> str:
    """The table and the reasons as plain text, no line longer than `width`, for which columns are left out."""
    return "\n".join(line for line, _ in _lines(results, width))


def print_table(results: Sequence[Result], stream: TextIO) -> None:
    """Prints the table; with colours, and as wide as the terminal, when `stream` is one."""
    if not stream.isatty():
        print(table_text(results, 120), file=stream)
        return
    from rich.console import Console
    from rich.text import Text

    width = max(NARROWEST, shutil.get_terminal_size((100, 24)).columns)
    console = Console(file=stream, highlight=False, width=width)
    for line, status in _lines(results, width):
        text = Text(line, no_wrap=True, overflow="ellipsis")
        if status:
            text.highlight_words([f" {status} "], COLOURS[status])
        console.print(text)


def _lines(results: Sequence[Result], width: int) -> list[tuple[str, str]]:
    """Lines with the status they show ("" for headings and reasons)."""
    found = table_rows(results)
    columns = [*COLUMNS, *([("", "accuracy", accuracy)] if has_accuracy(found) else [])]
    cells = [[top, bottom, *map(show, found)] for top, bottom, show in columns]
    names = ["", "point", *map(_name, found)]
    lines = _aligned(names, _columns_that_fit(names, cells, width), width)
    statuses = ["", "", *(row.verdict.status for row in found)]
    return [*zip(lines, statuses, strict=True), *((line, "") for line in _reasons(found, width))]


def _columns_that_fit(
    names: Sequence[str], columns: Sequence[Sequence[str]], width: int
) -> list[tuple[str, ...]]:
    """Lines of cells, without the columns from the right for which there is no room. Some always stay."""
    shown = list(columns)
    kept = [column for column in columns if column[1] in LASTING]
    narrowest = min(max(map(len, names)), NARROWEST_POINT)
    while narrowest + sum(1 + max(map(len, column)) for column in shown) > width:
        droppable = [index for index, column in enumerate(shown) if not any(column is each for each in kept)]
        if not droppable:
            break
        del shown[droppable[-1]]
    return list(zip(*shown, strict=True))


def _aligned(names: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[str]:
    """Names to the left and clipped to what is left of `width`, cells to the right."""
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    longest = max(map(len, names))
    # Two blanks between columns where they fit, else one.
    gap = 2 if width - sum(sizes) - 2 * len(sizes) >= min(longest, 2 * NARROWEST_POINT) else 1
    room = min(longest, max(NARROWEST_POINT, width - sum(sizes) - gap * len(sizes)))
    lines = []
    for name, line in zip(names, cells, strict=True):
        columns = [f"{cell:>{size}}" for cell, size in zip(line, sizes, strict=True)]
        lines.append((" " * gap).join([f"{fitted(name, room):<{room}}", *columns]).rstrip())
    return lines


def _reasons(found: Sequence[Row], width: int) -> list[str]:
    """Why rows are not valid, and what is noted of others, wrapped; the end of a log keeps its line breaks.

    Once for all rows of which the same is told: a job that ends early fails all points it did not come to.
    """
    lines: list[str] = []
    same: dict[tuple[Verdict, tuple[str, ...]], list[Row]] = {}
    for row in found:
        if row.verdict.reasons or row.notes:
            same.setdefault((row.verdict, tuple(row.notes)), []).append(row)
    for (verdict, notes), rows in same.items():
        told = list(verdict.reasons)
        if len(told) > MOST_REASONS:
            told[MOST_REASONS:] = [f"and {len(told) - MOST_REASONS} more reasons"]
        named = [_name(row) for row in rows[:MOST_NAMES]]
        more = f" and {len(rows) - MOST_NAMES} more" if len(rows) > MOST_NAMES else ""
        lines += ["", clipped(f"{', '.join(named)}{more}: {verdict.status}", width)]
        for reason in [*told, *notes]:
            first, *log = reason.splitlines() or [""]
            lines += textwrap.wrap(first, width, initial_indent="  ", subsequent_indent="    ")
            for line in log:
                lines += textwrap.wrap(line, width, initial_indent="    ", subsequent_indent="      ")
    return lines


def _name(row: Row) -> str:
    name = f"{row.point} {row.phase}" if row.phase else row.point
    return " ".join(name.split())


def fitted(name: str, room: int) -> str:
    """A point's name in `room` characters: keys lose their path first, then the start goes.

    >>> fitted("aiperf.concurrency=2", 16), fitted("aiperf.concurrency=2", 8)
    ('concurrency=2', '...ncy=2')
    """
    if len(name) <= room:
        return name
    words = (word.partition("=") for word in name.split())
    brief = " ".join(key.rpartition(".")[2] + equals + value for key, equals, value in words)
    return brief if len(brief) <= room else "..." + brief[len(brief) + 3 - room :]


def clipped(text: str, room: int) -> str:
    """Text no longer than `room`, its end replaced by an ellipsis where it was longer."""
    return text if len(text) <= room else text[: room - 3] + "..."
