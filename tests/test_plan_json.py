"""A plan is JSON and comes back equal; what is no plan is refused with its place."""

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import plans
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler import plan_json
from compiler.errors import NOTHING, Problem
from compiler.plan import Plan

PLAN = plans.one_prefill_one_decode()

FINITE = st.floats(allow_nan=False, allow_infinity=False)
"""JSON has no other numbers: what is infinite is written as text."""
data = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), FINITE, st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
SCALARS: dict[Any, Any] = {
    str: st.text(max_size=8),
    int: st.integers(),
    float: FINITE,
    bool: st.booleans(),
    Any: data,
}


def values(hint: Any) -> Any:
    """Values of an annotation of the plan."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        parts = {field.name: values(hints[field.name]) for field in fields(hint)}
        if hint is Problem:
            # A problem without value and one whose value is null are one in JSON.
            parts["value"] = data.map(lambda value: NOTHING if value is None else value)
        return st.builds(hint, **parts)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(st.text(max_size=8), values(arguments[1]), max_size=2)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of(*(st.none() if kind is types.NoneType else values(kind) for kind in arguments))
    return SCALARS[hint]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.deferred(lambda: values(Plan)))
def test_every_plan_comes_back_equal(plan: Plan) -> None:
    written = json.loads(json.dumps(plan_json.to_json(plan)))
    read = plan_json.from_json(written)
    assert read == plan
    assert plan_json.to_json(read) == written


def test_a_plan_comes_back_equal() -> None:
    assert plan_json.from_json(json.loads(json.dumps(plan_json.to_json(PLAN)))) == PLAN


def test_a_deployment_alone_is_written_as_in_its_plan() -> None:
    written = plan_json.deployment_to_json(PLAN.deployments[0])
    assert written.pop("schema") == "servix.deployment/1"
    assert written == plan_json.to_json(PLAN)["deployments"][0]


def test_the_shape_is_the_documented_one() -> None:
    written = plan_json.to_json(PLAN)
    assert list(written) == ["schema", "points", "deployments", "estimate"]
    assert written["schema"] == "servix.plan/1"
    point, deployment = written["points"][1], written["deployments"][0]
    assert point.keys() >= {"name", "overrides", "digest", "deployment", "status", "problems"}
    assert point["status"] == "invalid"
    assert point["problems"][0] == {
        "level": "error",
        "code": "gpus",
        "key": "prefill.tensor_parallel_size",
        "value": 16,
        "reason": "more GPUs than a node has",
        "hint": "",
        "origin": "config.yaml:3",
    }
    assert deployment["nodes"] == [{"index": 0, "name": None}, {"index": 1, "name": "host-b"}]
    worker = deployment["processes"][2]
    assert worker["ports"] == {"system": 9090, "nixl": {"port": 5557, "count": 2}}
    assert (worker["worker"], worker["gpus"], worker["ready"]["kind"]) == (0, [0, 1], "http")
    assert deployment["processes"][0]["worker"] is None


def test_keys_of_open_data_become_text() -> None:
    point = replace(PLAN.points[0], config={"a": {1: (2, 3)}})
    assert plan_json.to_json(Plan((point,), ()))["points"][0]["config"] == {"a": {"1": [2, 3]}}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """The plan's JSON with one place set (or left out, with `to=...`)."""
    document: Any = json.loads(json.dumps(plan_json.to_json(PLAN)))
    place = document
    for part in path[:-1]:
        place = place[part]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    result: dict[str, Any] = document
    return result


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "plan: expected an object, not []"),
        ({}, "schema: None cannot be read; this servix reads 'servix.plan/1'"),
        (changed("schema", to="servix.plan/2"), "schema: 'servix.plan/2' cannot be read"),
        (changed("schema", to="other"), "schema: 'other' cannot be read"),
        (changed("more", to=1), "plan: wrong keys: unknown more"),
        (changed("points", to=...), "plan: wrong keys: missing points"),
        (changed("points", 0, "status", to="lost"), "points[0].status: expected one of 'new', "),
        (
            changed("deployments", 0, "nodes", 1, "index", to="1"),
            "deployments[0].nodes[1].index: expected a whole number",
        ),
        (
            changed("deployments", 0, "nodes", 1, "index", to=True),
            "deployments[0].nodes[1].index: expected a whole",
        ),
        (
            changed("deployments", 0, "processes", 2, "argv", 1, to=None),
            "deployments[0].processes[2].argv[1]: expected text",
        ),
        (
            changed("deployments", 0, "processes", 2, "env", "A", to=1),
            "deployments[0].processes[2].env.A: expected text",
        ),
        (
            changed("deployments", 0, "processes", 2, "ports", "nixl", to={"port": 1}),
            "deployments[0].processes[2].ports.nixl: wrong keys: missing count",
        ),
        (
            changed("deployments", 0, "ready", 0, "kind", to=...),
            "deployments[0].ready[0]: wrong keys: missing kind",
        ),
    ],
    ids=lambda value: value.partition(" ")[0] if isinstance(value, str) else "",
)
def test_what_is_no_plan_is_refused_with_its_place(document: Any, message: str) -> None:
    with pytest.raises(plan_json.PlanFormatError) as caught:
        plan_json.from_json(document)
    assert str(caught.value).startswith(message)


def test_a_deployment_is_not_a_plan() -> None:
    with pytest.raises(plan_json.PlanFormatError, match=r"schema: 'servix.deployment/1'"):
        plan_json.from_json(plan_json.deployment_to_json(PLAN.deployments[0]))
