"""Values set in plain data give what Hydra and OmegaConf give, over many random overrides."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from compiling import shared_composer
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

SELECTIONS = [
    (),
    ("topology=shared",),
    ("backend=sglang", "lmcache=on"),
    ("system=slurm", "bench=genai_perf"),
]


def leaves(node: Any, path: str = "") -> list[str]:
    if isinstance(node, dict):
        return [
            leaf for key, value in node.items() for leaf in leaves(value, f"{path}.{key}" if path else key)
        ]
    return [path]


def keys(selection: tuple[str, ...]) -> list[str]:
    data = shared_composer().compose(selection).data
    assert data is not None
    return [key for key in leaves(data) if "-" not in key and not shared_composer().is_group(f"{key}=x")]


KEYS = {selection: keys(selection) for selection in SELECTIONS}
OPEN = ("prefill.args", "decode.env", "dynamo.frontend_args", "aiperf", "genai_perf", "lmcache.extra_config")
WORDS = [
    "null",
    "true",
    "False",
    "yes",
    "off",
    "0",
    "-3",
    "007",
    "1.5",
    "1e3",
    "inf",
    "abc",
    "a-b.c/d",
    "'2'",
    '"x y"',
    "''",
]
WORDS += [
    "[1,2]",
    "[]",
    "[a,{b: 1}]",
    "{}",
    "{a: 1}",
    "${trial}",
    "'${trial}'",
    "\\${trial}",
    "???",
    "8000",
    "16777217",
    "{a: [1]}",
]


@st.composite
def overrides(draw: st.DrawFn) -> tuple[str, ...]:
    selection = draw(st.sampled_from(SELECTIONS))
    known = st.sampled_from(KEYS[selection])
    added = st.sampled_from(
        [f"+{tree}.new_flag" for tree in OPEN] + ["+aiperf.goodput", "++trial", "+prefill.args.a.b"]
    )
    values = st.one_of(st.sampled_from(WORDS), st.sampled_from(KEYS[selection]).map("${{{}}}".format))
    chosen = draw(st.lists(st.tuples(st.one_of(known, known, added), values), max_size=4))
    return (*selection, *(f"{key}={value}" for key, value in chosen))


def by_hydra(selection: tuple[str, ...], values: list[str]) -> Any:
    """As stock Hydra composes it, applied to a fresh composition; an exception is given by its name."""
    composer = shared_composer()
    config = copy.deepcopy(stock(selection))
    try:
        parsed = OverridesParser.create(config_loader=composer.loader).parse_overrides(values)
        ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
        OmegaConf.set_struct(config, False)
        config.pop("hydra")
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except Exception as exception:
        return type(exception)


_STOCK: dict[tuple[str, ...], Any] = {}


def stock(selection: tuple[str, ...]) -> Any:
    if selection not in _STOCK:
        _STOCK[selection] = shared_composer().loader.load_configuration(
            "config", list(selection), RunMode.RUN
        )
    return _STOCK[selection]


@settings(max_examples=1500, deadline=None)
@given(overrides())
def test_random_overrides_compose_as_hydra_composes_them(texts: tuple[str, ...]) -> None:
    selection = next(s for s in sorted(SELECTIONS, key=len, reverse=True) if texts[: len(s)] == s)
    expected = by_hydra(selection, list(texts[len(selection) :]))
    made = shared_composer().compose(texts)
    if isinstance(expected, type):
        assert made.problems
    else:
        assert made.problems == ()
        assert made.data == expected
        assert repr(made.data) == repr(expected)


@pytest.mark.parametrize("selection", SELECTIONS, ids=" ".join)
def test_a_whole_composition_by_hydra_is_the_same(selection: tuple[str, ...]) -> None:
    texts = (
        *selection,
        "trial=3",
        "prefill.tensor_parallel_size=2",
        "phases=[{name: a}]",
        "system.gpus_per_node=4",
    )
    config = shared_composer().loader.load_configuration("config", list(texts), RunMode.RUN)
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    assert shared_composer().compose(texts).data == OmegaConf.to_container(config, resolve=True)
