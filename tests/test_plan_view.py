"""`action=plan`: the map for people, one JSON document for programs."""

import json
from pathlib import Path

import golden
import pytest
from compiling import plan, run

from compiler.plan_json import from_json, to_json

SLURM = (
    *("system=slurm", "system.gpus_per_node=8", "topology=shared", "num_nodes=2"),
    *("prefill.num_nodes=2", "decode.num_nodes=2"),
    *("prefill.tensor_parallel_size=4", "decode.tensor_parallel_size=4"),
)
VIEWS = {
    "default": (),
    "shared-slurm": SLURM,
    "sweep-with-a-problem": ("nodes='n[1-3]'", "decode.tensor_parallel_size=2,16", "aiperf.concurrency=2,4"),
    "hooks": (
        *("system=slurm", "topology=aggregated", "system.image=/images/x.sqsh", "system.container=enroot"),
        *("node_setup_command=[true_]", "startup_command=[true_]", "pre_test=[true_]", "post_test=[true_]"),
        *("system.dcgm.command=[dcgm-exporter,--address,'{host}:{port}']", "aiperf.gpu_telemetry=auto"),
    ),
    "tp16": (
        *(
            "system=slurm",
            "topology=aggregated",
            "aggregated.num_nodes=4",
            "aggregated.tensor_parallel_size=16",
        ),
        *("constraints.tp_times_pp_le_gpus_per_node=false", "dynamo.discovery=etcd"),
    ),
}


def without_digests(text: str, arguments: tuple[str, ...]) -> str:
    """Digests change with every default, and have a test of their own."""
    made = plan(*arguments)
    found = [held.digest for held in made.deployments] + [one.digest for one in made.points if one.digest]
    for digest in dict.fromkeys(found):
        text = text.replace(digest.partition("-")[2][:10], "0123456789")
    return text


@pytest.mark.parametrize("name", VIEWS)
def test_the_map(name: str, tmp_path: Path) -> None:
    ran = run(["action=plan", f"output_dir={tmp_path}/outputs", *VIEWS[name]])
    assert ran.code == (2 if name == "sweep-with-a-problem" else 0)
    text = without_digests(ran.out, VIEWS[name]).replace(f"output_dir={tmp_path}/outputs ", "")
    golden.check(f"plan/{name}.txt", text)
    # On Slurm the script of a job is there to be looked at; nothing else is written.
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert written == ({"job.sbatch", "job.json"} if "system=slurm" in VIEWS[name] else set())


@pytest.mark.parametrize("name", VIEWS)
def test_the_document(name: str, tmp_path: Path) -> None:
    """Exactly one JSON document on standard output, which loads back to the plan."""
    ran = run(["action=plan", "format=json", f"output_dir={tmp_path}/outputs", *VIEWS[name]])
    document = json.loads(ran.out)
    read = from_json(document)
    assert to_json(read) == document
    assert read.valid == (ran.code == 0)
    assert read.deployments == plan(*VIEWS[name]).deployments


def test_two_shared_nodes_on_slurm(tmp_path: Path) -> None:
    ran = run(["action=plan", "format=json", f"output_dir={tmp_path}/outputs", *SLURM])
    document = json.loads(ran.out)
    assert document["schema"] == "servix.plan/1"
    (deployment,) = document["deployments"]
    assert (deployment["num_nodes"], deployment["gpus_per_node"], deployment["idle_gpus"]) == (2, 8, [])
    assert deployment["nodes"] == [{"index": 0, "name": None}, {"index": 1, "name": None}]
    found = [
        (process["role"], process["worker"], process["node"], process["gpus"], process["ports"]["nixl"])
        for process in deployment["processes"]
        if process["worker"] is not None
    ]
    assert found == [
        ("decode", 0, 0, [0, 1, 2, 3], {"port": 5557, "count": 4}),
        ("decode", 1, 1, [0, 1, 2, 3], {"port": 5557, "count": 4}),
        ("prefill", 0, 0, [4, 5, 6, 7], {"port": 5561, "count": 4}),
        ("prefill", 1, 1, [4, 5, 6, 7], {"port": 5561, "count": 4}),
    ]
    (point,) = document["points"]
    assert point["deployment"] == deployment["digest"]
    assert point["status"] == "new"
    assert {"name", "overrides", "digest", "deployment", "status", "problems"} <= set(point)
    frontend = next(process for process in deployment["processes"] if process["role"] == "frontend")
    assert (frontend["node"], frontend["gpus"], frontend["worker"]) == (0, [], None)


def test_the_document_of_an_invalid_point(tmp_path: Path) -> None:
    arguments = ["action=plan", "format=json", "decode.tensor_parallel_size=16", "dynamo.port=0"]
    ran = run([*arguments, f"output_dir={tmp_path}/outputs"])
    assert ran.code == 2
    document = json.loads(ran.out)
    (point,) = document["points"]
    assert (point["status"], point["digest"], document["deployments"]) == ("invalid", None, [])
    for problem in point["problems"]:
        assert set(problem) == {"level", "code", "key", "value", "reason", "hint", "origin"}
    assert "error: " in ran.err


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (("max_points=0", "output_dir=here"), "default"),
        (
            ("trial=-1", "output_dir=here", "+decode.args.block_size=64"),
            "trial=-1 +decode.args.block_size=64",
        ),
    ],
    ids=["command", "point"],
)
def test_a_point_that_cannot_be_read_is_called_by_what_makes_it(typed: tuple[str, ...], name: str) -> None:
    (point,) = plan(*typed).points
    assert (point.name, point.valid) == (name, False)
