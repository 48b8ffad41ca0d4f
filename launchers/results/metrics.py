"""Names of metrics: (what a tool calls it, unit) -> our id, and the few metrics that we derive.

Taken from: `aiperf` and `genai_perf`. Given to: everything that shows numbers.
Never does: reading files.

An id is the tool's own term plus its unit: `request_latency_ms`, `request_throughput_per_s`. A scalar is the
id alone, a distribution adds the statistic: `request_latency_ms.avg`, `.min`, `.max`, `.std`, `.p1`-`.p99`.
Counts, and concurrency, have no unit: `request_count`, `effective_concurrency`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

STATISTICS = ("avg", "min", "max", "std", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99")

UNITS: Mapping[str, str] = {
    "ms": "ms",
    "sec": "s",
    "tokens": "tokens",
    "requests/sec": "per_s",
    "tokens/sec": "per_s",
    "per sec": "per_s",
    "tokens/sec/user": "per_user_per_s",
    "%": "percent",
    "KB": "kb",
    "ratio": "ratio",
    "requests": "",
    "count": "",
}
"""Unit as AIPerf 0.13 and GenAI-Perf 0.0.16 write it -> suffix of the id."""

CATALOGUE: Mapping[tuple[str, str], str] = {
    ("total_isl", "tokens"): "total_input_sequence_length_tokens",
    ("total_osl", "tokens"): "total_output_sequence_length_tokens",
    ("osl_mismatch_diff_pct", "%"): "osl_mismatch_diff_percent",
    ("osl mismatch diff %", "%"): "osl_mismatch_diff_percent",
    ("overall_usage_prompt_cache_read_pct", "%"): "overall_usage_prompt_cache_read_percent",
    ("overall usage prompt cache read %", "%"): "overall_usage_prompt_cache_read_percent",
    ("completed requests (success + error)", ""): "completed_request_count",
    ("effective latency (co-aware)", "ms"): "effective_latency_ms",
    ("request latency (error-adjusted)", "ms"): "adj_request_latency_ms",
    ("time to first token (error-adjusted)", "ms"): "adj_time_to_first_token_ms",
    ("inter token latency (error-adjusted)", "ms"): "adj_inter_token_latency_ms",
    ("decode duration (error-adjusted)", "ms"): "adj_decode_duration_ms",
    ("http blocked", "ms"): "http_req_blocked_ms",
    ("http chunks received", ""): "http_req_chunks_received",
    ("http chunks sent", ""): "http_req_chunks_sent",
    ("http connecting", "ms"): "http_req_connecting_ms",
    ("http connection overhead", "ms"): "http_req_connection_overhead_ms",
    ("http connection reused", "ratio"): "http_req_connection_reused_ratio",
    ("http data received", "KB"): "http_req_data_received_kb",
    ("http data sent", "KB"): "http_req_data_sent_kb",
    ("http dns lookup", "ms"): "http_req_dns_lookup_ms",
    ("http duration (excl. conn)", "ms"): "http_req_duration_ms",
    ("http receiving", "ms"): "http_req_receiving_ms",
    ("http sending", "ms"): "http_req_sending_ms",
    ("http total time", "ms"): "http_req_total_ms",
    ("http waiting (ttfb)", "ms"): "http_req_waiting_ms",
}
"""Where a tag (JSON) and a lower-cased name (CSV) differ; every other id is made by `metric_id`'s rule."""

_PER_GPU: Mapping[str, str] = {
    "output_token_throughput_per_s": "output_token_throughput_per_gpu_per_s",
    "total_token_throughput_per_s": "total_token_throughput_per_gpu_per_s",
    "request_throughput_per_s": "request_throughput_per_gpu_per_s",
}


def metric_id(name: str, unit: str) -> str:
    """Our id of a metric that a tool calls `name`, measured in `unit` ("" when it names none).

    Unknown names and units are kept under a mechanical id, so that no number is lost.

    >>> metric_id("Time to First Token", "ms"), metric_id("output_token_throughput", "tokens/sec")
    ('time_to_first_token_ms', 'output_token_throughput_per_s')
    """
    known = CATALOGUE.get((name.lower(), unit))
    if known:
        return known
    stem = _words(name)
    suffix = UNITS.get(unit, _words(unit))
    if suffix == "per_user_per_s" and stem.endswith("_per_user"):
        suffix = "per_s"
    # "request_count" and "usage_prompt_tokens" already say what they count.
    if not suffix or stem.endswith("_count") or (suffix == "tokens" and suffix in stem.split("_")):
        return stem
    return f"{stem}_{suffix}"


def number(text: str) -> float | None:
    """The number in a CSV cell, with or without thousands separators; null when it is blank or "N/A".

    Raises ValueError for other text, and for NaN and infinity: no metric is either.

    >>> number("1,146.31"), number(" ")
    (1146.31, None)
    """
    plain = text.strip()
    if plain in ("", "N/A"):
        return None
    if "," in plain and not re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", plain):
        raise ValueError(f"{text!r} is not a number")
    value = float(plain.replace(",", ""))
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number")
    return value


def derived(metrics: Mapping[str, float], gpus: int, concurrency: int | None) -> dict[str, float]:
    """Throughput per GPU of the plan and per user: the one place where either is divided.

    `output_token_throughput_per_user_per_s` (a scalar) is the output throughput over the concurrency asked
    for; AIPerf's own distribution of that name (`.avg`, ...) is the inverse of each request's inter-token
    latency. Without GPUs, or without concurrency, the metric is missing.
    """
    found: dict[str, float] = {}
    if gpus > 0:
        found = {ours: metrics[total] / gpus for total, ours in _PER_GPU.items() if total in metrics}
    output = metrics.get("output_token_throughput_per_s")
    if output is not None and concurrency:
        found["output_token_throughput_per_user_per_s"] = output / concurrency
    return found


def _words(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
