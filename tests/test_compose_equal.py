"""Values set in plain data give what Hydra and OmegaConf give, over many random overrides."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from compiling import shared_composer
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from compiler.compose.sweeps import of_number

SELECTIONS = [
    (),
    ("topology=shared",),
    ("backend=sglang", "lmcache=on"),
    ("system=slurm", "bench=genai_perf"),
    ("system=kubernetes",),
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


@pytest.mark.parametrize(
    "text",
    [
        *("trial=1", "trial=0", "trial=-7", "aiperf.concurrency=16", "a._b.c_2=123456789012345678"),
        *("null=1", "true=2", "inf=3", "e=1", "trial=007", "trial=-0", "trial=+1", "trial=1_0", "trial=1e3"),
        *("trial=1.", "trial= 1", "trial=1 ", "trial=1\n", "trial=\u0663", "+trial=1", "~trial=1", "a@b=1"),
        *("a/b=1", "a-b=1", "a.0=1", "a[0]=1", "hydra.x=1", "trial=1,2", "=1", "trial=9999999999999999999"),
    ],
)
def test_a_number_is_read_as_hydra_reads_it(text: str) -> None:
    quick = of_number(text)
    assert quick is None or quick == OverridesParser.create().parse_override(text)
    assert (quick is not None) == bool(re.fullmatch(r"[a-z._A-Z2]+=(0|-?[1-9][0-9]{0,17})", text, re.ASCII))


_STOCK: dict[tuple[str, ...], Any] = {}


def stock(selection: tuple[str, ...]) -> Any:
    if selection not in _STOCK:
        _STOCK[selection] = shared_composer().loader.load_configuration(
            "config", list(selection), RunMode.RUN
        )
    return _STOCK[selection]


@settings(max_examples=600, deadline=None)
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
