"""Reads GenAI-Perf's report. Format: CloudAI's documentation (sample in tests/data), not seen live.

Never does: judging. The CSV tells no errors, so validity rests on the number of requests.
"""

from __future__ import annotations

from pathlib import Path

from launchers.results.reading import ReadError, Reading, read_table

TABLES = "*genai_perf.csv"
"""`<profile-export-file stem>_genai_perf.csv`; the tool may add a folder of its own for model and load."""


def read(folder: Path) -> Reading:
    """The reading of one phase. Raises ReadError: not exactly one report, or unreadable."""
    found = sorted(folder.rglob(TABLES))
    if len(found) != 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise ReadError(
            f"genai-perf left {len(found)} reports ({names})" if found else f"genai-perf left no {TABLES}"
        )
    metrics = read_table(found[0])
    count = metrics.get("request_count")
    return Reading(metrics=metrics, succeeded=None if count is None else round(count))
