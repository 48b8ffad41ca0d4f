"""Sweepers that choose points by what the last ones measured: what they are told, and what is left at the end."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import results_data
from compiling import ROOT, shared_composer
from hydra.core.utils import JobStatus

from compiler.errors import error
from compiler.plan import Deployment
from compiler.sweep import Group
from launchers import ending, systems
from launchers.refusal import Unfit
from launchers.results import Result
from launchers.store import Store, StoreError
from launchers.trials import Lost, Spent, Trials, unfit
from launchers.turns import Wishes

METRIC = "output_token_throughput_per_s"
FIXED = (f"objective.metric={METRIC}", "objective.direction=maximize", f"gates=['{METRIC} <= 700']")


def check(groups: Sequence[Group]) -> None:
    pass


def realise(
    groups: Sequence[Group], store: Store, write_files: Callable[[Deployment], None], wishes: Wishes
) -> dict[str, Result]:
    """Throughput is a hundred times the concurrency; 5 is invalid, 6 unfit, 7 a full disk, 9 interrupts."""
    found: dict[str, Result] = {}
    for group in groups:
        for point in group.points:
            load = point.config["aiperf"]["concurrency"]
            if load == 6:
                raise Unfit([error("port-taken", "dynamo.port", 8000, "is taken")])
            if load == 7:
                raise StoreError(store.root, "no space left on device")
            if load == 9:
                raise KeyboardInterrupt
            status: Any = "invalid" if load == 5 else "valid"
            reasons = ("cut streams",) if load == 5 else ()
            made = results_data.result(results_data.measured(status, *reasons, **{METRIC: 100.0 * load}))
            attempt = store.new_attempt(group.deployment, point)
            made = replace(
                made, point_digest=str(point.digest), attempt=attempt.number, point_name=point.name
            )
            store.write_result(group.deployment, point, made)
            found[made.point_digest] = made
    return found


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trials:
    monkeypatch.setattr(systems, "system_of", lambda *_: sys.modules[__name__])
    return Trials(shared_composer(), ["hydra/sweeper=optuna"], {"output_dir": str(tmp_path)})


def batch(*loads: object) -> list[list[str]]:
    return [[f"aiperf.concurrency={load}", *FIXED] for load in loads]


def test_a_sweeper_gets_the_objective_or_the_reason(trials: Trials) -> None:
    good, invalid, gate, wrong, missing = trials.launch(batch(4, 5, 8, 0, 99))
    assert (good.status, good.return_value) == (JobStatus.COMPLETED, 400.0)
    for returned, words in (
        (invalid, "cut streams"),
        (gate, "fails a gate"),
        (wrong, "should be a whole number"),
        (missing, "fewer requests than the 99"),
    ):
        assert returned.status == JobStatus.FAILED
        with pytest.raises(Lost, match=words):
            _ = returned.return_value


def test_overrides_that_cannot_be_read_are_a_failed_trial(trials: Trials) -> None:
    (returned,) = trials.launch([["phases=[1,2"]])
    assert returned.status == JobStatus.FAILED


def test_a_machine_that_is_unfit_is_a_failed_trial(
    trials: Trials, capsys: pytest.CaptureFixture[str]
) -> None:
    (returned,) = trials.launch(batch(6))
    assert returned.status == JobStatus.FAILED
    assert "is taken" in capsys.readouterr().err


def test_all_batches_are_one_sweep(
    trials: Trials, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for loads in ((2, 4), (5,), (4, 3)):
        trials.launch(batch(*loads))
    assert trials.finish() == ending.OK
    (path,) = tmp_path.glob("sweeps/*/sweep.json")
    sweep = json.loads(path.read_text())
    assert [point["status"] for point in sweep["points"]] == ["done", "done", "invalid", "done"]
    assert sweep["best"]["value"] == 400
    assert "best: aiperf-c4-r50" in capsys.readouterr().out
    assert (path.parent / "experiment" / "best.yaml").exists()


def test_every_trial_is_in_the_trajectory(trials: Trials, tmp_path: Path) -> None:
    for loads in ((4, 0), (6,), (99,), (2,)):
        trials.launch(batch(*loads))
    assert trials.finish() == ending.OK
    (folder,) = tmp_path.glob("sweeps/*")
    left_out = json.loads((folder / "sweep.json").read_text())["left_out"]
    assert [one["overrides"][0].rpartition("=")[2] for one in left_out] == ["0", "6", "99"]
    assert [one["problems"][0]["code"] for one in left_out] == ["load", "port-taken", "load"]
    rows = list(csv.DictReader((folder / "trajectory.csv").open()))
    assert [(row["aiperf.concurrency"], row["status"]) for row in rows] == [
        *(("4", "done"), ("2", "done")),
        *(("0", "invalid"), ("6", "invalid"), ("99", "invalid")),
    ]
    assert "is taken" in rows[3]["reason"]


GUARDED = [
    ("within", "max_points=3", ((4, 3), (4, 2), (3,)), 3, 0),
    ("too-many", "max_points=2", ((4,), (4, 2), (4,), (3, 2), (1,)), 2, 0),
    ("the-first-of-a-batch", "max_points=1", ((4, 2), (1,)), 1, 0),
    ("hours", "max_gpu_hours=0.3", ((4,), (2,), (3,), (1,)), 2, 0),
    ("hours-at-once", "max_gpu_hours=0.01", ((4,), (2,)), 0, 2),
]


@pytest.mark.parametrize(
    ("guard", "batches", "measured", "code"), [row[1:] for row in GUARDED], ids=[row[0] for row in GUARDED]
)
def test_a_guard_counts_all_trials_and_ends_the_search(
    guard: str, batches: Sequence[Sequence[int]], measured: int, code: int, trials: Trials, tmp_path: Path
) -> None:
    key, spent = guard.partition("=")[0], None
    for loads in batches:
        try:
            trials.launch([[*words, guard] for words in batch(*loads)])
        except Spent as exception:
            spent = exception
            break
    assert trials.finish() == code
    assert len(list(tmp_path.glob("store/*/*/attempts/*"))) >= measured
    assert len(list(tmp_path.glob("store/*/*/result.json"))) == measured
    assert (spent is None) == (guard == "max_points=3")
    if spent is not None:
        (problem,) = spent.problems
        assert (problem.key, problem.origin) == (key, f"override '{guard}'")
        assert "the command would" in problem.reason


@pytest.mark.parametrize(
    ("loads", "code"),
    [((5,), 3), ((8,), 4), ((0,), 2), ((5, 8, 4), 0)],
    ids=["invalid", "gate", "wrong", "one"],
)
def test_the_exit_code(trials: Trials, loads: Sequence[int], code: int, tmp_path: Path) -> None:
    trials.launch(batch(*loads))
    assert trials.finish() == code
    if code == 2:
        assert not list(tmp_path.glob("sweeps/*"))


def test_an_interrupted_search_is_130_and_shows_what_it_has(
    trials: Trials, capsys: pytest.CaptureFixture[str]
) -> None:
    trials.launch(batch(4))
    with pytest.raises(KeyboardInterrupt):
        trials.launch(batch(3, 9))
    assert trials.finish(interrupted=True) == ending.INTERRUPTED
    assert "aiperf-c3-r50" in capsys.readouterr().out


def test_what_ends_a_search_is_told_after_what_it_has(
    trials: Trials, capsys: pytest.CaptureFixture[str]
) -> None:
    trials.launch(batch(4))
    with pytest.raises(StoreError):
        trials.launch(batch(7))
    trials.finish()
    shown = capsys.readouterr().out
    assert "aiperf-c4-r50" in shown
    assert "aiperf-c7-r50: not measured, the command ended with an error" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", None, None, None), "needs an objective"),
        (("plan", METRIC, "maximize", None), "only action=run"),
        (("run", METRIC, "maximize", None, True), "each trial waits"),
        (("run", METRIC, "maximize", "minimize"), "contradicts objective.direction=maximize"),
        (("run", METRIC, "maximize", None, False, "bisect"), "as well as this sweeper"),
    ],
    ids=["objective", "action", "detached", "direction", "search"],
)
def test_what_such_a_sweeper_cannot_do(arguments: tuple[Any, ...], words: str) -> None:
    (problem,) = unfit(*arguments)
    assert words in problem.reason


@pytest.mark.parametrize("direction", [None, "maximize"])
def test_what_such_a_sweeper_can_do(direction: str | None) -> None:
    assert unfit("run", METRIC, "maximize", direction) == []


def optuna(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [
        sys.executable,
        "run.py",
        "--multirun",
        "hydra/sweeper=optuna",
        f"output_dir={folder}",
        *arguments,
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=200, env={**os.environ, "PATH": path}
    )


def test_optuna_without_an_objective_starts_nothing(tmp_path: Path) -> None:
    done = optuna(tmp_path / "out", "aiperf.concurrency=1,2")
    assert done.returncode == 2
    assert "needs an objective" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_no_trial_could_run_is_told_before_the_first(tmp_path: Path) -> None:
    objective = (f"objective.metric={METRIC}", "objective.direction=maximize")
    wrong = {
        "hydra.sweeper.n_jobs=0": "hydra.sweeper.n_jobs = 0: should be at least 1",
        "aiperf.concurrencyy=range(1,4)": "did you mean 'concurrency'? to add it write +aiperf.concurrencyy=range(1,4)",
        "zip.aiperf.request_count=[8,9]": "zip and sample give points of their own",
    }
    done = optuna(tmp_path / "out", *objective, *wrong)
    told = done.stderr.splitlines()
    assert done.returncode == 2
    for override, words in wrong.items():
        assert [words in line for line in told if line.startswith(f"error: override '{override}'")] == [True]
    assert "trial 1" not in done.stderr
    done = optuna(tmp_path / "out", *objective)
    assert "error: override 'hydra/sweeper=optuna': hydra/sweeper = 'optuna': nothing is swept" in done.stderr
    done = optuna(tmp_path / "out", *objective, "aiperf.concurrency=1,2", "hydra.sweeper.n_trials=few")
    assert "'few' of type 'str' could not be converted" in done.stderr
    assert done.returncode == 2
    assert not (tmp_path / "out").exists()


def test_a_guard_ends_what_optuna_asks_for(tmp_path: Path) -> None:
    done = optuna(
        tmp_path,
        *("--config-dir", "tests/fakes/config", "bench=fake"),
        *("hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=3", "aiperf.concurrency=1,2,3"),
        *(f"objective.metric={METRIC}", "objective.direction=maximize", "max_points=1"),
    )
    assert done.returncode == 0, done.stderr
    assert "error: override 'max_points=1': max_points = 1: the command would measure more" in done.stderr
    assert "servix: the search ends here" in done.stderr
    assert len(list(tmp_path.glob("store/*/*/result.json"))) == 1
    (path,) = tmp_path.glob("sweeps/*/sweep.json")
    assert len(json.loads(path.read_text())["left_out"]) == 1


@pytest.mark.parametrize(("loads", "code"), [("1,64", 0), ("64,65", 2)], ids=["one", "all"])
def test_a_failed_trial_is_told_once_and_in_our_words(loads: str, code: int, tmp_path: Path) -> None:
    """Also where it is the last of a grid, which Optuna's sweeper does not survive."""
    done = optuna(
        tmp_path,
        *("--config-dir", "tests/fakes/config", "bench=fake"),
        *("hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=2", f"aiperf.concurrency={loads}"),
        *(f"objective.metric={METRIC}", "objective.direction=maximize"),
    )
    assert done.returncode == code, done.stderr
    told = [line for line in done.stderr.splitlines() if "fewer requests than the 64" in line]
    assert [line.partition(" ")[0] for line in told] == ["error:", "servix:"]
    for word in ("Error executing job", "Failed experiment", "Traceback", "Study.stop"):
        assert word not in done.stderr


def test_optuna_searches_on_the_real_stack(tmp_path: Path) -> None:
    """A trial that cannot be run is told as failed, and the search goes on."""
    done = optuna(
        tmp_path,
        "hydra/sweeper/sampler=grid",
        "hydra.sweeper.n_trials=3",
        "aiperf.concurrency=1,4,64",
        f"objective.metric={METRIC}",
        "objective.direction=maximize",
        "aiperf.request_count=8",
        "aiperf.output_tokens_mean=20",
        "aiperf.workers_max=1",
        "aiperf.record_processors=1",
    )
    assert done.returncode == 0, done.stderr
    assert "fewer requests than the 64" in done.stderr
    (path,) = tmp_path.glob("sweeps/*/sweep.json")
    sweep = json.loads(path.read_text())
    assert sorted(point["name"] for point in sweep["points"]) == ["aiperf-c1-r8", "aiperf-c4-r8"]
    assert (path.parent / "optimization_results.yaml").exists()
    assert "experiment=best" in sweep["reproduce"]
