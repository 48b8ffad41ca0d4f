"""What one attempt at a point came to: the form of `result.json` (`servix.result/1`).

Taken from: `measure` (phases) and the session (everything around them).
Given to: `store`, `frame`, `table`, `report`.
Never does: judging a measurement (`measure` does), or files.

A verdict is `failed` when something broke (a process died, the tool crashed, the stack was never ready) and
`invalid` when there is a measurement that cannot be trusted. Either way the numbers are kept and the reasons
shown; such a point is never "best" and never scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cache
from math import isfinite
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

SCHEMA = "servix.result/1"
ACCURACY = "accuracy"
"""Metric: the share of right answers, 0 to 1."""

VerdictStatus = Literal["valid", "invalid", "failed"]
SEVERITY: Mapping[str, int] = {"valid": 0, "invalid": 1, "failed": 2}
"""Larger is worse."""


class ResultError(ValueError):
    """Data that is not a result this version can read; the message names the place and is fit for a user."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether numbers may be believed, and in words why not. A valid verdict has no reasons."""

    status: VerdictStatus
    reasons: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """True when the numbers count."""
        return self.status == "valid"

    def also(self, status: VerdictStatus, *reasons: str) -> Verdict:
        """The worse of both, with all reasons: how a session adds "decode-0 exited with SIGKILL"."""
        worse = max(self.status, status, key=SEVERITY.__getitem__)
        return Verdict(worse, (*self.reasons, *(reason for reason in reasons if reason not in self.reasons)))


VALID = Verdict("valid")


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of one phase. Null: the tool does not tell."""

    sent: int | None = None
    """Requests that came back, one way or the other."""
    completed: int | None = None
    """Requests answered in full: `sent` without failed and truncated ones."""
    failed: int | None = None
    """Requests that ended in an error."""
    truncated: int | None = None
    """Streams that ended without error and without the server's usage: cut by a dying worker."""


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """One phase: its verdict, and its numbers as far as there are any."""

    name: str
    verdict: Verdict
    metrics: Mapping[str, float]
    """Metric id -> value; the unit is part of the id (`time_to_first_token_ms.p99`)."""
    counts: Counts
    artifact_dir: str
    """Where the tool wrote, relative to the attempt's folder."""
    exit_code: int | None
    """As the tool gave it, negative for a signal; null: it never ended by itself. Recorded, not trusted."""
    duration_s: float
    """Wall time of the tool's process, its own start-up included."""
    concurrency: int | None = None
    """Concurrency asked for; null: the load is not bounded by concurrency."""
    tool_version: str | None = None
    """Release as the tool reports it; null: it does not, or left no report."""
    random_seed: int | None = None
    """Seed of its prompts, as it was given to the tool; null: the tool chose one."""


@dataclass(frozen=True, slots=True)
class AccuracyResult:
    """The accuracy run of a point."""

    name: str
    verdict: Verdict
    value: float | None
    """0 to 1; null: it left no accuracy. Kept where it is not valid, too."""
    correct: int | None
    """Answers that were right; null: the run does not tell."""
    total: int | None
    """Answers that were judged."""
    unparsed: int | None
    """Answers that could not be read, and count as wrong."""
    artifact_dir: str
    """Where it wrote, relative to the attempt's folder."""
    exit_code: int | None
    """Negative for a signal; null: it never ended by itself."""
    duration_s: float
    """Wall time, its setup included."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metric `accuracy`, where there is one."""
        return {} if self.value is None else {ACCURACY: self.value}

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is wrong, as the verdict of the point says it."""
        return tuple(f"accuracy: {reason}" for reason in self.verdict.reasons)


@dataclass(frozen=True, slots=True)
class Result:
    """One attempt at a point."""

    point_digest: str
    deployment_digest: str
    point_name: str
    deployment_name: str
    overrides: tuple[str, ...]
    """What the user typed for this point."""
    trial: int
    attempt: int
    tool: str
    """Load generator: `aiperf`, `genai_perf`. Numbers of two tools never share a curve."""
    tool_version: str
    """As the tool itself reported it, else as it was planned."""
    verdict: Verdict
    metrics: Mapping[str, float]
    """Those of the last phase that was measured, and `accuracy`; empty when none was."""
    phases: tuple[PhaseResult, ...]
    durations_s: Mapping[str, float]
    """Stage (`start`, `ready`, `phases`, `stop`, ...) -> wall time."""
    node_seconds: float
    gpu_seconds: float
    ran: Mapping[str, Any]
    """What actually ran: `versions`, `hosts`, `gpus`, `images`."""
    started_at: str
    """ISO-8601, UTC."""
    finished_at: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """The composed configuration, for provenance."""
    notes: tuple[str, ...] = ()
    """What a reader should know though it forbids nothing: attempts that did not count."""
    schema: str = SCHEMA
    accuracy: AccuracyResult | None = None
    """Null: no accuracy run, or none was started."""

    def same_attempt(self, other: Result) -> bool:
        """True when both are of one attempt, however much is known of it."""
        return (self.attempt, self.started_at) == (other.attempt, other.started_at)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back to an equal object. `schema` comes first."""
        data = asdict(self)
        if self.accuracy is None:
            del data["accuracy"]
        return {"schema": data.pop("schema"), **data}

    @classmethod
    def from_json(cls, data: Any) -> Result:
        """The result in plain data. Raises ResultError for another schema, a missing key or a wrong type."""
        if not isinstance(data, dict):
            raise ResultError(f"a result is a mapping, not {_kind(data)}")
        if data.get("schema") != SCHEMA:
            raise ResultError(f"schema is {data.get('schema')!r}; this version of servix reads '{SCHEMA}'")
        result: Result = _read(cls, data, "result")
        return result


def overall(phases: Iterable[PhaseResult]) -> Verdict:
    """The verdict of all phases together: the worst status, and every reason.

    Reasons name their phase where there are several. No phase at all is `failed`.
    """
    rounds = tuple(phases)
    if not rounds:
        return Verdict("failed", ("no phase was measured",))
    verdict = VALID
    for phase in rounds:
        place = f"{phase.name}: " if len(rounds) > 1 else ""
        verdict = verdict.also(phase.verdict.status, *(place + reason for reason in phase.verdict.reasons))
    return verdict


def last_metrics(phases: Iterable[PhaseResult]) -> Mapping[str, float]:
    """Metrics of the last phase that was measured; empty when none was."""
    return next((phase.metrics for phase in reversed(tuple(phases)) if phase.metrics), {})


def with_verdict(result: Result, status: VerdictStatus, *reasons: str) -> Result:
    """The same result with a verdict that is at least as bad as `status`."""
    return replace(result, verdict=result.verdict.also(status, *reasons))


def _read(wanted: Any, value: Any, place: str) -> Any:
    """`value` as an object of the annotation `wanted`: the closed set of annotations above, nothing else."""
    origin, inner = _parts(wanted)
    if origin in (Union, UnionType):
        return None if value is None else _read(inner[0], value, place)
    if origin is Literal:
        return _expect(value in inner if isinstance(value, str) else False, value, place, " or ".join(inner))
    if origin is tuple:
        _expect(isinstance(value, list | tuple), value, place, "a list")
        return tuple(_read(inner[0], entry, f"{place}[{i}]") for i, entry in enumerate(value))
    if origin is not None:
        _expect(isinstance(value, dict), value, place, "a mapping")
        return _read_mapping(inner[1], value, place)
    return _read_plain(wanted, value, place)


def _read_mapping(wanted: Any, value: dict[str, Any], place: str) -> dict[str, Any]:
    # A result holds about 600 metrics, and a sweep hundreds of results: those that are as they should be are
    # taken together, so that their places are put into words only where one is wrong.
    if wanted is Any:
        return value
    if wanted is float and set(map(type, value.values())) <= {float} and all(map(isfinite, value.values())):
        return value
    return {key: _read(wanted, entry, f"{place}.{key}") for key, entry in value.items()}


def _read_plain(wanted: Any, value: Any, place: str) -> Any:
    if wanted is Any:
        return value
    if wanted is str:
        return _expect(isinstance(value, str), value, place, "text")
    if wanted is int:
        return _expect(isinstance(value, int) and not isinstance(value, bool), value, place, "a whole number")
    if wanted is float:
        return float(_expect(_is_finite(value), value, place, "a finite number"))
    _expect(isinstance(value, dict), value, place, "a mapping")
    hints = _hints(wanted)
    if value.keys() != hints.keys():
        optional = _optional(wanted)
        missing = [name for name in hints if name not in value and name not in optional]
        unknown = [key for key in value if key not in hints]
        if missing or unknown:
            raise ResultError(f"{place}: missing keys {missing}, unknown keys {unknown}")
    return wanted(**{name: _read(hints[name], item, f"{place}.{name}") for name, item in value.items()})


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


@cache
def _hints(wanted: type) -> dict[str, Any]:
    """Field -> annotation. Reading a thousand results spends half its time here without the cache."""
    hints = get_type_hints(wanted)
    return {entry.name: hints[entry.name] for entry in fields(wanted)}


@cache
def _parts(wanted: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(wanted), get_args(wanted)


@cache
def _optional(wanted: type) -> frozenset[str]:
    """Fields with a default: what a release before this one did not write."""
    given = (MISSING, MISSING)
    return frozenset(e.name for e in fields(wanted) if (e.default, e.default_factory) != given)


def _expect(holds: bool, value: Any, place: str, wanted: str) -> Any:
    if not holds:
        raise ResultError(f"{place} should be {wanted}, not {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
