"""Results -> one HTML file that opens anywhere: no scripts, no fonts, no pictures from elsewhere.

Takes results and what was asked; gives text. Never does: drawing a number that is not valid.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from compiler.digest import short as digest_short
from compiler.errors import format_problem
from compiler.plan import Point
from launchers.results.chart import Chart, chart
from launchers.results.frame import settings, settings_of, shared
from launchers.results.repeats import METRICS as SPREAD_METRICS
from launchers.results.repeats import Spread
from launchers.results.result import SEVERITY, Result
from launchers.results.table import (
    NONE,
    Row,
    accuracy,
    concurrency,
    has_accuracy,
    metric,
    requests,
    table_rows,
)

TEMPLATE = "report.html.j2"

COLUMNS: Mapping[str, str] = {
    "TTFT avg, ms": "time_to_first_token_ms.avg",
    "TTFT p99, ms": "time_to_first_token_ms.p99",
    "ITL avg, ms": "inter_token_latency_ms.avg",
    "ITL p99, ms": "inter_token_latency_ms.p99",
    "latency avg, ms": "request_latency_ms.avg",
    "latency p99, ms": "request_latency_ms.p99",
    "output, tok/s": "output_token_throughput_per_s",
    "tok/s/GPU": "output_token_throughput_per_gpu_per_s",
    "requests/s": "request_throughput_per_s",
}
"""Heading -> metric. The terminal's table shows fewer."""

CHARTS: Sequence[tuple[str, str, str]] = (
    ("Output throughput", "tok/s", "output_token_throughput_per_s"),
    ("Time to first token, average", "ms", "time_to_first_token_ms.avg"),
    ("Inter-token latency, average", "ms", "inter_token_latency_ms.avg"),
)
"""Title, unit and metric; each is drawn over the concurrency asked for."""


CONCURRENCY = ("aiperf.concurrency=", "genai_perf.concurrency=")


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the report's table."""

    point: str
    settings: str
    """Its overrides that not all points have, unless they are its name."""
    phase: str | None
    status: str
    reasons: Sequence[str]
    concurrency: str
    numbers: Sequence[str]
    requests: str
    best: bool


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A point that was asked for and cannot run."""

    point: str
    settings: str
    reasons: Sequence[str]

    @staticmethod
    def of(point: Point) -> LeftOut:
        """The same for people."""
        errors = [problem for problem in point.problems if problem.level == "error"]
        words = " ".join(settings_of(point.overrides))
        return LeftOut(point.name, words if words != point.name else "", [*map(format_problem, errors)])


def report_html(
    results: Sequence[Result],
    arguments: Sequence[str] = (),
    created_at: str | None = None,
    *,
    best: str | None = None,
    spreads: Sequence[Spread] = (),
    left_out: Sequence[LeftOut] = (),
) -> str:
    """The report of results.

    `arguments`: what was typed after `run.py`; `created_at`: now, if not given; `best`: digest of the best point;
    `spreads`: repeats together; `left_out`: points that cannot run.
    """
    # Templates cost start-up time that a command without a report does not have to spend.
    from compiler.emit import render

    found = table_rows(results)
    with_accuracy, common = has_accuracy(found), shared(result.overrides for result in results)
    statuses: Counter[str] = Counter(result.verdict.status for result in results)
    return render(
        TEMPLATE,
        command=shlex.join(["python", "run.py", *arguments]),
        created_at=created_at or datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        counts=[(status, statuses[status]) for status in SEVERITY if statuses[status]],
        columns=[*COLUMNS, *(["accuracy"] if with_accuracy else [])],
        lines=[_line(row, with_accuracy, best, common) for row in found],
        spread_columns=list(SPREAD_METRICS),
        spreads=spreads,
        left_out=left_out,
        charts=charts(found),
        deployments=_deployments(results),
    )


def charts(found: Sequence[Row]) -> list[Chart]:
    """Charts over concurrency: one line for what differs in nothing else."""
    names = _series_names([row for row in found if row.verdict.valid])
    drawn = []
    for title, unit, name in CHARTS:
        series: dict[str, list[tuple[float, float]]] = {}
        for row in found:
            if not (row.verdict.valid and row.measured and row.measured.concurrency):
                continue
            if name in row.measured.metrics:
                value = row.measured.metrics[name]
                series.setdefault(names[_series(row)], []).append((row.measured.concurrency, value))
        picture = chart(title, "concurrent requests", unit, series)
        if picture:
            drawn.append(picture)
    return drawn


def _series(row: Row) -> tuple[str, ...]:
    """What has to be the same on one line. Two tools measure differently (ai-dynamo/aiperf#339)."""
    others = [word for word in settings(row.result) if not word.lstrip("+").startswith(CONCURRENCY)]
    return (row.result.deployment_digest, row.result.tool, *others)


def _series_names(found: Sequence[Row]) -> dict[tuple[str, ...], str]:
    """A short name per line; with its overrides where the deployment's name does not tell lines apart."""
    short = {_series(row): f"{row.result.deployment_name} ({row.result.tool})" for row in found}
    times = Counter(short.values())
    common = shared(key[2:] for key in short)
    full = {
        key: " ".join((name, *(word for word in key[2:] if word not in common))) if times[name] > 1 else name
        for key, name in short.items()
    }
    times = Counter(full.values())
    return {key: f"{name} {digest_short(key[0])}" if times[name] > 1 else name for key, name in full.items()}


def _line(row: Row, with_accuracy: bool, best: str | None, common: Collection[str]) -> Line:
    typed = " ".join(word for word in settings(row.result) if word not in common)
    return Line(
        point=row.point,
        settings="" if typed == row.point else typed,
        phase=row.phase,
        status=row.verdict.status,
        reasons=(*row.verdict.reasons, *row.notes),
        concurrency=concurrency(row),
        numbers=[
            *(metric(name)(row) for name in COLUMNS.values()),
            *([accuracy(row)] if with_accuracy else []),
        ],
        requests=requests(row),
        best=row.result.point_digest == best,
    )


def _deployments(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What ran, once per deployment: name, digest, tool, and what the session recorded."""
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        tool = f"{result.tool} {result.tool_version}"
        facts = {name: _text(value) for name, value in result.ran.items() if value and name != "caches"}
        entry = {"name": result.deployment_name, "digest": result.deployment_digest}
        found.setdefault(result.deployment_digest, {**entry, "facts": {"load generator": tool, **facts}})
    return list(found.values())


def _text(value: Any) -> str:
    """A value as a person would write it: mappings and lists without brackets."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
