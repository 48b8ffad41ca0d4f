"""A session with real processes: fake servers on virtual nodes, and a load generator that leaves recorded reports."""

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from compiler.errors import format_problem
from compiler.plan import Deployment, Node, Phase, Point, Port, Probe, Process, Reset, Stop, Workload
from compiler.sweep import Group
from launchers import local, session
from launchers.display import Display
from launchers.events import EventLog
from launchers.host import Host, claimed, resolved_revision
from launchers.listening import Stopper
from launchers.preflight import preflight
from launchers.results.result import Result
from launchers.store import Store
from launchers.turns import Wishes
from tests.fakes.processes import FOLDER, alive, wait_until

REPORT = "{servix_dir}/tests/data/aiperf_healthy"
PORT = 18090 + zlib.crc32(os.environ.get("PYTEST_XDIST_WORKER", "").encode()) % 1000
"""Tests that run at the same time have one each: some listen on all addresses."""
ALL = Wishes(wanted=lambda _, __: True)
URL = f"http://{{node:0}}:{PORT}"


def process(name: str, node: int, *options: str, **more: Any) -> Process:
    words = ("python", "{servix_dir}/tests/fakes/server.py", "--name", f"{{results_dir}}/{name}")
    defaults: dict[str, Any] = {
        "role": "frontend" if name == "frontend" else "decode",
        "worker": None,
        "gpus": (node,),
        "env": {"MARK": "{node:1} {{node:1}}"},
        "ports": {"http": Port(PORT)},
        "image": None,
        "mounts": (),
        "workdir": "{results_dir}/work",
        "after": (),
        "ready": Probe("http", f"http://{{node:{node}}}:{PORT}/health"),
        "stop": Stop("TERM", 1.0),
    }
    argv = (*words, "--host", f"{{node:{node}}}", "--port", str(PORT), *options)
    return Process(name=name, node=node, argv=argv, **{**defaults, **more})


def deployment(*processes: Process, **more: Any) -> Deployment:
    defaults: dict[str, Any] = {
        "ready": (
            Probe("instances", f"{URL}/health", counts={"backend": 1}),
            Probe("completion", f"{URL}/v1/chat/completions", model="m"),
        ),
        "ready_timeout_s": 10.0,
        "max_restarts": 1,
    }
    return Deployment(
        digest="d1-0123456789abcdef",
        name="fake",
        topology="separate",
        backend="vllm",
        engine="mocker",
        model="m",
        system="local",
        gpu="virtual",
        num_nodes=2,
        gpus_per_node=8,
        nodes=(Node(0, None), Node(1, None)),
        idle_gpus=(),
        processes=processes or (frontend(), process("decode-0", 1)),
        metrics_urls=(),
        lmcache={"path": "{results_dir}/cache"},
        storage_cache_dir=None,
        repeatable=True,
        versions={},
        **{**defaults, **more},
    )


def frontend(*options: str) -> Process:
    return process("frontend", 0, "--instances", "backend=1", *options)


def phase(name: str, *options: str, report: str = REPORT, timeout_s: float = 20) -> Phase:
    words = (
        "python",
        "{servix_dir}/tests/fakes/client.py",
        "--artifact-dir",
        f"{{results_dir}}/artifacts/{name}",
    )
    return Phase(name, (*words, "--report", report, *options), f"artifacts/{name}", 20, 4, 32, timeout_s)


def point(number: int, *phases: Phase, **more: Any) -> Point:
    defaults: dict[str, Any] = {
        "between_command": None,
        "between_timeout_s": 5.0,
        "health_check": True,
        "continue_on_failure": False,
    }
    workload = Workload(
        tool="aiperf",
        version="0.13.0",
        phases=phases or (phase("main"),),
        env={},
        unset_env=("HF_HUB_OFFLINE",),
        needs=(),
        needs_hint=None,
        max_error_rate=0.0,
        output_length_tolerance=0.1,
        trial=1,
        **{**defaults, **more},
    )
    return Point(
        f"point-{number}", (f"n={number}",), f"p1-{number:08x}01234567", "d1-0123456789abcdef", workload, {}
    )


def realise(folder: Path, stack: Deployment, *points: Point) -> tuple[list[Result], list[dict[str, Any]]]:
    """Results and events of one session."""
    store = Store(folder / "outputs")
    path = folder / "events.jsonl"

    async def main() -> list[Result]:
        with EventLog(path) as tell:
            return await session.realise(stack, points, store, partial(claimed, 2), tell)

    results = asyncio.run(main())
    assert not alive(str(folder))
    for given, result in zip(points, results, strict=True):
        assert store.result(stack, given) == result
    return results, [json.loads(line) for line in path.read_text().splitlines()]


def count(events: list[dict[str, Any]], event: str) -> int:
    return sum(entry["event"] == event for entry in events)


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


def test_isolation_gives_every_point_a_stack_of_its_own(tmp_path: Path) -> None:
    alone = [point(number, isolation="restart") for number in (1, 2)]
    results, events = realise(tmp_path, deployment(), point(0), *alone, point(3), point(4))
    assert [result.verdict.status for result in results] == ["valid"] * 5
    assert [result.ran["caches"] for result in results] == ["fresh", "fresh", "fresh", "fresh", "kept"]
    assert count(events, "deployment_start") == 4
    assert count(events, "deployment_restart") == 0


def reset(text: str, timeout_s: float = 5) -> Reset:
    """A reset that is a text for bash; it knows where the stack leaves its results."""
    return Reset(("bash", "-c", text, "reset", "{results_dir}"), {"MARK": "{node:0}"}, timeout_s)


def with_seed(number: int, seed: int = 7) -> Point:
    return point(number, replace(phase("main"), random_seed=seed))


def test_caches_are_reset_between_points(tmp_path: Path) -> None:
    command = reset('echo "$MARK ${CUDA_VISIBLE_DEVICES-all}" >> "$1/resets"')
    phases = (phase("a"), phase("b"))
    points = [point(1, *phases), with_seed(2), with_seed(3), point(4, isolation="restart"), point(5)]
    results, events = realise(tmp_path, deployment(reset=command), *points)
    assert [result.verdict.status for result in results] == ["valid"] * 5
    assert [result.ran["caches"] for result in results] == ["fresh", "reset", "reset", "fresh", "fresh"]
    assert [result.notes for result in results] == [()] * 5
    told = [event for event in events if event["event"] == "caches_reset"]
    assert [event["ok"] for event in told] == [True, True]
    (seen,) = tmp_path.glob("outputs/store/*/runs/*/resets")
    assert len(seen.read_text().splitlines()) == 2
    assert seen.read_text().startswith("127.")
    assert "reset" not in results[0].durations_s
    own = results[1].durations_s
    others = own["start"] + own["ready"] + own["stop"]
    assert results[1].node_seconds == pytest.approx(2 * (own["reset"] + own["phases"] + others / 3), abs=0.01)


NO_RESET = [
    (
        "fails",
        reset("echo ERROR first; echo worker 7 is busy >&2; exit 3"),
        "exited with code 3: worker 7 is busy",
    ),
    ("too late", reset("sleep 60", timeout_s=0.1), "took longer than launch.reset_timeout_s = 0.1 s"),
    ("not there", Reset(("no-such-program",), {}, 5), "'no-such-program' is not in its PATH"),
]


@pytest.mark.parametrize(("command", "said"), [row[1:] for row in NO_RESET], ids=[row[0] for row in NO_RESET])
def test_caches_that_cannot_be_reset_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Reset, said: str
) -> None:
    monkeypatch.setattr("launchers.caches.GRACE_S", 0.4)
    monkeypatch.setattr("launchers.session.preflight", lambda *_: [])
    points = point(1), with_seed(2, 8), with_seed(3, 9)
    results, events = realise(tmp_path, deployment(reset=command), *points)
    assert [result.verdict.status for result in results] == ["valid"] * 3
    assert [result.ran["caches"] for result in results] == ["fresh", "kept", "kept"]
    assert results[0].notes == ()
    assert "the prefix caches were not reset: reset-caches" in results[1].notes[0]
    assert said in results[1].notes[0]
    assert (count(events, "deployment_start"), count(events, "caches_reset")) == (1, 2)


def test_caches_that_hold_what_a_point_asks_cost_the_stack(tmp_path: Path) -> None:
    stack = deployment(reset=reset("exit 1"), max_restarts=2)
    results, events = realise(tmp_path, stack, *(with_seed(number) for number in (1, 2)), with_seed(3, 8))
    assert [result.ran["caches"] for result in results] == ["fresh", "fresh", "kept"]
    assert [len(result.notes) for result in results] == [0, 0, 1]
    assert [result.attempt for result in results] == [1, 1, 1]
    assert (count(events, "deployment_start"), count(events, "deployment_restart")) == (2, 1)


def test_stacks_that_caches_cost_are_bounded(tmp_path: Path) -> None:
    stack = deployment(reset=reset("exit 1"), max_restarts=1)
    results, events = realise(tmp_path, stack, *(with_seed(number) for number in range(4)))
    assert [result.verdict.status for result in results] == ["valid", "valid", "failed", "failed"]
    assert count(events, "deployment_start") == 2
    said = "the prefix caches were not reset: reset-caches exited with code 1; they hold what seed 7 asks"
    assert said in results[2].verdict.reasons


def test_a_stack_that_dies_while_its_caches_are_reset_is_restarted(tmp_path: Path) -> None:
    fatal = tmp_path / "die"
    command = reset(f"[ -e {tmp_path}/once ] || {{ touch {fatal} {tmp_path}/once; sleep 20; }}")
    worker = process("decode-0", 1, "--die-if", str(fatal), "--code", "3")
    results, events = realise(
        tmp_path, deployment(frontend(), worker, reset=command), *(point(number) for number in range(3))
    )
    assert [result.verdict.status for result in results] == ["valid"] * 3
    assert [result.ran["caches"] for result in results] == ["fresh", "fresh", "reset"]
    assert [event["reasons"][0] for event in events if event["event"] == "deployment_failed"] == [
        "decode-0 exited with code 3"
    ]


def test_what_resets_caches_is_looked_for_before_anything_starts() -> None:
    stack = deployment(reset=Reset(("no-such-program",), {}, 5))
    workloads = [one.workload for one in (point(1), point(2)) if one.workload]
    host = Host(("127.9.9.10", "127.9.9.11"))
    told = [format_problem(problem) for problem in preflight(stack, workloads, host)]
    assert len(told) == 1
    assert "reset-caches = 'no-such-program': this program is not installed" in told[0]
    assert preflight(stack, workloads[:1], host) == []


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


def test_two_sessions_never_share_an_address() -> None:
    with ExitStack() as stack:
        hosts = [stack.enter_context(claimed(2)) for _ in range(50)]
        assert len({address for host in hosts for address in host.addresses}) == 100


@pytest.mark.parametrize("where", ["0.0.0.0", "node 1"])
def test_a_port_that_is_taken_is_told_before_anything_starts(where: str) -> None:
    with claimed(2) as host, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host.addresses[1] if where == "node 1" else where, PORT))
        other.listen()
        problems = preflight(deployment(), [], host)
    told = [format_problem(problem) for problem in problems]
    assert len(told) == (1 if where == "node 1" else 2)
    assert f"backend.ports.http.base = {PORT}: port 'http' of decode-0 on node 1: another program" in told[-1]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("no-such-tool", "x"), "'no-such-tool': this program is not installed"),
        (("python", "-m", "no_such.module"), "has no such module"),
        (("python", "-m", "json.no_such"), "has no such module"),
        (("python", "-m", "json.tool"), None),
    ],
)
def test_a_program_that_is_missing_is_told_with_the_way_out(argv: tuple[str, ...], said: str | None) -> None:
    stack = deployment(replace(frontend(), argv=argv), process("decode-0", 1))
    told = [format_problem(problem) for problem in preflight(stack, [], Host(("127.9.9.10", "127.9.9.11")))]
    assert len(told) == (said is not None)
    assert all(said in line and "make install" in line for line in told if said)


@pytest.mark.parametrize("there", [False, True])
def test_a_model_that_is_not_downloaded_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    if there:
        (tmp_path / "hub" / "models--Org--Name" / "snapshots").mkdir(parents=True)
    argv = ("python", "-m", "json.tool", "--model-path", "Org/Name")
    workers = [
        replace(process(name, 1, env={"HF_HUB_OFFLINE": offline}, ports={}), argv=argv)
        for name, offline in (("decode-0", "1"), ("decode-1", "1"), ("decode-2", "0"))
    ]
    host = Host(("127.9.9.10", "127.9.9.11"))
    told = [format_problem(problem) for problem in preflight(deployment(*workers), [], host)]
    assert len(told) == (not there)
    for line in told:
        assert "model.id = 'Org/Name': HF_HUB_OFFLINE is set" in line
        assert "hf download Org/Name" in line


def test_nothing_is_started_on_a_machine_that_is_unfit(tmp_path: Path) -> None:
    stack = deployment(replace(frontend(), argv=("no-such-tool",)))
    with pytest.raises(local.Unfit, match="no-such-tool"):
        local.realise([Group(stack, (point(1),))], Store(tmp_path), lambda _: None, ALL)
    assert list(tmp_path.iterdir()) == []


SERVIX = """
import sys
from pathlib import Path
from compiler.sweep import Group
from launchers import local
from launchers.store import Store
from launchers.turns import Wishes
from tests.test_session import deployment, phase, point
store = Store(Path(sys.argv[1]))
wishes = Wishes(wanted=lambda stack, one: store.status(stack, one) != "done")
load = phase("main", "--takes", "{takes}")
points = (*[point(2)][:{quick}], point(1, load))
try:
    local.realise([Group(deployment(), points)], store, lambda _: None, wishes)
except KeyboardInterrupt:
    sys.exit(130)
"""


def start_servix(folder: Path, takes: float, quick: int = 0) -> subprocess.Popen[bytes]:
    """A command that measures a point which takes so long, `quick` others before it."""
    words = [sys.executable, "-c", SERVIX.format(takes=takes, quick=quick), str(folder)]
    (folder / "tmp").mkdir(exist_ok=True)
    with (folder / "said").open("ab") as said:
        environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
        return subprocess.Popen(words, cwd=FOLDER.parents[1], stderr=said, env=environment)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name
)
def test_an_interrupted_run_leaves_no_process_and_no_result(tmp_path: Path, number: signal.Signals) -> None:
    with start_servix(tmp_path, 60) as servix:
        assert wait_until(lambda: "load starts" in (tmp_path / "said").read_text(), 20)
        servix.send_signal(number)
        code = servix.wait(10)
    assert code == (130 if number != signal.SIGKILL else -number)
    assert wait_until(lambda: not alive(str(tmp_path)))
    assert list(tmp_path.rglob("result.json")) == []
    assert wait_until(lambda: not list((tmp_path / "tmp").iterdir()))
    with start_servix(tmp_path, 0) as again:
        assert again.wait(20) == 0
    assert Store(tmp_path).status(deployment(), point(1)) == "done"


def test_points_of_an_interrupted_sweep_know_what_they_cost(tmp_path: Path) -> None:
    with start_servix(tmp_path, 60, quick=1) as servix:
        assert wait_until(lambda: (tmp_path / "said").read_text().count("load starts") == 2, 20)
        servix.send_signal(signal.SIGTERM)
        assert servix.wait(10) == 130
    result = Store(tmp_path).result(deployment(), point(2))
    assert result is not None
    assert result.verdict.valid
    assert result.durations_s["stop"] > 0
    assert result.node_seconds == pytest.approx(2 * sum(result.durations_s.values()), abs=0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_who_waits_for_another_command_can_be_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    with Store(tmp_path).lock(deployment()), start_servix(tmp_path, 0) as servix:
        assert wait_until(lambda: "attached to process" in (tmp_path / "said").read_text(), 20)
        servix.send_signal(number)
        assert servix.wait(5) == 130


def test_a_terminal_gets_its_cursor_back_from_who_asks_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        patch.setattr(signal, "signal", lambda *_: None)
        patch.setattr(os, "kill", lambda *_: None)
        stop = Stopper()
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                stop(signal.SIGINT, None)
        assert os.read(ours, 100) == b"\x1b[?25h"
    os.close(ours)


def test_a_reader_that_goes_away_costs_no_result(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SERVIX.format(takes=1, quick=1), str(tmp_path)]
    with subprocess.Popen(words, cwd=FOLDER.parents[1], stderr=subprocess.PIPE) as servix:
        assert servix.stderr is not None
        servix.stderr.readline()
        servix.stderr.close()
        servix.wait(20)
    assert {Store(tmp_path).status(deployment(), point(number)) for number in (1, 2)} == {"done"}
    assert not alive(str(tmp_path))


def test_two_commands_do_the_work_once(tmp_path: Path) -> None:
    with start_servix(tmp_path, 1) as one, start_servix(tmp_path, 1) as two:
        assert (one.wait(30), two.wait(30)) == (0, 0)
    events = next(tmp_path.rglob("events.jsonl")).read_text()
    assert events.count('"deployment_start"') == 1


def test_a_terminal_gets_a_table_and_a_pipe_gets_lines() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    entries = [
        {"event": "deployment_start", "deployment": "fake", "run": "1"},
        {"event": "process_start", "process": "frontend", "pid": 4711},
        {"event": "process_ready", "process": "frontend"},
        {"event": "phase_start", "phase": "main", "concurrency": 4, "requests": 20},
    ]
    for stream in (Terminal(), io.StringIO()):
        with Display(stream) as display:
            view = display.of(deployment())
            for entry in entries:
                view({**entry, "time": "2026-01-01T00:00:00+00:00"})
        text = stream.getvalue()
        assert "frontend" in text
        assert "4711" in text
        assert ("\x1b[" in text) == stream.isatty()
        assert "phase main: load starts (concurrency 4, requests 20)" in text


def test_the_revision_of_a_hub_model_is_what_the_cache_holds(tmp_path: Path) -> None:
    from plans import (
        one_prefill_one_decode,
    )  # here: the commands above import this file without the tests on their path

    served = one_prefill_one_decode().deployments[0]
    refs = tmp_path / "hub" / f"models--{served.model.replace('/', '--')}" / "refs"
    assert resolved_revision(served, {"HF_HOME": str(tmp_path)}) is None
    refs.mkdir(parents=True)
    (refs / "main").write_text("0123abcd\n")
    assert resolved_revision(served, {"HF_HOME": str(tmp_path)}) == "0123abcd"
