"""Bisection: which point is next, what was found, and that it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import results_data
from compiling import plan
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.plan import Point
from compiler.search import ladder, most_measured
from launchers import search
from launchers.results.result import Result, with_verdict

GATE = "gates=['time_to_first_token_ms.p99 <= 200']"


def points_of(number: int) -> list[Point]:
    return [replace(results_data.point(), digest=f"v1-{place}", name=f"c{place}") for place in range(number)]


def place(point: Point | None) -> int | None:
    return None if point is None else int(str(point.digest).removeprefix("v1-"))


def result_of(point: Point, met: bool) -> Result:
    return results_data.result(
        results_data.measured(met=float(met)), point_digest=str(point.digest), point_name=point.name
    )


def met(result: Result) -> bool:
    return result.metrics["met"] == 1.0


def run(
    points: Sequence[Point],
    holds: Callable[[int], bool],
    known: dict[str, bool] | None = None,
    budget: int | None = None,
) -> list[Result]:
    """Results of a search in the order they were measured."""
    choose, results = search.bisect(points, met, known, budget), list[Result]()
    while (point := choose(results)) is not None:
        assert len(results) <= len(points), "a point was measured twice"
        results.append(result_of(point, holds(place(point) or 0)))
    return results


@pytest.mark.parametrize(
    ("number", "judged", "wanted"),
    [
        (0, {}, None),
        (1, {}, 0),
        (1, {0: True}, None),
        (1, {0: False}, None),
        (8, {}, 0),
        (8, {0: False}, None),
        (8, {0: True}, 7),
        (8, {0: True, 7: True}, None),
        (8, {0: True, 7: False}, 3),
        (8, {0: True, 3: True, 7: False}, 5),
        (8, {0: True, 3: False, 7: False}, 1),
        (8, {0: True, 3: True, 4: False, 7: False}, None),
        # From before: in no order of a search, and not even one load below the other.
        (8, {5: True}, 7),
        (8, {5: False}, 0),
        (8, {1: False, 4: True, 7: False}, 5),
        (8, {0: False, 4: True, 5: False}, None),
    ],
)
def test_the_next_point(number: int, judged: dict[int, bool], wanted: int | None) -> None:
    known = {f"v1-{key}": value for key, value in judged.items()}
    assert place(search.next_point(points_of(number), known)) == wanted


@settings(deadline=None)
@given(st.integers(1, 400), st.data())
def test_the_exact_boundary_is_found_in_about_log2_measurements(number: int, data: st.DataObject) -> None:
    boundary = data.draw(st.integers(0, number))
    points = points_of(number)
    results = run(points, lambda load: load < boundary)
    assert len(results) <= math.ceil(math.log2(number)) + 2
    assert len(results) <= most_of(number)
    found = search.outcome("load", points, list(map(float, range(number))), search.judged(results, met))
    assert place(found.found) == (boundary - 1 if boundary else None)
    assert found.exact
    assert found.above == (None if boundary == number else float(boundary))


@settings(deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=60),
    st.integers(1, 80),
    st.dictionaries(st.integers(0, 59), st.booleans()),
)
def test_whatever_happens_it_ends_within_the_budget_at_a_load_that_held(
    holds: list[bool], budget: int, before: dict[int, bool]
) -> None:
    points = points_of(len(holds))
    known = {f"v1-{key}": value for key, value in before.items() if key < len(holds)}
    results = run(points, holds.__getitem__, known, budget)
    assert len(results) <= budget
    judged = {**known, **search.judged(results, met)}
    found = search.outcome("load", points, list(map(float, range(len(holds)))), judged)
    assert found.found is None or judged[str(found.found.digest)]
    assert "points measured" in search.told(found)


def test_a_point_that_failed_does_not_meet_its_gates() -> None:
    (point,) = points_of(1)
    good = result_of(point, met=True)
    assert search.judged([good], met) == {"v1-0": True}
    assert search.judged([with_verdict(good, "invalid", "cut streams")], met) == {"v1-0": False}


def test_known_points_are_not_measured_and_cost_nothing() -> None:
    points = points_of(16)
    results = run(points, lambda load: load < 10, {"v1-0": True, "v1-15": False, "v1-7": True}, budget=2)
    assert [place_of(result) for result in results] == [11, 9]


def most_of(number: int) -> int:
    """What `most_measured` says of so many points."""
    return 2 + math.ceil(math.log2(number - 1)) if number > 1 else 1


@pytest.mark.parametrize("number", [2, 3, 4, 5, 9, 10, 17, 18, 50])
def test_how_many_points_a_search_measures_at_most(number: int) -> None:
    made = plan("search=bisect", f"aiperf.concurrency=range(1,{number + 1})", GATE)
    assert most_measured(made.points) == most_of(number)
    points = points_of(number)
    worst = max(len(run(points, lambda load, top=top: load < top)) for top in range(number + 1))
    assert worst == most_of(number)


def place_of(result: Result) -> int:
    return int(result.point_digest.removeprefix("v1-"))


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        ({0: False}, "no load meets the gates, 0 does not; 1 of 8 points"),
        ({0: True, 7: True}, "load = 7 is the highest that meets the gates (the highest of the sweep)"),
        ({0: True, 3: True, 4: False, 7: False}, "load = 3 is the highest that meets the gates (4 does not)"),
        ({0: True, 3: True, 7: False}, "(7 does not, nothing between was measured)"),
        ({0: True}, "(nothing above it was measured)"),
    ],
    ids=["none", "all", "exact", "budget", "only-the-lowest"],
)
def test_what_was_found_is_told(judged: dict[int, bool], words: str) -> None:
    known = {f"v1-{key}": value for key, value in judged.items()}
    found = search.outcome("load", points_of(8), list(map(float, range(8))), known)
    assert words in search.told(found)
    assert found.as_json()["value"] == found.value


def test_a_ladder_is_sorted_by_number_and_holds_a_point_once() -> None:
    made = ladder(plan("search=bisect", "aiperf.concurrency=10,9,2,9", "aiperf.request_rate=1", GATE).points)
    assert made is not None
    assert (made.key, made.values) == ("aiperf.concurrency", (2.0, 9.0, 10.0))
    assert [point.config["aiperf"]["concurrency"] for point in made.points] == [2, 9, 10]
