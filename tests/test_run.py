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
from compiler.plan import Deployment, Plan
from compiler.sweep import Group
from launchers import run
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

    def check(self, groups: Sequence[Group]) -> None:
        pass

    def realise(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
    ) -> dict[str, Result]:
        results = {}
        for group in groups:
            write_files(group.deployment)
            for point in [one for one in group.points if wishes.wanted(group.deployment, one)]:
                if self.stop_after == self.measured:
                    raise self.raises
                attempt = store.new_attempt(group.deployment, point)
                made = results_data.result(**self.more)
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
    return run.run(plan, machine, folder, form, ["asked"])


def sweep_of(folder: Path) -> dict[str, Any]:
    (path,) = sorted(folder.glob("sweeps/*/sweep.json"))[-1:]
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def failed(**more: Any) -> dict[str, Any]:
    return {"verdict": results_data.Verdict("failed", ("decode-0 was killed",)), **more}


def test_every_point_valid_is_0_and_again_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, machine = compiled(*SWEEP), Machine()
    assert execute(plan, machine, tmp_path) == run.OK
    first = capsys.readouterr().out
    assert execute(plan, machine, tmp_path) == run.OK
    assert machine.measured == 2
    assert capsys.readouterr().out == first
    assert [point["reused"] for point in sweep_of(tmp_path)["points"]] == [True, True]
    assert len(list(tmp_path.glob("sweeps/*/report.html"))) == 2


def test_a_point_asked_for_twice_is_measured_once(tmp_path: Path) -> None:
    machine = Machine()
    assert execute(compiled("trial=1,1"), machine, tmp_path) == run.OK
    assert machine.measured == 1


def test_a_failed_point_is_3_and_is_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = compiled()
    assert execute(plan, Machine(**failed()), tmp_path) == run.POINT_FAILED
    assert "decode-0 was killed" in capsys.readouterr().out
    machine = Machine()
    assert execute(plan, machine, tmp_path) == run.OK
    assert machine.measured == 1


def test_an_interrupted_command_is_130_and_keeps_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = compiled(*SWEEP)
    assert execute(plan, Machine(stop_after=1), tmp_path) == run.INTERRUPTED
    assert "not measured, the command was interrupted" in capsys.readouterr().out
    assert [point["status"] for point in sweep_of(tmp_path)["points"]] == ["done", "new"]
    machine = Machine()
    assert execute(plan, machine, tmp_path) == run.OK
    assert machine.measured == 1


def test_an_old_failure_is_not_shown_as_this_command_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = compiled()
    execute(plan, Machine(**failed()), tmp_path)
    capsys.readouterr()
    assert execute(plan, Machine(stop_after=0), tmp_path) == run.INTERRUPTED
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


def test_force_measures_again_and_shows_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(compiled(*SWEEP), Machine(), tmp_path) == run.OK
    machine = Machine(**failed())
    assert execute(compiled(*SWEEP, "force=true"), machine, tmp_path) == run.POINT_FAILED
    assert machine.measured == 2
    assert "decode-0 was killed" in capsys.readouterr().out
    idle = Machine()
    assert execute(compiled(*SWEEP), idle, tmp_path) == run.OK, "the valid results are still there"
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
            other.realise(*given[:3], Wishes(wanted=lambda _, __: True))
            return late.realise(*given)

    assert execute(plan, Later(), tmp_path) == (run.OK if verdict == "valid" else run.POINT_FAILED)
    assert (other.measured, late.measured) == (2, 0)


def test_results_of_a_moving_image_are_never_reused(tmp_path: Path) -> None:
    plan, machine = compiled("system.image=registry/name:latest"), Machine()
    assert not plan.deployments[0].repeatable
    assert [execute(plan, machine, tmp_path) for _ in range(2)] == [run.OK, run.OK]
    assert machine.measured == 2


GATES = [
    ("passes", ["request_latency_ms.avg <= 1000"], run.OK, "gate passed"),
    ("fails", ["request_latency_ms.avg <= 5"], run.GATE_FAILED, "gate FAILED"),
    (
        "one-of-two",
        ["request_latency_ms.avg <= 5", "request_latency_ms.avg > 5"],
        run.GATE_FAILED,
        "gate FAILED",
    ),
    ("metric-not-there", ["time_to_second_token_ms.avg <= 5"], run.GATE_FAILED, "the result has no metric"),
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
    assert execute(plan, Machine(), tmp_path) == run.GATE_FAILED


def baseline(folder: Path, **more: Any) -> Path:
    path = folder / "baseline.json"
    path.write_text(json.dumps(results_data.result(**more).to_json()))
    return path


@pytest.mark.parametrize(("limit", "code"), [("3%", run.OK), ("-3%", run.GATE_FAILED)])
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
