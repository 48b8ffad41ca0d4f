"""Reading what the tools write, and judging it. The AIPerf files were recorded from real runs; see tests/data."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_data import DATA, measured, phase, result, workload

from launchers.results import (
    Counts,
    PhaseResult,
    Result,
    ResultError,
    Verdict,
    aiperf,
    genai_perf,
    last_metrics,
    overall,
)
from launchers.results.measure import CONDITIONS, Case, ended, judge, measure_phase
from launchers.results.metrics import derived, metric_id, number
from launchers.results.reading import ReadError, Reading, read_table
from launchers.results.tail import tail


def measure(
    folder: str | Path, exit_code: int | None = 0, tool: dict[str, Any] | None = None, **asked: Any
) -> PhaseResult:
    """The result of one recorded run."""
    where = phase(artifact_dir=str(DATA / folder), **asked)
    return measure_phase(workload(**(tool or {})), where, Path("/"), exit_code, 9.5, gpus=2)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A healthy recording that a test may damage."""
    return Path(shutil.copytree(DATA / "aiperf_healthy", tmp_path / "artifacts"))


def edit(folder: Path, **changes: Any) -> None:
    """Changes keys of a recorded summary; null removes one."""
    path = folder / aiperf.SUMMARY
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def test_a_healthy_run_is_valid_with_exact_numbers() -> None:
    found = measure("aiperf_healthy")
    assert found.verdict == Verdict("valid")
    assert found.counts == Counts(sent=20, completed=20, failed=0, truncated=0)
    assert (found.tool_version, found.concurrency, found.exit_code) == ("0.13.0", 4, 0)
    expected = {
        "time_to_first_token_ms.avg": 74.72211825,
        "request_latency_ms.p50": 215.57039799999998,
        "request_throughput_per_s": 17.267400717569974,
        "output_token_throughput_per_s": 552.5568229622392,
        "output_token_throughput_per_user_per_s.avg": 215.08213459250595,
        "output_sequence_length_tokens.avg": 32.0,
        "benchmark_duration_s": 1.15351296,
        "output_token_throughput_per_gpu_per_s": 552.5568229622392 / 2,
        "output_token_throughput_per_user_per_s": 552.5568229622392 / 4,
        "request_count": 20.0,
        "effective_concurrency.p50": 4.0,
    }
    assert {name: found.metrics[name] for name in expected} == expected


def test_addresses_that_were_not_scraped_are_told(copy: Path) -> None:
    assert aiperf.unscraped(copy) == ()
    told = {"endpoints_configured": ["http://a:1/metrics", "http://b:1/metrics"], "endpoints_successful": []}
    edit(copy, telemetry_data={"summary": {**told, "endpoints_successful": ["http://b:1/metrics"]}})
    assert aiperf.unscraped(copy) == ("http://a:1/metrics",)
    (copy / aiperf.SERVER_METRICS).write_text(json.dumps({"summary": told}))
    assert aiperf.unscraped(copy) == ("http://a:1/metrics", "http://b:1/metrics", "http://a:1/metrics")
    (copy / aiperf.SERVER_METRICS).write_text("[1")
    edit(copy, telemetry_data=[3])
    assert aiperf.unscraped(copy) == ()


def test_a_killed_decode_worker_is_invalid_although_the_exit_code_is_0() -> None:
    found = measure("aiperf_killed", requests=60)
    assert found.counts == Counts(sent=60, completed=20, failed=38, truncated=2)
    rate, cut = found.verdict.reasons
    assert rate.startswith(
        "38 of 60 requests failed (63.3 %, limit 0 %): 503 Service Unavailable: Model `tiny`"
    )
    assert cut == "2 of 22 answers were cut: they ended without the server's token usage"
    assert found.verdict.status == "invalid"
    # The numbers are kept: they are the cut streams' fault, and worth a look.
    assert found.metrics["request_latency_ms.min"] == pytest.approx(70.73, abs=0.01)


def test_cut_streams_stay_invalid_when_errors_are_allowed() -> None:
    found = measure("aiperf_killed", tool={"max_error_rate": 0.7}, requests=60)
    assert found.verdict == Verdict(
        "invalid", ("2 of 22 answers were cut: they ended without the server's token usage",)
    )


@pytest.mark.parametrize("recorded", ["aiperf_warmup", "aiperf_not_streaming"])
def test_warm_up_and_whole_answers_are_no_reason(recorded: str) -> None:
    assert measure(recorded).verdict == Verdict("valid")


def test_when_every_request_failed_there_is_no_summary() -> None:
    found = measure("aiperf_all_failed", exit_code=1)
    first, log = found.verdict.reasons
    assert found.verdict.status == "failed"
    assert first.startswith("all 20 requests failed: 503 Service Unavailable: Model `tiny` is not ready")
    assert first.endswith("(aiperf exited with code 1)")
    assert log.startswith("end of aiperf.log:\n")
    assert "All 20 inference request(s) failed" in log
    assert (found.metrics, found.counts.failed) == ({}, 20)


def test_a_killed_tool_left_no_summary() -> None:
    found = measure("aiperf_tool_killed", exit_code=-9)
    assert found.verdict.reasons[0] == (
        "aiperf left no profile_export_aiperf.json (aiperf was killed by SIGKILL)"
    )
    assert found.verdict.status == "failed"
    assert found.metrics == {}


def test_output_of_the_tool_is_quoted_when_the_caller_knows_it(tmp_path: Path) -> None:
    log = tmp_path / "tool.log"
    log.write_text("╭─ Error ─╮\n│ \x1b[31mUnknown option: --no-streaming.\x1b[0m │\n╰─────────╯\n\n")
    found = measure_phase(workload(), phase(), tmp_path, 1, 1.0, 2, log=log)
    assert found.verdict.reasons[1] == "end of tool.log:\nError\nUnknown option: --no-streaming."


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_complete": False}, "aiperf did not complete the measurement"),
        ({"is_complete": None}, "aiperf did not complete the measurement"),
        ({"was_cancelled": True}, "aiperf cancelled the measurement"),
        ({"request_count": {"unit": "requests", "avg": 19.0}}, "19 requests came back, 20 were asked for"),
        ({"request_count": None}, "0 requests came back, 20 were asked for"),
        ({"output_token_throughput": None}, "no output tokens were counted"),
        (
            {"usage_completion_tokens": None},
            "none of 20 answers carries the server's token usage, so cut streams cannot be told",
        ),
        (
            {"output_sequence_length": {"unit": "tokens", "avg": 12.3, "count": 20}},
            "the mean output length is 12.3 tokens, 32 were asked for (-61.6 %, tolerance 10 %)",
        ),
        (
            {"error_request_count": {"unit": "requests", "avg": 1}},
            "1 of 21 requests failed (4.8 %, limit 0 %)",
        ),
    ],
)
def test_each_condition_says_what_is_wrong(copy: Path, changes: dict[str, Any], reason: str) -> None:
    edit(copy, **changes)
    found = measure(copy)
    assert found.verdict.status == "invalid"
    assert reason in found.verdict.reasons
    assert found.metrics


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (0, None),
        (1, "aiperf exited with code 1, although it left a report"),
        (-15, "aiperf was killed by SIGTERM, although it left a report"),
        (None, "aiperf did not end by itself, although it left a report"),
    ],
)
def test_an_exit_code_is_a_reason_and_never_an_excuse(exit_code: int | None, reason: str | None) -> None:
    found = measure("aiperf_healthy", exit_code)
    assert found.verdict.reasons == ((reason,) if reason else ())
    assert found.exit_code == exit_code


def test_ends_that_have_no_name() -> None:
    assert ended("aiperf", -250) == "aiperf was killed by signal 250"


@pytest.mark.parametrize(
    ("asked", "tool", "valid"),
    [
        ({"requests": 21}, {}, False),
        ({"requests": None}, {}, True),
        ({"output_tokens": 36}, {}, False),
        ({"output_tokens": 35}, {}, True),
        ({"output_tokens": 36}, {"output_length_tolerance": None}, True),
        ({"output_tokens": None}, {}, True),
    ],
)
def test_limits_come_from_the_plan(asked: dict[str, Any], tool: dict[str, Any], valid: bool) -> None:
    assert measure("aiperf_healthy", tool=tool, **asked).verdict.valid == valid


@pytest.mark.parametrize(("limit", "valid"), [(0.0, False), (0.0475, False), (0.05, True), (1.0, True)])
def test_the_error_rate_is_a_limit(limit: float, valid: bool) -> None:
    metrics = {"output_token_throughput_per_s": 1.0}
    reading = Reading(metrics, None, True, False, succeeded=19, errors=1, truncated=0)
    case = Case(workload(max_error_rate=limit), phase(output_tokens=None), reading, 0)
    assert judge(case).valid == valid


def test_every_condition_can_fail() -> None:
    reading = Reading({"output_sequence_length_tokens.avg": 0.0}, None, False, False, 0, 2, 3)
    case = Case(workload(), phase(), reading, 1)
    assert all(holds(case) for holds in CONDITIONS.values())


def test_a_summary_cut_anywhere_is_failed_and_never_zero(copy: Path) -> None:
    path = copy / aiperf.SUMMARY
    whole = path.read_bytes()
    for size in range(0, len(whole) - 2, 97):
        path.write_bytes(whole[:size])
        found = measure(copy)
        assert found.verdict.status == "failed"
        assert found.verdict.reasons[0].startswith(
            "profile_export_aiperf.json cannot be read (cut in the middle?)"
        )
        assert found.metrics == {}


@pytest.mark.parametrize("version", [None, "2.0", 1.4, "", "10.1"])
def test_an_unknown_schema_is_refused(copy: Path, version: object) -> None:
    edit(copy, schema_version=version)
    found = measure(copy)
    assert found.verdict.status == "failed"
    assert "servix reads version 1.x" in found.verdict.reasons[0]


@pytest.mark.parametrize("text", ["", "null", "[]", "17", '"1.4"', "\x00\x00", "{" * 50])
def test_a_summary_of_garbage_is_refused(copy: Path, text: str) -> None:
    (copy / aiperf.SUMMARY).write_text(text)
    assert measure(copy).verdict.status == "failed"


def test_records_that_are_cut_or_no_records_are_skipped(copy: Path) -> None:
    with (copy / aiperf.RECORDS).open("a") as records:
        records.write('null\n[]\n{"metadata": null}\n{"metadata": {"benchmark_pha')
    found = measure(copy)
    assert found.counts.truncated == 1
    (copy / aiperf.RECORDS).unlink()
    assert measure(copy).verdict.valid


def test_values_that_are_no_finite_numbers_are_left_out(copy: Path) -> None:
    edit(
        copy, time_to_first_token={"unit": "ms", "avg": float("nan"), "p50": None, "p99": 3}, odd={"unit": 3}
    )
    metrics = measure(copy).metrics
    assert [name for name in metrics if name.startswith("time_to_first_token_ms")] == [
        "time_to_first_token_ms.p99"
    ]


@pytest.mark.parametrize("recorded", ["aiperf_healthy", "aiperf_killed"])
def test_csv_and_json_of_aiperf_give_the_same_metrics(recorded: str) -> None:
    table = read_table(DATA / recorded / "profile_export_aiperf.csv")
    summary = aiperf.read(DATA / recorded).metrics
    assert table.keys() == summary.keys()
    assert table == pytest.approx(summary, abs=0.0051)


def test_genai_perf_numbers_with_thousands_separators_are_exact() -> None:
    found = measure("genai_perf", tool={"tool": "genai_perf"}, requests=40, output_tokens=174)
    assert found.verdict == Verdict("valid")
    assert found.counts == Counts(sent=40, completed=40, failed=None, truncated=None)
    expected = {
        "time_to_first_token_ms.avg": 1146.31,
        "time_to_first_token_ms.max": 3485.23,
        "time_to_first_token_ms.p50": 640.07,
        "time_to_second_token_ms.min": 0.0,
        "request_latency_ms.p99": 9436.13,
        "inter_token_latency_ms.avg": 30.35,
        "input_sequence_length_tokens.avg": 3000.05,
        "output_sequence_length_tokens.p25": 171.75,
        "output_token_throughput_per_s": 261.25,
        "output_token_throughput_per_gpu_per_s": 261.25 / 2,
        "request_throughput_per_s": 1.5,
        "request_count": 40.0,
    }
    assert {name: found.metrics[name] for name in expected} == expected


def test_genai_perf_reports_are_found_and_never_guessed(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"left no \*genai_perf.csv"):
        genai_perf.read(tmp_path)
    shutil.copytree(DATA / "genai_perf", tmp_path / "tiny-openai-chat-concurrency4")
    assert genai_perf.read(tmp_path).succeeded == 40
    shutil.copy(DATA / "genai_perf" / "profile_export_genai_perf.csv", tmp_path / "old_genai_perf.csv")
    with pytest.raises(ReadError, match="left 2 reports"):
        genai_perf.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no metrics"),
        ("Metric,Value\n", "holds no metrics"),
        ("Metric,Value\nRequest Count\n", "has 1 cells, its header 2"),
        ("Metric,avg,min\nA (ms),1\n", "has 2 cells, its header 3"),
        ('Metric,Value\nA,"1,14.31"\n', "is not a number"),
        ("Metric,Value\nA,fast\n", "could not convert"),
        ("Metric,Value\nA,inf\n", "not a finite number"),
        ("Metric,Value\nA,nan\n", "not a finite number"),
    ],
)
def test_a_damaged_table_is_an_error(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ReadError, match=reason):
        read_table(path)


def test_blank_cells_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Metric,avg,min\nA Thing (ms),, 1.5 \n\nMetric,Value\nB,\nC (parsecs),2\nD (GB/s),3\n")
    assert read_table(path) == {"a_thing_ms.min": 1.5, "c_parsecs": 2.0, "d_gb_s": 3.0}


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("Time To First Token", "ms", "time_to_first_token_ms"),
        ("Time to First Token", "ms", "time_to_first_token_ms"),
        ("time_to_first_token", "ms", "time_to_first_token_ms"),
        ("Output Token Throughput", "per sec", "output_token_throughput_per_s"),
        ("output_token_throughput", "tokens/sec", "output_token_throughput_per_s"),
        ("output_token_throughput_per_user", "tokens/sec/user", "output_token_throughput_per_user_per_s"),
        ("e2e_output_token_throughput", "tokens/sec/user", "e2e_output_token_throughput_per_user_per_s"),
        ("Request Count", "count", "request_count"),
        ("request_count", "requests", "request_count"),
        ("request_error_rate", "%", "request_error_rate_percent"),
        ("usage_prompt_tokens", "tokens", "usage_prompt_tokens"),
        ("benchmark_duration", "sec", "benchmark_duration_s"),
        ("brand_new_metric", "tokens/joule", "brand_new_metric_tokens_joule"),
    ],
)
def test_one_id_for_what_both_tools_call_alike(name: str, unit: str, expected: str) -> None:
    assert metric_id(name, unit) == expected


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15), st.integers(0, 6))
def test_numbers_read_back_with_and_without_separators(value: float, digits: int) -> None:
    expected = float(f"{value:.{digits}f}")
    assert number(f"{value:,.{digits}f}") == expected
    assert number(f" {value:.{digits}f} ") == expected


@given(st.text())
def test_no_cell_gives_anything_but_a_number_nothing_or_a_value_error(text: str) -> None:
    try:
        value = number(text)
    except ValueError:
        return
    assert value is None or value == value


@pytest.mark.parametrize("text", ["1,14.31", ",1", "1,", "1,2", "1.5,000", "1,0000"])
def test_separators_in_odd_places_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        number(text)


def test_throughput_is_divided_only_by_what_is_known() -> None:
    metrics = {"output_token_throughput_per_s": 100.0, "request_throughput_per_s": 4.0}
    assert derived(metrics, 4, 2) == {
        "output_token_throughput_per_gpu_per_s": 25.0,
        "request_throughput_per_gpu_per_s": 1.0,
        "output_token_throughput_per_user_per_s": 50.0,
    }
    assert derived(metrics, 0, None) == derived({}, 4, 2) == {}


def test_the_worst_phase_decides_and_reasons_name_it() -> None:
    good, bad = measured(name="one"), measured("invalid", "too few", name="two")
    dead = replace(measured("failed", "no report", name="three"), metrics={})
    assert overall([good, good]) == Verdict("valid")
    assert overall([bad]) == Verdict("invalid", ("too few",))
    assert overall([good, bad, dead]) == Verdict("failed", ("two: too few", "three: no report"))
    assert overall([]) == Verdict("failed", ("no phase was measured",))
    assert last_metrics([good, bad, dead]) == bad.metrics
    assert last_metrics([dead]) == {}


def test_a_session_adds_reasons_and_never_improves_a_verdict() -> None:
    verdict = Verdict("invalid", ("a",)).also("failed", "decode-0 was killed by SIGKILL", "a")
    assert verdict == Verdict("failed", ("a", "decode-0 was killed by SIGKILL"))
    assert verdict.also("valid") == verdict


def test_a_result_is_the_same_after_a_trip_through_json() -> None:
    full = result(measured(name="one"), measured("invalid", "why", name="two"))
    assert Result.from_json(json.loads(json.dumps(full.to_json()))) == full
    assert next(iter(full.to_json())) == "schema"


@pytest.mark.parametrize("schema", [None, "servix.result/2", "servix.plan/1", 1])
def test_another_schema_is_a_clear_error(schema: object) -> None:
    with pytest.raises(ResultError, match=r"this version of servix reads 'servix.result/1'"):
        Result.from_json({**result().to_json(), "schema": schema})


def test_the_end_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 100_000 + b"\nfirst\r\n\n\x1b[1msecond\x1b[0m\n\xff third\nlast")
    assert tail(path, 3) == "second\n� third\nlast"
    assert tail(tmp_path / "none.log") == ""
    assert tail(tmp_path) == ""


def test_importing_results_and_the_store_is_light() -> None:
    code = (
        "import sys, launchers.results, launchers.results.measure, launchers.results.table, launchers.store\n"
    )
    code += "import launchers.results.report, launchers.results.frame\n"
    code += "print([name for name in ('pandas', 'numpy', 'rich', 'jinja2', 'yaml') if name in sys.modules])"
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
