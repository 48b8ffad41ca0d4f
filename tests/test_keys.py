"""The table of keys that no digest depends on, against the compiler itself; and what the five who read it show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compiling import plan, problems, run
from results_data import stored

from compiler.emit import emit
from compiler.keys import ABOUT, about, in_digest, of_command, one_for_all
from launchers.results.frame import keys_of, settings_of
from launchers.store import Store

GOAL = ("objective.metric=request_latency_ms.avg", "objective.direction=minimize")
IN_IMAGE = ("system=slurm", "system.image=a/b:1")
REAL = ("engine=real", "model=qwen3-0.6b", "model.revision=abc", "system.gpu.kind=h100")
MMLU = ("accuracy=mmlu",)
CLUSTER = (
    *("system=kubernetes", "system.hf_home=/models", "dynamo.discovery=etcd"),
    *("system.kubernetes.bench.image=r/b:1", "system.kubernetes.results.claim=r"),
)
CHANGED: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "action": [((), ("action=status",))],
    "format": [((), ("format=json",))],
    "output_dir": [((), ("output_dir=elsewhere",))],
    "yes": [((), ("yes=true",))],
    "gc": [((), ("gc.valid=true", "gc.older_than_days=2"))],
    "between": [((), ("between=[abcd,efab]",))],
    "force": [((), ("force=true",))],
    "launch.detach": [((), ("launch.detach=true",))],
    "launch.parallel": [((), ("launch.parallel=2",))],
    "launch.single_allocation": [(("system=mini",), ("launch.single_allocation=true",))],
    "launch.prefetch": [(("system=mini",), ("launch.prefetch=job",))],
    "hydra": [((), ("hydra.job.name=other",))],
    "on_invalid": [((), ("on_invalid=skip",))],
    "zip": [((), ("zip={aiperf.concurrency: [1]}", "aiperf.concurrency=1"))],
    "sample": [((), ("sample.seed=7",))],
    "max_points": [((), ("max_points=3",))],
    "max_gpu_hours": [((), ("max_gpu_hours=99",))],
    "search": [(GOAL, ("search=null",))],
    "budget": [((), ("budget=3",))],
    "objective": [((), GOAL)],
    "strict": [((), ("strict=true",))],
    "gates": [((), ("gates=['request_latency_ms.avg <= 9']",))],
    "baseline": [((), ("baseline=elsewhere.json",))],
    "constraints": [
        (
            (),
            ("constraints.prefill_tp_le_decode_tp=false", "constraints.tp_times_pp_le_gpus_per_node=false"),
        )
    ],
    "system.max_nodes": [((), ("system.max_nodes=3",)), (REAL, ("system.max_nodes=3",))],
    "system.gpu.memory_gb": [((), ("system.gpu.memory_gb=80",)), (REAL, ("system.gpu.memory_gb=80",))],
    "launch": [
        (
            (),
            (
                *("launch.ready_timeout_s=9", "launch.stop_timeout_s=9", "launch.max_restarts=9"),
                *(
                    "launch.reset_timeout_s=9",
                    "launch.hook_timeout_s=9",
                    "launch.estimate.start_s=9",
                    "launch.estimate.phase_s=9",
                ),
            ),
        )
    ],
    "between_phases.timeout_s": [((), ("between_phases.timeout_s=9",))],
    "bench.timeout_s": [((), ("bench.timeout_s=9",))],
    "accuracy.timeout_s": [(MMLU, ("accuracy.timeout_s=9",))],
    "accuracy.name": [(MMLU, ("accuracy.name=other",))],
    "system.name": [((), ("system.name=other",)), (REAL, ("system.name=other",))],
    "system.container": [(IN_IMAGE, ("system.container=apptainer",))],
    "system.containers": [
        (
            (*IN_IMAGE, "system.container=apptainer"),
            ("system.containers.apptainer.command=[singularity,exec,'{mounts}','{image}']",),
        )
    ],
    "system.gpu_log": [((), ("system.gpu_log=[x]",)), (REAL, ("system.gpu_log=null",))],
    "system.image_dir": [((), ("system.image_dir=/images",)), (REAL, ("system.image_dir=/images",))],
    "system.hf_home": [((), ("system.hf_home=/cache",)), (REAL, ("system.hf_home=/cache",))],
    **{
        f"system.{key}": [(CLUSTER, tuple(f"system.{key}{change}" for change in changes))]
        for key, changes in {
            "context": ("=other",),
            "namespace": ("=other",),
            "kubernetes.mode": ("=plain",),
            "kubernetes.api_version": ("=v1alpha1",),
            "kubernetes.runtime_version": ("=1.6.1",),
            "kubernetes.gpu_resource": ("=amd.com/gpu",),
            "kubernetes.bench": (
                ".image=other/bench:2",
                ".servix_dir=/x",
                ".resources.cpu=1",
                ".head_room=2",
            ),
            "kubernetes.results": (".claim=other", ".size_gb=9"),
            "kubernetes.model_cache_claim": ("=models",),
            "kubernetes.hf_token_from": (".name=hf", ".key=TOKEN"),
            "kubernetes.image_pull_secrets": ("=[a]",),
            "kubernetes.image_pull_policy": ("=Always",),
            "kubernetes.service_account": ("=other",),
            "kubernetes.priority_class": ("=high",),
            "kubernetes.tolerations": ("=[{operator: Exists}]",),
        }.items()
    },
    **{
        f"system.kubernetes.{key}": [(CLUSTER, (f"+system.kubernetes.{key}.a=b",))]
        for key in ("node_selector", "annotations", "labels")
    },
}
"""Key of the table -> configurations, and what sets it in them to another value."""

HASHED = (
    *("trial=2", "isolation=restart", "backend=sglang", "topology=shared", "dynamo.port=8100"),
    *("model.id=other/model", "model.revision=abc", "system.gpus_per_node=4", "system.gpu.kind=h100"),
    *("+system.env.A=1", "+decode.env.A=1", "+decode.args.max_num_seqs=8", "decode.workers_per_node=2"),
    *("aiperf.concurrency=3", "bench.version='9.9'", "+bench.env.A=1", "validity.max_error_rate=0.5"),
    *("mocker.speedup_ratio=3", "between_phases.health_check=false", "accuracy=mmlu", "system.image=a/b:1"),
)


def digests(*arguments: str) -> set[str | None]:
    made = plan(*arguments)
    assert made.valid, problems(made)
    return {point.digest for point in made.points}


@pytest.mark.parametrize("key", ABOUT)
def test_a_key_of_the_table_is_in_no_digest(key: str) -> None:
    assert not in_digest(key)
    for base, change in CHANGED[key]:
        if key not in ("zip", "sample"):
            assert all(text.lstrip("+").startswith(key) for text in change)
        same = (*base, "aiperf.concurrency=1") if key == "zip" else base
        typed = tuple(text for text in change if not text.startswith("aiperf")) if key == "zip" else change
        assert digests(*base, *typed) == digests(*same)


@pytest.mark.parametrize("override", HASHED)
def test_a_key_that_is_not_in_the_table_changes_the_digest(override: str) -> None:
    assert in_digest(override.partition("=")[0].lstrip("+"))
    assert digests(override) != digests()


ABOUT_THEM = [
    ("launch.parallel", "invocation"),
    ("launch.estimate.start_s", "realising"),
    ("launcher", None),
    ("hydra/launcher", "invocation"),
    ("hydra.launcher.partition", "invocation"),
    ("objective.metric", "goal"),
    ("max_points", "choice"),
    ("max_points_of", None),
    ("system", None),
    ("system.name", "realising"),
    ("trial", None),
    ("", None),
]


@pytest.mark.parametrize(("key", "said"), ABOUT_THEM, ids=[row[0] for row in ABOUT_THEM])
def test_what_a_key_is_about(key: str, said: str | None) -> None:
    assert about(key) == said
    assert of_command(key) == (said in ("invocation", "choice"))
    assert one_for_all(key) == (said in ("invocation", "choice", "goal"))


@pytest.mark.parametrize("key", [key for key in ABOUT if one_for_all(key) and key not in ("hydra", "zip")])
def test_what_is_about_the_command_cannot_be_swept(key: str) -> None:
    told = problems(plan(f"{key}=1,2"))
    assert {problem.code for problem in told} == {"swept"}


def test_columns_are_what_a_number_can_depend_on() -> None:
    typed = (
        *("max_points=9", "launch.parallel=2", "launch.max_restarts=1", *GOAL, "on_invalid=skip"),
        *("aiperf.concurrency=2", "trial=2", "system.hf_home=/x", "+decode.env.A=1", "++yes=true"),
    )
    assert keys_of([typed]) == ["aiperf.concurrency", "trial", "decode.env.A"]
    shown = settings_of(typed)
    assert "aiperf.concurrency=2" in shown
    assert not [word for word in shown if word.startswith(("max_points", "launch.parallel", "on_invalid"))]


OTHERWISE = ("on_invalid=skip", "max_points=9", "max_gpu_hours=9", "budget=3")
NOT_HASHED = (*OTHERWISE, "constraints.prefill_tp_le_decode_tp=false", "system.hf_home=/x")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")


def measured(store: Store, *arguments: str) -> Path:
    made = plan(*arguments)
    (deployment,) = made.deployments
    store.write_deployment(deployment, emit(deployment, made.points))
    return stored(store, made, made.points[0])


def test_a_comparison_says_what_is_in_no_digest(store: Store) -> None:
    old = measured(store, "aiperf.concurrency=4", *NOT_HASHED)
    digest = plan("aiperf.concurrency=2").points[0].digest
    words = [
        "aiperf.concurrency=2",
        "action=explain",
        f"output_dir={store.root}",
        f"between=['{old}',{digest}]",
    ]
    text = run(words).out
    first, _, rest = text.partition("settings that differ and are in no digest:")
    second = rest.partition("what is hashed")[0]
    for word in NOT_HASHED:
        key = word.partition("=")[0]
        assert f"  {key}\n" in second
        assert f"  {key}\n" not in first
    assert "output_dir" not in second + first
    said = {
        one["key"]: one["in_digest"]
        for one in json.loads(run([*words, "format=json"]).out)["between"]["settings"]
    }
    assert said.pop("aiperf.concurrency") is True
    assert set(said.values()) == {False}


def test_the_nearest_is_told_by_what_is_hashed(store: Store) -> None:
    measured(store, "aiperf.concurrency=4", *NOT_HASHED)
    ran = run(["aiperf.concurrency=2", "action=explain", f"output_dir={store.root}"])
    (line,) = [line for line in ran.out.splitlines() if "nearest stored" in line]
    assert line.endswith(": aiperf.concurrency was 4, is 2")


@pytest.mark.parametrize(
    ("more", "status"), [((), "done"), (("force=true",), "new")], ids=["stored", "forced"]
)
def test_a_plan_shows_what_would_be_measured(more: tuple[str, ...], status: str, store: Store) -> None:
    measured(store)
    ran = run(["action=plan", "format=json", f"output_dir={store.root}", *more])
    assert [point["status"] for point in json.loads(ran.out)["points"]] == [status]
