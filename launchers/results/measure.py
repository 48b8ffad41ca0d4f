"""One phase's files -> its result: the numbers, and whether to believe them.

Takes what the tool left in its artifact folder; gives a PhaseResult.
Never does: trusting an exit code (AIPerf 0.13 ends with 0 although 84 % of its requests failed), reading a
missing report as zero, or raising for bad data.

A condition is one row of CONDITIONS; together they are the gate of facts/aiperf.md, section 3. Whether a
server process exited meanwhile is known to the session alone, which adds it to the verdict (`Verdict.also`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from compiler.plan import Phase, Workload
from launchers.exits import ended
from launchers.results import aiperf, genai_perf
from launchers.results.metrics import derived
from launchers.results.reading import ReadError, Reading
from launchers.results.result import VALID, Counts, PhaseResult, Verdict
from launchers.results.tail import tail

READERS: Mapping[str, Callable[[Path], Reading]] = {"aiperf": aiperf.read, "genai_perf": genai_perf.read}


@dataclass(frozen=True, slots=True)
class Case:
    """What a condition looks at."""

    workload: Workload
    phase: Phase
    reading: Reading
    exit_code: int | None


def measure_phase(
    workload: Workload,
    phase: Phase,
    attempt_dir: Path,
    exit_code: int | None,
    duration_s: float,
    gpus: int,
    log: Path | None = None,
) -> PhaseResult:
    """The result of one phase, from the files under `attempt_dir / phase.artifact_dir`.

    `exit_code` is the tool's (negative for a signal, null when it was stopped), `duration_s` its wall time,
    `gpus` the GPUs of the plan that have work, `log` where its output went (quoted when there is no report).
    """
    folder = attempt_dir / phase.artifact_dir
    try:
        reading = READERS[workload.tool](folder)
    except ReadError as error:
        reading = Reading({})
        verdict = Verdict("failed", _failed(workload.tool, error, exit_code, log or folder / aiperf.LOG))
        counts = Counts(failed=error.errors)
    else:
        verdict = judge(Case(workload, phase, reading, exit_code))
        counts = _counts(reading)
    return PhaseResult(
        name=phase.name,
        verdict=verdict,
        metrics={**reading.metrics, **derived(reading.metrics, gpus, phase.concurrency)},
        counts=counts,
        artifact_dir=phase.artifact_dir,
        exit_code=exit_code,
        duration_s=duration_s,
        concurrency=phase.concurrency,
        tool_version=reading.tool_version,
        random_seed=phase.random_seed,
    )


def judge(case: Case) -> Verdict:
    """Valid when every condition holds, else invalid with the reason of each that does not."""
    reasons = [reason for holds in CONDITIONS.values() if (reason := holds(case))]
    return VALID.also("invalid", *reasons) if reasons else VALID


def _finished(case: Case) -> str | None:
    if case.reading.cancelled:
        return f"{case.workload.tool} cancelled the measurement"
    if case.reading.complete is False:
        return f"{case.workload.tool} did not complete the measurement"
    return None


def _exit_code(case: Case) -> str | None:
    if case.exit_code == 0:
        return None
    return f"{ended(case.workload.tool, case.exit_code)}, although it left a report"


def _all_requests(case: Case) -> str | None:
    sent, wanted = case.reading.sent, case.phase.requests
    if sent is None:
        return "the report does not say how many requests were measured"
    if wanted is None or sent == wanted:
        return None
    return f"{sent} requests came back, {wanted} were asked for"


def _error_rate(case: Case) -> str | None:
    errors, sent = case.reading.errors, case.reading.sent
    limit = case.workload.max_error_rate
    if not errors or not sent or errors / sent <= limit:
        return None
    text = f"{errors} of {sent} requests failed ({100 * errors / sent:.1f} %, limit {100 * limit:g} %)"
    return ": ".join((text, *case.reading.error_messages[:1]))


def _whole_streams(case: Case) -> str | None:
    cut, succeeded = case.reading.truncated, case.reading.succeeded
    if not cut:
        return None
    if cut == succeeded:
        return f"none of {succeeded} answers carries the server's token usage, so cut streams cannot be told"
    return f"{cut} of {succeeded} answers were cut: they ended without the server's token usage"


def _some_output(case: Case) -> str | None:
    if case.reading.succeeded == 0:
        return "no request succeeded"
    if case.reading.metrics.get("output_token_throughput_per_s", 0) > 0:
        return None
    return "no output tokens were counted"


def _output_length(case: Case) -> str | None:
    wanted, tolerance = case.phase.output_tokens, case.workload.output_length_tolerance
    found = case.reading.metrics.get("output_sequence_length_tokens.avg")
    # Without any length, `some_output` or `whole_streams` has said what is wrong.
    if wanted is None or tolerance is None or found is None:
        return None
    apart = (found - wanted) / wanted if wanted else found
    if abs(apart) <= tolerance:
        return None
    return (
        f"the mean output length is {found:.1f} tokens, {wanted} were asked for"
        f" ({100 * apart:+.1f} %, tolerance {100 * tolerance:g} %)"
    )


CONDITIONS: Mapping[str, Callable[[Case], str | None]] = {
    "finished": _finished,
    "exit_code": _exit_code,
    "all_requests": _all_requests,
    "error_rate": _error_rate,
    "whole_streams": _whole_streams,
    "some_output": _some_output,
    "output_length": _output_length,
}
"""Name -> what is wrong, in words and numbers, or null. Every one has to hold."""


def _counts(reading: Reading) -> Counts:
    completed = reading.succeeded
    if completed is not None and reading.truncated:
        completed -= reading.truncated
    return Counts(reading.sent, completed, reading.errors, reading.truncated)


def _failed(tool: str, error: ReadError, exit_code: int | None, log: Path) -> tuple[str, ...]:
    """Why there is no measurement, and the end of the tool's own log."""
    end = tail(log)
    first = f"{error} ({ended(tool, exit_code)})"
    return (first, f"end of {log.name}:\n{end}") if end else (first,)
