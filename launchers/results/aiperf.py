"""Reads what AIPerf leaves in its artifact folder. Formats: facts/aiperf.md, measured with AIPerf 0.13.0.

Never does: judging. AIPerf counts a stream that a dying worker cut as a success, so the number of answers
without the server's usage is read as well, from the per-request records and from the summary.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers.results.metrics import STATISTICS, metric_id
from launchers.results.reading import ReadError, Reading, reason

SUMMARY = "profile_export_aiperf.json"
RECORDS = "profile_export.jsonl"
SERVER_METRICS = "server_metrics_export.json"
LOG = "logs/aiperf.log"
SCHEMA_MAJOR = "1"
"""AIPerf 0.13.0 writes schema version 1.4."""
LONGEST_MESSAGE = 120


@dataclass(frozen=True, slots=True)
class Records:
    """Counts of the per-request file, warm-up requests left out."""

    succeeded: int
    errors: int
    truncated: int
    error_messages: tuple[str, ...]


def read(folder: Path) -> Reading:
    """The reading of one phase. Raises ReadError: no summary, cut, or of an unknown schema."""
    records = read_records(folder / RECORDS)
    summary = _summary(folder / SUMMARY, records)
    succeeded = _whole(summary, "request_count") or 0
    truncated = _without_usage(summary, succeeded)
    if records is not None:
        truncated = max(truncated, records.truncated)
    return Reading(
        metrics=metrics_of(summary),
        tool_version=_text(summary.get("aiperf_version")),
        complete=summary.get("is_complete") is True,
        cancelled=summary.get("was_cancelled") is not False,
        succeeded=succeeded,
        errors=_whole(summary, "error_request_count") or 0,
        truncated=truncated,
        error_messages=records.error_messages if records else (),
    )


def unscraped(folder: Path) -> tuple[str, ...]:
    """Addresses that AIPerf was to scrape and did not reach; empty where it was to scrape none, or left no word."""
    metrics, summary = _json(folder / SERVER_METRICS), _json(folder / SUMMARY)
    found: list[str] = []
    gpus = summary.get("telemetry_data")
    for told in (metrics.get("summary"), gpus.get("summary") if isinstance(gpus, dict) else None):
        if isinstance(told, dict):
            reached = told.get("endpoints_successful") or []
            found += [url for url in told.get("endpoints_configured") or [] if url not in reached]
    return tuple(found)


def _json(path: Path) -> dict[str, Any]:
    """What is in a file; empty where that is no JSON object."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        data = json.loads(path.read_bytes())
        return data if isinstance(data, dict) else {}
    return {}


def metrics_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """Every metric of a summary under our id. Values that are not finite numbers are left out."""
    metrics: dict[str, float] = {}
    for tag, value in summary.items():
        if isinstance(value, dict) and isinstance(value.get("unit"), str):
            ours = metric_id(tag, value["unit"])
            # A scalar carries its value as "avg" and nothing else.
            scalar = set(value) <= {"unit", "avg"}
            for statistic in STATISTICS:
                if _is_number(value.get(statistic)):
                    metrics[ours if scalar else f"{ours}.{statistic}"] = float(value[statistic])
    return metrics


def read_records(path: Path) -> Records | None:
    """Counts of the per-request file; null when there is none. Lines that are cut or no JSON are skipped."""
    succeeded = errors = truncated = 0
    messages: Counter[str] = Counter()
    try:
        for record in _profiling(path):
            if record.get("error"):
                errors += 1
                messages[_message(record["error"])] += 1
            else:
                succeeded += 1
                truncated += "usage_completion_tokens" not in (record.get("metrics") or {})
    except (OSError, UnicodeError):
        return None
    top = tuple(text if count == 1 else f"{text} ({count} times)" for text, count in messages.most_common(3))
    return Records(succeeded, errors, truncated, top)


def _profiling(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if not isinstance(record, dict):
                continue
            metadata = record.get("metadata")
            phase = metadata.get("benchmark_phase") if isinstance(metadata, dict) else None
            # Warm-up requests are in the same file and in no number of the summary.
            if phase in (None, "profiling"):
                yield record


def _summary(path: Path, records: Records | None) -> dict[str, Any]:
    """The summary as data. AIPerf writes none when every request failed; then the records say so."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if records and records.errors and not records.succeeded:
            told = "; ".join(records.error_messages)
            raise ReadError(f"all {records.errors} requests failed: {told}", records.errors) from error
        raise ReadError(f"aiperf left no {SUMMARY}", (records.errors or None) if records else None) from error
    except (OSError, ValueError) as error:
        raise ReadError(f"{SUMMARY} cannot be read (cut in the middle?): {reason(error)}") from error
    version = summary.get("schema_version") if isinstance(summary, dict) else None
    if not isinstance(version, str) or version.split(".")[0] != SCHEMA_MAJOR:
        raise ReadError(f"{SUMMARY} has schema_version {version!r}; servix reads version {SCHEMA_MAJOR}.x")
    return summary  # type: ignore[no-any-return]


def _without_usage(summary: Mapping[str, Any], succeeded: int) -> int:
    """Successes without the server's usage, from the summary alone (AIPerf counts each usage it saw)."""
    usage = summary.get("usage_completion_tokens")
    count = usage.get("count") if isinstance(usage, dict) else None
    return max(0, succeeded - (_integer(count) or 0))


def _whole(summary: Mapping[str, Any], tag: str) -> int | None:
    value = summary.get(tag)
    return _integer(value.get("avg")) if isinstance(value, dict) else None


def _message(error: Any) -> str:
    """One error in words: "503 Service Unavailable: ..."; the server's JSON is reduced to its message."""
    if not isinstance(error, dict):
        return _short(str(error))
    text = str(error.get("message") or "")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["message"])
    place = " ".join(str(error[key]) for key in ("code", "type") if error.get(key))
    return _short(text if place and place in text else ": ".join(part for part in (place, text) if part))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 3] + "..."


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: Any) -> int | None:
    return int(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
