"""Many nodes and many jobs: a controller that knows 64 nodes, none of which is up."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable

import pytest
from commanding import Command
from slurm_cluster import DAEMONS_NEEDED, slurm, wait_until

pytestmark = DAEMONS_NEEDED
CLUSTER = {
    "NET": "none",
    "NODES": "64",
    "ACCT": "none",
    "CONF": "MaxJobCount=5\nMinJobAge=2",
}
Start = Callable[..., Command]
ON_HOLD = "+hydra.launcher.additional_parameters.hold=true"
"""Jobs of which nodes that are not up would make nothing."""
LARGE = (
    "system=slurm",
    "topology=separate",
    *(
        f"{role}.{size}"
        for role in ("prefill", "decode")
        for size in ("num_nodes=32", "tensor_parallel_size=8")
    ),
)


@pytest.mark.parametrize(
    ("backend", "more", "workers"),
    [
        ("vllm", (), 64),
        (
            "sglang",
            (
                "prefill.pipeline_parallel_size=2",
                "decode.pipeline_parallel_size=2",
                "constraints.tp_times_pp_le_gpus_per_node=false",
            ),
            32,
        ),
    ],
    ids=["a worker per node", "workers of two nodes"],
)
def test_64_nodes_are_one_job_that_slurm_takes(
    start: Start, backend: str, more: tuple[str, ...], workers: int
) -> None:
    command = start(*LARGE, *more, f"backend={backend}", "action=plan")
    code, out, err = command.ended()
    assert code == 0, err
    assert f"start order  frontend, decode-0-{workers // 2 - 1}, prefill-0-{workers // 2 - 1}" in out
    assert "idle GPUs    0 of 512" in out
    (script,) = command.output_dir.glob("store/*/job.sbatch")
    asked = subprocess.run(["sbatch", "--test-only", script], capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    assert "on nodes node[1-64]" in asked.stderr


def jobs() -> list[str]:
    return slurm("squeue", "--noheader", "--format=%i").split()


def test_more_jobs_than_the_controller_keeps_are_held_back(start: Start) -> None:
    others = [slurm("sbatch", "--parsable", "--hold", "--wrap=true") for _ in range(2)]
    shapes = ("system=mini", "system.max_nodes=64", "topology=aggregated", "aggregated.num_nodes=1,2,3")
    command = start(*shapes, ON_HOLD)
    wait_until(lambda: len(jobs()) == 4)
    assert command.process.stderr is not None
    assert any("Slurm takes no more jobs for now" in line for line in command.process.stderr)
    slurm("scancel", *others)
    wait_until(lambda: len(jobs()) == 3)
    command.process.send_signal(signal.SIGINT)
    code, _, err = command.ended()
    assert code == 130, err
    assert "left in the queue" in err
