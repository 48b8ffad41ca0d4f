"""What an accuracy run left -> its result: one number from 0 to 1, and whether to believe it.

Takes the CSV in the run's artifact folder; gives an AccuracyResult.
Never does: taking another row for OVERALL, reading a missing file as zero, or raising for bad data.

The CSV is AIPerf's (`task,correct,total,unparsed,accuracy`), or that of a script: any row with a cell OVERALL, and
columns `accuracy` or `value`, or `correct` and `total`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compiler.plan import Accuracy
from launchers.exits import ended
from launchers.results import aiperf
from launchers.results.metrics import number
from launchers.results.reading import ReadError, reason
from launchers.results.result import VALID, AccuracyResult, Verdict
from launchers.results.tail import tail

OVERALL = "overall"
VALUES = ("accuracy", "value")
APART = 0.01
"""Difference between an accuracy and its own counts that rounding does not explain."""
_PERCENT = re.compile(r"(.*?)\s*%\Z")


class Unbelievable(Exception):
    """There is a number, and it is no accuracy; the message is fit for a user."""


@dataclass(frozen=True, slots=True)
class Score:
    """The row OVERALL."""

    value: float
    """0 to 1."""
    correct: int | None = None
    total: int | None = None
    unparsed: int | None = None


def measure_accuracy(
    asked: Accuracy,
    attempt_dir: Path,
    exit_code: int | None,
    duration_s: float,
    log: Path,
    max_error_rate: float,
) -> AccuracyResult:
    """The result of a run that ended with `exit_code`; `log` is quoted when it left no accuracy."""
    folder = attempt_dir / asked.artifact_dir
    try:
        score = read(folder / asked.results)
    except ReadError as error:
        first = f"{error} ({ended('accuracy', exit_code)})"
        return not_measured(asked, duration_s, first, log=log, exit_code=exit_code)
    except Unbelievable as error:
        return _result(asked, Verdict("invalid", (str(error),)), None, exit_code, duration_s)
    reasons = list(_wrong_requests(folder, max_error_rate))
    if exit_code != 0:
        reasons.insert(0, f"{ended('accuracy', exit_code)}, although it left {asked.results}")
    verdict = VALID.also("invalid", *reasons) if reasons else VALID
    return _result(asked, verdict, score, exit_code, duration_s)


def not_measured(
    asked: Accuracy, duration_s: float, *reasons: str, log: Path | None = None, exit_code: int | None = None
) -> AccuracyResult:
    """The failed result of a run that left no accuracy, with the end of its log."""
    end = tail(log) if log is not None else ""
    told = (*reasons, f"end of {log.name}:\n{end}") if log is not None and end else reasons
    return _result(asked, Verdict("failed", told), None, exit_code, duration_s)


def read(path: Path) -> Score:
    """The row OVERALL of a CSV. Raises ReadError where there is none, Unbelievable where it is no accuracy."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    except FileNotFoundError as error:
        raise ReadError(f"the run left no {path.name}") from error
    except (OSError, UnicodeError, csv.Error) as error:
        raise ReadError(f"{path.name} cannot be read: {reason(error)}") from error
    rows = [row for row in rows if any(row)]
    if not rows:
        raise ReadError(f"{path.name} is empty")
    found = [row for row in rows[1:] if OVERALL in map(str.lower, row)]
    if len(found) != 1:
        many = f"{len(found)} rows OVERALL" if found else "no row OVERALL"
        raise ReadError(f"{path.name} has {many}")
    return _score(path.name, rows[0], found[0])


def _score(name: str, header: Sequence[str], row: Sequence[str]) -> Score:
    if len(row) != len(header):
        raise ReadError(f"{name}: the row OVERALL has {len(row)} cells, the header {len(header)}")
    cells = {title.lower(): cell for title, cell in zip(header, row, strict=True)}
    said = next((cell for title in VALUES if (cell := cells.get(title, ""))), "")
    correct, total, unparsed = (_count(name, cells, title) for title in ("correct", "total", "unparsed"))
    counted = _share(correct, total)
    if not said and counted is None:
        raise ReadError(f"{name}: the row OVERALL has neither accuracy nor value, nor correct and total")
    value = fraction(said) if said else counted
    if value is None:
        raise ReadError(f"{name}: the row OVERALL has no number")
    if counted is not None and abs(value - counted) > APART:
        raise Unbelievable(f"an accuracy of {said} and {correct} of {total} contradict each other")
    return Score(value, correct, total, unparsed)


def fraction(text: str) -> float | None:
    """An accuracy as a share: "59.59 %" and 59.59 are percent, 0.5959 and 1 are shares. Null where there is none.

    Raises Unbelievable for what is below 0, above 100 % or no number.

    >>> fraction("59.5 %"), fraction("1"), fraction("1 %")
    (0.595, 1.0, 0.01)
    """
    match = _PERCENT.match(text)
    try:
        value = number(match[1] if match else text)
    except ValueError:
        raise Unbelievable(f"{text!r} is no accuracy") from None
    if value is None:
        return None
    if not 0 <= value <= 100:
        raise Unbelievable(f"an accuracy of {text} is not between 0 and 100 %")
    return value / 100 if match or value > 1 else value


def _count(name: str, cells: Mapping[str, str], title: str) -> int | None:
    text = cells.get(title, "")
    try:
        value = number(text)
    except ValueError:
        raise ReadError(f"{name}: '{title}' of the row OVERALL is {text!r}, no number") from None
    if value is None:
        return None
    if value < 0 or value != int(value):
        raise Unbelievable(f"'{title}' is {text}, no number of answers")
    return int(value)


def _share(correct: int | None, total: int | None) -> float | None:
    """Raises Unbelievable where nothing was judged, or more was right than that."""
    if total == 0:
        raise Unbelievable("no answer was judged: 'total' is 0")
    if correct is None or total is None:
        return None
    if correct > total:
        raise Unbelievable(f"{correct} of {total} answers cannot be right")
    return correct / total


def _wrong_requests(folder: Path, max_error_rate: float) -> list[str]:
    """What AIPerf says of its requests, where the run was AIPerf: answers that never came are in no accuracy."""
    if not (folder / aiperf.SUMMARY).exists():
        return []
    try:
        said = aiperf.read(folder)
    except ReadError as error:
        return [str(error)]
    reasons = ["aiperf cancelled the run"] if said.cancelled else []
    if said.errors and said.sent and said.errors / said.sent > max_error_rate:
        share = f"{100 * said.errors / said.sent:.1f} %, limit {100 * max_error_rate:g} %"
        text = f"{said.errors} of {said.sent} requests failed ({share})"
        reasons.append(": ".join((text, *said.error_messages[:1])))
    return reasons


def _result(
    asked: Accuracy, verdict: Verdict, score: Score | None, exit_code: int | None, duration_s: float
) -> AccuracyResult:
    return AccuracyResult(
        name=asked.name,
        verdict=verdict,
        value=score.value if score else None,
        correct=score.correct if score else None,
        total=score.total if score else None,
        unparsed=score.unparsed if score else None,
        artifact_dir=asked.artifact_dir,
        exit_code=exit_code,
        duration_s=duration_s,
    )
