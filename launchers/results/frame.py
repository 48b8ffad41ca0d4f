"""Results -> one row per point and phase: plain rows, CSV, and a pandas table.

Takes results; gives rows. Never does: dropping a point. One that never was ready has one row without numbers, and
one that has more wrong with it than its phases (`beyond`) has such a row after theirs.

Columns: what the row is about, then every key that some point overrides (with its composed value where it was
not overridden), then counts and metrics. Numbers of points that are not valid are there, too: see `verdict`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from compiler.digest import short
from compiler.keys import in_digest, one_for_all
from launchers.results.result import ACCURACY, SEVERITY, PhaseResult, Result, Verdict, overall

if TYPE_CHECKING:
    import pandas as pd

MAIN_METRICS = (
    "time_to_first_token_ms.avg",
    "time_to_first_token_ms.p99",
    "inter_token_latency_ms.avg",
    "inter_token_latency_ms.p99",
    "request_latency_ms.avg",
    "request_latency_ms.p99",
    "output_token_throughput_per_s",
    "output_token_throughput_per_gpu_per_s",
    "output_token_throughput_per_user_per_s",
    "request_throughput_per_s",
)
"""First among the metrics of a row; the others follow by name."""
LAST = (
    "duration_s",
    "node_seconds",
    "gpu_seconds",
    "attempt",
    "started_at",
    "point_digest",
    "deployment_digest",
)
"""Columns after the metrics."""


def rows(results: Iterable[Result]) -> list[dict[str, Any]]:
    """One mapping per point and phase, all with the same keys in the same order; null: nothing there."""
    found = list(results)
    return _rows(found, overridden_keys(found), metric_names(found))


def _rows(found: Sequence[Result], keys: list[str], metrics: list[str]) -> list[dict[str, Any]]:
    return [_row(result, phase, keys, metrics) for result in found for phase in parts(result)]


def metric_names(results: Sequence[Result]) -> list[str]:
    """Every metric that some phase or point has, in the order of their columns."""
    names = {name for result in results for phase in result.phases for name in phase.metrics}
    metrics = [*(name for name in MAIN_METRICS if name in names), *sorted(names.difference(MAIN_METRICS))]
    return metrics + ([ACCURACY] if any(ACCURACY in result.metrics for result in results) else [])


def frame(results: Iterable[Result]) -> pd.DataFrame:
    """`rows` as a pandas table."""
    import pandas as pd

    return pd.DataFrame(rows(results))


def load(root: Path) -> pd.DataFrame:
    """Every point of every sweep below an `output_dir`, in its last result. Unreadable ones are left out."""
    from launchers.store import Store

    return frame(Store(root).results())


def csv_text(results: Iterable[Result]) -> str:
    """`rows` as CSV with a header, without pandas (it starts slowly). Numbers keep all their digits."""
    found = list(results)
    keys, metrics = overridden_keys(found), metric_names(found)
    table = _rows(found, keys, metrics)
    header = list(table[0]) if table else ["point"]
    last = len(header) - (len(LAST) if table else 0)
    first = last - len(metrics)
    lines = [_cells(header)]
    for row in table:
        row.update({key: cell(row[key]) for key in keys})
        values = list(row.values())
        lines.append(_cells(values[:first]) + _numbers(values[first:last]) + _cells(values[last:]))
    return "\n".join([*lines, ""])


def _cells(values: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()[:-1]


def _numbers(values: Sequence[float | None]) -> str:
    """Cells between two others: a sweep has 100 000, and the csv module takes ten times as long."""
    return to_json([None, *values, None]).decode().replace("null", "")[1:-1]


def parts(result: Result) -> tuple[PhaseResult | None, ...]:
    """What a point has rows for: its phases, and null where something is said of the point itself."""
    return result.phases if beyond(result) is None else (*result.phases, None)


def row_verdict(result: Result, phase: PhaseResult | None) -> Verdict:
    """The verdict to show beside one phase's numbers: its own. Without a phase, what is beyond all of them."""
    return phase.verdict if phase is not None else beyond(result) or result.verdict


def beyond(result: Result) -> Verdict | None:
    """What is wrong with a point and with none of its phases: the rest was not run, the stack was never ready.

    Null where its phases say it all.
    """
    if not result.phases:
        return result.verdict
    known = overall(result.phases)
    reasons = tuple(reason for reason in result.verdict.reasons if reason not in known.reasons)
    worse = SEVERITY[result.verdict.status] > SEVERITY[known.status]
    return Verdict(result.verdict.status, reasons) if reasons or worse else None


def overridden_keys(results: Sequence[Result]) -> list[str]:
    """Every key that some point overrides and that can change a number, in the order they were typed."""
    return keys_of(result.overrides for result in results)


def keys_of(points: Iterable[Iterable[str]]) -> list[str]:
    """The same of the overrides of each point."""
    typed = (key for overrides in points for word in overrides if in_digest(key := _split(word)[0]))
    # The metric of that name has a column, too.
    return list(dict.fromkeys("accuracy.name" if key == ACCURACY else key for key in typed))


def settings(result: Result) -> list[str]:
    """Overrides of a point without those that only say what to do with it (`output_dir`, `action`, ...)."""
    return settings_of(result.overrides)


def settings_of(overrides: Iterable[str]) -> list[str]:
    """The same of overrides as they were typed."""
    return [word for word in overrides if not one_for_all(_split(word)[0])]


def shared(points: Iterable[Sequence[str]]) -> frozenset[str]:
    """Overrides that all of several points have, which tell none of them apart.

    >>> sorted(shared([["a=1", "b=2"], ["a=1", "b=3"]])), sorted(shared([["a=1"], ["a=1"]]))
    (['a=1'], [])
    """
    different = {frozenset(overrides) for overrides in points}
    return frozenset.intersection(*different) if len(different) > 1 else frozenset()


def labels(results: Sequence[Result]) -> list[str]:
    """A name per result that tells the points apart: the shortest kind that does."""
    return labels_of(
        [(r.point_name, r.deployment_name, r.overrides, r.point_digest, r.attempt) for r in results]
    )


def labels_of(points: Sequence[tuple[str, str, Sequence[str], str, int]]) -> list[str]:
    """The same of points: name, name of the deployment, overrides, digest, and an attempt.

    The point's own; with its deployment's; the overrides that not all have; at last, with its short digest.
    """
    common = shared(overrides for _, _, overrides, *_ in points)
    kinds = (
        [name for name, *_ in points],
        [f"{deployment} {name}" for name, deployment, *_ in points],
        [
            " ".join(word for word in settings_of(overrides) if word not in common) or name
            for name, _, overrides, *_ in points
        ],
    )
    which = [point[3:] for point in points]
    for kind in kinds:
        if len(set(zip(kind, which, strict=True))) == len(set(kind)):
            return kind
    return [f"{name} {short(digest)}" for name, (digest, _) in zip(kinds[0], which, strict=True)]


def value_of(result: Result, key: str) -> Any:
    """The composed value of a key; a group by its option's name, if it has one; null when the point has no such key."""
    return composed(result.config, result.overrides, key)


def composed(config: Mapping[str, Any], overrides: Iterable[str], key: str) -> Any:
    """The same of a composed configuration and the overrides that made it."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        value = value.get("name", value)
    return dict(map(_split, overrides)).get(key) if value is None else value


def _row(result: Result, phase: PhaseResult | None, keys: list[str], metrics: list[str]) -> dict[str, Any]:
    verdict = row_verdict(result, phase)
    row: dict[str, Any] = {
        "point": result.point_name,
        "deployment": result.deployment_name,
        "trial": result.trial,
        "phase": phase.name if phase else None,
        "verdict": verdict.status,
        "point_verdict": result.verdict.status,
        "reasons": "; ".join(verdict.reasons) or None,
        "tool": result.tool,
        "tool_version": result.tool_version,
        "concurrency": phase.concurrency if phase else None,
    }
    row.update({key: value_of(result, key) for key in keys if key not in row})
    counts = phase.counts if phase else None
    for name in ("sent", "completed", "failed", "truncated"):
        row[f"requests_{name}"] = getattr(counts, name, None)
    row.update({name: phase.metrics.get(name) for name in metrics} if phase else dict.fromkeys(metrics))
    if ACCURACY in metrics:
        # Of the point, as the seconds below are.
        row[ACCURACY] = result.metrics.get(ACCURACY)
    seconds = phase.duration_s if phase else None
    return row | {name: seconds if name == "duration_s" else getattr(result, name) for name in LAST}


def cell(value: Any) -> Any:
    """A value as a cell of a CSV holds it: what is no text or number as JSON."""
    return json.dumps(value, default=str) if isinstance(value, list | tuple | Mapping) else value


def _split(override: str) -> tuple[str, str]:
    """`+aiperf.concurrency=2` -> (`aiperf.concurrency`, `2`)."""
    key, _, value = override.partition("=")
    return key.lstrip("+~").partition("@")[0], value
