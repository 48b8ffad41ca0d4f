"""A session with real processes: fake servers on virtual nodes, and a load generator that leaves recorded reports."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from compiler.plan import Phase, Point, Process
from launchers import session
from launchers.events import EventLog
from launchers.host import claimed
from launchers.results.result import Result
from launchers.store import Store
from tests.sessions import (
    count,
    deployment,
    frontend,
    phase,
    point,
    process,
    realise,
)


def test_one_start_serves_all_points(tmp_path: Path) -> None:
    results, events = realise(tmp_path, deployment(), point(1), point(2), point(3))
    assert [result.verdict.status for result in results] == ["valid"] * 3
    assert (count(events, "deployment_start"), count(events, "measurement")) == (1, 3)
    assert set(results[0].durations_s) == {"start", "ready", "phases", "stop"}
    assert results[0].node_seconds == results[0].gpu_seconds > 0
    assert results[0].ran["versions"].keys() >= {"python"}
    assert {"event", "time", "monotonic_s"} <= events[0].keys()


def test_folders_names_and_environment_are_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very-secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("UNRELATED", "stays outside")
    stack = deployment()
    with claimed(2) as host:
        command = host.command(stack.processes[1], tmp_path)
        client = host.client(point(1).workload, phase("main"), tmp_path)  # type: ignore[arg-type]
    assert command.env["MARK"] == f"{host.addresses[1]} {{node:1}}"
    assert command.env["CUDA_VISIBLE_DEVICES"] == "1"
    assert command.env["HF_TOKEN"] == "hf_very-secret"
    assert "UNRELATED" not in command.env
    assert (command.env["HF_HUB_OFFLINE"], "HF_HUB_OFFLINE" in client.env) == ("1", False)
    assert "secret" not in repr(command)
    assert command.env["TMPDIR"] == client.env["TMPDIR"] == host.tmp_dir
    assert not Path(str(host.tmp_dir)).exists()
    realise(tmp_path, stack, point(1))
    attempt = next(tmp_path.glob("outputs/store/*/*/attempts/1"))
    assert (attempt / "deployment" / "logs" / "decode-0.log").is_file()
    assert (attempt / "deployment" / "lmcache.yaml").read_text().count(str(tmp_path)) == 1
    assert not (attempt / "deployment").readlink().is_absolute()
    written = [path for path in tmp_path.rglob("*") if path.is_file() and b"very-secret" in path.read_bytes()]
    assert written == []


def test_phases_run_in_order_with_a_command_between(tmp_path: Path) -> None:
    between = 'for word in one two; do echo $word; done >> "{results_dir}/order"'
    phases = (phase("a"), phase("b"), phase("c"))
    results, _ = realise(tmp_path, deployment(), point(1, *phases, between_command=between))
    assert [one.name for one in results[0].phases] == ["a", "b", "c"]
    order = next(tmp_path.glob("outputs/store/*/*/attempts/1/order"))
    assert order.read_text() == "one\ntwo\n" * 2


FAILING = [
    (
        "bad phase",
        (phase("a", report="{servix_dir}/tests/data/aiperf_killed"), phase("b")),
        {},
        "phases not run after",
    ),
    (
        "no report",
        (phase("a", "--code", "1", report="{servix_dir}/config"),),
        {},
        "aiperf exited with code 1",
    ),
    ("exit code", (phase("a", "--code", "5"),), {}, "aiperf exited with code 5, although it left a report"),
    (
        "too long",
        (phase("a", "--takes", "60", timeout_s=0.5),),
        {},
        "aiperf took longer than 0.5 s and was killed",
    ),
    ("between", (phase("a"), phase("b")), {"between_command": "exit 4"}, "between-a exited with code 4"),
    ("not run", (phase("a", "--code", "5"), phase("b")), {}, "phases not run after that: b"),
]


@pytest.mark.parametrize(
    ("phases", "more", "said"), [row[1:] for row in FAILING], ids=[row[0] for row in FAILING]
)
def test_a_phase_that_fails(
    tmp_path: Path, phases: tuple[Phase, ...], more: dict[str, Any], said: str
) -> None:
    results, _ = realise(tmp_path, deployment(), point(1, *phases, **more))
    assert not results[0].verdict.valid
    assert any(said in reason for reason in results[0].verdict.reasons), results[0].verdict
    assert len(results[0].phases) == 1


def test_phases_not_run_are_as_bad_as_what_stopped_them(tmp_path: Path) -> None:
    invalid = point(1, phase("a", "--code", "5"), phase("b"))
    failing = point(2, phase("a"), phase("b"), between_command="exit 4")
    results, _ = realise(tmp_path, deployment(), invalid, failing)
    assert [result.verdict.status for result in results] == ["invalid", "failed"]
    assert [result.phases[0].verdict.status for result in results] == ["invalid", "valid"]


def test_continue_on_failure_runs_the_other_phases(tmp_path: Path) -> None:
    phases = (phase("a", report="{servix_dir}/config"), phase("b"))
    results, _ = realise(tmp_path, deployment(), point(1, *phases, continue_on_failure=True))
    assert [one.verdict.status for one in results[0].phases] == ["failed", "valid"]
    assert results[0].verdict.status == "failed"


def test_a_point_that_lost_its_stack_is_measured_again_on_a_fresh_one(tmp_path: Path) -> None:
    fatal = tmp_path / "die"
    stack = deployment(frontend(), process("decode-0", 1, "--die-if", str(fatal), "--code", "3"))
    hit = phase("main", "--takes", "1", "--touch", str(fatal), "--once", str(tmp_path / "once"))
    results, events = realise(tmp_path, stack, point(1), point(2, hit), point(3))
    assert [result.verdict.status for result in results] == ["valid"] * 3
    assert [result.attempt for result in results] == [1, 2, 1]
    assert results[1].notes == ("measured again: attempt 1 failed: decode-0 exited with code 3",)
    assert (results[0].notes, results[2].notes) == ((), ())
    assert count(events, "deployment_start") == 2
    assert count(events, "deployment_restart") == 1
    first = Result.from_json(
        json.loads(next(tmp_path.glob("outputs/store/*/point-2*/attempts/1/result.json")).read_text())
    )
    assert first.verdict.reasons[0] == "decode-0 exited with code 3"
    assert first.verdict.reasons[1].endswith("last words")


def test_nothing_has_come_of_a_point_that_is_about_to_be_measured_again(tmp_path: Path) -> None:
    """Whoever looks meanwhile, or comes after a kill, must not take the lost attempt for the point's result."""
    fatal, seen = tmp_path / "die", list[str]()
    stack = deployment(frontend(), process("decode-0", 1, "--die-if", str(fatal), "--code", "3"))
    hit = phase("main", "--takes", "1", "--touch", str(fatal), "--once", str(tmp_path / "once"))
    store, points = Store(tmp_path / "outputs"), (point(1, hit), point(2))

    def look(event: Mapping[str, Any]) -> None:
        if event["event"] in ("deployment_restart", "deployment_stop"):
            seen.append(f"{event['event']}: {store.result(stack, points[0]) is not None}")

    async def main() -> None:
        with EventLog(tmp_path / "events.jsonl", (look,)) as tell:
            await session.realise(stack, points, store, partial(claimed, 2), tell)

    asyncio.run(main())
    assert seen == ["deployment_stop: False", "deployment_restart: False", "deployment_stop: True"]


def test_a_point_that_takes_every_stack_with_it_fails_and_the_others_go_on(tmp_path: Path) -> None:
    fatal = tmp_path / "die"
    stack = deployment(
        frontend(), process("decode-0", 1, "--die-if", str(fatal), "--code", "3"), max_restarts=3
    )
    deadly = phase("main", "--takes", "1", "--touch", str(fatal))
    results, events = realise(tmp_path, stack, point(1), point(2, deadly), point(3))
    assert [result.verdict.status for result in results] == ["valid", "failed", "valid"]
    assert [result.attempt for result in results] == [1, 2, 1]
    assert results[1].verdict.reasons[0] == "decode-0 exited with code 3"
    assert count(events, "deployment_start") == 3


def test_who_asks_for_one_point_is_told_at_once(tmp_path: Path) -> None:
    fatal = tmp_path / "die"
    stack = deployment(frontend(), process("decode-0", 1, "--die-if", str(fatal), "--code", "3"))
    results, events = realise(tmp_path, stack, point(1, phase("main", "--takes", "1", "--touch", str(fatal))))
    assert (results[0].verdict.status, results[0].attempt) == ("failed", 1)
    assert count(events, "deployment_start") == 1


def test_a_stack_that_no_longer_answers_is_restarted(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    stack = deployment(frontend("--silent-if", str(silent)), process("decode-0", 1))
    deaf = phase("main", "--takes", "0.2", "--touch", str(silent), "--once", str(tmp_path / "once"))
    results, events = realise(
        tmp_path, stack, point(1, deaf), point(2, between_timeout_s=0.5), point(3, between_timeout_s=0.5)
    )
    assert [result.verdict.status for result in results] == ["valid"] * 3
    assert [result.attempt for result in results] == [1, 2, 1]
    assert "not ready within between_phases.timeout_s" in results[1].notes[0]
    assert count(events, "deployment_start") == 2


ENDS = {
    "dies": ("--die-if", "frontend exited with code 0"),
    "goes silent": ("--silent-if", "not ready within between_phases.timeout_s"),
}


@pytest.mark.parametrize(("how", "said"), ENDS.values(), ids=list(ENDS))
def test_a_load_that_ends_before_its_server_is_seen_to_end(tmp_path: Path, how: str, said: str) -> None:
    """It hears of the end first, at the last point, too: what it says of itself is not what is wrong."""
    fatal, once = tmp_path / "end", tmp_path / "once"
    stack = deployment(frontend(how, str(fatal)), process("decode-0", 1))
    options = ("--touch", str(fatal), "--once", str(once), "--code", "1")
    hit = phase("main", *options, report="{servix_dir}/config")
    results, events = realise(tmp_path, stack, point(1), point(2, hit, between_timeout_s=0.5))
    assert results[1].attempt == 2
    assert said in results[1].notes[0]
    assert count(events, "deployment_start") == 2


@pytest.mark.parametrize("number", [1, 2], ids=["the last phase", "one before another"])
def test_a_stack_that_a_load_silences_is_lost_though_phases_go_on(tmp_path: Path, number: int) -> None:
    silent, once = tmp_path / "silent", tmp_path / "once"
    stack = deployment(frontend("--silent-if", str(silent)), process("decode-0", 1))
    deaf = phase(
        "a", "--touch", str(silent), "--once", str(once), "--code", "1", report="{servix_dir}/config"
    )
    phases = (deaf, phase("b"))[:number]
    hit = point(1, *phases, continue_on_failure=True, between_timeout_s=0.5)
    results, events = realise(tmp_path, stack, hit, point(2))
    assert results[1].verdict.status == "valid"
    # With a phase to come the answer of the server is not insisted on before.
    assert [one.verdict.status for one in results[0].phases] == ["failed", "valid"][:number]
    assert [result.attempt for result in results] == ([2, 1] if number == 1 else [1, 2])
    assert count(events, "deployment_start") == 2


def test_isolation_gives_every_point_a_stack_of_its_own(tmp_path: Path) -> None:
    alone = [point(number, isolation="restart") for number in (1, 2)]
    results, events = realise(tmp_path, deployment(), point(0), *alone, point(3), point(4))
    assert [result.verdict.status for result in results] == ["valid"] * 5
    assert [result.ran["caches"] for result in results] == ["fresh", "fresh", "fresh", "fresh", "kept"]
    assert count(events, "deployment_start") == 4
    assert count(events, "deployment_restart") == 0


def test_what_is_measured_next_may_depend_on_what_came_before(tmp_path: Path) -> None:
    points = [point(number) for number in range(4)]

    def choose(results: Sequence[Result]) -> Point | None:
        return points[3 - 2 * len(results)] if len(results) < 2 else None

    async def main() -> list[Result]:
        with EventLog(tmp_path / "events.jsonl") as tell:
            store = Store(tmp_path / "outputs")
            return await session.realise(deployment(), points, store, partial(claimed, 2), tell, choose)

    assert [result.point_name for result in asyncio.run(main())] == ["point-3", "point-1"]
    assert (tmp_path / "events.jsonl").read_text().count("deployment_start") == 1


def test_a_search_goes_on_after_loads_that_take_the_stack_with_them(tmp_path: Path) -> None:
    fatal = tmp_path / "die"
    stack = deployment(frontend("--die-if", str(fatal)), process("decode-0", 1))
    deadly = phase("main", "--takes", "1", "--touch", str(fatal))
    points = [point(0), point(1), point(2, deadly), point(3, deadly)]

    def choose(results: Sequence[Result]) -> Point | None:
        fatal.unlink(missing_ok=True)
        order = (0, 3, 2, 1)
        return points[order[len(results)]] if len(results) < len(order) else None

    def tell(event: str, **_: object) -> None:
        # Whoever starts again is healthy, until the next deadly load.
        if event == "deployment_start":
            fatal.unlink(missing_ok=True)

    store = Store(tmp_path / "outputs")
    results = asyncio.run(session.realise(stack, points, store, partial(claimed, 2), tell, choose))
    assert [result.point_name for result in results] == ["point-0", "point-3", "point-2", "point-1"]
    assert [result.verdict.status for result in results] == ["valid", "failed", "failed", "valid"]


def test_a_phase_that_a_death_cuts_short_is_kept_and_names_it(tmp_path: Path) -> None:
    fatal = tmp_path / "die"
    stack = deployment(frontend(), process("decode-0", 1, "--die-if", str(fatal), "--code", "3"))
    phases = (phase("a"), phase("b", "--takes", "2", "--touch", str(fatal)), phase("c"))
    results, events = realise(tmp_path, stack, point(1, *phases))
    verdict = results[0].verdict
    assert [(one.name, one.verdict.status) for one in results[0].phases] == [("a", "valid"), ("b", "failed")]
    assert results[0].phases[1].verdict.reasons[0] == "decode-0 exited with code 3"
    assert 0.5 < results[0].phases[1].duration_s < 2
    assert sum("decode-0 exited with code 3" in reason for reason in verdict.reasons) == 1
    assert verdict.reasons[-1] == "phases not run after that: c"
    assert (verdict.status, count(events, "phase_end")) == ("failed", 2)


def test_restarts_are_bounded(tmp_path: Path) -> None:
    fatal = tmp_path / "die"
    stack = deployment(frontend("--die-if", str(fatal)), process("decode-0", 1))
    deadly = phase("main", "--takes", "1", "--touch", str(fatal))
    results, events = realise(tmp_path, stack, *(point(number, deadly) for number in range(4)))
    assert count(events, "deployment_start") == 2
    assert [result.verdict.reasons[0] for result in results] == [
        "frontend exited with code 0",
        *["not measured: the stack was lost 2 times"] * 3,
    ]


NOT_READY = [
    (
        "exits",
        (frontend("--slow", "60", "--die-after", "0.2", "--code", "9"), process("decode-0", 1)),
        "frontend exited with code 9",
    ),
    ("too few", (process("frontend", 0), process("decode-0", 1)), "last seen: backend 0 of 1"),
    ("silent", (frontend(), process("decode-0", 1, "--slow", "60")), "last seen: nothing listens there"),
]


@pytest.mark.parametrize(
    ("processes", "said"), [row[1:] for row in NOT_READY], ids=[row[0] for row in NOT_READY]
)
def test_a_stack_that_never_becomes_ready_fails_every_point(
    tmp_path: Path, processes: tuple[Process, ...], said: str
) -> None:
    stack = deployment(*processes, ready_timeout_s=1.0)
    results, events = realise(tmp_path, stack, point(1), point(2))
    assert count(events, "deployment_start") == 1
    for result in results:
        assert result.verdict.status == "failed"
        assert any(said in reason for reason in result.verdict.reasons), result.verdict
        if "last seen" in said:
            assert any(
                "not ready within launch.ready_timeout_s = 1 s" in why for why in result.verdict.reasons
            )
            # Two nodes, two points, and a second of waiting in vain.
            assert result.node_seconds >= 1
