"""Values that are chosen together (`zip`, `sample`) as rows of overrides, and what is wrong with them.

Takes what the configuration and the command line say of both; gives rows such as
`("aiperf.concurrency=2", "aiperf.request_count=20")`. Every row is one point, times the ordinary sweeps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from compiler.compose.draw import drawn
from compiler.compose.sweeps import is_value
from compiler.errors import Problem, did_you_mean, error

KEYS = ("zip", "sample")
"""Keys that choose points. They are no part of a point, so they are taken out before one is composed."""
Row = tuple[str, ...]
Columns = Mapping[str, Sequence[Any]]

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*\Z")
_NOT_TEXT = ("null", "true", "false", "inf", "nan")
_SAMPLE = ("count", "seed", "params")
_EXAMPLE = "e.g. 'zip={aiperf.concurrency: [2,4], aiperf.request_count: [20,40]}'"


@dataclass(frozen=True, slots=True)
class Choosing:
    """What one configuration says of points that are chosen together, as it was written."""

    zip: Any = None
    """Dotted key -> its values, one per row; null: none."""
    sample: Any = field(default_factory=dict)
    """`count`, `seed` and `params` (dotted key -> values to draw from)."""
    params: Any = None
    """`hydra.sweeper.params`, which Hydra's sweeper reads."""


def taken(config: DictConfig) -> Choosing:
    """What the configuration says; there it is then as if nothing were chosen, since each of its points is one.

    Interpolations stay as they are: they are filled for each point.
    """
    params = OmegaConf.select(config, "hydra.sweeper", throw_on_resolution_failure=False)
    raw = _raw(params) if isinstance(params, DictConfig) else {}
    zipped, sample = (_raw(config._get_node(key, validate_access=False)) for key in KEYS)
    if zipped is not None:
        config["zip"] = None
    if isinstance(sample, dict) and sample.get("count"):
        config["sample"]["count"] = 0
    return Choosing(zipped, sample if isinstance(sample, dict) else {}, raw.get("params"))


def _raw(node: Any) -> Any:
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=False)
    return None if node is None else node._value()


def is_choosing(override: Override) -> bool:
    """True for `zip=...`, `zip.aiperf.concurrency=[...]` and the same of `sample`."""
    return override.key_or_group.partition(".")[0] in KEYS and not override.is_delete()


def typed(choosing: Choosing, overrides: Sequence[Override]) -> Choosing:
    """The same with what the command line says: a whole mapping replaces, a single column is added."""
    for override in overrides:
        head, _, rest = override.key_or_group.partition(".")
        value = override.value()
        if head == "zip":
            choosing = replace(choosing, zip=_with(choosing.zip, rest, value) if rest else value)
        elif not rest:
            merged = {**_mapping(choosing.sample), **value} if isinstance(value, dict) else value
            choosing = replace(choosing, sample=merged)
        elif rest.startswith("params."):
            sample = _mapping(choosing.sample)
            params = _with(sample.get("params"), rest.removeprefix("params."), value)
            choosing = replace(choosing, sample={**sample, "params": params})
        else:
            choosing = replace(choosing, sample={**_mapping(choosing.sample), rest: value})
    return choosing


def _with(columns: Any, key: str, value: Any) -> dict[str, Any]:
    return {**_mapping(columns), key: value}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def columns_of(choosing: Choosing) -> tuple[Columns, Columns, list[Problem]]:
    """Columns of the zip, columns of the sample (a value per row each), and what is wrong with either."""
    zipped, problems = _zipped(choosing.zip)
    if not isinstance(choosing.sample, dict):
        reason = "should be a mapping of count, seed and params"
        return zipped, {}, [*problems, error("sample", "sample", choosing.sample, reason)]
    unknown = [
        error("unknown-key", f"sample.{key}", value, "unknown key", did_you_mean(str(key), _SAMPLE))
        for key, value in choosing.sample.items()
        if key not in _SAMPLE
    ]
    sampled, wrong = drawn(choosing.sample)
    doubled = [
        error("zip", f"zip.{key}", list(zipped[key]), "is in sample.params too", "leave it out of one")
        for key in zipped
        if key.lstrip("+") in {other.lstrip("+") for other in sampled}
    ]
    return zipped, sampled, [*problems, *unknown, *wrong, *doubled]


def _zipped(data: Any) -> tuple[Columns, list[Problem]]:
    if data is None or data == {}:
        return {}, []
    if not isinstance(data, dict):
        return {}, [error("zip", "zip", data, "should be a mapping of keys to lists of values", _EXAMPLE)]
    wrong = [
        error("zip", f"zip.{key}", values, "should be a list of values, one per row", _EXAMPLE)
        for key, values in data.items()
        if not isinstance(values, list) or not values or not all(map(is_value, values))
    ]
    if wrong:
        return {}, wrong
    lengths = {str(key): len(values) for key, values in data.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} {length}" for key, length in lengths.items())
        key = next(key for key, length in lengths.items() if length != next(iter(lengths.values())))
        reason = f"the lists of a zip have one value per row, and these differ in length ({told})"
        hint = "give each the same number; for a product write an ordinary sweep: key=1,2"
        return {}, [error("zip", f"zip.{key}", data[key], reason, hint)]
    return {str(key): values for key, values in data.items()}, []


def rows(columns: Columns) -> list[Row]:
    """One row of overrides per value; one row without any where there are no columns."""
    texts = [[f"{key}={text(value)}" for value in values] for key, values in columns.items()]
    return [tuple(row) for row in zip(*texts, strict=True)] if texts else [()]


def text(value: Any) -> str:
    """A value as Hydra reads it in an override.

    >>> text(["a b", 1, None, {"k": True}])
    "['a b',1,null,{k: true}]"
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        plain = _PLAIN.match(value) and value.lower() not in _NOT_TEXT
        return value if plain else str(QuotedString(text=value, quote=Quote.single).with_quotes())
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}: {text(item)}" for key, item in value.items()) + "}"
    return str(value)
