"""What goes wrong on a cluster, on a real one: nodes, controllers and accounts that go, and jobs that have to wait."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commanding import FAKE, VALID, Command, Sweep, environment
from slurm_cluster import NEEDED, ONE, Cluster, job_of, load, slurm, under_load, verdict, wait_until

from launchers import sbatch

pytestmark = NEEDED
CLUSTER = {"CONF": "SlurmdTimeout=6\nMessageTimeout=5\nAccountingStorageEnforce=limits,qos"}
Start = Callable[..., Command]
SHAPE = ("system=mini", "topology=aggregated", "backend=vllm")


@pytest.fixture(autouse=True)
def whole(cluster: Cluster) -> Iterator[None]:
    """What a test has killed runs again afterwards, and nothing of it is left on a node."""
    yield
    cluster.script("start")
    slurm("scancel", "--user=root")
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not tasks_left(cluster), 8)
        return
    # Where its job has only just ended, Slurm leaves the tasks of a node that comes back alone until it looks again.
    slurm("scontrol", "reconfigure")
    wait_until(lambda: not tasks_left(cluster), 40)


def tasks_left(cluster: Cluster) -> list[str]:
    """What runs on nodes, without Slurm's own daemons: one of a step may wait a minute for its controller."""
    found = []
    for pid in (pid for pids in cluster.processes().values() for pid in pids):
        with contextlib.suppress(OSError):
            found.append(what(pid))
    return [one for one in found if one != "step daemon"]


@pytest.fixture
def sweep(tmp_path: Path, start: Start) -> Sweep:
    """Two points whose second measurement can be held."""
    made = Sweep(tmp_path, start)
    made.hold("answers-2")
    return made


def held(sweep: Sweep, *more: str) -> Command:
    """A command whose second point is under way."""
    command = sweep.begin(*SHAPE, *more)
    command.until(sweep.held)
    return command


def kill_the_controller(cluster: Cluster, command: Command) -> None:
    (run,) = command.output_dir.glob("store/*/runs/1")
    cluster.saved(run.stat().st_mtime)
    cluster.kill("slurmctld")


def waits(partition: str = "") -> bool:
    """A job is in the queue again."""
    states = [line.split() for line in slurm("squeue", "--noheader", "--format=%P %T").splitlines()]
    return any(state == "PENDING" and partition in (name, "") for name, state in states)


def attached(command: Command, job: str) -> bool:
    assert command.process.stderr is not None
    return any(f"attached to job {job}" in line for line in command.process.stderr)


def told(command: Command) -> str:
    code, _, err = command.ended()
    assert code == 0, err
    return err


@pytest.mark.parametrize("role", ["first", "other"])
def test_a_node_that_is_lost_is_named_and_only_what_is_missing_is_measured_again(
    cluster: Cluster, sweep: Sweep, role: str
) -> None:
    command = held(sweep, "topology=separate")
    nodes = slurm("scontrol", "show", "hostnames", slurm("squeue", "--noheader", "--format=%N")).split()
    lost = nodes[0 if role == "first" else 1]
    cluster.kill(f"slurmd-{lost}")
    wait_until(waits, 40)
    sweep.release()
    err = told(command)
    assert f"lost {lost} (not responding); it begins anew" in err, err
    assert command.attempts()[0] == VALID[0]
    assert command.attempts()[-1][2] == "valid"
    assert not any(attempt[2] in ("failed", "invalid") for attempt in command.attempts())
    assert lost not in {host for result in command.results()[1:] for host in result["ran"]["hosts"]}


def test_a_controller_that_starts_again_costs_nothing(cluster: Cluster, sweep: Sweep) -> None:
    sweep.hold("answers-1")
    command = held(sweep)
    kill_the_controller(cluster, command)
    code, _, err = sweep.begin(*SHAPE).ended()
    assert code == 2, err
    assert "Slurm does not answer: Unable to contact slurm controller" in err
    # The step of the second point is asked for while nobody answers.
    sweep.release()
    wait_until(lambda: len(command.events("phase_start")) == 2)
    time.sleep(1)
    cluster.script("start")
    err = told(command)
    assert "Slurm does not answer" in err
    assert command.attempts() == VALID


def test_a_command_gives_up_on_a_controller_and_the_next_attaches(cluster: Cluster, sweep: Sweep) -> None:
    command = held(sweep, "hydra.launcher.silence_min=0.05")
    job = job_of(command)
    kill_the_controller(cluster, command)
    code, _, err = command.ended()
    assert code == 1, err
    assert "Slurm has not answered for 3 s (hydra.launcher.silence_min)" in err
    assert "the same command attaches" in err
    cluster.script("start")
    again = sweep.begin(*SHAPE)
    assert attached(again, job)
    sweep.release()
    told(again)
    assert again.attempts() == VALID


def test_who_comes_back_after_the_command_was_killed_attaches(sweep: Sweep) -> None:
    command = held(sweep)
    job = job_of(command)
    command.process.kill()
    command.process.communicate()
    again = sweep.begin(*SHAPE)
    assert attached(again, job)
    sweep.release()
    told(again)
    assert again.attempts() == VALID
    assert len(again.events("deployment_start")) == 1


def test_without_accounts_the_controller_says_how_a_job_ended(cluster: Cluster, start: Start) -> None:
    command = start(*ONE, *load(60))
    job = under_load(command)
    cluster.kill("slurmdbd")
    slurm("scancel", job)
    assert f"job {job} was cancelled" in verdict(command)


def test_a_job_that_is_preempted_goes_on_later(sweep: Sweep) -> None:
    command = held(sweep, "hydra.launcher.partition=low")
    slurm("sbatch", "--nodes=4", "--exclusive", "--wrap=sleep 3", "--output=/dev/null")
    wait_until(lambda: waits("low"))
    sweep.release()
    assert "was preempted; it begins anew" in told(command)
    assert [attempt for attempt in command.attempts() if attempt[2] != "none"] == [
        VALID[0],
        (VALID[1][0], 2, "valid"),
    ]


def test_a_job_that_waits_says_why(start: Start) -> None:
    on_hold = "+hydra.launcher.additional_parameters.hold=true"
    command = start(*FAKE, *SHAPE, on_hold)
    wait_until(lambda: slurm("squeue", "--noheader"))
    job = job_of(command)
    code, out, _ = start(*FAKE, *SHAPE, "action=status").ended()
    assert code == 0
    assert "pending (JobHeldUser: it waits until somebody releases it (scontrol release))" in out
    slurm("scontrol", "release", job)
    assert f"job {job} is pending (JobHeldUser" in told(command)


def test_a_job_that_is_larger_than_the_cluster_is_refused(start: Start) -> None:
    code, _, err = start(*FAKE, *SHAPE, "system.max_nodes=9", "num_nodes=5").ended()
    assert code == 2, err
    assert "sbatch refuses a job of 5 nodes with 8 GPUs each" in err


def test_a_queue_that_is_full_is_waited_for(start: Start) -> None:
    slurm("sacctmgr", "-i", "modify", "qos", "normal", "set", "MaxSubmitJobsPerUser=1")
    try:
        command = start(*FAKE, *SHAPE, "trial=1,2", "topology=aggregated,shared")
        err = told(command)
    finally:
        slurm("sacctmgr", "-i", "modify", "qos", "normal", "set", "MaxSubmitJobsPerUser=-1")
    assert "Slurm takes no more jobs for now: QOSMaxSubmitJobPerUserLimit" in err
    assert err.count("is submitted") == 2
    assert [result["verdict"]["status"] for result in command.results()] == ["valid"] * 4


def test_a_job_that_was_taken_unheard_is_found_again(cluster: Cluster, tmp_path: Path) -> None:
    script = "#!/bin/sh\n#SBATCH --output=/dev/null\nsleep 60\n"
    controller = cluster.pid("slurmctld")
    os.kill(controller, signal.SIGSTOP)
    try:
        with pytest.raises(sbatch.Later, match="timed out"):
            sbatch.submitted(tmp_path / "jobs", script)
    finally:
        os.kill(controller, signal.SIGCONT)
    wait_until(lambda: slurm("squeue", "--noheader"))
    job = sbatch.submitted(tmp_path / "jobs", script)
    assert slurm("squeue", "--noheader", "--format=%i") == job
    assert [path.name for path in (tmp_path / "jobs").iterdir() if not path.is_symlink()] == [
        f"{job}_submission.sh"
    ]


def what(pid: int) -> str:
    """What a process on a node is there for."""
    env = environment(pid)
    if "SERVIX_STEP" in env:
        return f"task {env['SLURM_JOB_NAME']}"
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    known = {b"launchers.job": "session", b"srun": "srun", b"slurmstepd:": "step daemon"}
    names = [Path(os.fsdecode(word)).name.encode() for word in words[:8]]
    if b"guard.py" in names:
        return "guardian"
    return next((known[word] for word in [words[0].split(b" ")[0], *names] if word in known), str(words))


def test_nothing_runs_on_a_node_that_is_not_in_the_plan(cluster: Cluster, sweep: Sweep) -> None:
    command = held(sweep, "topology=separate")
    seen = [{what(pid) for pid in pids} for pids in cluster.processes().values()]
    # A node may have a daemon left of a step before.
    first, second = (one for one in seen if one - {"step daemon"})
    own = {"step daemon", "session", "guardian", "srun"}
    assert first == own | {"task decode-0", "task frontend", "task aiperf-main"}
    assert second == {"step daemon", "task prefill-0"}
    tasks = [environment(pid) for pids in cluster.processes().values() for pid in pids]
    (folder,) = {
        env["TMPDIR"] for env in tasks if env.get("SLURM_JOB_NAME") == "aiperf-main" and "HOLD" in env
    }
    assert Path(folder).is_dir()
    sweep.release()
    told(command)
    assert not Path(folder).exists()
    wait_until(lambda: not tasks_left(cluster), 10)
