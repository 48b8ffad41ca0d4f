"""Which jobs a command submits on a real Slurm: one for a whole sweep, several in a row, how long they may take."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from commanding import FAKE, Command
from slurm_cluster import NEEDED, SLOW, load, slurm, wait_until

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
    assert subprocess.run(["sbatch", "--test-only", planned], capture_output=True, check=False).returncode == 0
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
