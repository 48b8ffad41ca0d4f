"""Jobs on a real Slurm: the small cluster of tools/mini_slurm.sh, with the real frontend, mocker and AIPerf."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commanding import FAKE, ROOT, RUN, TELLING, Command, environment
from slurm_cluster import (
    NEEDED,
    ONE,
    SLOW,
    Cluster,
    job_of,
    load,
    slurm,
    tasks,
    under_load,
    verdict,
    wait_until,
)

from tests.test_turns import read_until

pytestmark = NEEDED


def test_a_sweep_starts_each_stack_once_on_the_nodes_of_its_plan(
    start: Callable[..., Command], tmp_path: Path
) -> None:
    sizes = ("prefill.tensor_parallel_size=2", "decode.tensor_parallel_size=4", "aiperf.concurrency=2,4")
    command = start(*FAKE, "system=mini", "topology=separate,shared", "backend=sglang", *sizes, SLOW)
    wait_until(lambda: len(command.events("deployment_ready")) == 2, 90)
    seen = {}
    for folder in (tmp_path / "outputs" / "store").glob("*-tiny-*"):
        for name, pid in tasks(folder).items():
            env = environment(pid)
            seen[folder.name.split("-")[1], name] = (env["SLURMD_NODENAME"], env["CUDA_VISIBLE_DEVICES"])
    code, _, err = command.ended(150)
    assert code == 0, err
    first, second = seen["separate", "decode-0"][0], seen["separate", "prefill-0"][0]
    assert first != second
    assert seen["separate", "decode-0"] == (first, "0,1,2,3")
    assert seen["separate", "prefill-0"] == (second, "0,1")
    assert seen["separate", "frontend"] == (first, "")
    third = seen["shared", "decode-0"][0]
    assert third not in (first, second)
    assert seen["shared", "decode-0"] == (third, "0,1,2,3")
    assert seen["shared", "prefill-0"] == (third, "4,5")
    assert [result["verdict"]["status"] for result in command.results()] == ["valid"] * 4
    assert {len(result["ran"]["hosts"]) for result in command.results()} == {1, 2}
    assert len(command.events("deployment_start")) == 2
    assert not list(command.output_dir.glob("store/*/submitted.json"))
    assert not any(tasks(folder) for folder in command.output_dir.glob("store/*"))


def test_a_sweep_that_takes_longer_than_a_job_may_is_several_jobs(start: Callable[..., Command]) -> None:
    pace = ("launch.estimate.start_s=10", "launch.estimate.phase_s=50", "launch.estimate.request_s=0.01")
    command = start(
        *FAKE, *ONE, *pace, "aiperf.concurrency=2,4,8", "hydra.launcher.timeout_min=2", "bench.timeout_s=60"
    )
    code, _, err = command.ended(150)
    assert code == 0, err
    assert err.count("is submitted") == 2, err
    assert [len(command.events(name)) for name in ("deployment_start", "measurement")] == [2, 3]
    assert [result["attempt"] for result in command.results()] == [1, 1, 1]


def test_a_detached_job_is_running_for_everybody_and_who_comes_back_attaches(
    start: Callable[..., Command],
) -> None:
    left = start(*ONE, "launch.detach=true", "format=json")
    code, out, err = left.ended()
    assert code == 0, err
    (entry,) = json.loads(out)["jobs"]
    code, out, _ = start(*ONE, "action=status", "format=json").ended()
    assert json.loads(out)["points"][0]["status"] == "running"
    assert json.loads(out)["points"][0]["running"]["job"] == entry["job"]
    gone = start(*ONE)
    assert gone.process.stderr is not None
    assert any("attached to job" in line for line in gone.process.stderr)
    gone.process.send_signal(signal.SIGINT)
    code, _, err = gone.ended()
    assert code == 130
    assert f"detached: job {entry['job']} left in the queue" in err
    code, _, err = start(*ONE).ended()
    assert code == 0, err
    assert f"attached to job {entry['job']}" in err
    assert "is submitted" not in err


def test_a_job_that_nobody_watched_is_told_of(start: Callable[..., Command]) -> None:
    left = start(*ONE, *load(50), "launch.detach=true", "format=json")
    (entry,) = json.loads(left.ended()[1])["jobs"]
    slurm("scancel", entry["job"])
    wait_until(lambda: not slurm("squeue", "--noheader"))
    (point,) = json.loads(start(*ONE, *load(50), "action=status", "format=json").ended()[1])["points"]
    assert (point["status"], point["reasons"]) == ("failed", [f"job {entry['job']} was cancelled by user 0"])
    again = start(*ONE, *load(0))
    assert again.ended()[0] == 3
    again = start(*FAKE, "system=mini", "topology=aggregated")
    assert again.ended()[0] == 0


def test_a_worker_that_is_killed_is_named(start: Callable[..., Command], tmp_path: Path) -> None:
    command = start(*ONE, *load(60))
    under_load(command)
    (folder,) = (tmp_path / "outputs" / "store").glob("*-tiny-*")
    os.kill(tasks(folder)["aggregated-0"], signal.SIGKILL)
    assert "aggregated-0 was killed by SIGKILL" in verdict(command)


def test_a_worker_of_aiperf_killed_in_a_step_ends_the_wait(
    start: Callable[..., Command], cluster: Cluster
) -> None:
    command = start(*ONE, "aiperf.request_count=400", "aiperf.concurrency=2", TELLING)
    command.until(lambda: command.answers() >= 5)
    found = [pid for pids in cluster.processes().values() for pid in pids]
    (victim,) = [
        pid for pid in found if re.match(r"aiperf worker_[0-9a-f]+", Path(f"/proc/{pid}/cmdline").read_text())
    ]
    os.kill(victim, signal.SIGKILL)
    begun = time.monotonic()
    assert re.match(r"aiperf worker\S* was killed by SIGKILL; ", verdict(command))
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(("answer", "goes_on"), [(b"\n", True), (b"c\n", False)], ids=["detach", "cancel"])
def test_ctrl_c_asks_what_to_do_about_the_job(tmp_path: Path, answer: bytes, goes_on: bool) -> None:
    words = [*RUN, f"output_dir={tmp_path}/outputs", *ONE, *load(60)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(words[0], words)
    said = read_until(terminal, b"load starts", 60)
    os.write(terminal, b"\x03")
    said += read_until(terminal, b"or [c]ancel it?")
    os.write(terminal, answer)
    said += read_until(terminal, b"detached: job" if goes_on else b"cancelled: job")
    os.close(terminal)
    os.waitpid(pid, 0)
    time.sleep(1)
    states = slurm("squeue", "--noheader", "--format=%T")
    # The job of another test may still be completing.
    assert ("RUNNING" in states.split()) == goes_on, said


@pytest.mark.skipif(
    not (shutil.which("etcd") and shutil.which("nats-server")), reason="needs etcd and nats-server"
)
def test_etcd_and_nats_are_steps_on_the_frontends_node(start: Callable[..., Command]) -> None:
    planes = ("dynamo.discovery=etcd", "dynamo.request_plane=nats", "dynamo.event_plane=nats")
    command = start(*FAKE, "system=mini", "topology=separate", *planes)
    code, _, err = command.ended()
    assert code == 0, err
    assert {event["process"] for event in command.events("process_ready")} >= {"etcd", "nats", "frontend"}


def _cancel(job: str) -> None:
    slurm("scancel", job)


def _kill_the_script(job: str) -> None:
    slurm("scancel", "--batch", "--signal=KILL", job)


@pytest.mark.parametrize(
    ("strike", "more", "words"),
    [
        (_cancel, (), "was cancelled by user 0"),
        (_kill_the_script, (), "was ended by signal 9"),
        (None, ("hydra.launcher.timeout_min=1", "launch.stop_timeout_s=30"), "reached its time limit"),
    ],
    ids=["scancel", "script killed", "time limit"],
)
def test_a_job_that_ends_early_says_why(
    start: Callable[..., Command],
    tmp_path: Path,
    strike: Callable[[str], None] | None,
    more: tuple[str, ...],
    words: str,
) -> None:
    command = start(*ONE, *load(50), "bench.timeout_s=55", "launch.ready_timeout_s=50", *more)
    command.wait_for(lambda event: event["event"] == "process_start")
    job = job_of(command)
    if strike is not None:
        under_load(command)
        strike(job)
    told = verdict(command)
    assert f"job {job} {words}" in told
    assert f"end of {job}.log" in told
    wait_until(lambda: not any(tasks(folder) for folder in (tmp_path / "outputs" / "store").glob("*")), 20)


def test_a_job_that_is_requeued_does_what_is_left(start: Callable[..., Command]) -> None:
    command = start(*FAKE, "system=mini", "topology=aggregated", "aiperf.concurrency=2,4", SLOW)
    command.wait_for(lambda event: event["event"] == "measurement")
    slurm("scontrol", "requeue", job_of(command))
    code, _, err = command.ended()
    assert code == 0, err
    assert len(command.events("deployment_start")) == 2
    assert [event["verdict"] for event in command.events("measurement")] == ["valid", "valid"]


def test_a_search_is_one_job_and_goes_on_from_what_is_known(start: Callable[..., Command]) -> None:
    gate = "gates=['time_to_first_token_ms.p99 <= 200']"
    assert start(*FAKE, "system=mini", "topology=aggregated", "aiperf.concurrency=2").ended()[0] == 0
    searched = ("search=bisect", "aiperf.concurrency=range(1,5)", gate, "format=json")
    code, out, err = start(*FAKE, "system=mini", "topology=aggregated", *searched).ended()
    assert code == 0, err
    assert err.count("is submitted") == 1
    assert "phase main: load starts (concurrency 2" not in err
    assert json.loads(out)["search"]["value"] == 4


REFUSED: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (
        ("hydra.launcher.partition=nowhere",),
        ("error: hydra.launcher: sbatch refuses a job of 1 node with 8 GPUs (", "--partition=nowhere): "),
    ),
    (("system.gpus_per_node=16",), ("sbatch refuses a job",)),
    (
        ("+hydra.launcher.additional_parameters.gpus_per_node=2",),
        ("hydra.launcher.additional_parameters.gpus_per_node = 2", "GPUs are those of the plan"),
    ),
    (("system.image=a/b:1",), ("system.container = 'pyxis'", "this Slurm has no Pyxis")),
    (("system.image=a/b:1", "system.container=enroot"), ("not installed: enroot",)),
]


@pytest.mark.parametrize(("more", "words"), REFUSED, ids=["partition", "GPUs", "planned", "pyxis", "enroot"])
def test_what_cannot_run_is_refused_before_anything_is_submitted(
    start: Callable[..., Command], more: tuple[str, ...], words: tuple[str, ...]
) -> None:
    code, _, err = start(*ONE, *more).ended()
    assert code == 2, err
    assert all(word in err for word in (*words, "nothing was started")), err
    assert not slurm("squeue", "--noheader")


def test_the_emitted_script_is_what_runs(start: Callable[..., Command]) -> None:
    code, _, err = start(*ONE, *load(1), "action=plan").ended()
    assert code == 0
    (script,) = list((start(*ONE, *load(1), "launch.detach=true").output_dir).glob("store/*/job.sbatch"))
    assert str(script) in err
    planned = script.read_text()
    assert subprocess.run(["sbatch", "--test-only", script], capture_output=True, check=False).returncode == 0
    wait_until(lambda: list(script.parent.glob("jobs/*_submission.sh")))
    (sent,) = script.parent.glob("jobs/*_submission.sh")
    assert sent.read_text() == planned == script.read_text()


def test_the_emitted_script_can_be_submitted_by_hand(start: Callable[..., Command]) -> None:
    asked = (*FAKE, "system=mini", "topology=aggregated")
    command = start(*asked, "action=plan")
    assert command.ended()[0] == 0
    (script,) = command.output_dir.glob("store/*/job.sbatch")
    slurm("sbatch", str(script))
    wait_until(lambda: list(script.parent.glob("*/result.json")))
    code, _, err = start(*asked).ended()
    assert (code, "1 done before" in err) == (0, True), err
