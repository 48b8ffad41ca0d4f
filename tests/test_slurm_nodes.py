"""What runs on the nodes of a real Slurm: workers over several nodes, hooks, telemetry, containers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from commanding import FAKE, Command, environment
from slurm_cluster import NEEDED, load, tasks, under_load, verdict, wait_until

pytestmark = NEEDED
CLUSTER = {"ACCT": "none"}
OVER_NODES = (
    *("system=mini", "topology=separate", "prefill.num_nodes=2", "decode.num_nodes=2"),
    *("prefill.tensor_parallel_size=16", "decode.tensor_parallel_size=16"),
    "constraints.tp_times_pp_le_gpus_per_node=false",
)


def test_workers_over_two_nodes_each(start: Callable[..., Command], tmp_path: Path) -> None:
    assert start(*FAKE, *OVER_NODES).ended()[0] == 0
    (folder,) = (tmp_path / "outputs" / "store").glob("*-tiny-*")
    told = {name: (folder / f"runs/1/logs/{name}.log").read_text() for name in ("decode-0.1", "prefill-0.1")}
    assert "rank 1 of 2: reached " in told["decode-0.1"]
    assert told["decode-0.1"].split("reached")[1] != told["prefill-0.1"].split("reached")[1]
    command = start(*OVER_NODES, *load(60), output_dir=tmp_path / "second")
    under_load(command)
    (folder,) = (tmp_path / "second" / "store").glob("*-tiny-*")
    found = tasks(folder)
    nodes = {name: environment(pid)["SLURMD_NODENAME"] for name, pid in found.items()}
    parts = ["decode-0.0", "decode-0.1", "prefill-0.0", "prefill-0.1"]
    assert len({nodes[name] for name in parts}) == 4
    assert nodes["frontend"] == nodes["decode-0.0"]
    assert {environment(found[name])["CUDA_VISIBLE_DEVICES"] for name in parts} == {"0,1,2,3,4,5,6,7"}
    os.kill(found["prefill-0.1"], signal.SIGKILL)
    said = verdict(command)
    assert f"prefill-0.1 (rank 1 on node 3, {nodes['prefill-0.1']}) was killed by SIGKILL" in said
    wait_until(lambda: not tasks(folder), 20)


def test_hooks_are_steps_on_their_nodes(start: Callable[..., Command]) -> None:
    say = "echo {} $(hostname) $CUDA_VISIBLE_DEVICES >> {{results_dir}}/said"
    hooks = (
        f"node_setup_command='{say.format('setup')}'",
        "startup_command='echo up $(hostname) $CUDA_VISIBLE_DEVICES >> said'",
        "pre_test='srun --overlap --nodes=2 --ntasks=2 hostname >> {results_dir}/seen'",
        f"post_test='{say.format('post')}; test $(hostname) = {{node:1}}'",
    )
    command = start(*FAKE, "system=mini", "topology=separate", "decode.tensor_parallel_size=2", *hooks)
    code, _, err = command.ended()
    assert code == 3, err
    assert "pre-test on" not in err, err
    (run,) = command.output_dir.glob("store/*/runs/1")
    (result,) = command.results()
    first, second = result["ran"]["hosts"]
    everything = "0,1,2,3,4,5,6,7"
    assert sorted((run / "said").read_text().splitlines()) == sorted(
        [
            *(f"setup {host} {everything}" for host in (first, second)),
            *(f"up {first} 0,1", f"up {second} 0", f"post {first} {everything}"),
        ]
    )
    assert sorted((run / "seen").read_text().split()) == sorted([first, second])
    assert result["verdict"]["status"] == "invalid"
    assert f"post-test on node 0, {first}, exited with code 1" in result["verdict"]["reasons"][0]
