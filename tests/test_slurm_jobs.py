"""Which jobs a command submits on a real Slurm: one for a whole sweep, several in a row, how long they may take."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commanding import FAKE, ROOT, Command
from slurm_cluster import NEEDED, slurm, wait_until

pytestmark = NEEDED
CLUSTER = {"CONF": "AccountingStorageEnforce=limits"}
DOWNLOADED = ("model.id=acme/tiny", "model.path=null", "system=mini", "topology=aggregated")
"""A model of the hub, which the engine itself may not ask (HF_HUB_OFFLINE)."""
TOGETHER = ("system=mini", "launch.single_allocation=true")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub that nodes reach, too, and that asks for a token; gives the file it writes requests to."""
    shutil.copytree(ROOT / "config" / "model" / "files" / "tiny", tmp_path / "hub" / "acme" / "tiny")
    log, config = tmp_path / "requests.txt", Path(os.environ["SLURM_CONF"]).read_text()
    words = [sys.executable, "-m", "tests.fakes.hub", str(tmp_path / "hub"), "hf_sesame"]
    with log.open("w") as out, subprocess.Popen(words, stdout=out, cwd=ROOT) as server:
        try:
            wait_until(log.read_text)
            port = log.read_text().split()[0]
            (address,) = re.findall(r"SlurmctldHost=\S+\((.*)\)", config)
            monkeypatch.setenv("HF_ENDPOINT", f"http://{address}:{port}")
            monkeypatch.setenv("HF_TOKEN", "hf_sesame")
            yield log
        finally:
            server.terminate()


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


def test_an_allocation_is_left_found_again_and_requeued(
    start: Callable[..., Command], tmp_path: Path
) -> None:
    # The first load, and those after it, each wait for a word of ours.
    which = f"n=1; mkdir {tmp_path}/begun 2>&- || n=2; until test -e {tmp_path}/go-$n; do sleep 0.1; done"
    bench = (
        f"bench.command=[bash,-c,'{which}; exec python \"$0\" \"$@\"','{{servix_dir}}/tests/fakes/load.py']"
    )
    sweep = (*FAKE, *TOGETHER, "topology=separate,aggregated", "aiperf.concurrency=2", bench)
    left = start(*sweep, "launch.detach=true", "format=json")
    code, out, err = left.ended()
    assert code == 0, err
    told = json.loads(out)
    assert (told["points"], len(told["jobs"]), len({entry["job"] for entry in told["jobs"]})) == (2, 2, 1)
    job = told["jobs"][0]["job"]
    points = json.loads(start(*sweep, "action=status", "format=json").ended()[1])["points"]
    assert [(point["status"], point["running"]["job"]) for point in points] == [("running", job)] * 2
    gone = start(*sweep)
    assert is_attached(gone, job)
    (tmp_path / "go-1").touch()
    gone.wait_for(lambda event: event["event"] == "measurement")
    gone.process.send_signal(signal.SIGINT)
    code, _, err = gone.ended()
    assert code == 130
    assert f"detached: job {job} left in the queue" in err
    slurm("scontrol", "requeue", job)
    back = start(*sweep)
    assert is_attached(back, job)
    (tmp_path / "go-2").touch()
    code, _, err = back.ended()
    assert code == 0, err
    assert jobs_of(back) == {job}
    assert [event["verdict"] for event in back.events("measurement")] == ["valid", "valid"]


def is_attached(command: Command, job: str) -> bool:
    """Returns once it says so, or has ended without."""
    assert command.process.stderr is not None
    return any(f"attached to job {job}" in line for line in command.process.stderr)


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


def test_jobs_beyond_what_the_queue_takes_wait_their_turn(start: Callable[..., Command]) -> None:
    slurm("sacctmgr", "--immediate", "modify", "user", "root", "set", "MaxSubmitJobs=1")
    try:
        command = start(*FAKE, "system=mini", "topology=separate,aggregated", "aiperf.concurrency=2")
        code, _, err = command.ended()
    finally:
        slurm("sacctmgr", "--immediate", "modify", "user", "root", "set", "MaxSubmitJobs=-1")
    assert code == 0, err
    assert "Slurm takes no more jobs for now" in err
    assert len(jobs_of(command)) == 2
    assert [result["verdict"]["status"] for result in command.results()] == ["valid"] * 2


def test_no_job_is_longer_than_its_partition_allows(start: Callable[..., Command]) -> None:
    slurm("scontrol", "update", "PartitionName=low", "MaxTime=12")
    command = start(
        *FAKE, *TOGETHER, "topology=separate,aggregated", "hydra.launcher.partition=low", "action=plan"
    )
    code, _, err = command.ended()
    (script,) = command.output_dir.glob("allocations/*/job.sbatch")
    assert (code, "#SBATCH --time=12\n" in script.read_text()) == (0, True), err
    assert subprocess.run(["sbatch", "--test-only", script], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("how", ["login", "job"])
def test_models_are_downloaded_before_nodes_with_gpus_are_asked_for(
    start: Callable[..., Command], tmp_path: Path, hub: Path, how: str
) -> None:
    home = f"system.hf_home={tmp_path}/hf home"
    asked = (*FAKE, *DOWNLOADED, home, "aiperf.concurrency=2")
    code, _, err = start(*asked).ended()
    assert (code, "HF_HUB_OFFLINE is set" in err) == (2, True), err
    asked = (*asked, f"launch.prefetch={how}")
    command = start(*asked)
    code, _, err = command.ended()
    assert code == 0, err
    said = hub.read_text()
    assert "/api/models/acme/tiny/revision/main" in said
    before = "job [0-9]+ downloads first: acme/tiny" if how == "job" else "model acme/tiny is downloaded into"
    assert re.search(f"(?s){before}.*is submitted", err), err
    assert len(jobs_of(command)) == (2 if how == "job" else 1)
    (result,) = command.results()
    assert result["ran"]["model"]["revision"] == "0123456789abcdef0123456789abcdef01234567"
    left = [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_sesame" in path.read_bytes()]
    assert left == []
    # What is there is told, and nobody is asked again.
    code, _, err = start(*asked, "trial=2", "action=plan").ended()
    assert code == 0, err
    assert "model acme/tiny is in " in err
    assert hub.read_text() == said


def test_no_job_with_gpus_starts_when_a_download_fails(
    start: Callable[..., Command], tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    asked = (*FAKE, *DOWNLOADED, f"system.hf_home={tmp_path}/hf", "aiperf.concurrency=2")
    code, _, err = start(*asked, "launch.prefetch=login").ended()
    assert code == 2, err
    told = "'hf download acme/tiny' failed with exit code 1: Error: Access denied"
    assert all(word in err for word in ("model.id = 'acme/tiny'", told, "nothing was started")), err
    command = start(*asked, "launch.prefetch=job")
    command.ended()
    (result,) = command.results()
    first, *rest = result["verdict"]["reasons"]
    assert first.startswith(f"not downloaded: {told}"), first
    assert "end of" in rest[0]
    assert not command.events("deployment_start")
    assert not list(command.output_dir.glob("store/*/jobs/*.log"))
    # Nobody watched this one.
    assert start(*asked, "launch.prefetch=job", "launch.detach=true").ended()[0] == 0
    wait_until(lambda: not slurm("squeue", "--noheader"))
    (point,) = json.loads(start(*asked, "action=status", "format=json").ended()[1])["points"]
    assert point["reasons"][0].startswith("not downloaded: "), point
