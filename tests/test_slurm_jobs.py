"""Which jobs a command submits on a real Slurm: one for a whole sweep, several in a row, how long they may take."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from commanding import FAKE, Command
from slurm_cluster import NEEDED, SLOW, slurm

pytestmark = NEEDED
CLUSTER = {"ACCT": "none"}
TOGETHER = ("system=mini", "launch.single_allocation=true")


def jobs_of(command: Command) -> set[str]:
    """Every job that was ever submitted for the results of a command."""
    return {path.name.partition("_")[0] for path in command.output_dir.rglob("jobs/*_submission.sh")}


def script_of(job: str) -> str:
    return slurm("scontrol", "write", "batch_script", job, "-")


def test_one_allocation_serves_all_deployments_of_a_sweep(start: Callable[..., Command]) -> None:
    sweep = (*FAKE, *TOGETHER, "topology=separate,aggregated", "aiperf.concurrency=2,4", "backend=sglang")
    code, _, err = start(*sweep, "action=plan").ended()
    assert code == 0, err
    (planned,) = (start(*sweep, "action=status").output_dir).glob("allocations/*/job.sbatch")
    assert f"written: {planned}" in err
    text = planned.read_text()
    assert "#SBATCH --nodes=2\n" in text
    assert (
        subprocess.run(["sbatch", "--test-only", planned], capture_output=True, check=False).returncode == 0
    )
    command = start(*sweep)
    code, _, err = command.ended()
    assert code == 0, err
    (job,) = jobs_of(command)
    (sent,) = command.output_dir.glob(f"allocations/*/jobs/{job}_submission.sh")
    assert sent.read_text() == text
    starts = command.events("deployment_start", "deployment_stop")
    assert [event["event"] for event in starts] == ["deployment_start", "deployment_stop"] * 2
    results = command.results()
    assert [result["verdict"]["status"] for result in results] == ["valid"] * 4
    assert {result["ran"]["slurm_job"] for result in results} == {job}
    assert sorted(len(result["ran"]["hosts"]) for result in results) == [1, 1, 2, 2]
    assert not list(command.output_dir.glob("store/*/submitted.json"))


def test_an_allocation_is_left_found_again_and_requeued(start: Callable[..., Command]) -> None:
    sweep = (*FAKE, *TOGETHER, "topology=separate,aggregated", "aiperf.concurrency=2", SLOW)
    left = start(*sweep, "launch.detach=true", "format=json")
    code, out, err = left.ended()
    assert code == 0, err
    told = json.loads(out)
    assert (told["points"], len(told["jobs"]), len({entry["job"] for entry in told["jobs"]})) == (2, 2, 1)
    job = told["jobs"][0]["job"]
    points = json.loads(start(*sweep, "action=status", "format=json").ended()[1])["points"]
    assert [(point["status"], point["running"]["job"]) for point in points] == [("running", job)] * 2
    gone = start(*sweep)
    gone.wait_for(lambda event: event["event"] == "measurement")
    gone.process.send_signal(signal.SIGINT)
    code, _, err = gone.ended()
    assert code == 130
    assert f"detached: job {job} left in the queue" in err
    slurm("scontrol", "requeue", job)
    back = start(*sweep)
    code, _, err = back.ended()
    assert code == 0, err
    assert f"attached to job {job}" in err
    assert jobs_of(back) == {job}
    assert [event["verdict"] for event in back.events("measurement")] == ["valid", "valid"]


def test_points_left_over_at_the_time_limit_are_told_and_measured_by_the_same_command(
    start: Callable[..., Command], tmp_path: Path
) -> None:
    # The second load that is ever started takes too long, unless somebody says otherwise.
    hold = f"mkdir {tmp_path}/first 2>&- || test -e {tmp_path}/quick || sleep 50"
    bench = (
        f"bench.command=[bash,-c,'{hold}; exec python \"$0\" \"$@\"','{{servix_dir}}/tests/fakes/load.py']"
    )
    # Nothing is estimated to take long, so that the limit is the shortest there is.
    pace = [f"launch.estimate.{name}_s=0" for name in ("start", "phase", "request")]
    pace += ["launch.ready_timeout_s=30", "launch.stop_timeout_s=25", "hydra.launcher.timeout_spare_min=0"]
    sweep = (*FAKE, *TOGETHER, "topology=separate,aggregated", "aiperf.concurrency=2", *pace, bench)
    command = start(*sweep)
    command.wait_for(lambda event: event["event"] == "process_start")
    (job,) = jobs_of(command)
    assert "#SBATCH --time=1\n" in script_of(job)
    code, _, err = command.ended()
    assert code == 3, err
    assert "time was up, and 1 point is left over: the same command goes on" in err
    verdicts = {result["verdict"]["status"]: result["verdict"]["reasons"] for result in command.results()}
    assert sorted(verdicts) == ["failed", "valid"]
    assert verdicts["failed"][0] == f"job {job} reached its time limit (hydra.launcher.timeout_min)"
    (tmp_path / "quick").touch()
    again = start(*sweep)
    code, _, err = again.ended()
    assert code == 0, err
    # One attempt was cut short, the next is the verdict of that.
    assert sorted(result["attempt"] for result in again.results()) == [1, 3]


def test_detached_points_that_take_longer_than_a_job_may_are_jobs_in_a_row(
    start: Callable[..., Command],
) -> None:
    pace = ("launch.estimate.start_s=10", "launch.estimate.phase_s=50", "launch.estimate.request_s=0.01")
    sweep = (*FAKE, "system=mini", "topology=aggregated", "aiperf.concurrency=1,2,4", *pace)
    sweep = (*sweep, "hydra.launcher.timeout_min=2", "bench.timeout_s=60")
    code, _, err = start(*sweep, "action=plan").ended()
    assert [word.rpartition("/")[2] for word in err.split() if "sbatch" in word] == [
        "job.sbatch",
        "job-2.sbatch",
    ]
    code, out, err = start(*sweep, "launch.detach=true", "format=json").ended()
    assert code == 0, err
    first, second = (entry["job"] for entry in json.loads(out)["jobs"])
    assert f"afterany:{first}" in slurm("scontrol", "show", "job", second)
    assert [entry["points"] for entry in json.loads(out)["jobs"]] == [2, 1]
    points = json.loads(start(*sweep, "action=status", "format=json").ended()[1])["points"]
    assert {point["status"] for point in points} <= {"running", "done"}
    back = start(*sweep)
    code, _, err = back.ended()
    assert code == 0, err
    assert jobs_of(back) == {first, second}
    assert [result["attempt"] for result in back.results()] == [1, 1, 1]
    assert {result["ran"]["slurm_job"] for result in back.results()} == {first, second}
