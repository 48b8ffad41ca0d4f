"""The script of a job: recorded text, what sbatch is asked for, hostile values, and the command lines of steps."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import golden
import pytest
from compiling import plan
from hydra_plugins import servix

from compiler import limit, plan_json
from compiler.allocation import Allocation, allocation, problems
from compiler.batch import SCRIPT, WORK, Place, Size, batch, options
from compiler.errors import format_problem
from compiler.plan import Deployment, Node, Plan
from launchers import sbatch
from launchers.allocated import Allocated, NoAllocation, _bound
from launchers.containers import resolved
from launchers.host import PROXIES, SERVIX_DIR
from launchers.submitted import work

OVER_NODES = (
    *("prefill.num_nodes=2", "decode.num_nodes=2"),
    *("prefill.tensor_parallel_size=16", "decode.tensor_parallel_size=8", "decode.pipeline_parallel_size=2"),
    *("constraints.tp_times_pp_le_gpus_per_node=false", "constraints.prefill_tp_le_decode_tp=false"),
)
PLACE = Place("/shared/store/some 100%-0123456789", "/opt/servix", "/opt/servix/.venv/bin/python", "/home/me")
SIZE = Size(60)
FULL: dict[str, Any] = {
    "partition": "gpu",
    "account": "team",
    "qos": "high",
    "reservation": "night",
    "timeout_min": 90,
    "setup": ["module load cuda", "export X='a b'"],
    "srun_args": ["--mem=0"],
    "additional_parameters": {"comment": "it's $HOME #1", "hint": "nomultithread", "exclusive": False},
    "exclude": "bad[1-2]",
    "mem_gb": 100,
    "cpus_per_task": 32,
    "array_parallelism": 4,
}


def compiled(*arguments: str) -> tuple[Plan, Deployment]:
    made = plan("system=mini", *arguments)
    assert made.valid
    return made, made.deployments[0]


def undated(text: str, deployment: Deployment) -> str:
    """Digests change with every default, and have a test of their own."""
    return text.replace(deployment.digest, "v1-0123456789")


@pytest.mark.parametrize(
    ("name", "settings", "arguments"),
    [
        ("plain", {}, ("topology=shared",)),
        ("full", FULL, ("topology=separate", "decode.num_nodes=2", "launch.stop_timeout_s=40")),
        (
            "large",
            {},
            ("system.max_nodes=64", "topology=separate", "prefill.num_nodes=32", "decode.num_nodes=32"),
        ),
    ],
    ids=["plain", "full", "large"],
)
def test_the_script(name: str, settings: dict[str, Any], arguments: tuple[str, ...]) -> None:
    made, deployment = compiled(*arguments)
    asked = allocation(settings)
    files = batch([deployment], made.points, asked, PLACE, Size(asked.timeout_min or 60))
    golden.check(f"emit/{name}.job.sbatch", undated(files[SCRIPT], deployment))


def test_one_allocation_for_all_deployments_is_as_large_as_the_largest() -> None:
    made = plan("system=mini", "topology=separate,shared", "aiperf.concurrency=2,4")
    files = batch(made.deployments, made.points, Allocation(), PLACE, SIZE)
    text = files[SCRIPT]
    for number, deployment in enumerate(made.deployments):
        text = text.replace(deployment.digest, f"v1-{number}123456789")
    golden.check("emit/allocation.job.sbatch", text)
    read = plan_json.from_json(json.loads(files[WORK])["plan"])
    assert (len(read.deployments), len(read.points)) == (2, 4)


def test_nodes_that_are_named_are_all_in_the_allocation() -> None:
    _, first = compiled("topology=separate", "decode.nodes=[a]", "prefill.nodes=[b]")
    _, second = compiled("topology=aggregated", "aggregated.nodes=[c]")
    words = list(options([first, second], Allocation(), PLACE, SIZE))
    assert {"nodes=3", "nodelist=a,b,c"} <= {*words}


def test_the_second_job_of_a_deployment_has_files_of_its_own() -> None:
    made, deployment = compiled()
    files = batch([deployment], made.points, Allocation(), PLACE, Size(5, number=2))
    assert set(files) == {"job-2.sbatch", "job-2.json"}
    assert files["job-2.sbatch"].rstrip().endswith(" '/shared/store/some 100%-0123456789' job-2.json")


def test_hooks_and_accuracy_runs_count_in_the_time_of_a_job() -> None:
    two = ("topology=separate", "aiperf.concurrency=2,4")
    hooks = ("node_setup_command=date", "pre_test=date", "launch.hook_timeout_s=100")
    runs = ("accuracy=mmlu", "accuracy.timeout_s=1000")
    for arguments, of_all, of_one in (
        ((), 600, 600),
        (hooks, 800, 800),
        (runs, 2600, 1600),
        ((*hooks, *runs), 2800, 1800),
    ):
        made, deployment = compiled(*two, *arguments)
        assert limit.around_loads_s([deployment], made.points) == of_all
        assert limit.around_loads_s([deployment], made.points, 1) == of_one


def test_options_come_back_as_they_are() -> None:
    """sbatch reads its lines as a shell reads words."""
    _, deployment = compiled()
    lines = batch([deployment], (), allocation(FULL), PLACE, SIZE)[SCRIPT].splitlines()
    words = [shlex.split(line.removeprefix("#SBATCH "))[0] for line in lines if line.startswith("#SBATCH")]
    assert "--comment=it's $HOME #1" in words
    assert "--exclude=bad[1-2]" in words
    assert "--output=/shared/store/some 100%%-0123456789/jobs/%j.log" in words
    assert not [word for word in words if word.startswith("--exclusive")]


def test_a_folder_that_is_named_like_a_number_of_a_job_is_refused() -> None:
    (told,) = sbatch.misread(Path("/shared/runs-%j"))
    assert (told.key, told.hint) == ("output_dir", "choose another folder")
    assert sbatch.misread(Path("/shared/100 %")) == []


def test_named_nodes_are_asked_for() -> None:
    _, deployment = compiled("topology=separate", "decode.nodes=[b]", "prefill.nodes=[a]")
    assert "nodelist=b,a" in list(options([deployment], Allocation(nodelist="c"), PLACE, SIZE))


def test_a_job_reads_what_was_written(tmp_path: Path) -> None:
    made, deployment = compiled("aiperf.concurrency=2,4")
    (tmp_path / WORK).write_text(batch([deployment], made.points, allocation(FULL), PLACE, SIZE)[WORK])
    todo = work(tmp_path)
    read = todo.plan
    assert todo.srun_args == ("--mem=0",)
    assert plan_json.to_json(read)["deployments"] == plan_json.to_json(made)["deployments"]
    assert [point.digest for point in read.points] == [point.digest for point in made.points]
    (tmp_path / WORK).write_text(json.dumps({"schema": "servix.job/99"}))
    with pytest.raises(ValueError, match=r"servix\.job/1"):
        work(tmp_path)


WRONG = [
    ({"additional_parameters": {"nodes": 3}}, "nodes are those of the plan"),
    ({"additional_parameters": {"gpus-per-node": 3}}, "GPUs are those of the plan"),
    ({"additional_parameters": {"time": 3}}, "hydra.launcher.timeout_min"),
    ({"additional_parameters": {"comment": "a\nb"}}, "one line"),
    ({"srun_args": ["--nodelist=a"]}, "each step its own"),
    ({"timeout_min": "soon"}, "whole number of minutes, at least 1, or 'auto'"),
    ({"timeout_min": 0}, "at least 1"),
    ({"timeout_min": True}, "whole number of minutes"),
    ({"timeout_factor": 0.5}, "at least 1"),
    ({"timeout_spare_min": -1}, "at least 0"),
    ({"silence_min": -1}, "at least 0"),
    ({"array_parallelism": 0}, "whole number of jobs, at least 1"),
    ({"mem_gb": -1}, "whole number of GB, at least 0"),
    ({"mem_gb": "much"}, "whole number of GB"),
    ({"cpus_per_task": 0}, "whole number, at least 1"),
    ({"partition": ""}, "is empty; leave it out"),
    ({"partition": ["a", "b"]}, "should be text; several are one text: 'a,b'"),
    ({"qos": True}, "should be text"),
    ({"account": "a\nb"}, "a parameter is one line"),
    ({"setup": "module load cuda"}, """should be a list of text; write 'hydra.launcher.setup=["..."]'"""),
    ({"setup": [["a"]]}, "should be a list of text"),
    ({"srun_args": ["-w", "node1"]}, "hydra.launcher.srun_args = '-w': servix gives each step its own"),
    ({"srun_args": ["-N2"]}, "servix gives each step its own"),
    ({"srun_args": ["--gres=gpu:1"]}, "servix gives each step its own"),
    ({"srun_args": 3}, "should be a list of text"),
    ({"additional_parameters": 3}, "should be a mapping; write +hydra.launcher.additional_parameters.NAME"),
    ({"additional_parameters": {"constraint": ["a"]}}, "should be text, a number, true or false"),
    ({"nodes": 2}, "hydra.launcher.nodes = 2: Hydra has no such setting here; nodes are those of the plan"),
    ({"tasks_per_node": 2}, "nodes are those of the plan"),
    ({"gres": "gpu:1"}, "GPUs are those of the plan"),
    ({"mem_per_gpu": "4G"}, "write +hydra.launcher.additional_parameters.mem_per_gpu=..."),
    ({"max_num_timeout": 3}, "run the same command again"),
    ({"partitions": "a"}, "did you mean 'partition'?"),
]


@pytest.mark.parametrize(("settings", "words"), WRONG, ids=[row[1] for row in WRONG])
def test_settings_that_contradict_the_plan(settings: dict[str, Any], words: str) -> None:
    (told,) = problems(settings)
    assert words in format_problem(told)


SECRET = "hf_0123456789abcdefghij"
SECRETS = [
    ({"setup": ["set -x", f"export HF_TOKEN={SECRET}"]}, "hydra.launcher.setup"),
    ({"srun_args": [f"--export-env=HF_TOKEN={SECRET}"]}, "hydra.launcher.srun_args"),
    ({"comment": f"api-key={SECRET}"}, "hydra.launcher.comment"),
    (
        {"additional_parameters": {"export": f"ALL,HF_TOKEN={SECRET}"}},
        "hydra.launcher.additional_parameters.export",
    ),
    ({"prefetch_parameters": {"token": SECRET}}, "hydra.launcher.prefetch_parameters.token"),
]


@pytest.mark.parametrize(("settings", "key"), SECRETS, ids=[row[1] for row in SECRETS])
def test_a_secret_would_be_in_the_script(settings: dict[str, Any], key: str) -> None:
    (told,) = problems(settings)
    assert (told.code, told.key) == ("secret", key)
    assert SECRET not in format_problem(told)


def test_what_the_shell_of_a_job_fills_in_is_no_secret() -> None:
    assert list(problems({"setup": ["export HF_TOKEN=$(cat ~/.token)", "export HF_TOKEN=$MINE"]})) == []


def test_a_job_runs_its_steps_in_what_was_imported(tmp_path: Path) -> None:
    made, deployment = compiled("topology=aggregated", "system.image=a/b:1")
    files = batch([deployment], made.points, Allocation(), PLACE, SIZE, {"a/b:1": "/images/b.sqsh"})
    (tmp_path / WORK).write_text(files[WORK])
    assert work(tmp_path).images == {"a/b:1": "/images/b.sqsh"}
    known = {"file": "/images/b.sqsh", "reference": "a/b:1", "digest": None}
    assert Allocated(("n0",), job="7", nodes=("n0",), imported=known).ran == {
        "hosts": ["n0"],
        "slurm_job": "7",
        "image": known,
    }


def test_settings_that_do_not() -> None:
    assert list(problems(FULL)) == []
    assert list(problems(asdict(servix.SlurmConf()))) == []
    assert {*Allocation.__dataclass_fields__, "_target_"} == set(asdict(servix.SlurmConf()))


def step(deployment: Deployment, name: str, **more: Any) -> list[str]:
    hosts = tuple(f"n{index}" for index in range(deployment.num_nodes))
    host = Allocated(hosts, job="7", nodes=hosts, gpus_per_node=8, **more)
    process = next(process for process in deployment.processes if process.name == name)
    return list(host.command(process, Path("/shared/store/d/runs/1")).argv)


def test_a_step_is_on_its_node_with_its_gpus() -> None:
    _, deployment = compiled(
        "topology=shared", "num_nodes=2", "prefill.tensor_parallel_size=2", "decode.tensor_parallel_size=2"
    )
    words = step(deployment, "prefill-1", srun_args=("--mem=0",))
    assert {"--overlap", "--nodes=1", "--ntasks=1", "--nodelist=n1", "--gpus-per-node=8", "--mem=0"} <= {
        *words
    }
    # After srun's own words: what Slurm sets would win over what is exported.
    assert words[words.index("env") + 4] == "CUDA_VISIBLE_DEVICES=2,3"
    assert words.index("--mem=0") < words.index("env") < words.index("python")
    frontend = step(deployment, "frontend")
    assert "--gpus-per-node=0" in frontend
    assert frontend[frontend.index("env") + 4] == "CUDA_VISIBLE_DEVICES="


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
def test_the_steps_of_workers_over_two_nodes(backend: str) -> None:
    """One process per node, ranks, the first node's name and one port for all ranks of a worker."""
    made = plan("system=slurm", f"backend={backend}", "topology=separate", *OVER_NODES)
    (deployment,) = made.deployments
    lines = []
    for process in deployment.processes:
        lines.append(f"# {process.name}")
        lines += [
            shlex.quote(word).replace(str(SERVIX_DIR), "SERVIX") for word in step(deployment, process.name)
        ]
    golden.check(f"emit/two-nodes-{backend}.steps.txt", "\n".join([*lines, ""]))


def test_a_step_in_a_container() -> None:
    _, deployment = compiled("topology=aggregated", "system.image=a/b:1", "system.mounts=['/data:/data']")
    process = deployment.processes[0]
    how = deployment.container
    words = step(deployment, "aggregated-0", image=process.image, container=how, mounts=process.mounts)
    assert {"--container-image=a/b:1", "--no-container-entrypoint", "--no-container-mount-home"} <= {*words}
    (mounts,) = [word for word in words if word.startswith("--container-mounts=")]
    assert mounts.startswith("--container-mounts=/shared/store/d:/shared/store/d,")
    assert mounts.endswith(",/data:/data")
    (names,) = [word for word in words if word.startswith("--container-env=")]
    assert "DYN_SYSTEM_PORT" in names


@pytest.mark.parametrize("program", ["apptainer", "enroot"])
def test_a_step_in_a_container_of_another_program(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's words, then what the plan says once more inside, then the process."""
    for name in [name for name in os.environ if name.startswith("HF_") or name.lower() in PROXIES]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    _, deployment = compiled(
        *("topology=aggregated", f"system.container={program}", "system.image=/images/a b.sif"),
        "system.mounts=['/data:/mnt:ro']",
    )
    process = deployment.processes[0]
    more = {"container": deployment.container, "shared": ("/hf",), "mounts": process.mounts}
    words = step(deployment, "aggregated-0", image=process.image, **more)
    assert "hf_secret" not in " ".join(words)
    text = "\n".join(shlex.quote(word).replace(str(SERVIX_DIR), "SERVIX") for word in words)
    golden.check(f"emit/{program}.step.txt", f"{text}\n")


def test_which_image_it_was(tmp_path: Path) -> None:
    digest = f"sha256:{'0' * 64}"
    file = tmp_path / "x.sqsh"
    file.write_text("abc")
    assert resolved(f"r/x:1@{digest}") == digest
    assert resolved("r/x:1") is None
    assert resolved("/nowhere/x.sqsh") is None
    assert str(resolved(str(file))).startswith("3 bytes, changed 20")


def test_secrets_are_in_no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    _, deployment = compiled()
    host = Allocated(("n0", "n1"), job="7", nodes=("n0", "n1"), gpus_per_node=8)
    command = host.command(deployment.processes[0], Path("/r"))
    assert command.env["HF_TOKEN"] == "hf_secret"
    assert "hf_secret" not in " ".join(command.argv)


BOUND = [
    ((None, None), ("x", "y"), ("x", "y")),
    (("y", "x"), ("x", "y"), ("y", "x")),
    (("y", None), ("x", "y"), ("y", "x")),
]


@pytest.mark.parametrize(("names", "hosts", "bound"), BOUND, ids=["any", "named", "mixed"])
def test_hosts_of_a_job_are_bound_to_the_nodes(
    names: tuple[str | None, ...], hosts: tuple[str, ...], bound: tuple[str, ...]
) -> None:
    _, deployment = compiled()
    nodes = tuple(Node(index, name) for index, name in enumerate(names))
    assert _bound(replace(deployment, nodes=nodes), hosts) == bound


def test_a_job_on_other_nodes_is_refused() -> None:
    _, deployment = compiled()
    with pytest.raises(NoAllocation, match="1 nodes, the plan needs 2"):
        _bound(deployment, ["x"])
    named = replace(deployment, nodes=(Node(0, "a"), Node(1, "b")))
    with pytest.raises(NoAllocation, match="does not have the nodes a, b"):
        _bound(named, ["x", "y"])
