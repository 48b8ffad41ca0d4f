"""Composing: where values come from, sweeps, and the fast path against Hydra's own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from compiling import CONFIG, ROOT, own_plan, plan, problems, run, shared_composer
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from compiler.compose import composer
from compiler.origin import Origins

Folder = Callable[[Mapping[str, str]], Path]

EXPERIMENT = """\
# @package _global_
defaults:
  - override /topology: shared
prefill:
  num_nodes: 2
  env:
    A: 1
aiperf:
  concurrency: 7
launch:
  max_restarts: 3
"""


def line_of(file: Path, text: str) -> int:
    return next(n for n, line in enumerate(file.read_text().splitlines(), 1) if text in line)


ORIGINS = [
    # overrides, key, place
    ((), "aiperf.concurrency", "config/bench/aiperf.yaml:concurrency:"),
    ((), "prefill.tensor_parallel_size", "config/config.yaml:tensor_parallel_size"),
    ((), "backend.ports.nixl.base", "config/backend/vllm.yaml:nixl:"),
    (("backend=sglang",), "backend.ports.bootstrap.base", "config/backend/sglang.yaml:bootstrap:"),
    (("system=slurm",), "system.gpus_per_node", "config/system/slurm.yaml:gpus_per_node"),
    (("system=slurm",), "model.id", "config/model/qwen3-0.6b.yaml:id:"),
    (("lmcache=on",), "lmcache.extra_config.nixl_path", "config/lmcache/on.yaml:nixl_path"),
    (("trial=2",), "trial", "override 'trial=2'"),
    (("++trial=2",), "trial", "override '++trial=2'"),
    (("topology=shared",), "topology", "override 'topology=shared'"),
    (("phases=[{name: a}]",), "phases.0.name", "override 'phases=[{name: a}]'"),
    (("+decode.env.X=1",), "decode.env.X", "override '+decode.env.X=1'"),
    (("decode={num_nodes: 2}",), "decode.num_nodes", "override 'decode={num_nodes: 2}'"),
    (("decode.num_nodes=1", "decode.num_nodes=2"), "decode.num_nodes", "override 'decode.num_nodes=2'"),
]


@pytest.mark.parametrize(
    ("overrides", "key", "place"), ORIGINS, ids=[" ".join(row[0]) + " -> " + row[1] for row in ORIGINS]
)
def test_the_place_of_a_value(overrides: tuple[str, ...], key: str, place: str) -> None:
    found = Origins(shared_composer(), overrides).of(key)
    if place.startswith("override"):
        assert found == place
        return
    file, _, text = place.partition(":")
    assert found.endswith(f"{file}:{line_of(ROOT / file, text)}")


def test_places_in_a_folder_of_the_user(folder: Folder) -> None:
    own = folder({"experiment/mine.yaml": EXPERIMENT, "model/mine.yaml": "\nid: mine\n"})
    overrides = ("experiment=mine", "model=mine", "aiperf.request_count=9")
    with composer(CONFIG, own, overrides) as made:
        places = Origins(made, overrides)
        assert places.of("prefill.num_nodes") == f"{own}/experiment/mine.yaml:5"
        assert places.of("prefill.env.A") == f"{own}/experiment/mine.yaml:7"
        assert places.of("aiperf.concurrency") == f"{own}/experiment/mine.yaml:9"
        assert places.of("model.id") == f"{own}/model/mine.yaml:2"
        assert places.of("aiperf.request_count") == "override 'aiperf.request_count=9'"
        line = line_of(CONFIG / "bench/aiperf.yaml", "random_seed")
        assert places.of("aiperf.random_seed").endswith(f"config/bench/aiperf.yaml:{line}")


def test_an_experiment_changes_what_the_primary_file_sets(folder: Folder) -> None:
    own = folder({"experiment/mine.yaml": EXPERIMENT})
    (point,) = own_plan(own, "experiment=mine").points
    config = point.config
    assert config["topology"] == "shared"
    assert config["prefill"]["num_nodes"] == 2
    assert config["aiperf"]["concurrency"] == 7
    assert config["launch"]["max_restarts"] == 3


def test_an_override_beats_an_experiment(folder: Folder) -> None:
    own = folder({"experiment/mine.yaml": EXPERIMENT})
    (point,) = own_plan(own, "experiment=mine", "prefill.num_nodes=1", "topology=separate").points
    assert point.config["prefill"]["num_nodes"] == 1
    assert point.config["topology"] == "separate"


def test_an_experiment_sets_the_parameters_of_a_sweep(folder: Folder, tmp_path: Path) -> None:
    text = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      aiperf.concurrency: 2,4,8\n"
    own = folder({"experiment/mine.yaml": text})
    ran = run(["action=plan", "experiment=mine", f"--config-dir={own}", f"output_dir={tmp_path}/outputs"])
    assert ran.code == 0, ran.err
    assert [f"aiperf-c{number}-" in ran.out for number in (2, 4, 8)] == [True] * 3
    assert ran.out.count("deployment ") == 1


SWEEPS = [
    ("one-point", (), 1),
    ("values", ("aiperf.concurrency=2,4,8",), 3),
    ("product", ("aiperf.concurrency=2,4", "trial=1,2,3"), 6),
    ("range", ("aiperf.concurrency=range(1,5)",), 4),
    ("choice", ("aiperf.concurrency=choice(1,2)",), 2),
    ("groups", ("topology=separate,shared",), 2),
    ("list-is-data", ("nodes=[a,b]",), 1),
    ("phases-are-data", ("phases=[{name: a, concurrency: 2},{name: b, concurrency: 4}]",), 1),
    ("quoted-comma-is-data", ("nodes='a,b'",), 1),
    ("swept-lists", ("phases=[{name: a}],[{name: b}]",), 2),
]


@pytest.mark.parametrize(("arguments", "number"), [row[1:] for row in SWEEPS], ids=[row[0] for row in SWEEPS])
def test_points_of_a_sweep(arguments: tuple[str, ...], number: int) -> None:
    points, wrong = shared_composer().points(arguments)
    assert (len(points), wrong) == (number, [])


def test_points_come_in_the_order_of_the_arguments() -> None:
    points, _ = shared_composer().points(["trial=1,2", "aiperf.concurrency=4,2"])
    assert points == [
        ("trial=1", "aiperf.concurrency=4"),
        ("trial=1", "aiperf.concurrency=2"),
        ("trial=2", "aiperf.concurrency=4"),
        ("trial=2", "aiperf.concurrency=2"),
    ]


def test_a_sweep_over_all_options_of_a_group() -> None:
    with composer(CONFIG) as made:
        assert len(made.points(["backend=glob(*)"])[0]) == 2


def test_what_was_typed_is_kept() -> None:
    typed = ("phases=[{name: a, concurrency: 2}]", "~prefill.env", "+decode.env.X='a  b'", "strict=true")
    assert shared_composer().points(typed)[0] == [typed]


EQUAL: list[tuple[str, ...]] = [
    (),
    ("aiperf.concurrency=4",),
    ("topology=shared", "backend=sglang", "aiperf.concurrency=4"),
    ("aiperf.concurrency=4", "topology=shared"),
    ("system=slurm", "system.gpus_per_node=4", "decode.tensor_parallel_size=4"),
    ("system=slurm", "model=tiny"),
    ("model=qwen3-0.6b", "model.revision=abc"),
    ("lmcache=on", "lmcache.chunk_size=512", "+lmcache.new=1"),
    ("lmcache=off",),
    ("bench=genai_perf", "genai_perf.concurrency=9"),
    ("+decode.args.max_model_len=4096", "+decode.args.enforce_eager=true"),
    ("++decode.args.max_model_len=4096", "++decode.num_nodes=2"),
    ("+decode.args={a: 1, b: [x, y]}",),
    ("decode={num_nodes: 2, tensor_parallel_size: 4}",),
    ("~prefill.env",),
    ("~prefill.workers_per_node", "+prefill.workers_per_node=3"),
    ("~backend.engines.real",),
    ("phases=[{name: a, concurrency: 2},{name: b}]",),
    ("phases=[]",),
    ("nodes=[a,b]", "decode.gpu_ids='0,1'"),
    ("model.id='a b; $(c) \"d\"'",),
    ("model.id='{results_dir}'",),
    ("prefill.num_nodes=${decode.num_nodes}", "decode.num_nodes=3"),
    ("model.tokenizer=${model.id}",),
    ("engine=real", "model=qwen3-0.6b"),
    ("system.engine=real", "model=qwen3-0.6b"),
    ("aiperf.extra_inputs={ignore_eos: false}",),
    ("+aiperf.extra_inputs.x=1.5e3", "aiperf.goodput=null"),
    ("gates=['a <= 1','b >= -3%']", "baseline=last"),
    ("+system.env.A=1", "+system.env.B='on'", "+dynamo.env.C=null"),
    ("lmcache_controller.command='run --x 1'", "lmcache_controller.ports=[1,2]"),
    ("trial=007", "output_dir=/a/b c", "mocker.speedup_ratio=1e1"),
    ("model.id=", "model.path=''"),
    ("decode.num_nodes=1", "decode.num_nodes=2"),
    ("system.mounts=['/a:/b','{results_dir}:/c']",),
]


@pytest.fixture(scope="module")
def of_hydra() -> Callable[[tuple[str, ...]], Any]:
    """Hydra's own compose, without Hydra's part."""

    def composed(overrides: tuple[str, ...]) -> Any:
        with initialize_config_dir(str(CONFIG), version_base="1.3"):
            return OmegaConf.to_container(hydra_compose("config", list(overrides)), resolve=True)

    return composed


@pytest.mark.parametrize("overrides", EQUAL, ids=[" ".join(row) or "default" for row in EQUAL])
def test_composing_equals_hydras_own(
    overrides: tuple[str, ...], of_hydra: Callable[[tuple[str, ...]], Any]
) -> None:
    found = shared_composer().compose(overrides)
    assert found.problems == ()
    assert found.data == of_hydra(overrides)


def test_composing_a_point_leaves_no_trace_in_the_next() -> None:
    before = shared_composer().compose(()).data
    shared_composer().compose(
        ("+decode.args.x=1", "decode.num_nodes=4", "~prefill.env", "phases=[{name: a}]")
    )
    assert shared_composer().compose(()).data == before


def test_every_wrong_override_is_told_and_the_others_count() -> None:
    made = plan("backend=nope", "prefil.x=1", "decode.num_nodes=0", "topology=shared", "aiperf.concurrency=[")
    codes = sorted(problem.code for problem in problems(made))
    assert codes == ["override-syntax", "unknown-key", "unknown-option", "value"]
    assert any(point.config.get("topology") == "shared" for point in made.points)
