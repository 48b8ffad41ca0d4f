"""`action=status` and `action=report`: what is stored is told, whatever lies there, and nothing is started."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compiling import plan as compiled
from compiling import run
from results_data import measured, stored

from compiler.digest import short
from compiler.plan import Plan, Point
from launchers import status
from launchers.ending import Telling
from launchers.ledger import ledger
from launchers.report import report
from launchers.results import Verdict
from launchers.store import RESULT, Store

SWEEP = ("aiperf.concurrency=2,4,8",)
KILLED = Verdict("failed", ("decode-0 was killed by SIGKILL",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")


def text_of(plan: Plan, store: Store) -> str:
    return "\n".join(status.lines(ledger(plan, store), store))


def document_of(plan: Plan, store: Store) -> dict[str, Any]:
    return json.loads(json.dumps(status.document(ledger(plan, store), store)))  # type: ignore[no-any-return]


def sweep(*more: str) -> tuple[Plan, tuple[Point, ...]]:
    plan = compiled(*SWEEP, *more)
    return plan, plan.points


def test_nothing_stored_is_new_and_nothing_is_created(store: Store) -> None:
    plan, _ = sweep()
    assert text_of(plan, store).startswith("status: 3 points (3 new) on 1 deployment; results in ")
    assert not store.root.exists()


def test_every_state_is_told_with_attempts_and_numbers(store: Store) -> None:
    plan, (first, second, third) = sweep()
    stored(store, plan, first)
    stored(store, plan, second, verdict=KILLED)
    stored(store, plan, second, verdict=KILLED)
    with store.lock(plan.deployments[0], (third,)):
        text, document = text_of(plan, store), document_of(plan, store)
    assert text.startswith("status: 3 points (1 running, 1 failed, 1 done) on 1 deployment")
    assert "552.6" in text
    assert KILLED.reasons[0] in text
    assert f"measured by process {os.getpid()} on " in text
    assert [point["status"] for point in document["points"]] == ["done", "failed", "running"]
    assert [point["attempts"] for point in document["points"]] == [1, 2, 0]
    assert document["points"][2]["running"]["pid"] == os.getpid()
    assert document["points"][2]["running"]["since"].startswith("20")
    assert document["points"][0]["metrics"]["output_token_throughput_per_s"] > 552
    assert document["points"][1]["metrics"] == {}
    assert document["summary"]["done"] == 1


def test_only_the_points_that_a_session_measures_are_running(store: Store) -> None:
    plan, (first, *_) = sweep()
    with store.lock(plan.deployments[0], (first,)):
        assert [point["status"] for point in document_of(plan, store)["points"]] == ["running", "new", "new"]


def test_numbers_of_an_invalid_point_are_not_shown(store: Store) -> None:
    plan = compiled()
    reasons = Verdict("invalid", ("2 of 20 requests failed",))
    stored(store, plan, plan.points[0], verdict=reasons)
    assert "552" not in text_of(plan, store)
    assert document_of(plan, store)["points"][0]["metrics"] == {}


@pytest.mark.parametrize(("direction", "best"), [("minimize", 0), ("maximize", 2)])
def test_the_best_by_the_objective_comes_first(direction: str, best: int, store: Store) -> None:
    metric = "request_latency_ms.avg"
    plan, points = sweep(f"objective.metric={metric}", f"objective.direction={direction}")
    for number, point in enumerate(points):
        phase = measured(**{metric: 100.0 + number})
        stored(store, plan, point, phases=(phase,), metrics=phase.metrics)
    lines = text_of(plan, store).splitlines()
    assert lines[1].startswith(f"best: {points[best].name} ")
    assert lines[5].split()[0] == points[best].name
    assert document_of(plan, store)["best"]["digest"] == points[best].digest


LATENCY = "request_latency_ms.avg"
BEST = [
    # concurrency 2: trials 1 and 2, then concurrency 4, then 8
    ("every point", (), (9, 9, 5, 5, 7, 7), 2, 5),
    ("a gate excludes", (f"gates=['{LATENCY} >= 6']",), (9, 9, 5, 5, 7, 7), 4, 7),
    ("a gate takes all trials out", (f"gates=['{LATENCY} >= 6']",), (9, 9, 5, 7, 8, 8), 4, 8),
    ("no gate is met", (f"gates=['{LATENCY} >= 99']",), (9, 9, 5, 5, 7, 7), None, None),
    ("the mean of trials", (), (9, 9, 1, 9, 4, 4), 4, 4),
    (
        "a baseline that is not there",
        ("baseline=/nowhere.json", f"gates=['{LATENCY} >= 6']"),
        (9,) * 6,
        None,
        None,
    ),
]


@pytest.mark.parametrize(
    ("more", "values", "best", "value"), [row[1:] for row in BEST], ids=[r[0] for r in BEST]
)
def test_the_best_is_that_of_a_run(
    more: tuple[str, ...], values: tuple[int, ...], best: int | None, value: float | None, store: Store
) -> None:
    asked = ("trial=1,2", f"objective.metric={LATENCY}", "objective.direction=minimize", *more)
    plan, points = sweep(*asked)
    for number, point in zip(values, points, strict=True):
        phase = measured(**{LATENCY: float(number)})
        stored(store, plan, point, phases=(phase,), metrics=phase.metrics)
    found = document_of(plan, store)["best"]
    assert (found and found["digest"]) == (None if best is None else points[best].digest)
    assert (found and found["value"]) == value
    assert ("\nbest: " in text_of(plan, store)) == (best is not None)
    ran = run([*SWEEP, *asked, "action=status", f"output_dir={store.root}"])
    assert ("warning: " in ran.err) == ("baseline" in "".join(more))


def test_a_point_asked_for_twice_is_told(store: Store) -> None:
    plan = compiled("trial=1,1")
    stored(store, plan, plan.points[0])
    assert "2 points (2 done, 1 of them asked for twice)" in text_of(plan, store)
    assert document_of(plan, store)["points"][1]["double_of"] == plan.points[0].name


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ("topology=separate,shared", "  vllm-shared-1p1d-tiny aiperf-c2-r50    new "),
        ("+decode.args.block_size=32,64", "  +decode.args.block_size=64  new "),
        (f"+decode.env.A_LONG_NAME={'a' * 40},{'b' * 40}", "  aiperf-c2-r50 {digest}  new "),
    ],
    ids=["by-deployment", "by-override", "by-digest"],
)
def test_points_of_one_name_can_be_told_apart(sweep: str, told: str, store: Store) -> None:
    plan = compiled(sweep, "aiperf.num_dataset_entries=7")
    entries = ledger(plan, store)
    text = "\n".join(status.lines(entries, store))
    assert told.format(digest=short(str(plan.points[1].digest))) in text
    assert len({entry.label for entry in entries}) == 2
    assert "num_dataset_entries" not in text


def test_a_thousand_points_are_a_screen(store: Store) -> None:
    plan = compiled("trial=range(0,1000)")
    for point in plan.points[:60]:
        stored(store, plan, point)
    for point in plan.points[60:90]:
        stored(store, plan, point, verdict=KILLED)
    text = text_of(plan, store)
    assert len(text.splitlines()) < 60
    assert "1000 points (30 failed, 60 done, 910 new)" in text
    assert "... and 905 more new (format=json shows all)" in text
    assert len(document_of(plan, store)["points"]) == 1000


def cut(folder: Path) -> None:
    path = folder / RESULT
    path.write_bytes(path.read_bytes()[:500])


def garbage(folder: Path) -> None:
    (folder / RESULT).write_bytes(b"\x00\xff" * 100)


def endless(folder: Path) -> None:
    (folder / RESULT).write_text('{"a":' * 50_000)


def huge_number(folder: Path) -> None:
    data = json.loads((folder / RESULT).read_text())
    data["metrics"]["request_count"] = 10**400
    (folder / RESULT).write_text(json.dumps(data))


def half_a_pair(folder: Path) -> None:
    """What a stored name holds, and UTF-8 does not."""
    data = json.loads((folder / RESULT).read_text())
    data |= {"started_at": "\ud800", "deployment_name": "\ud800", "config": {"\ud800": "\udc00"}}
    data["verdict"] = {"status": "failed", "reasons": ["\ud800\x1b[31m\nlog"]}
    (folder / RESULT).write_text(json.dumps(data))


def a_folder(folder: Path) -> None:
    (folder / RESULT).unlink()
    (folder / RESULT).mkdir()


def foreign(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")
    (folder.parent / "notes.txt").write_text("mine")


GARBAGE = [cut, garbage, endless, huge_number, half_a_pair, a_folder, foreign]


@pytest.mark.parametrize("spoil", GARBAGE, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("action", ["status", "explain", "report", "gc"])
def test_garbage_in_the_store_is_no_traceback(
    action: str, spoil: Callable[[Path], None], store: Store
) -> None:
    plan, points = sweep()
    for point in points:
        # What an attempt of its own keeps would count.
        (stored(store, plan, point) / "attempts" / "1" / "result.json").unlink()
    spoil(store.point_dir(plan.deployments[0], points[1]))
    ran = run([*SWEEP, f"action={action}", f"output_dir={store.root}"])
    assert ran.code == (3 if action == "report" else 0), ran.err
    assert "Traceback" not in ran.out + ran.err
    if action == "status":
        assert "2 done" in ran.out


def test_a_folder_that_cannot_be_read_is_told_with_its_path(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, points = sweep()
    stored(store, plan, points[0])
    folder = store.deployment_dir(plan.deployments[0])
    real = os.scandir

    def denied(path: Any = ".") -> Any:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    ran = run([*SWEEP, "action=status", f"output_dir={store.root}"])
    assert f"warning: {folder}: permission denied; make it readable, or choose another" in ran.err
    assert ran.code == 0


@pytest.mark.parametrize("action", ["status", "explain", "report"])
def test_a_file_where_the_outputs_should_be_is_2(action: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ran = run([f"action={action}", f"output_dir={tmp_path / 'file'}"])
    assert ran.code == 2
    assert "cannot be read: not a directory; " in ran.err


@pytest.mark.parametrize("form", ["text", "json"])
def test_problems_are_2_and_the_other_points_are_told(form: str, tmp_path: Path) -> None:
    ran = run(["aiperf.concurrency=2,0", "action=status", f"format={form}", f"output_dir={tmp_path}"])
    assert ran.code == 2
    assert "aiperf.concurrency = 0" in ran.err
    if form == "json":
        points = json.loads(ran.out)["points"]
        assert [point["status"] for point in points] == ["new", "invalid"]
        assert points[1]["problems"][0]["key"] == "aiperf.concurrency"
    else:
        assert "2 points (1 new, 1 with problems)" in ran.out


REPORTS = [
    ("all valid", (True, True, True), (), 0),
    ("one not measured", (True, True, None), (), 3),
    ("one failed", (True, False, True), (), 3),
    ("a gate", (True, True, True), ("gates=['request_latency_ms.avg <= 1']",), 4),
]


@pytest.mark.parametrize(
    ("became", "more", "code"), [row[1:] for row in REPORTS], ids=[r[0] for r in REPORTS]
)
def test_a_report_ends_as_a_run_would(
    became: tuple[bool | None, ...],
    more: tuple[str, ...],
    code: int,
    store: Store,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan, points = sweep(*more)
    for point, valid in zip(points, became, strict=True):
        if valid is not None:
            stored(store, plan, point, **({} if valid else {"verdict": KILLED}))
    assert report(plan, store.root, Telling("text", ["asked"])) == code
    (folder,) = (store.root / "sweeps").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "sweep.json",
        "results.csv",
        "trajectory.csv",
        "report.html",
    }
    assert str(folder / "report.html") in capsys.readouterr().err
    rows = list(csv.DictReader((folder / "trajectory.csv").open()))
    assert len(rows) == 3


BISECT = ("search=bisect", "gates=['request_latency_ms.avg <= 300']")
SEARCHES = [
    ("nothing yet", (None, None, None), 3, "search: nothing is measured yet; 0 of 3 points measured"),
    (
        "found",
        (200, None, 400),
        0,
        "search: aiperf.concurrency = 2 is the highest that meets the gates (8 does not",
    ),
    ("none", (400, None, None), 4, "search: no aiperf.concurrency meets the gates, 2 does not; 1 of 3"),
]


@pytest.mark.parametrize(
    ("became", "code", "words"), [row[1:] for row in SEARCHES], ids=[r[0] for r in SEARCHES]
)
def test_a_report_of_a_search(became: tuple[float | None, ...], code: int, words: str, store: Store) -> None:
    plan, points = sweep(*BISECT)
    for value, point in zip(became, points, strict=True):
        if value is not None:
            phase = measured(**{"request_latency_ms.avg": float(value)})
            stored(store, plan, point, phases=(phase,), metrics=phase.metrics)
    ran = run([*SWEEP, *BISECT, "action=report", f"output_dir={store.root}"])
    assert ran.code == code
    assert words in ran.out


def test_a_report_of_what_is_measured_now_says_so(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    plan = compiled()
    with store.lock(plan.deployments[0], plan.points):
        assert report(plan, store.root, Telling("text", [])) == 3
    assert "another command measures it" in capsys.readouterr().out


def test_the_trajectory_has_every_point_that_was_asked_for(store: Store) -> None:
    more = ("trial=1,1", "objective.metric=request_latency_ms.avg", "objective.direction=minimize")
    plan, points = sweep(*more)
    stored(store, plan, points[0])
    stored(store, plan, points[2], verdict=KILLED)
    assert report(plan, store.root, Telling("text", [])) == 3
    (path,) = store.root.glob("sweeps/*/trajectory.csv")
    rows = list(csv.DictReader(path.open()))
    assert [row["name"] for row in rows] == [point.name for point in plan.points]
    assert [row["status"] for row in rows] == ["done", "done", "failed", "failed", "new", "new"]
    assert [row["aiperf.concurrency"] for row in rows] == ["2", "2", "4", "4", "8", "8"]
    assert [row["objective_value"][:6] for row in rows] == ["219.65", "219.65", "", "", "", ""]
    assert rows[2]["reason"] == KILLED.reasons[0]
    assert rows[4]["reason"] == "it was not measured"
    assert [rows[0][key] for key in ("attempts", "start_s", "ready_s", "phases_s", "stop_s")] == [
        *("1", "", "2.5", "9.5", "0.4")
    ]
    assert [row["digest"] for row in rows] == [point.digest for point in plan.points]
