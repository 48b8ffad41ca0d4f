"""A command from plan to exit code, with a launcher that stands for a machine and can fail like one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import results_data
from compiling import plan as compiled

from compiler.errors import error
from compiler.plan import Deployment, Plan, Point
from compiler.sweep import Group
from launchers import run
from launchers.ending import GATE_FAILED, INTERRUPTED, OK, POINT_FAILED, Telling
from launchers.refusal import Unfit
from launchers.results import Result
from launchers.store import Store
from launchers.turns import Wishes

SWEEP = ("aiperf.concurrency=2,4",)


class Machine:
    """Writes a result for each point; `verdicts` by concurrency, anything raised after `stop_after` points."""

    def __init__(
        self, stop_after: int | None = None, raises: type[BaseException] = KeyboardInterrupt, **more: Any
    ) -> None:
        self.stop_after, self.raises, self.more, self.measured = stop_after, raises, more, 0
        self.by_point: Callable[[Point], dict[str, Any]] | None = None

    def check(self, groups: Sequence[Group]) -> None:
        pass

    def realise(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
    ) -> dict[str, Result]:
        results: dict[str, Result] = {}
        for group in groups:
            write_files(group.deployment)
            wanted = iter([one for one in group.points if wishes.wanted(group.deployment, one)])
            choose = wishes.choose() if wishes.choose else lambda _, left=wanted: next(left, None)
            while (point := choose(list(results.values()))) is not None:
                if self.stop_after == self.measured:
                    raise self.raises
                attempt = store.new_attempt(group.deployment, point)
                made = results_data.result(**(self.by_point(point) if self.by_point else self.more))
                results[str(point.digest)] = replace(
                    made,
                    point_digest=str(point.digest),
                    deployment_digest=group.deployment.digest,
                    point_name=point.name,
                    attempt=attempt.number,
                    config=point.config,
                )
                store.write_result(group.deployment, point, results[str(point.digest)])
                self.measured += 1
        return results


def execute(plan: Plan, machine: Any, folder: Path, form: str = "text") -> int:
    return run.run(plan, machine, folder, Telling(form, ["asked"]))


def sweep_of(folder: Path) -> dict[str, Any]:
    (path,) = sorted(folder.glob("sweeps/*/sweep.json"))[-1:]
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def failed(**more: Any) -> dict[str, Any]:
    return {"verdict": results_data.Verdict("failed", ("decode-0 was killed",)), **more}


def test_every_point_valid_is_0_and_again_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, machine = compiled(*SWEEP), Machine()
    assert execute(plan, machine, tmp_path) == OK
    first = capsys.readouterr().out
    assert execute(plan, machine, tmp_path) == OK
    assert machine.measured == 2
    assert capsys.readouterr().out == first
    assert [point["reused"] for point in sweep_of(tmp_path)["points"]] == [True, True]
    assert len(list(tmp_path.glob("sweeps/*/report.html"))) == 2


def test_a_point_asked_for_twice_is_measured_once(tmp_path: Path) -> None:
    machine = Machine()
    assert execute(compiled("trial=1,1"), machine, tmp_path) == OK
    assert machine.measured == 1


def test_a_failed_point_is_3_and_is_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = compiled()
    assert execute(plan, Machine(**failed()), tmp_path) == POINT_FAILED
    assert "decode-0 was killed" in capsys.readouterr().out
    machine = Machine()
    assert execute(plan, machine, tmp_path) == OK
    assert machine.measured == 1


def test_an_interrupted_command_is_130_and_keeps_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = compiled(*SWEEP)
    assert execute(plan, Machine(stop_after=1), tmp_path) == INTERRUPTED
    assert "not measured, the command was interrupted" in capsys.readouterr().out
    assert [point["status"] for point in sweep_of(tmp_path)["points"]] == ["done", "new"]
    machine = Machine()
    assert execute(plan, machine, tmp_path) == OK
    assert machine.measured == 1


def test_points_that_were_not_measured_can_be_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = compiled("topology=shared,separate")
    assert len({point.name for point in plan.points}) == 1
    assert execute(plan, Machine(stop_after=0), tmp_path) == INTERRUPTED
    said = [line for line in capsys.readouterr().out.splitlines() if "not measured" in line]
    (name,) = {point.name for point in plan.points}
    assert said == [
        f"{deployment.name} {name}: not measured, the command was interrupted"
        for deployment in plan.deployments
    ]


def test_an_old_failure_is_not_shown_as_this_command_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = compiled()
    execute(plan, Machine(**failed()), tmp_path)
    capsys.readouterr()
    assert execute(plan, Machine(stop_after=0), tmp_path) == INTERRUPTED
    assert "decode-0" not in capsys.readouterr().out


def test_a_machine_that_is_unfit_is_2_and_leaves_no_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Busy(Machine):
        def realise(self, *_: Any) -> dict[str, Result]:
            raise Unfit([error("port", "dynamo.port", 8000, "is taken")])

    assert execute(compiled(), Busy(), tmp_path) == 2
    assert "dynamo.port = 8000: is taken" in capsys.readouterr().err
    assert list(tmp_path.glob("sweeps/*")) == []


def test_a_folder_that_cannot_be_written_is_2_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    machine = Machine()
    assert execute(compiled(), machine, tmp_path / "file") == 2
    assert machine.measured == 0
    assert "output_dir" in capsys.readouterr().err


FILES_IN_THE_WAY = (
    *("store", "store/.locks", "sweeps", "{deployment}", "{deployment}/runs", "{point}", "{point}/attempts"),
)
FOLDERS_IN_THE_WAY = (
    *("{deployment}/plan.json", "{deployment}/run.sh", "{deployment}/events.jsonl", "{point}/result.json"),
    "store/.locks/{digest}",
)


def dead_link(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


IN_THE_WAY = [(name, Path.touch) for name in FILES_IN_THE_WAY]
IN_THE_WAY += [(name, Path.mkdir) for name in FOLDERS_IN_THE_WAY]
IN_THE_WAY += [(name, dead_link) for name in ("store", "sweeps")]


def blocked(root: Path, plan: Plan, name: str, make: Callable[[Path], None]) -> Path:
    """What is in the way, in the words of the place."""
    store, (deployment,), point = Store(root), plan.deployments, plan.points[-1]
    names = {
        "deployment": store.deployment_dir(deployment),
        "point": store.point_dir(deployment, point),
        "digest": store.lock_path(deployment).name,
    }
    path = root / name.format(**names)
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    return path


@pytest.mark.parametrize("detach", [False, True], ids=["here", "detached"])
@pytest.mark.parametrize(
    ("name", "make"), IN_THE_WAY, ids=[f"{make.__name__}-{name}" for name, make in IN_THE_WAY]
)
def test_what_is_in_the_way_is_2_before_anything_starts(
    name: str, make: Callable[[Path], None], detach: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = compiled(*SWEEP, f"launch.detach={str(detach).lower()}")
    path, machine = blocked(tmp_path, plan, name, make), Machine()
    assert execute(plan, machine, tmp_path) == 2
    assert machine.measured == 0
    said = capsys.readouterr().err
    assert "error: output_dir = " in said
    assert f": cannot be written: {path}: " in said
    assert "nothing was started" in said


def test_what_is_done_is_shown_whatever_is_in_the_way(tmp_path: Path) -> None:
    plan = compiled(*SWEEP)
    assert execute(plan, Machine(), tmp_path) == OK
    for path in tmp_path.glob("store/*/*/result.json"):
        path.unlink()
        path.mkdir()
    machine = Machine()
    assert execute(plan, machine, tmp_path) == OK
    assert machine.measured == 0


def test_a_lost_result_is_told_and_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, machine = compiled(*SWEEP), Machine()
    assert execute(plan, machine, tmp_path) == OK
    (path,) = tmp_path.glob("store/*/aiperf-c4-*/result.json")
    before = json.loads(path.read_text())
    path.write_text(path.read_text()[:100])
    capsys.readouterr()
    assert execute(plan, machine, tmp_path) == OK
    assert machine.measured == 2
    said = capsys.readouterr().err
    assert "servix: aiperf-c4-r50: result.json cannot be read" in said
    assert "attempt 1 is valid and counts" in said
    assert json.loads(path.read_text())["phases"] == before["phases"]


def test_force_measures_again_and_shows_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(compiled(*SWEEP), Machine(), tmp_path) == OK
    machine = Machine(**failed())
    assert execute(compiled(*SWEEP, "force=true"), machine, tmp_path) == POINT_FAILED
    assert machine.measured == 2
    assert "decode-0 was killed" in capsys.readouterr().out
    idle = Machine()
    assert execute(compiled(*SWEEP), idle, tmp_path) == OK, "the valid results are still there"
    assert idle.measured == 0


@pytest.mark.parametrize("force", ["true", "false"])
@pytest.mark.parametrize("verdict", ["valid", "failed"])
def test_what_another_command_has_measured_meanwhile_is_taken(
    tmp_path: Path, force: str, verdict: str
) -> None:
    plan = compiled(*SWEEP, f"force={force}")
    other, late = Machine(**(failed() if verdict == "failed" else {})), Machine()

    class Later(Machine):
        def realise(self, *given: Any) -> dict[str, Result]:
            settled, (first, *_) = given[3].settled, given[0]
            assert not any(settled(first.deployment, one) for one in first.points)
            other.realise(*given[:3], Wishes(wanted=lambda _, __: True))
            # Another's failure is no reason not to look who works there now.
            assert {settled(first.deployment, one) for one in first.points} == {verdict == "valid"}
            return late.realise(*given)

    assert execute(plan, Later(), tmp_path) == (OK if verdict == "valid" else POINT_FAILED)
    assert (other.measured, late.measured) == (2, 0)


def test_results_of_a_moving_image_are_never_reused(tmp_path: Path) -> None:
    plan, machine = compiled("system.image=registry/name:latest"), Machine()
    assert not plan.deployments[0].repeatable
    assert [execute(plan, machine, tmp_path) for _ in range(2)] == [OK, OK]
    assert machine.measured == 2


GATES = [
    ("passes", ["request_latency_ms.avg <= 1000"], OK, "gate passed"),
    ("fails", ["request_latency_ms.avg <= 5"], GATE_FAILED, "gate FAILED"),
    (
        "one-of-two",
        ["request_latency_ms.avg <= 5", "request_latency_ms.avg > 5"],
        GATE_FAILED,
        "gate FAILED",
    ),
    ("metric-not-there", ["time_to_second_token_ms.avg <= 5"], GATE_FAILED, "the result has no metric"),
]


@pytest.mark.parametrize(
    ("gates", "code", "words"), [row[1:] for row in GATES], ids=[row[0] for row in GATES]
)
def test_gates(
    gates: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = compiled(f"gates={json.dumps(gates)}")
    assert execute(plan, Machine(), tmp_path) == code
    assert words in capsys.readouterr().out


def test_gates_of_points_with_one_digest_are_all_judged(tmp_path: Path) -> None:
    plan = compiled("gates=['request_latency_ms.avg <= 5'],['request_latency_ms.avg <= 5000']")
    assert len({point.digest for point in plan.points}) == 1
    assert execute(plan, Machine(), tmp_path) == GATE_FAILED


def baseline(folder: Path, **more: Any) -> Path:
    path = folder / "baseline.json"
    path.write_text(json.dumps(results_data.result(**more).to_json()))
    return path


@pytest.mark.parametrize(("limit", "code"), [("3%", OK), ("-3%", GATE_FAILED)])
def test_a_percentage_is_of_the_baseline(limit: str, code: int, tmp_path: Path) -> None:
    path = baseline(tmp_path)
    plan = compiled(f"gates=['request_latency_ms.avg <= {limit}']", f"baseline={path}")
    assert execute(plan, Machine(), tmp_path / "out") == code


@pytest.mark.parametrize("kind", ["missing", "garbage", "not valid"])
def test_a_baseline_that_cannot_serve_is_2_before_anything_starts(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = baseline(tmp_path, **(failed() if kind == "not valid" else {}))
    if kind == "missing":
        path.unlink()
    if kind == "garbage":
        path.write_text("{")
    machine = Machine()
    assert execute(compiled(f"baseline={path}"), machine, tmp_path / "out") == 2
    assert machine.measured == 0
    assert "baseline" in capsys.readouterr().err


def test_json_is_one_document_with_every_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(compiled(*SWEEP), Machine(), tmp_path, form="json")
    document = json.loads(capsys.readouterr().out)
    assert [Result.from_json(result).verdict.status for result in document["results"]] == ["valid", "valid"]


TTFT = "time_to_first_token_ms.p99"
SEARCH = ("search=bisect", f"gates=['{TTFT} <= 100']", "aiperf.concurrency=range(1,33)")
SEEDED = "aiperf.random_seed='${aiperf.concurrency}'"


def load_of(point: Point) -> int:
    return int(point.config["aiperf"]["concurrency"])


def bears(limit: int) -> Machine:
    """A machine whose time to first token goes over 100 ms above `limit` requests in flight."""
    machine = Machine()

    def numbers(point: Point) -> dict[str, Any]:
        phase = results_data.measured(**{TTFT: 90.0 if load_of(point) <= limit else 200.0})
        return {"phases": (phase,), "metrics": phase.metrics}

    machine.by_point = numbers
    return machine


def breaks(limit: int) -> Machine:
    """A machine whose stack dies above `limit` requests in flight."""
    machine = bears(limit)
    numbers = machine.by_point
    assert numbers is not None
    machine.by_point = lambda point: {**numbers(point), **(failed() if load_of(point) > limit else {})}
    return machine


@pytest.mark.parametrize(
    ("machine", "more", "code", "measured", "words"),
    [
        (
            bears(11),
            (),
            OK,
            7,
            "aiperf.concurrency = 11 is the highest that meets the gates (12 does not)",
        ),
        (
            bears(64),
            (),
            OK,
            2,
            "aiperf.concurrency = 32 is the highest that meets the gates (the highest",
        ),
        (bears(0), (), GATE_FAILED, 1, "no aiperf.concurrency meets the gates, 1 does not; 1 of 32"),
        (breaks(5), (), OK, 7, "aiperf.concurrency = 5 is the highest that meets the gates (6 does not)"),
        (breaks(0), (), POINT_FAILED, 1, "no aiperf.concurrency meets the gates"),
        (
            bears(11),
            ("budget=3",),
            OK,
            3,
            "= 1 is the highest that meets the gates (16 does not, nothing",
        ),
    ],
    ids=["found", "all", "none", "a-stack-that-dies", "a-stack-that-is-dead", "budget"],
)
def test_a_search_measures_only_what_leads_to_the_highest_load(
    machine: Machine,
    more: Sequence[str],
    code: int,
    measured: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(compiled(*SEARCH, *more, SEEDED), machine, tmp_path) == code
    assert machine.measured == measured
    assert words in capsys.readouterr().out
    sweep = sweep_of(tmp_path)
    assert len(sweep["points"]) == measured == sweep["search"]["measured"]


def test_a_search_takes_what_is_done_from_the_store(tmp_path: Path) -> None:
    plan = compiled(*SEARCH, SEEDED)
    first, again, wider = bears(11), bears(11), bears(11)
    execute(plan, first, tmp_path)
    assert execute(plan, again, tmp_path) == OK
    assert again.measured == 0
    # Another gate is another question to the same results.
    assert execute(compiled(*SEARCH[:2], "aiperf.concurrency=range(1,17)", SEEDED), wider, tmp_path) == OK
    assert wider.measured == 0


class Waits(Machine):
    """A machine whose deployment another command holds first, which measures on `other`."""

    def __init__(self, plan: Plan, other: Machine) -> None:
        super().__init__()
        self.plan, self.other, self.by_point = plan, other, other.by_point

    def realise(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
    ) -> dict[str, Result]:
        execute(self.plan, self.other, store.root)
        return super().realise(groups, store, write_files, wishes)


@pytest.mark.parametrize(
    ("make", "more", "stop_after"),
    [
        (bears, (), None),
        (bears, (), 3),
        (breaks, (), None),
        (bears, ("force=true",), 3),
        (bears, ("budget=7",), None),
    ],
    ids=["all", "interrupted", "a-stack-that-dies", "forced", "budget"],
)
def test_two_equal_searches_at_once_do_the_work_once(
    make: Callable[[int], Machine], more: Sequence[str], stop_after: int | None, tmp_path: Path
) -> None:
    plan, other = compiled(*SEARCH, *more, SEEDED), make(11)
    if "force=true" in more:
        execute(compiled(*SEARCH, SEEDED), bears(11), tmp_path)
    other.stop_after = stop_after
    machine = Waits(plan, other)
    assert execute(plan, machine, tmp_path) == OK
    assert other.measured + machine.measured == 7
    sweep = sweep_of(tmp_path)["search"]
    assert (sweep["value"], sweep["above"], sweep["exact"]) == (11, 12, True)


def test_a_search_that_is_interrupted_is_130(tmp_path: Path) -> None:
    machine = bears(11)
    machine.stop_after = 2
    assert execute(compiled(*SEARCH, SEEDED), machine, tmp_path) == INTERRUPTED


def test_the_best_point_is_shown_recorded_and_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine()

    def numbers(point: Point) -> dict[str, Any]:
        phase = results_data.measured(output_token_throughput_per_s=100.0 * load_of(point))
        return {"phases": (phase,), "metrics": phase.metrics, **(failed() if load_of(point) == 8 else {})}

    machine.by_point = numbers
    objective = ("objective.metric=output_token_throughput_per_s", "objective.direction=maximize")
    execute(compiled("aiperf.concurrency=2,4,8", SEEDED, *objective), machine, tmp_path)
    out = capsys.readouterr().out
    assert "best: aiperf-c4-r50  output_token_throughput_per_s = 400.0 (maximize)" in out
    found = sweep_of(tmp_path)["best"]
    assert (found["point"], found["value"]) == ("aiperf-c4-r50", 400.0)
    (page,) = tmp_path.glob("sweeps/*/report.html")
    assert page.read_text().count(">best</span>") == 1


def test_without_a_point_that_may_win_there_is_no_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objective = ("objective.metric=output_token_throughput_per_s", "objective.direction=maximize")
    assert execute(compiled(*objective), Machine(**failed()), tmp_path) == POINT_FAILED
    assert "best: none" in capsys.readouterr().out
    assert sweep_of(tmp_path)["best"] is None
