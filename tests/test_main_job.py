"""The main job with the real Dynamo frontend, the real mocker and the real AIPerf, through the real command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from commanding import QUICK, TELLING, Command, environment, listening, nothing_left, touching

LONG = (
    "aiperf.request_count=4000",
    "aiperf.output_tokens_mean=200",
    "aiperf.workers_max=1",
    "mocker.speedup_ratio=2.0",
)


def test_a_sweep_is_one_start_and_a_rerun_starts_nothing(start: Callable[..., Command]) -> None:
    sweep = ("--multirun", "aiperf.concurrency=2,4,8", *QUICK)
    first = start(*sweep)
    code, out, err = first.ended()
    assert code == 0, err
    assert len(first.events("deployment_start")) == 1
    assert [event["verdict"] for event in first.events("measurement")] == ["valid"] * 3
    results = first.results()
    assert sorted(result["phases"][0]["concurrency"] for result in results) == [2, 4, 8]
    for result in results:
        assert result["verdict"] == {"status": "valid", "reasons": []}
        assert result["phases"][0]["counts"] == {"sent": 16, "completed": 16, "failed": 0, "truncated": 0}
        assert result["metrics"]["time_to_first_token_ms.p99"] > 0
        assert result["metrics"]["output_sequence_length_tokens.avg"] == 40
        per_gpu = result["metrics"]["output_token_throughput_per_s"] / 2
        assert result["metrics"]["output_token_throughput_per_gpu_per_s"] == pytest.approx(per_gpu)
        assert result["node_seconds"] > 0
        assert result["gpu_seconds"] == pytest.approx(result["node_seconds"], rel=0.01)
    assert out.count(" valid ") == 3
    nothing_left(first)
    before = len(first.events())

    code, again, err = start(*sweep).ended(timeout_s=30)
    assert code == 0, err
    assert len(first.events()) == before
    assert again == out
    assert len(list(first.output_dir.glob("sweeps/*/report.html"))) == 2


def test_shared_nodes_hold_both_roles_with_slices_and_ports_of_their_own(
    start: Callable[..., Command],
) -> None:
    command = start(
        "topology=shared",
        "backend=sglang",
        "num_nodes=2",
        "decode.tensor_parallel_size=4",
        "prefill.tensor_parallel_size=2",
        *LONG,
    )
    command.wait_for(lambda event: event["event"] == "phase_start")
    names = ["frontend", "decode-0", "decode-1", "prefill-0", "prefill-1"]
    pids = {name: command.pid(name) for name in names}
    seen = {name: environment(pid)["CUDA_VISIBLE_DEVICES"] for name, pid in pids.items()}
    assert seen == {
        "frontend": "",
        "decode-0": "0,1,2,3",
        "decode-1": "0,1,2,3",
        "prefill-0": "4,5",
        "prefill-1": "4,5",
    }
    hosts = {name: environment(pid)["DYN_SYSTEM_HOST"] for name, pid in pids.items()}
    assert hosts["decode-0"] == hosts["prefill-0"] == hosts["frontend"]
    assert hosts["decode-1"] == hosts["prefill-1"] != hosts["decode-0"]
    sockets = listening(list(pids.values()))
    status = {
        (hosts["decode-0"], 9090),
        (hosts["prefill-0"], 9091),
        (hosts["decode-1"], 9090),
        (hosts["prefill-1"], 9091),
    }
    assert status <= sockets
    assert (hosts["frontend"], 8000) in sockets
    command.process.send_signal(signal.SIGINT)
    code, _, err = command.ended(timeout_s=30)
    assert code == 130, err
    nothing_left(command)
    assert command.results() == []


def test_four_workers_on_four_nodes(start: Callable[..., Command]) -> None:
    command = start("topology=separate", "prefill.num_nodes=2", "decode.num_nodes=2", *QUICK)
    code, _, err = command.ended()
    assert code == 0, err
    workers = {event["process"] for event in command.events("process_ready")}
    assert workers == {"frontend", "decode-0", "decode-1", "prefill-0", "prefill-1"}
    assert [result["verdict"]["status"] for result in command.results()] == ["valid"]


def test_phases_run_on_one_live_stack(start: Callable[..., Command]) -> None:
    phases = "phases=[{name: round_1, concurrency: 2}, {name: round_2, concurrency: 4}]"
    command = start(
        phases, "between_phases.command='echo between > {results_dir}/seen'", "lmcache=on", *QUICK
    )
    code, out, err = command.ended()
    assert code == 0, err
    assert len(command.events("deployment_start")) == 1
    (result,) = command.results()
    assert [(phase["name"], phase["concurrency"]) for phase in result["phases"]] == [
        ("round_1", 2),
        ("round_2", 4),
    ]
    assert len({phase["artifact_dir"] for phase in result["phases"]}) == 2
    (attempt,) = command.output_dir.glob("store/*/*/attempts/1")
    assert (attempt / "seen").read_text() == "between\n"
    assert (attempt / "deployment" / "lmcache.yaml").exists()
    assert "round_1" in out
    assert "round_2" in out


def test_a_decode_worker_killed_under_load_is_named_and_the_rerun_succeeds(
    start: Callable[..., Command],
) -> None:
    slow = (*QUICK[1:], TELLING, "aiperf.request_count=50", "mocker.speedup_ratio=0.5")
    command = start(*slow)
    command.wait_for_load()
    os.kill(command.pid("decode-0"), signal.SIGKILL)
    code, out, err = command.ended(timeout_s=40)
    assert code == 3, err
    (result,) = command.results()
    assert result["verdict"]["status"] == "failed"
    reasons = " ".join(result["verdict"]["reasons"])
    assert "decode-0" in reasons
    assert "SIGKILL" in reasons
    assert "decode-0" in out
    (phase,) = result["phases"]
    assert phase["verdict"]["status"] == "failed"
    nothing_left(command)

    code, _, err = start(*slow).ended()
    assert code == 0, err
    (result,) = command.results()
    assert (result["verdict"]["status"], result["attempt"]) == ("valid", 2)


def test_a_frontend_killed_while_starting_is_named(start: Callable[..., Command]) -> None:
    command = start("mocker.startup_time=30", *QUICK)
    os.kill(command.pid("frontend"), signal.SIGKILL)
    code, out, err = command.ended(timeout_s=30)
    assert code == 3, err
    (result,) = command.results()
    reasons = " ".join(result["verdict"]["reasons"])
    assert "frontend" in reasons
    assert "SIGKILL" in reasons
    assert "frontend" in out
    nothing_left(command)


def test_servix_killed_leaves_no_process_and_no_result(start: Callable[..., Command]) -> None:
    command = start(TELLING, *LONG)
    command.wait_for_load()
    seen = touching(command.output_dir)
    assert len(seen) > len(command.events("process_start")), "AIPerf's services are not seen"
    command.process.kill()
    command.ended(timeout_s=10)
    nothing_left(command)
    assert command.results() == []
    quick = start(*QUICK)
    code, _, err = quick.ended()
    assert code == 0, err


def test_a_port_taken_by_another_program_is_told_before_anything_starts(
    start: Callable[..., Command],
) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = start(f"dynamo.port={port}", *QUICK)
        code, _, err = command.ended(timeout_s=30)
    assert code == 2, err
    assert str(port) in err
    assert "dynamo.port" in err
    assert command.events("process_start") == []


def test_values_reach_the_processes_unchanged(start: Callable[..., Command]) -> None:
    hostile = "a b; $(touch x) 'q' \"d\" {results_dir} \\ \n end"
    quoted = hostile.replace('"', '\\"')
    command = start(f'+decode.env.HOSTILE="{quoted}"', *LONG)
    command.wait_for(lambda event: event["event"] == "deployment_ready")
    assert environment(command.pid("decode-0"))["HOSTILE"] == hostile
    command.process.send_signal(signal.SIGTERM)
    code, _, err = command.ended(timeout_s=30)
    assert code == 130, err
    nothing_left(command)
