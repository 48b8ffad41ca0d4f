"""A composed configuration as plain data, interpolations resolved; else every value that cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from compiler.complaint import sentence
from compiler.errors import NOTHING, Problem, error

_PLAIN_INTERPOLATION = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")


def plain_data(config: DictConfig) -> tuple[dict[str, Any] | None, list[Problem]]:
    """The configuration without Hydra's part, interpolations resolved; else every one that cannot be."""
    own = {str(key): config._get_node(key) for key in config if key != "hydra"}
    try:
        return {key: _resolved(config, key) for key in own}, []
    except OmegaConfBaseException:
        problems = [problem for key, node in own.items() for problem in _unresolved(node, str(key))]
        return None, problems or [error("interpolation", "", NOTHING, "an interpolation cannot be resolved")]


def _resolved(config: DictConfig, key: str) -> Any:
    value = config[key]
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    return value


def _unresolved(node: Any, key: str) -> Iterator[Problem]:
    """Every value below `node` that cannot be resolved."""
    if OmegaConf.is_config(node) and not node._is_interpolation() and not node._is_none():
        children = node._content
        items = children.items() if isinstance(children, dict) else enumerate(children)
        for name, child in items:
            yield from _unresolved(child, f"{key}.{name}")
        return
    if node._is_missing():
        yield error("missing", key, "???", "has no value and none by default", f"set it: {key}=...")
        return
    try:
        if node._is_interpolation():
            node._dereference_node()
    except (OmegaConfBaseException, RecursionError) as exception:
        reason = "the interpolation names a key that does not exist"
        if isinstance(exception, InterpolationResolutionError) and "not found" not in str(exception):
            reason = f"the interpolation cannot be resolved ({sentence(exception)})"
        yield error("interpolation", key, str(node._value()), reason)


def watched_keys(config: DictConfig) -> frozenset[str] | None:
    """Keys that interpolations outside Hydra's part refer to; null when one needs more than a key to be read."""
    found: set[str] = set()
    nodes: list[Any] = [config._get_node(key) for key in config if key != "hydra"]
    while nodes:
        node = nodes.pop()
        if OmegaConf.is_config(node) and not node._is_interpolation() and not node._is_none():
            children = node._content
            nodes += children.values() if isinstance(children, dict) else children
        elif node._is_interpolation():
            text = str(node._value())
            if "\\" in text or "${" in _PLAIN_INTERPOLATION.sub("", text):
                return None
            found.update(_PLAIN_INTERPOLATION.findall(text))
    return frozenset(found)
