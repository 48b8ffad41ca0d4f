"""The accuracy run: its plan and digest, how its CSV is read and judged, and sessions with a fake one."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import results_data
from compiling import plan, point, told
from results_data import DATA

from compiler import emit, plan_json
from compiler.errors import format_problem
from compiler.plan import Accuracy, Workload
from launchers import gates
from launchers.host import Host
from launchers.preflight import preflight
from launchers.results import AccuracyResult, Result, ResultError, Verdict
from launchers.results.accuracy import Unbelievable, fraction, measure_accuracy, read
from launchers.results.frame import csv_text
from launchers.results.report import report_html
from launchers.results.table import table_text
from tests.sessions import deployment, frontend, phase, process, realise
from tests.sessions import point as session_point

CUSTOM = ("accuracy=custom", "accuracy.entrypoint='python /score.py'")


def asked(**fields: Any) -> Accuracy:
    base = Accuracy("mmlu", ("score",), None, {}, (), "accuracy", "accuracy_results.csv", 20.0)
    return replace(base, **fields)


# --- the plan


def workload(*overrides: str) -> Workload:
    made = point(*overrides).workload
    assert made is not None
    return made


def test_a_custom_run_is_told_model_address_and_folder() -> None:
    run = workload(*CUSTOM).accuracy
    assert run is not None
    said = "--model servix/tiny --url http://{node:0}:8000 --endpoint v1/chat/completions"
    assert " ".join(run.argv) == f"python /score.py {said} --artifact-dir {{results_dir}}/accuracy"


def test_every_placeholder_is_filled_and_nothing_else() -> None:
    cli = "{model}|{url}|{endpoint}|{tokenizer}|{artifact_dir}|{result_dir}|{{model}}|{results_dir}|{node:1}"
    run = workload(*CUSTOM, f"accuracy.cli=['{cli}']", "model.id='a {node:0}'", "model.path=/m").accuracy
    assert run is not None
    expected = "a {{node:0}}|http://{node:0}:8000|v1/chat/completions|/m|{results_dir}/accuracy|{results_dir}"
    assert run.argv[2] == expected + "|{model}|{results_dir}|{node:1}"


def test_mmlu_is_aiperf_as_it_is_documented() -> None:
    run = workload("accuracy=mmlu").accuracy
    assert run is not None
    words = list(run.argv)
    assert words[:2] == ["aiperf", "profile"]
    assert words[words.index("--accuracy-benchmark") + 1] == "mmlu"
    assert json.loads(words[words.index("--extra-inputs") + 1])["temperature"] == 0
    assert run.unset_env == ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def test_text_and_list_make_the_same_run() -> None:
    text = workload(*CUSTOM, "accuracy.cli='--a \"b c\" {artifact_dir}'")
    words = workload(
        *CUSTOM, "accuracy.cli=[--a,'b c','{artifact_dir}']", "accuracy.entrypoint=[python,/score.py]"
    )
    assert text == words


@pytest.mark.parametrize(
    "override",
    [
        "accuracy.cli='{artifact_dir} --x'",
        "+accuracy.env.A=1",
        "accuracy.setup_command='pip list'",
        "accuracy=none",
    ],
)
def test_what_is_asked_is_hashed_in_the_point_only(override: str) -> None:
    base, other = point(*CUSTOM), point(*(CUSTOM if override != "accuracy=none" else ()), override)
    assert base.deployment == other.deployment
    assert base.digest != other.digest


@pytest.mark.parametrize("override", ["accuracy.timeout_s=7", "accuracy.name=mine", "gates=['accuracy > 0']"])
def test_what_cannot_change_a_number_is_not_hashed(override: str) -> None:
    assert point(*CUSTOM, override).digest == point(*CUSTOM).digest


def test_a_plan_with_an_accuracy_run_comes_back_equal() -> None:
    made = plan(*CUSTOM, "accuracy.setup_command='echo {results_dir}'")
    assert made.valid, told(made)
    assert plan_json.from_json(json.loads(json.dumps(plan_json.to_json(made)))).points[0].workload == (
        made.points[0].workload
    )


def test_run_sh_runs_it_after_the_phases() -> None:
    made = plan(*CUSTOM, "accuracy.setup_command='pip list > {results_dir}/x'", "+accuracy.env.A='b c'")
    script = emit.emit(made.deployments[0], made.points)["run.sh"]
    subprocess.run(["bash", "-n"], input=script.encode(), check=True)
    order = [
        "aiperf profile",
        "bash -c 'pip list > '\"${RESULTS_DIR@Q}\"/x",
        "python /score.py",
    ]
    places = [script.index(text) for text in order]
    assert places == sorted(places)
    assert script.count("A='b c'") == 2
    assert 'mkdir -p -- "$RESULTS_DIR"/accuracy' in script


def test_a_script_that_is_not_there_is_told_before_anything_starts() -> None:
    host, stack = Host(("127.9.9.10", "127.9.9.11")), deployment()
    for argv, said in [
        (("python", "/no/such.py"), "accuracy.entrypoint = '/no/such.py': there is no such file"),
        (("no-such-program",), "'no-such-program': this program is not installed"),
        (("python", "{servix_dir}/run.py"), None),
    ]:
        runs = session_point(1, accuracy=asked(argv=argv)).workload
        assert runs is not None
        found = [format_problem(problem) for problem in preflight(stack, [runs], host)]
        assert (said is None and not found) or (said is not None and said in found[0]), found
        # A setup may bring it.
        assert not preflight(stack, [replace(runs, accuracy=asked(argv=argv, setup="true"))], host)


# --- reading

FRACTIONS = [
    *[("0.5959", 0.5959), ("59.59 %", 0.5959), ("59.59%", 0.5959), ("59.59", 0.5959), ("0.5 %", 0.005)],
    *[
        ("0", 0.0),
        ("1", 1.0),
        ("1.0", 1.0),
        ("1 %", 0.01),
        ("100", 1.0),
        ("100 %", 1.0),
        ("", None),
        ("N/A", None),
    ],
]


@pytest.mark.parametrize(("text", "value"), FRACTIONS, ids=[row[0] or "blank" for row in FRACTIONS])
def test_percent_and_shares(text: str, value: float | None) -> None:
    assert fraction(text) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    "text", ["-5", "-0.1", "250", "100.1 %", "nan", "NaN %", "inf", "-inf", "good", "1/2", "1e999"]
)
def test_what_is_no_accuracy_is_not_believed(text: str) -> None:
    with pytest.raises(Unbelievable, match=text.split()[0]):
        fraction(text)


AIPERF = "task,correct,total,unparsed,accuracy\n"
READ = [
    ("aiperf", f"{AIPERF}OVERALL,59,100,3,0.5900\nabstract_algebra,59,100,3,0.5900\n", (0.59, 59, 100, 3)),
    ("last row", f"{AIPERF}a,1,4,0,0.25\nOVERALL,1,4,0,0.25\n", (0.25, 1, 4, 0)),
    ("any case", "Name,Accuracy\nOverall,59.59 %\n", (0.5959, None, None, None)),
    ("value", "metric,value\nother,1\noverall,0.5\n", (0.5, None, None, None)),
    ("not the first column", "id,task,accuracy\n7,OVERALL,0.5\n", (0.5, None, None, None)),
    ("counts alone", "task,correct,total\nOVERALL,3,4\n", (0.75, 3, 4, None)),
    ("blank accuracy", f"{AIPERF}OVERALL,3,4,,\n", (0.75, 3, 4, None)),
    ("accuracy before value", "task,value,accuracy\nOVERALL,3,0.5\n", (0.5, None, None, None)),
    ("rounded", f"{AIPERF}OVERALL,1,3,0,0.3333\n", (0.3333, 1, 3, 0)),
    ("blanks", " task , accuracy \n\n OVERALL , 0.5 \n\n", (0.5, None, None, None)),
    ("byte order mark", "\ufefftask,accuracy\nOVERALL,0.5\n", (0.5, None, None, None)),
    ("thousands", 'task,correct,total\nOVERALL,"1,000","4,000"\n', (0.25, 1000, 4000, None)),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_the_row_overall_is_read(tmp_path: Path, text: str, expected: tuple[Any, ...]) -> None:
    path = tmp_path / "accuracy_results.csv"
    path.write_text(text, encoding="utf-8")
    score = read(path)
    assert (score.value, score.correct, score.total, score.unparsed) == (
        pytest.approx(expected[0]),
        *expected[1:],
    )


WRONG = [
    ("no file", None, "failed", "the run left no accuracy_results.csv (accuracy exited with code 0)"),
    ("empty", "", "failed", "is empty"),
    ("header alone", AIPERF, "failed", "has no row OVERALL"),
    ("no row OVERALL", f"{AIPERF}abstract_algebra,59,100,0,0.59\n", "failed", "has no row OVERALL"),
    ("OVERALL in a word", "task,accuracy\noverall_math,0.5\n", "failed", "has no row OVERALL"),
    ("two rows", "task,accuracy\nOVERALL,0.5\nOverall,0.6\n", "failed", "has 2 rows OVERALL"),
    ("header named so", "OVERALL,accuracy\n", "failed", "has no row OVERALL"),
    ("cells missing", f"{AIPERF}OVERALL,59\n", "failed", "has 2 cells, the header 5"),
    ("no column", "task,score\nOVERALL,0.5\n", "failed", "neither accuracy nor value"),
    ("N/A", "task,accuracy\nOVERALL,N/A\n", "failed", "has no number"),
    ("counts in words", "task,correct,total\nOVERALL,few,4\n", "failed", "'few', no number"),
    ("binary", b"\xff\xfe\x00", "failed", "cannot be read"),
    ("a folder", ..., "failed", "cannot be read"),
    ("negative", "task,accuracy\nOVERALL,-5\n", "invalid", "-5 is not between 0 and 100 %"),
    ("above 100 %", "task,accuracy\nOVERALL,250\n", "invalid", "250 is not between 0 and 100 %"),
    ("nan", "task,accuracy\nOVERALL,nan\n", "invalid", "'nan' is no accuracy"),
    ("nothing judged", f"{AIPERF}OVERALL,0,0,0,0.0\n", "invalid", "'total' is 0"),
    ("more than all", "task,correct,total\nOVERALL,5,4\n", "invalid", "5 of 4 answers cannot be right"),
    ("negative count", "task,correct,total\nOVERALL,-1,4\n", "invalid", "'correct' is -1"),
    ("contradiction", f"{AIPERF}OVERALL,1,4,0,0.9\n", "invalid", "contradict each other"),
]


@pytest.mark.parametrize(
    ("text", "status", "said"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_a_run_without_a_number_to_believe(tmp_path: Path, text: Any, status: str, said: str) -> None:
    path = tmp_path / "accuracy" / "accuracy_results.csv"
    path.parent.mkdir()
    if text is ...:
        path.mkdir()
    elif text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    log = tmp_path / "accuracy.log"
    log.write_text("ERROR the data set is not there\n")
    found = measure_accuracy(asked(), tmp_path, 0, 1.0, log, 0.0)
    assert (found.verdict.status, found.value, found.metrics) == (status, None, {})
    assert said in found.verdict.reasons[0]
    assert (status == "failed") == found.verdict.reasons[-1].endswith("the data set is not there")


@pytest.mark.parametrize(
    ("recorded", "code", "limit", "said"),
    [
        (None, 0, 0.0, None),
        (None, 3, 0.0, "accuracy exited with code 3, although it left accuracy_results.csv"),
        ("aiperf_healthy", 0, 0.0, None),
        ("aiperf_killed", 0, 0.0, "requests failed"),
        ("aiperf_killed", 0, 1.0, None),
        ("aiperf_all_failed", 0, 0.0, None),
    ],
)
def test_a_number_counts_only_if_the_run_does(
    tmp_path: Path, recorded: str | None, code: int, limit: float, said: str | None
) -> None:
    folder = tmp_path / "accuracy"
    if recorded:
        shutil.copytree(DATA / recorded, folder)
    folder.mkdir(exist_ok=True)
    (folder / "accuracy_results.csv").write_text(f"{AIPERF}OVERALL,3,4,0,0.75\n")
    found = measure_accuracy(asked(), tmp_path, code, 1.0, tmp_path / "log", limit)
    assert found.value == 0.75
    assert [said in reason for reason in found.verdict.reasons if said] == ([True] if said else [])
    assert found.verdict.status == ("invalid" if said else "valid")


# --- results


def accuracy_result(value: float | None = 0.75, *reasons: str) -> AccuracyResult:
    verdict = Verdict("failed" if reasons else "valid", reasons)
    return AccuracyResult("mmlu", verdict, value, 3, 4, 0, "accuracy", 0, 12.5)


def with_accuracy(**fields: Any) -> Result:
    base = results_data.result(accuracy=accuracy_result(), overrides=("accuracy=mmlu",))
    return replace(base, metrics={**base.metrics, "accuracy": 0.75}, **fields)


def test_results_are_read_back_with_and_without_an_accuracy() -> None:
    for result in (with_accuracy(), results_data.result()):
        data = json.loads(json.dumps(result.to_json()))
        assert Result.from_json(data) == result
        assert ("accuracy" in data) == (result.accuracy is not None)
    broken = with_accuracy().to_json()
    del broken["accuracy"]["value"]
    with pytest.raises(ResultError, match=r"result.accuracy: missing keys \['value'\]"):
        Result.from_json(broken)


def test_it_is_shown_only_where_there_is_one() -> None:
    plain, scored = results_data.result(point_name="other"), with_accuracy()
    assert "accuracy" not in table_text([plain], 160) + report_html([plain]) + csv_text([plain])
    assert table_text([plain, scored], 160).splitlines()[-1].endswith("0.7500")
    assert table_text([plain, scored], 160).splitlines()[-2].endswith("-")
    assert "<td>0.7500</td>" in report_html([plain, scored]).replace('<td class="number">', "<td>")
    rows = list(csv.DictReader(io.StringIO(csv_text([plain, scored]))))
    assert [row["accuracy"] for row in rows] == ["", "0.75"]


def test_the_option_has_a_column_beside_the_metric() -> None:
    scored = with_accuracy(config={"accuracy": {"name": "mmlu"}})
    (row,) = csv.DictReader(io.StringIO(csv_text([scored])))
    assert (row["accuracy.name"], row["accuracy"]) == ("mmlu", "0.75")


def test_a_number_that_is_not_valid_is_not_shown() -> None:
    wrong = with_accuracy(verdict=Verdict("failed", ("accuracy: no row OVERALL",)))
    text = table_text([wrong], 160)
    assert "0.75" not in text
    assert "accuracy: no row OVERALL" in text


def test_gates_judge_it() -> None:
    made = point(*CUSTOM, "gates=['accuracy >= 0.7','accuracy > 75e-2']")
    result = with_accuracy(point_digest=made.digest)
    assert [verdict.passed for verdict in gates.judge([made], [result], {})] == [True, False]


# --- sessions

FAKE = ("python", "{servix_dir}/tests/fakes/accuracy.py", "--artifact-dir", "{results_dir}/accuracy")
GOOD = ("--csv", "task,correct,total\nOVERALL,3,4\n")


def fake(*options: str, **fields: Any) -> Accuracy:
    return asked(argv=(*FAKE, *options), unset_env=("HF_HUB_OFFLINE",), env={"MINE": "{node:0}"}, **fields)


def test_it_runs_after_the_phases_and_its_number_is_the_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    one = session_point(
        1, phase("a"), phase("b"), accuracy=fake(*GOOD, setup='echo set up > "{results_dir}"/notes')
    )
    (result,), events = realise(tmp_path, deployment(), one)
    assert result.verdict.valid, result.verdict
    assert result.metrics["accuracy"] == 0.75
    assert "time_to_first_token_ms.avg" in result.metrics
    assert result.accuracy is not None
    assert (result.accuracy.correct, result.accuracy.total, result.accuracy.exit_code) == (3, 4, 0)
    names = [event["event"] for event in events if event["event"].startswith(("phase_", "accuracy_"))]
    assert names == ["phase_start", "phase_end"] * 2 + ["accuracy_start", "accuracy_end"]
    attempt = next(tmp_path.glob("outputs/store/*/*/attempts/1"))
    assert (attempt / "notes").read_text() == "set up\n"
    assert (attempt / "accuracy" / "accuracy_results.csv").is_file()
    assert (attempt / "logs" / "accuracy.log").read_text() == "variables MINE\n"


FAILING = [
    ("no CSV", fake(), "failed", "accuracy: the run left no accuracy_results.csv"),
    ("no OVERALL", fake("--csv", "task,accuracy\nx,1\n"), "failed", "accuracy: accuracy_results.csv has no row"),
    ("no accuracy", fake("--csv", "task,accuracy\nOVERALL,nan\n"), "invalid", "accuracy: 'nan' is no accuracy"),
    ("exit code", fake(*GOOD, "--code", "4"), "invalid", "accuracy: accuracy exited with code 4, although"),
    ("setup", fake(*GOOD, setup="echo no; exit 3"), "failed", "accuracy: accuracy-setup exited with code 3"),
    (
        "too long",
        fake(*GOOD, "--takes", "60", timeout_s=0.7),
        "failed",
        "accuracy: accuracy took longer than accuracy.timeout_s = 0.7 s and was killed",
    ),
    ("no program", asked(argv=("no-such-program",)), "failed", "accuracy: accuracy cannot be started"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("run", "status", "said"), [row[1:] for row in FAILING], ids=[row[0] for row in FAILING]
)
def test_a_run_that_fails_spoils_its_point_only(
    tmp_path: Path, run: Accuracy, status: str, said: str
) -> None:
    run = run if run.setup else replace(run, setup="true")
    results, events = realise(tmp_path, deployment(), session_point(1, accuracy=run), session_point(2))
    assert [result.verdict.status for result in results] == [status, "valid"]
    assert results[0].phases[0].verdict.valid
    assert results[0].verdict.reasons[0].startswith(said), results[0].verdict
    assert sum(event["event"] == "deployment_start" for event in events) == 1


def test_a_server_that_dies_under_it_is_named(tmp_path: Path) -> None:
    fatal = tmp_path / "die"
    stack = deployment(frontend(), process("decode-0", 1, "--die-if", str(fatal), "--code", "3"))
    deadly = fake("--takes", "20", "--touch", str(fatal))
    (result,), events = realise(tmp_path, stack, session_point(1, accuracy=deadly))
    assert result.verdict.status == "failed"
    assert result.verdict.reasons[0] == "accuracy: decode-0 exited with code 3"
    assert result.phases[0].verdict.valid
    assert "accuracy" not in result.metrics
    assert sum(event["event"] == "accuracy_end" for event in events) == 1


def test_a_point_that_loses_its_stack_under_it_is_measured_again(tmp_path: Path) -> None:
    fatal = tmp_path / "die"
    stack = deployment(frontend(), process("decode-0", 1, "--die-if", str(fatal), "--code", "3"))
    hit = fake(*GOOD, "--takes", "20", "--touch", str(fatal))
    results, events = realise(tmp_path, stack, session_point(1, accuracy=hit), session_point(2))
    assert [result.verdict.status for result in results] == ["valid", "valid"]
    assert [result.attempt for result in results] == [2, 1]
    assert results[0].metrics["accuracy"] == 0.75
    assert "accuracy: decode-0 exited with code 3" in results[0].notes[0]
    assert sum(event["event"] == "deployment_start" for event in events) == 2


def test_a_stack_that_no_longer_answers_has_no_accuracy(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    stack = deployment(frontend("--silent-if", str(silent)), process("decode-0", 1))
    deaf = phase("main", "--takes", "0.2", "--touch", str(silent))
    one = session_point(1, deaf, accuracy=fake(*GOOD), between_timeout_s=0.5)
    (result,), _ = realise(tmp_path, stack, one)
    assert result.verdict.status == "failed"
    assert "accuracy: " in result.verdict.reasons[0]
    assert "between_phases.timeout_s = 0.5 s" in result.verdict.reasons[0]


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_phase_that_is_not_valid_stops_it_unless_told_otherwise(tmp_path: Path, goes_on: bool) -> None:
    bad = session_point(1, phase("a", "--code", "5"), accuracy=fake(*GOOD), continue_on_failure=goes_on)
    (result,), _ = realise(tmp_path, deployment(), bad)
    assert result.verdict.status == "invalid"
    assert (result.accuracy is not None) == goes_on
    assert ("the accuracy run was not started after that" in result.verdict.reasons) != goes_on
