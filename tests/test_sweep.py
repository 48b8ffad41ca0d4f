"""Groups, their order and their parts; what points are estimated to take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from compiling import plan, told
from hypothesis import given
from hypothesis import strategies as st
from plans import one_prefill_one_decode

from compiler.estimate import LONGEST_S, point_seconds, time_words, words
from compiler.plan import Cost, Plan, Point
from compiler.sweep import Group, group, split

DEPLOYMENT = one_prefill_one_decode().deployments[0]


def config(start_s: float = 10, **arguments: Any) -> dict[str, Any]:
    """What an estimate reads of a composed configuration. One request is taken to last a second."""
    phases = arguments.pop("phases", [])
    pace = {"start_s": start_s, "phase_s": 0, "request_s": 1}
    bench = {"name": "aiperf", "timeout_s": 1000}
    return {"bench": bench, "aiperf": arguments, "phases": phases, "launch": {"estimate": pace}}


def lasting(*seconds: float) -> Group:
    """A group of points that last so long; its start lasts 10."""
    points = [
        Point(f"p{number}", (), f"v1-{number}", "v1-d", None, config(benchmark_duration=one))
        for number, one in enumerate(seconds)
    ]
    return Group(DEPLOYMENT, tuple(points))


ORDERS = [
    ("concurrency", ("aiperf.concurrency=8,2,4",), ["c2-r50", "c4-r50", "c8-r50"]),
    ("requests", ("aiperf.request_count=60,50,70",), ["c2-r50", "c2-r60", "c2-r70"]),
    (
        "rate-before-concurrency",
        ("zip={aiperf.concurrency: [8,4,9], aiperf.request_rate: [1,2,null]}",),
        ["c9-r50", "c8-rate1-r50", "c4-rate2-r50"],
    ),
    (
        "ties-as-asked",
        ("trial=3,2", "aiperf.concurrency=4,2"),
        ["c2-r50-trial3", "c2-r50-trial2", "c4-r50-trial3", "c4-r50-trial2"],
    ),
    (
        "heaviest-phase",
        ("phases=[{name: a, concurrency: 9}],[{name: a},{name: b, concurrency: 7}]", "aiperf.concurrency=8"),
        ["c8-r50-2phases", "c8-r50-1phases"],
    ),
    ("doubles-once", ("aiperf.concurrency=4,2,4",), ["c2-r50", "c4-r50"]),
]


@pytest.mark.parametrize(("arguments", "names"), [row[1:] for row in ORDERS], ids=[row[0] for row in ORDERS])
def test_points_of_a_group_come_by_rising_load(arguments: tuple[str, ...], names: list[str]) -> None:
    made = plan(*arguments)
    assert made.valid, told(made)
    (only,) = group(made, made.points)
    assert [point.name.removeprefix("aiperf-") for point in only.points] == names


def test_groups_keep_the_order_of_first_use() -> None:
    made = plan("backend=sglang,vllm", "aiperf.concurrency=4,2")
    groups = group(made, made.points)
    assert [one.deployment.backend for one in groups] == ["sglang", "vllm"]
    assert [len(one.points) for one in groups] == [2, 2]


SPLITS = [
    # seconds of the points (a start takes 10), limit, seconds of the parts' points, points that are too long
    ("all-fit", (1, 2, 3), 100, [(1, 2, 3)], []),
    ("exactly", (40, 50), 100, [(40, 50)], []),
    ("one-second-more", (40, 51), 100, [(40,), (51,)], []),
    ("in-order", (50, 50, 10, 80), 100, [(50,), (50, 10), (80,)], []),
    ("too-long-alone", (10, 200, 10), 100, [(10,), (200,), (10,)], ["p1"]),
    ("too-long-with-its-start", (95,), 100, [(95,)], ["p0"]),
    ("all-too-long", (200, 300), 100, [(200,), (300,)], ["p0", "p1"]),
    ("start-alone-is-too-long", (1, 1), 5, [(1,), (1,)], ["p0", "p1"]),
    ("none", (), 100, [()], []),
]


@pytest.mark.parametrize(
    ("seconds", "limit_s", "parts", "long"), [row[1:] for row in SPLITS], ids=[row[0] for row in SPLITS]
)
def test_a_group_is_split_by_a_limit(
    seconds: tuple[float, ...], limit_s: float, parts: list[tuple[float, ...]], long: list[str]
) -> None:
    made, problems = split(lasting(*seconds), limit_s)
    assert [tuple(point_seconds(point.config) for point in one.points) for one in made] == parts
    assert [problem.code for problem in problems] == ["budget"] * len(long)
    assert all(name in problem.reason for name, problem in zip(long, problems, strict=True))


@given(st.lists(st.floats(0.1, 200), min_size=1, max_size=30), st.floats(20, 300))
def test_parts_hold_every_point_in_order_below_the_limit(seconds: list[float], limit_s: float) -> None:
    whole = lasting(*seconds)
    parts, problems = split(whole, limit_s)
    assert [point for part in parts for point in part.points] == list(whole.points)
    for part in parts:
        took = 10.0
        for point in part.points:
            took += point_seconds(point.config)
        assert took <= limit_s or len(part.points) == 1
    assert len(problems) == sum(10 + one > limit_s for one in seconds)


ESTIMATES = [
    ("rounds", {"request_count": 20, "concurrency": 4}, 5),
    ("part-of-a-round", {"request_count": 21, "concurrency": 4}, 6),
    ("no-concurrency", {"request_count": 20, "concurrency": None}, 20),
    ("rate", {"request_count": 20, "concurrency": 4, "request_rate": 0.5}, 40),
    ("duration", {"request_count": 20, "request_rate": 1, "benchmark_duration": 7}, 7),
    ("duration-alone", {"request_count": None, "benchmark_duration": 7.5}, 7.5),
    ("warm-up", {"request_count": 20, "concurrency": 4, "warmup_request_count": 8}, 7),
    ("phases", {"request_count": 20, "phases": [{"concurrency": 2}, {"concurrency": 4}]}, 15),
    ("at-most-the-tools-limit", {"request_count": 5000}, 1000),
    ("more-than-a-float", {"request_count": 10**400, "request_rate": 0.1}, 1000),
    ("duration-of-ages", {"benchmark_duration": 10**400}, 1000),
    ("rate-of-nearly-nothing", {"request_count": 20, "request_rate": 1e-320}, 1000),
]


@pytest.mark.parametrize(
    ("arguments", "seconds"), [row[1:] for row in ESTIMATES], ids=[row[0] for row in ESTIMATES]
)
def test_seconds_of_a_point(arguments: Mapping[str, Any], seconds: float) -> None:
    assert point_seconds(config(**arguments)) == seconds


def test_a_plan_estimates_each_deployment_once_and_each_point_once() -> None:
    """2 s of start, then 8 s and 50 requests of 1 s by twos or fours: 33 and 21 s. 16 GPUs, idle or not."""
    made = plan("aiperf.concurrency=2,4,2", "decode.tensor_parallel_size=1,2")
    assert made.estimate.seconds == 2 * (2 + 33 + 21)
    assert made.estimate.gpu_hours == pytest.approx(112 * 16 / 3600, abs=1e-4)
    assert {key: cost.seconds for key, cost in made.estimate.deployments.items()} == {
        held.digest: 56 for held in made.deployments
    }


def test_isolation_starts_a_stack_for_every_point() -> None:
    made = plan("aiperf.concurrency=2,4", "isolation=restart")
    assert made.estimate.seconds == 2 + 33 + 2 + 21


def test_what_cannot_run_costs_nothing() -> None:
    made = plan("decode.tensor_parallel_size=1,16")
    assert made.estimate == replace(plan("decode.tensor_parallel_size=1").estimate)
    assert plan("decode.tensor_parallel_size=16").estimate == Plan((), ()).estimate


def test_a_cluster_is_taken_to_be_slower() -> None:
    slurm = plan("system=slurm", "model.revision=abc")
    assert slurm.valid, told(slurm)
    assert slurm.estimate.seconds == 180 + 15 + 25 * 10


def test_endless_settings_stay_finite() -> None:
    phases = "phases=[{name: a},{name: b}]"
    made = plan(phases, f"launch.estimate.phase_s=1{'0' * 308}", "launch.estimate.start_s=1e308", "trial=1,2")
    assert made.estimate.seconds == 3 * LONGEST_S


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (Cost(56, 0.2489), "about 56 s, 0.2 GPU hours"),
        (Cost(720, 3.2), "about 12 min, 3.2 GPU hours"),
        (Cost(30, 0.0042), "about 30 s, 0.004 GPU hours"),
        (Cost(72_000, 160), "about 20.0 h, 160.0 GPU hours"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_cost_in_words(cost: Cost, text: str) -> None:
    assert words(cost) == text


def test_days() -> None:
    assert time_words(10 * 86_400) == "10.0 days"
