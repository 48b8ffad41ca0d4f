"""`action=explain`: why points run or not, and exactly what two points differ in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from compiling import Ran, run
from compiling import plan as compiled
from hypothesis import given
from hypothesis import strategies as st
from results_data import measured, stored

from compiler.difference import changed_words, differences
from compiler.digest import short
from compiler.emit import emit
from compiler.plan import Plan
from launchers.results import Verdict
from launchers.store import RESULT, Store

KILLED = Verdict("failed", ("decode-0 was killed by SIGKILL",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")


def explained(store: Store, *arguments: str) -> Ran:
    return run([*arguments, "action=explain", f"output_dir={store.root}"])


def document(store: Store, *arguments: str) -> dict[str, Any]:
    return json.loads(explained(store, *arguments, "format=json").out)  # type: ignore[no-any-return]


def written(store: Store, *arguments: str, **fields: Any) -> tuple[Plan, list[Path]]:
    """A plan whose points are measured, and their folders."""
    plan = compiled(*arguments)
    for deployment in plan.deployments:
        store.write_deployment(deployment, emit(deployment, plan.points))
    return plan, [stored(store, plan, point, **fields) for point in plan.points]


def test_why_each_point_runs_or_not(store: Store) -> None:
    written(store, "aiperf.concurrency=2")
    written(store, "aiperf.concurrency=4", verdict=KILLED)
    sweep = ("aiperf.concurrency=2,4,8,8",)
    plan = compiled(*sweep)
    ran = explained(store, *sweep)
    assert ran.code == 0
    assert ran.out.startswith("explain: 4 points: 1 is done, 2 run, 1 is a double")
    digests = [short(str(point.digest)) for point in plan.points]
    said = [next(line for line in ran.out.splitlines() if digest in line) for digest in digests[:3]]
    assert f"is done: attempt 1 was valid, finished 2026-11-21T15:42:18Z: {store.root}" in said[0]
    assert "runs: attempt 1, finished 2026-11-21T15:42:18Z, is failed, which is tried again" in said[1]
    assert KILLED.reasons[0] in said[1]
    assert "runs: nothing is stored under its digest" in said[2]
    assert "same digest as aiperf-c8-r50, so it is measured once" in ran.out
    decisions = [point["decision"] for point in document(store, *sweep)["points"]]
    assert decisions == ["is done", "runs", "runs", "is a double"]


def test_a_new_point_is_told_what_is_nearest(store: Store) -> None:
    written(store, "aiperf.concurrency=2")
    (point,) = document(store, "aiperf.concurrency=2", "decode.tensor_parallel_size=2")["points"]
    assert point["nearest"].endswith("decode.tensor_parallel_size was 1, is 2")
    (point,) = document(store, "aiperf.concurrency=2", "backend=sglang")["points"]
    assert point["nearest"].endswith("): backend was 'vllm', is 'sglang'")


def test_a_moving_image_is_measured_every_time(store: Store) -> None:
    image = "system.image=registry/name:latest"
    written(store, image)
    (point,) = document(store, image)["points"]
    assert point["decision"] == "runs"
    assert "image registry/name:latest may be another one by now; pin it by its digest" in point["why"]


def test_a_forced_point_runs_although_it_is_done(store: Store) -> None:
    written(store)
    (point,) = document(store, "force=true")["points"]
    assert (point["decision"], point["why"][-32:]) == ("runs", "and force=true measures it again")


def test_a_point_that_is_measured_now_waits(store: Store) -> None:
    plan = compiled()
    with store.lock(plan.deployments[0], plan.points):
        (point,) = document(store)["points"]
    assert point["decision"] == "waits"
    assert point["why"].startswith("measured by process ")


LATENCY = "request_latency_ms.avg"
SEARCH = ("search=bisect", f"gates=['{LATENCY} <= 300']", "aiperf.concurrency=range(1,9)")
MEETS, FAILS = 200.0, 400.0
DECISIONS = [
    ("nothing is known", {}, (), ["runs next", *["may run"] * 7]),
    ("the lowest holds", {1: MEETS}, (), ["is done", *["may run"] * 6, "runs next"]),
    ("the lowest does not", {1: FAILS}, (), ["is done", *["is not needed"] * 7]),
    (
        "between",
        {1: MEETS, 4: MEETS, 8: FAILS},
        (),
        ["is done", *["is not needed"] * 2, "is done", "may run", "runs next", "may run", "is done"],
    ),
    (
        "found",
        {1: MEETS, 4: MEETS, 5: FAILS, 8: FAILS},
        (),
        ["is done", *["is not needed"] * 2, "is done", "is done", *["is not needed"] * 2, "is done"],
    ),
    ("forced", {1: MEETS, 8: MEETS}, ("force=true",), ["runs next", *["may run"] * 7]),
    ("no baseline", {}, ("baseline=/nowhere.json",), ["runs"] * 8),
]


@pytest.mark.parametrize(
    ("values", "more", "wanted"), [row[1:] for row in DECISIONS], ids=[r[0] for r in DECISIONS]
)
def test_what_a_search_would_run(
    values: dict[int, float], more: tuple[str, ...], wanted: list[str], store: Store
) -> None:
    plan = compiled(*SEARCH)
    for load, value in values.items():
        phase = measured(**{LATENCY: value})
        stored(store, plan, plan.points[load - 1], phases=(phase,), metrics=phase.metrics)
    points = document(store, *SEARCH, *more)["points"]
    assert [point["decision"] for point in points] == wanted
    told = [point["why"] for point in points if point["decision"] == "is not needed"]
    assert not told or "of 8 points measured" in told[0]


def test_status_tells_how_far_a_search_is(store: Store) -> None:
    plan = compiled(*SEARCH)
    for load, value in {1: MEETS, 8: FAILS}.items():
        phase = measured(**{LATENCY: value})
        stored(store, plan, plan.points[load - 1], phases=(phase,), metrics=phase.metrics)
    ran = run([*SEARCH, "action=status", f"output_dir={store.root}"])
    assert (
        "search: aiperf.concurrency = 1 is the highest that meets the gates (8 does not, nothing" in ran.out
    )
    found = json.loads(run([*SEARCH, "action=status", "format=json", f"output_dir={store.root}"]).out)[
        "search"
    ]
    assert (found["value"], found["above"], found["measured"], found["exact"]) == (1, 8, 2, False)


def test_problems_are_told_and_2(store: Store) -> None:
    ran = explained(store, "aiperf.concurrency=0")
    assert ran.code == 2
    assert "cannot run: override 'aiperf.concurrency=0'" in ran.out


NAMES = ["digest", "short", "result", "folder", "below the outputs"]


@pytest.mark.parametrize("name", NAMES)
def test_a_point_is_named_in_several_ways(name: str, store: Store) -> None:
    plan, (first, second) = written(store, "aiperf.concurrency=2,4")
    spelled = {
        "digest": str(plan.points[0].digest),
        "short": short(str(plan.points[0].digest))[:6],
        "result": str(first / RESULT),
        "folder": str(first),
        "below the outputs": str(first.relative_to(store.root)),
    }[name]
    found = document(store, f"between=['{spelled}','{second}']")["between"]
    assert [found["a"]["digest"], found["b"]["digest"]] == [point.digest for point in plan.points]
    assert found["same_deployment"] is True
    (setting,) = found["settings"]
    assert (setting["key"], setting["a"], setting["b"]) == ("aiperf.concurrency", 2, 4)
    assert setting["origin_b"] == "override 'aiperf.concurrency=4'"


def test_places_of_the_present_command_are_files_and_overrides(store: Store) -> None:
    _, (old,) = written(store, "aiperf.concurrency=4", "decode.tensor_parallel_size=2")
    digest = compiled("aiperf.concurrency=2").points[0].digest
    ran = explained(store, "aiperf.concurrency=2", f"between=['{old}',{digest}]")
    assert ran.code == 0
    text = " ".join(ran.out.split())
    assert "the deployments differ" in text
    assert "aiperf.concurrency A 4 (override 'aiperf.concurrency=4') B 2 (override 'aiperf.conc" in text
    assert "B 1 (config/config.yaml:" in text
    assert "decode-0: gpus A [0, 1] B [0]" in text


def test_what_is_hashed_of_two_points_of_the_command(store: Store) -> None:
    sweep = ("aiperf.concurrency=2,4", "aiperf.random_seed=7")
    first, second = (point.digest for point in compiled(*sweep).points)
    found = document(store, *sweep, f"between=[{first},{second}]")["between"]
    argv = next(entry for entry in found["hashed"] if entry["key"] == "argv")
    assert argv == {
        "where": ["phase main"],
        "key": "argv",
        "a": ["--concurrency", "2"],
        "b": ["--concurrency", "4"],
    }


def test_the_same_digest_says_so(store: Store) -> None:
    _, (old,) = written(store, "launch.max_restarts=5")
    digest = compiled().points[0].digest
    ran = explained(store, f"between=['{old}/{RESULT}',{digest}]")
    assert "same digest: nothing that can change a number differs" in ran.out
    assert "settings that differ and are in no digest:\n  launch.max_restarts\n    A  5" in ran.out
    assert "what is hashed" not in ran.out


WRONG = [
    ("[nothing,abcdef]", "between = 'nothing': no point, file or folder is called so"),
    ("[only]", "should be a list of at least 2"),
    ("[a,b,c]", "should be a list of at most 2"),
    ("a,b", "write it in brackets: between=[A,B]"),
]


@pytest.mark.parametrize(("value", "said"), WRONG, ids=[row[0] for row in WRONG])
def test_what_cannot_be_compared_is_2(value: str, said: str, store: Store) -> None:
    ran = explained(store, f"between={value}")
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "between", ["[1234,5678]", "[12e4567890, 0012]", "[v1-12ab,123456]", "['1234',56e7]"]
)
def test_digests_that_look_like_numbers_are_text(between: str, store: Store) -> None:
    ran = explained(store, f"between={between}")
    assert ran.code == 2
    for digest in between.strip("[]").replace("'", "").split(","):
        assert f"between = '{digest.strip()}': no point, file or folder is called so" in ran.err
    assert "should be text" not in ran.err


def test_the_digits_of_a_point_find_it(store: Store) -> None:
    """Whatever its digest is, some trial's begins with four digits."""
    points = compiled("trial=range(0,40)").points
    starts = [str(point.digest).partition("-")[2][:4] for point in points]
    digits = [start for start in starts if start.isdigit() and starts.count(start) == 1][:2]
    assert len(digits) == 2
    ran = explained(store, "trial=range(0,40)", f"between=[{digits[0]},{digits[1]}]")
    assert ran.code == 0
    assert "same deployment; the workloads differ" in ran.out


def test_sides_of_a_wrong_list_are_not_looked_for(store: Store) -> None:
    ran = explained(store, "between=[true,1.5]")
    assert ran.code == 2
    assert (
        "between.0 = true: should be text; put quotes around it, where between is written: 'true'" in ran.err
    )
    assert "is called so" not in ran.err + ran.out


def test_a_result_that_cannot_be_read_is_2(store: Store) -> None:
    _, (folder,) = written(store)
    (folder / RESULT).write_text("{")
    ran = explained(store, f"between=['{folder}','{folder}']")
    assert ran.code == 2
    assert "result.json cannot be read" in ran.err


def test_two_points_with_one_beginning_are_told(store: Store) -> None:
    points = compiled("trial=range(0,40)").points
    starts = [str(point.digest).partition("-")[2][:4] for point in points]
    doubles = [start for start in starts if starts.count(start) > 1]
    if not doubles:  # sixteen bits for forty points: rarely two alike, and then there is nothing to see
        return
    assert (
        "several points begin so" in explained(store, "trial=range(0,40)", f"between=[{doubles[0]},abcd]").err
    )


TREES = [
    ({}, {}, []),
    ({"a": 1}, {"a": 1}, []),
    ({"a": 1}, {"a": True}, ["a"]),
    ({"a": None}, {}, ["a"]),
    ({"a": {}}, {"a": None}, ["a"]),
    ({"a": {}}, {"a": {"b": 1}}, ["a.b"]),
    ({}, {"a": {"b": {"c": 1}}}, ["a.b.c"]),
    ({"a": [1, 2]}, {"a": [1]}, ["a"]),
    ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ["a.0.b"]),
]


@pytest.mark.parametrize(("a", "b", "keys"), TREES, ids=[str(row[2]) + str(i) for i, row in enumerate(TREES)])
def test_differences(a: Any, b: Any, keys: list[str]) -> None:
    assert [each.key for each in differences(a, b)] == keys
    assert [(each.b, each.a) for each in differences(a, b)] == [
        (each.a, each.b) for each in differences(b, a)
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_there_is_a_difference_exactly_where_two_trees_differ(a: Any, b: Any) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert bool(list(differences(a, b))) != same


@given(st.lists(st.sampled_from(["-a", "--b", "1", "2", "x"])), st.lists(st.sampled_from(["-a", "--b", "1"])))
def test_changed_words_are_empty_only_for_equal_commands(a: list[str], b: list[str]) -> None:
    assert (changed_words(a, b) == ([], [])) == (a == b)
