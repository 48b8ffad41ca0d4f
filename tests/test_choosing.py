"""Points that are chosen together: zips, random samples, and sweeps that stand in a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from compiling import own_plan, plan, problems, run, shared_composer, told
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.compose import choosing, draw
from compiler.errors import format_problem

Folder = Callable[[Mapping[str, str]], Path]
GLOBAL = "# @package _global_\n"
PAIRS = "zip={aiperf.concurrency: [2,4], aiperf.request_count: [20,40]}"


def overrides(*arguments: str) -> list[tuple[str, ...]]:
    points, wrong = shared_composer().points(arguments)
    assert wrong == []
    return points


ZIPS = [
    ("pairs", (PAIRS,), ["aiperf.concurrency=2 aiperf.request_count=20",
                         "aiperf.concurrency=4 aiperf.request_count=40"]),
    ("columns", ("zip.aiperf.concurrency=[2,4]", "zip.trial=[1,2]"), ["aiperf.concurrency=2 trial=1",
                                                                      "aiperf.concurrency=4 trial=2"]),
    ("one-column", ("zip.trial=[1,2]",), ["trial=1", "trial=2"]),
    ("last-counts", ("zip.trial=[1,2]", "zip.trial=[3]"), ["trial=3"]),
    ("a-mapping-replaces", ("zip.trial=[1,2]", "zip={aiperf.concurrency: [2]}"), ["aiperf.concurrency=2"]),
    ("turned-off", (PAIRS, "zip=null"), [""]),
    ("product", ("zip.trial=[1,2]", "aiperf.concurrency=4,2"),
     ["aiperf.concurrency=4 trial=1", "aiperf.concurrency=4 trial=2",
      "aiperf.concurrency=2 trial=1", "aiperf.concurrency=2 trial=2"]),
    ("groups", ("zip.backend=[vllm,sglang]", "zip.topology=[shared,aggregated]"),
     ["backend=vllm topology=shared", "backend=sglang topology=aggregated"]),
    ("lists-are-values", ("zip.phases=[[{name: a, concurrency: 2}],[]]",), ["phases=[{name: a,concurrency: 2}]",
                                                                            "phases=[]"]),
    ("quotes", ("zip={model.id: ['a, b', \"it's\", '007', '']}",),
     ["model.id='a, b'", "model.id='it\\'s'", "model.id='007'", "model.id=''"]),
    ("kinds", ("zip={+aiperf.x: [null,true,1.5,'true']}",),
     ["+aiperf.x=null", "+aiperf.x=true", "+aiperf.x=1.5", "+aiperf.x='true'"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "rows"), [row[1:] for row in ZIPS], ids=[row[0] for row in ZIPS])
def test_rows_of_a_zip(arguments: tuple[str, ...], rows: list[str]) -> None:
    assert [" ".join(point) for point in overrides(*arguments)] == rows


def test_a_row_is_the_point_typed_by_hand() -> None:
    made = plan(PAIRS, "topology=shared", "backend=vllm,sglang")
    assert made.valid, told(made)
    by_hand = [plan(*point.overrides).points[0] for point in made.points]
    assert [point.digest for point in by_hand] == [point.digest for point in made.points]
    assert [point.config for point in by_hand] == [point.config for point in made.points]
    assert made.points[0].overrides == (
        *("topology=shared", "backend=vllm", "aiperf.concurrency=2", "aiperf.request_count=20"),
    )


def test_an_interpolation_of_a_zip_is_filled_for_each_point(folder: Folder) -> None:
    text = GLOBAL + "zip:\n  aiperf.concurrency: [2, 4]\n  aiperf.random_seed: ['${aiperf.concurrency}', 9]\n"
    made = own_plan(folder({"experiment/mine.yaml": text}), "experiment=mine")
    assert [point.config["aiperf"]["random_seed"] for point in made.points] == [2, 9]


def test_a_zip_in_an_experiment_and_what_the_command_line_makes_of_it(folder: Folder) -> None:
    text = GLOBAL + "zip:\n  aiperf.concurrency: [2, 4]\n  aiperf.request_count: [20, 40]\n"
    own = folder({"experiment/mine.yaml": text, "experiment/other.yaml": GLOBAL + "trial: 3\n"})

    def names(*arguments: str) -> list[str]:
        made = own_plan(own, *arguments)
        assert made.valid, told(made)
        return [point.name.removeprefix("aiperf-") for point in made.points]

    assert names("experiment=mine") == ["c2-r20", "c4-r40"]
    assert names("experiment=mine", "zip=null") == ["c2-r50"]
    assert names("experiment=mine", "zip={trial: [1,2]}") == ["c2-r50", "c2-r50-trial2"]
    assert names("experiment=mine", "zip.trial=[1,2]") == ["c2-r20", "c4-r40-trial2"]
    assert names("experiment=mine,other") == ["c2-r20", "c4-r40", "c2-r50-trial3"]
    assert own_plan(own, "experiment=mine").points[0].config["zip"] is None


def test_a_zip_may_add_keys_to_open_mappings() -> None:
    made = plan("zip={+prefill.args.max_model_len: [4096,8192], aiperf.concurrency: [2,4]}")
    assert [point.config["prefill"]["args"] for point in made.points] == [
        {"max_model_len": 4096},
        {"max_model_len": 8192},
    ]


def test_wrong_rows_are_told_once_for_all_points() -> None:
    made = plan("zip.aiperf.concurency=[2,4]", "backend=vllm,sglang", "trial=1,2")
    (problem,) = problems(made)
    assert "did you mean 'concurrency'" in format_problem(problem)


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.from_regex(r"[a-z_]{1,3}", fullmatch=True), inner, max_size=2),
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(values)
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    """Hydra reads from a row's text what stood in the zip."""
    override, problem = shared_composer().parsed(f"key={choosing.text(value)}")
    assert problem is None
    assert override is not None
    assert json.dumps(override.value()) == json.dumps(value)


keys = st.lists(st.sampled_from(["aiperf.concurrency", "trial", "aiperf.random_seed", "strict"]), unique=True)


@settings(max_examples=60, deadline=None)
@given(keys, st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=6))
def test_rows_are_the_columns_side_by_side(names: list[str], table: list[list[int]]) -> None:
    columns = {key: [row[index] for row in table] for index, key in enumerate(names)}
    found = overrides(*(f"zip.{key}={values}" for key, values in columns.items()))
    expected = [tuple(f"{key}={values[row]}" for key, values in columns.items()) for row in range(len(table))]
    assert found == (expected if columns else [()])


SAMPLE = (
    *("sample.count=8", "sample.seed=1", "sample.params.aiperf.concurrency=[1,2,4]"),
    "sample.params.aiperf.output_tokens_mean={values: [100,200], weights: [3,1]}",
)


def test_draws_are_pinned() -> None:
    """A recorded sweep is drawn again the same, by any Python on any machine."""
    drawn = [" ".join(part.rpartition("=")[2] for part in row) for row in overrides(*SAMPLE)]
    assert drawn == ["4 100", "1 100", "4 200", "1 100", "2 100", "4 100", "1 100", "4 100"]
    assert draw.share(1, 0, "aiperf.concurrency") == 0.8769707445911833


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**53), st.integers(1, 30), st.integers(0, 30))
def test_more_rows_and_other_keys_leave_a_draw_as_it_is(seed: int, count: int, more: int) -> None:
    params = {"aiperf.concurrency": list(range(1, 100))}
    others = {"aiperf.random_seed": [1, 2, 3], **params}
    few, _ = draw.drawn({"count": count, "seed": seed, "params": params})
    many, _ = draw.drawn({"count": count + more, "seed": seed, "params": others})
    assert many["aiperf.concurrency"][:count] == few["aiperf.concurrency"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any), st.floats(0, 1, exclude_max=True))
def test_what_weighs_nothing_is_never_drawn(weights: list[int], number: float) -> None:
    assert weights[draw.pick(range(len(weights)), weights, number)] > 0


def test_draws_follow_the_weights() -> None:
    params = {"aiperf.concurrency": {"values": ["a", "b", "c"], "weights": [6, 3, 1]}}
    drawn, _ = draw.drawn({"count": 20_000, "seed": 5, "params": params})
    shares = {value: number / 20_000 for value, number in Counter(drawn["aiperf.concurrency"]).items()}
    assert shares == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.1}, abs=0.015)


def test_keys_are_drawn_independently() -> None:
    params = {"aiperf.a": [0, 1], "aiperf.b": [0, 1]}
    drawn, _ = draw.drawn({"count": 20_000, "seed": 2, "params": params})
    pairs = Counter(zip(drawn["aiperf.a"], drawn["aiperf.b"], strict=True))
    assert all(number / 20_000 == pytest.approx(0.25, abs=0.015) for number in pairs.values())


def test_a_sample_is_measured_once_per_distinct_point() -> None:
    made = plan("sample.count=6", "sample.params.aiperf.concurrency=[2]")
    assert made.valid, told(made)
    assert len(made.points) == 6
    assert [problem.code for problem in problems(made, "warning")] == ["duplicate-point"] * 5


def test_a_sample_in_an_experiment(folder: Folder) -> None:
    text = GLOBAL + "sample:\n  count: 3\n  params:\n    aiperf.concurrency: [2, 4, 8]\n"
    own = folder({"experiment/mine.yaml": text})
    by_file = own_plan(own, "experiment=mine")
    typed = plan("sample.count=3", "sample.params.aiperf.concurrency=[2,4,8]")
    assert by_file.valid, told(by_file)
    assert [point.digest for point in by_file.points] == [point.digest for point in typed.points]
    assert len(own_plan(own, "experiment=mine", "sample.count=5").points) == 5
    assert len(own_plan(own, "experiment=mine", "sample.count=0", "sample.params=null").points) == 1


def test_a_zip_times_a_sample_times_a_sweep() -> None:
    found = overrides(
        *("sample.count=3", "sample.params.aiperf.random_seed=[1,2]", "zip.trial=[1,2]"),
        "aiperf.concurrency=2,4",
    )
    assert len(found) == 12
    assert [row[1] for row in found[:6]] == ["trial=1"] * 3 + ["trial=2"] * 3


IN_PARAMS = [
    ("sweep", "aiperf.concurrency: 2,4,8", 3),
    ("product", "aiperf.concurrency: 2,4\n      backend: vllm,sglang", 4),
    ("range", "aiperf.concurrency: range(2,5)", 3),
    ("fixed", "trial: 3", 1),
    ("phases", "phases: '[{name: a, concurrency: 2}, {name: b, concurrency: 4}]'", 1),
    ("list", "gates: ['time_to_first_token_ms.p99 <= 200', 'time_to_first_token_ms.p50 <= 100']", 1),
    ("ports", "lmcache: 'on'\n      +lmcache.lmcache_worker_ports: '[8001]'", 1),
    ("zip", "zip.trial: '[1,2]'", 2),
]


@pytest.mark.parametrize(
    ("params", "number"), [row[1:] for row in IN_PARAMS], ids=[row[0] for row in IN_PARAMS]
)
@pytest.mark.parametrize("place", ["experiment", "model"])
def test_sweep_parameters_in_a_file(
    params: str, number: int, place: str, folder: Folder, tmp_path: Path
) -> None:
    """In an experiment, and in an option of any other group."""
    text = f"{GLOBAL}hydra:\n  sweeper:\n    params:\n      {params}\n"
    text += "model: {id: mine, path: null}\n" if place == "model" else ""
    own = folder({f"{place}/mine.yaml": text})
    arguments = ["action=plan", "format=json", f"{place}=mine", f"--config-dir={own}"]
    ran = run([*arguments, f"output_dir={tmp_path}/outputs"])
    assert len(json.loads(ran.out)["points"]) == number, ran.err
    if place == "experiment":
        assert ran.code == 0, ran.err


DATA = [
    ("phases", ("phases=[{name: a, concurrency: 2},{name: b, concurrency: 4}]",)),
    ("worker-ports", ("lmcache=on", "+lmcache.lmcache_worker_ports=[8001,8002]")),
    ("gpu-ids", ("topology=shared", "prefill.gpu_ids=[0]", "decode.gpu_ids=[1]")),
    ("controller-ports", ("lmcache=on", "lmcache_controller.ports=[9000,9001]")),
    ("mounts", ("system.mounts=['/a:/b','/c:/d']",)),
]


@pytest.mark.parametrize("arguments", [row[1] for row in DATA], ids=[row[0] for row in DATA])
def test_a_list_in_brackets_is_data(arguments: tuple[str, ...]) -> None:
    assert overrides(*arguments) == [arguments]


@pytest.mark.parametrize(
    "key", ["phases", "nodes", "prefill.gpu_ids", "gates", "+lmcache.lmcache_worker_ports"]
)
def test_a_list_is_swept_only_between_lists(key: str) -> None:
    assert len(overrides(f"{key}=[1,2,3]")) == 1
    assert len(overrides(f"{key}=[1,2,3],[4]")) == 2
