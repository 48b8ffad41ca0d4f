"""`on_invalid` and the guards: what a command does with points that cannot run, and when it is too much."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from compiling import Ran, plan, run
from test_run import Machine, failed, sweep_of

from launchers import local

SIZES = "decode.tensor_parallel_size=2,16"
LOADS = "aiperf.concurrency=2,4"


def command(folder: Path, *arguments: str) -> Ran:
    return run([*arguments, f"output_dir={folder}/outputs"])


def document(ran: Ran) -> Any:
    return json.loads(ran.out)


CODES = [
    ("refused-by-default", (SIZES,), 2),
    ("refused", (SIZES, "on_invalid=error"), 2),
    ("one-left", (SIZES, "on_invalid=skip"), 0),
    ("all-valid", (LOADS, "on_invalid=skip"), 0),
    ("none-left", ("decode.tensor_parallel_size=16,32", "on_invalid=skip"), 2),
    ("unreadable", ("aiperf.concurrency=[", "on_invalid=skip"), 2),
    ("wrong-sweep", ("system=local,slurm", "on_invalid=skip"), 2),
    ("over-budget", (LOADS, "max_points=1", "on_invalid=skip"), 2),
    ("what-is-left-out-is-not-counted", (SIZES, "max_points=1", "on_invalid=skip"), 0),
    ("strict", (LOADS, "aiperf.random_seed=7", "strict=true", "on_invalid=skip"), 0),
    ("wrong-word", (SIZES, "on_invalid=maybe"), 2),
    ("wrong-option", ("backend=vllm,nope", "on_invalid=skip"), 0),
    ("wrong-row", ("zip.aiperf.concurrency=[2,0]", "on_invalid=skip"), 0),
]


@pytest.mark.parametrize(("arguments", "code"), [row[1:] for row in CODES], ids=[row[0] for row in CODES])
def test_exit_codes_of_a_plan_and_of_a_run_agree(
    arguments: tuple[str, ...],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    for action in ("plan", "status", "explain"):
        ran = command(tmp_path, f"action={action}", *arguments)
        assert ran.code == code
        told = ran.out + ran.err
        assert ("error: " in told, "nothing was started" in ran.err) == (code == 2, False)
        assert ("left out: " in told) == (code == 0 and "valid" not in request.node.callspec.id)
    monkeypatch.setattr(local, "realise", Machine().realise)
    assert command(tmp_path, *arguments).code == code
    assert (tmp_path / "outputs").exists() == (code == 0)


def test_a_point_that_is_left_out_is_told_recorded_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    monkeypatch.setattr(local, "realise", machine.realise)
    ran = command(tmp_path, SIZES, LOADS, "on_invalid=skip")
    assert (ran.code, machine.measured) == (0, 2)
    assert "left out: override 'decode.tensor_parallel_size=16'" in ran.err
    assert "a node has 8; lower the sizes" in ran.err
    assert "(2 of 4 points)" in ran.err
    assert "left out (on_invalid=skip): 2 of 4 points" in ran.err
    for load in (2, 4):
        assert f"decode.tensor_parallel_size=16 aiperf.concurrency={load}" in ran.err
    assert "error: " not in ran.err
    recorded = sweep_of(tmp_path / "outputs")
    assert len(recorded["points"]) == 2
    assert [entry["overrides"][:2] for entry in recorded["left_out"]] == [
        ["decode.tensor_parallel_size=16", f"aiperf.concurrency={load}"] for load in (2, 4)
    ]
    assert all(entry["problems"][0]["code"] == "tp-pp-gpus" for entry in recorded["left_out"])
    (folder,) = tmp_path.glob("outputs/sweeps/*")
    rows = list(csv.DictReader((folder / "trajectory.csv").open()))
    assert [row["status"] for row in rows] == ["done", "done", "invalid", "invalid"]
    assert [row["decode.tensor_parallel_size"] for row in rows] == ["2", "2", "16", "16"]
    assert "a node has 8; lower the sizes" in rows[3]["reason"]
    page = (folder / "report.html").read_text()
    assert page.count("a node has 8; lower the sizes") == 2
    assert "decode.tensor_parallel_size=16 aiperf.concurrency=4" in page


def test_a_report_says_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "realise", Machine().realise)
    assert command(tmp_path, SIZES, "on_invalid=skip").code == 0
    ran = command(tmp_path, SIZES, "on_invalid=skip", "action=report")
    assert ran.code == 0
    for words in (
        "left out: override 'decode",
        "left out (on_invalid=skip): 1 of 2 points",
        "1 point left out, see above",
    ):
        assert words in ran.err


def test_the_exit_code_is_that_of_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "realise", Machine(**failed()).realise)
    assert command(tmp_path, SIZES, "on_invalid=skip").code == 3


def test_a_plan_shows_what_is_left_out_with_its_reason(tmp_path: Path) -> None:
    ran = command(tmp_path, "action=plan", SIZES, "on_invalid=skip")
    assert "cannot run: 1 of 2 points" in ran.out
    assert "tp-pp-gpus: decode.tensor_parallel_size = 16: a decode worker needs 16 GPUs" in ran.out
    assert "left out: override" in ran.out


def test_the_document_holds_invalid_points_either_way(tmp_path: Path) -> None:
    skipped = command(tmp_path, "action=plan", "format=json", SIZES, "on_invalid=skip")
    refused = command(tmp_path, "action=plan", "format=json", SIZES)
    assert [point["status"] for point in document(skipped)["points"]] == ["new", "invalid"]
    assert [point["status"] for point in document(refused)["points"]] == ["new", "invalid"]
    assert (skipped.code, refused.code) == (0, 2)


def test_digests_do_not_know_how_points_were_chosen() -> None:
    chosen = plan("on_invalid=skip", "max_points=5", "max_gpu_hours=9", "launch.estimate.request_s=3")
    assert chosen.points[0].digest == plan().points[0].digest


def test_the_estimate_is_in_the_plan(tmp_path: Path) -> None:
    ran = command(tmp_path, "action=plan", LOADS)
    assert "estimate: about 56 s, 0.2 GPU hours" in ran.out
    several = command(tmp_path, "action=plan", LOADS, "decode.tensor_parallel_size=1,2")
    assert "estimate: about 112 s, 0.5 GPU hours" in several.out
    assert several.out.count("  estimate     about 56 s, 0.2 GPU hours") == 2
    written = document(command(tmp_path, "action=plan", "format=json", LOADS))
    digest = written["deployments"][0]["digest"]
    assert written["estimate"] == {
        "seconds": 56.0,
        "gpu_hours": 0.2489,
        "deployments": {digest: {"seconds": 56.0, "gpu_hours": 0.2489}},
    }


@pytest.mark.parametrize("guard", ["max_points=1", "max_gpu_hours=0.1"])
def test_a_guard_names_the_estimate_and_starts_nothing(
    guard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    monkeypatch.setattr(local, "realise", machine.realise)
    ran = command(tmp_path, LOADS, guard)
    assert (ran.code, machine.measured) == (2, 0)
    assert f"error: override '{guard}': {guard.replace('=', ' = ')}: the command would" in ran.err
    assert "2 points, about 56 s, 0.2 GPU hours; choose fewer points" in ran.err
    written = document(command(tmp_path, "action=plan", "format=json", LOADS, guard))
    assert written["estimate"]["seconds"] == 56.0
    assert written["deployments"] == []


SEARCH = ("search=bisect", "gates=['request_latency_ms.avg <= 300']", "aiperf.concurrency=range(1,51)")
GUARDS_OF_SEARCHES = [
    ("bisection", ("max_points=8",), 0),
    ("too-few", ("max_points=7",), 2),
    ("budget", ("max_points=3", "budget=3"), 0),
    ("large-budget", ("max_points=7", "budget=99"), 2),
    ("hours", ("max_gpu_hours=2",), 0),
    ("hours-of-all", ("max_gpu_hours=2", "search=null"), 2),
    ("no-search", ("max_points=49", "search=null"), 2),
]


@pytest.mark.parametrize(
    ("more", "code"), [row[1:] for row in GUARDS_OF_SEARCHES], ids=[row[0] for row in GUARDS_OF_SEARCHES]
)
def test_a_search_counts_as_what_it_measures_at_most(
    more: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    ran = command(tmp_path, *SEARCH, *more, "action=plan")
    assert ran.code == code, ran.err
    if "max_points=7" in more:
        assert "the command would measure more than that: 8 of 50 points" in ran.out
