"""What runs on the nodes of a real Slurm: workers over several nodes, hooks, telemetry, containers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from commanding import FAKE, QUICK, ROOT, Command, environment
from slurm_cluster import NEEDED, load, tasks, under_load, verdict, wait_until

pytestmark = NEEDED
CLUSTER = {"ACCT": "none"}
OVER_NODES = (
    *("system=mini", "topology=separate", "prefill.num_nodes=2", "decode.num_nodes=2"),
    *("prefill.tensor_parallel_size=16", "decode.tensor_parallel_size=16"),
    "constraints.tp_times_pp_le_gpus_per_node=false",
)


def test_workers_over_two_nodes_each(start: Callable[..., Command], tmp_path: Path) -> None:
    assert start(*FAKE, *OVER_NODES, "system.gpu_log=[no-such-nvidia-smi,-l,'1']").ended()[0] == 0
    (folder,) = (tmp_path / "outputs" / "store").glob("*-tiny-*")
    told = {name: (folder / f"runs/1/logs/{name}.log").read_text() for name in ("decode-0.1", "prefill-0.1")}
    assert "rank 1 of 2: reached " in told["decode-0.1"]
    assert told["decode-0.1"].split("reached")[1] != told["prefill-0.1"].split("reached")[1]
    # Nodes without nvidia-smi are no trouble.
    assert "not installed here" in (folder / "runs/1/logs/gpu-log-3.log").read_text()
    assert not (folder / "runs/1/gpus").exists()
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


SMI = """#!/bin/sh
echo 'timestamp, index, utilization.gpu [%]'
while true; do echo "$(date +%s), 0, 50 % of $(hostname), $CUDA_VISIBLE_DEVICES"; sleep 0.2; done
"""
EXPORTER = 'system.dcgm.command=[python,"{servix_dir}/tests/fakes/dcgm.py","{host}","{port}"]'


def test_metrics_come_from_every_process_and_node(start: Callable[..., Command], tmp_path: Path) -> None:
    """AIPerf itself says what it scraped; exporters and logs of GPU use are steps with all GPUs of their nodes."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text(SMI)
    smi.chmod(0o755)
    telemetry = (
        "aiperf.server_metrics=auto",
        "aiperf.gpu_telemetry=auto",
        f"system.gpu_log=[{smi}]",
        EXPORTER,
    )
    command = start("system=mini", "topology=separate", "prefill.num_nodes=2", *QUICK, *telemetry)
    code, _, err = command.ended()
    assert code == 0, err
    (result,) = command.results()
    hosts = result["ran"]["hosts"]
    (artifacts,) = command.output_dir.glob("store/*/*/attempts/1/artifacts")
    scraped = json.loads((artifacts / "server_metrics_export.json").read_text())
    ports = [(hosts[0], 8000), *((host, 9090) for host in hosts)]
    assert sorted(scraped["summary"]["endpoints_successful"]) == sorted(
        f"http://{host}:{port}/metrics" for host, port in ports
    )
    components = {
        (series["endpoint_url"].split(":")[1].strip("/"), series["labels"]["dynamo_component"])
        for metric in scraped["metrics"].values()
        for series in metric["series"]
        if "dynamo_component" in series.get("labels", {}) and ":9090/" in series["endpoint_url"]
    }
    assert components >= {(hosts[0], "backend"), (hosts[1], "prefill"), (hosts[2], "prefill")}
    lines = (artifacts / "gpu_telemetry_export.jsonl").read_text().splitlines()
    seen = {
        (record["telemetry_source_url"], record["hostname"], record["gpu_index"])
        for record in map(json.loads, lines)
    }
    assert seen == {(f"http://{host}:9400/metrics", host, gpu) for host in hosts for gpu in range(8)}
    for node, host in enumerate(hosts):
        head, *rest = (artifacts.parent / f"deployment/gpus/node-{node}.csv").read_text().splitlines()
        assert head.startswith("timestamp, index")
        assert all(line.endswith(f"50 % of {host}, 0,1,2,3,4,5,6,7") for line in rest)
        assert rest
    assert not any(tasks(folder) for folder in command.output_dir.glob("store/*"))


def test_every_step_is_in_the_image(
    start: Callable[..., Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program with Apptainer's surface stands in for it, and says what it was asked."""
    monkeypatch.setenv("PATH", f"{ROOT / 'tests/fakes/bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    image = tmp_path / "engine 1.sif"
    hooks = (
        "startup_command='echo $APPTAINER_CONTAINER $HF_TOKEN $HOME > up'",
        "node_setup_command=[touch,setup]",
    )
    contained = (
        "system=mini",
        "topology=aggregated",
        f"system.image='{image}'",
        "system.container=apptainer",
        *hooks,
    )
    assert "there is no such file" in start(*FAKE, *contained).ended()[2]
    image.touch()
    said = verdict(start(*FAKE, *contained))
    assert "exited with code 255" in said
    assert f"image format not recognized: {image}" in said
    image.write_text("an image")
    wrong = start(*FAKE, *contained, "system.mounts=['/nowhere:/data']", output_dir=tmp_path / "wrong")
    assert "mount /nowhere:/data error: mount source doesn't exist" in verdict(wrong)
    Path(f"{image}.seen").unlink(missing_ok=True)
    command = start(*FAKE, *contained, "aggregated.tensor_parallel_size=2", output_dir=tmp_path / "right")
    code, _, err = command.ended()
    assert code == 0, err
    seen = {entry["name"]: entry for entry in map(json.loads, Path(f"{image}.seen").read_text().splitlines())}
    assert set(seen) == {"frontend", "aggregated-0", "aiperf-main"}
    assert (seen["aggregated-0"]["gpus"], seen["frontend"]["gpus"]) == ("0,1", "")
    assert all(entry["nv"] for entry in seen.values())
    assert "hf_secret" not in Path(f"{image}.seen").read_text()
    (run,) = command.output_dir.glob("store/*/runs/1")
    assert seen["aggregated-0"]["mounts"] == [f"{run.parents[1]}:{run.parents[1]}", f"{ROOT}:{ROOT}"]
    assert (run / "up").read_text() == f"{image} hf_secret {run}/home\n"
    assert (run / "setup").exists()
    (result,) = command.results()
    assert result["ran"]["container"]["by"] == "apptainer"
    assert result["ran"]["container"]["image"].startswith("8 bytes, changed 20")
