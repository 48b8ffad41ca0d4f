"""Results: parse what a tool wrote, judge it, and show it. Importing this package loads no heavy library."""

from launchers.results.result import (
    VALID,
    AccuracyResult,
    Counts,
    PhaseResult,
    Result,
    ResultError,
    Verdict,
    VerdictStatus,
    last_metrics,
    overall,
    with_verdict,
)

__all__ = [
    "VALID",
    "AccuracyResult",
    "Counts",
    "PhaseResult",
    "Result",
    "ResultError",
    "Verdict",
    "VerdictStatus",
    "last_metrics",
    "overall",
    "with_verdict",
]
