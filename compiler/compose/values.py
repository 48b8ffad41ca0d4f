"""Value overrides (`key=value`) set in a composed configuration, each wrong one told.

Two ways that give the same: Hydra's own function on OmegaConf's data, and for plain values a copy of plain data
along the path, which takes microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from compiler.complaint import sentence
from compiler.errors import Problem, did_you_mean, error, nearest
from compiler.renamed import RENAMED

OPEN = ("args", "env", "frontend_args", "aiperf", "genai_perf", "lmcache", "extra_config")
"""Mappings that take new keys with Hydra's `+`."""
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}\Z")
"""A value that is one interpolation of a key."""
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*\Z")
_DIGITS = re.compile(r"(?<=[\[,])\s*([0-9][0-9a-f]*)\s*(?=[,\]])")
"""An item of a list that begins as a number does."""
MOST_LEVELS = 30
TOOLS = ("aiperf", "genai_perf")
"""Keys that only the `bench` option of their name brings."""


def with_quotes(text: str) -> str:
    """An override in which digests are text, though Hydra would read some as numbers.

    >>> with_quotes("between=[1234,12e4567890]"), with_quotes("trial=1234")
    ("between=['1234','12e4567890']", 'trial=1234')
    """
    return _DIGITS.sub(r"'\1'", text) if text.startswith("between=[") else text


def set_plainly(
    plain: Mapping[str, Any], values: Sequence[Override], watched: Collection[str]
) -> dict[str, Any] | None:
    """Plain data with values set, as Hydra and OmegaConf would set them (there is a test of both); null where one
    of them needs those libraries. What is not changed is shared with `plain`, so nobody may write to the result.

    `watched` are the keys that interpolations in `plain` refer to.
    """
    data, references = dict(plain), dict[str, str]()
    for override in values:
        key, value = override.key_or_group, override.value()
        parent = _parent(override, data, watched)
        if parent is None:
            return None
        reference = _REFERENCE.match(value) if isinstance(value, str) else None
        if reference is None and (not _is_data(value) or isinstance(value, dict)):
            return None
        references.pop(key, None)
        if reference is not None:
            references[key] = reference[1]
        parent[key.rpartition(".")[2]] = None if reference else value
    for key, reference_key in references.items():
        value = _at(data, reference_key)
        if isinstance(value, Mapping | _Absent) or any(
            _related(reference_key, other) for other in references
        ):
            return None
        parent = _copied_parent(data, key)
        if parent is None:
            return None
        parent[key.rpartition(".")[2]] = value
    return data


class _Absent:
    """No such key."""


_ABSENT = _Absent()


def _parent(override: Override, data: dict[str, Any], watched: Collection[str]) -> dict[str, Any] | None:
    """The mapping that the override writes to; null where it is not simply there."""
    key = override.key_or_group
    if "[" in key or override.package is not None or override.is_force_add() or override.is_delete():
        return None
    if any(_related(key, other) for other in watched):
        return None
    old, parent = _at(data, key), _copied_parent(data, key)
    fits = isinstance(old, _Absent) if override.is_add() else not isinstance(old, Mapping | _Absent)
    return parent if fits else None


def _copied_parent(data: dict[str, Any], key: str) -> dict[str, Any] | None:
    """The mapping that holds `key`, it and all above it copied; null when one of them is no mapping."""
    node = data
    for name in key.split(".")[:-1]:
        if not isinstance(node.get(name), Mapping):
            return None
        node[name] = dict(node[name])
        node = node[name]
    return node


def _at(data: Mapping[str, Any], key: str) -> Any:
    node: Any = data
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return _ABSENT
        node = node[name]
    return node


def _related(key: str, other: str) -> bool:
    """True for a key and itself, what holds it, or what it holds."""
    return key == other or key.startswith(other + ".") or other.startswith(key + ".")


def _is_data(value: Any) -> bool:
    """Data without interpolations and without the mark of a missing value."""
    if isinstance(value, str):
        return "$" not in value and value != "???"
    if isinstance(value, list):
        return all(_is_data(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_data(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float)


def too_deep(value: Any) -> bool:
    """True for lists and mappings in each other that the recursion of libraries would not survive."""
    level = [value]
    for _ in range(MOST_LEVELS):
        inner = [
            item.values() if isinstance(item, dict) else item
            for item in level
            if isinstance(item, dict | list)
        ]
        level = [part for items in inner for part in items]
    return bool(level)


def apply(override: Override, config: DictConfig) -> list[Problem]:
    """Applies one value override in place; gives the problem when it cannot be."""
    plain = not (override.is_add() or override.is_force_add() or override.is_delete())
    if plain and (unknown := unknown_key(override, config)) is not None:
        # Asked before Hydra is: its update leaves a half-made mapping behind when it refuses.
        return [unknown]
    try:
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
    except (HydraException, OmegaConfBaseException) as exception:
        return [_refused_value(override, exception, config)]
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError):
        # OmegaConf's own slips, mostly over a key below a list.
        parent, _, _ = _where_it_ends(override.key_or_group, config)
        reason = f"'{parent}' cannot be changed this way"
        told = error(
            "override", override.key_or_group, override.value(), reason, f"set the whole of {parent}"
        )
        return [told.at(place(override))]
    return []


def unknown_key(override: Override, config: DictConfig) -> Problem | None:
    """What is wrong with a key that does not exist; null for one that does."""
    parent, missing, known = _where_it_ends(override.key_or_group, config)
    if missing is None:
        return None
    problem = _unknown_key(override, parent, missing, known)
    elsewhere = _elsewhere(missing, config) if not parent and missing not in RENAMED else []
    meant = " or ".join(f"'{key}'" for key in elsewhere)
    return replace(problem, hint=f"did you mean {meant}?") if meant else problem


def _elsewhere(name: str, config: DictConfig) -> list[str]:
    """Where a key of this name stands one level deeper: a load generator's argument, a role's size."""
    sections = {str(key): config._get_node(key) for key in config if key != "hydra"}
    return [
        f"{key}.{name}"
        for key, node in sections.items()
        if isinstance(node, DictConfig) and not node._is_none() and name in node
    ]


def innermost(exception: BaseException) -> BaseException:
    while exception.__cause__ is not None:
        exception = exception.__cause__
    return exception


def _refused_value(override: Override, exception: BaseException, config: DictConfig) -> Problem:
    """What OmegaConf says below Hydra's wrapper; a new key inside a mapping is added one by one."""
    exception = innermost(exception)
    key, value, hint = override.key_or_group, override.value(), ""
    reason = sentence(exception)
    if isinstance(exception, ConfigAttributeError | ConfigKeyError) and isinstance(value, dict):
        reason, hint = "sets keys that are not there", f"add them one by one: +{key}.{next(iter(value))}=..."
    elif isinstance(value, dict | list):
        reason = f"a {'mapping' if isinstance(value, dict) else 'list'} does not fit here"
        if isinstance(OmegaConf.select(config, key, throw_on_resolution_failure=False), ListConfig):
            hint = "write a list, in brackets: [...]"
    return error("override", key, value, reason, hint).at(place(override))


def place(override: Override) -> str:
    return f"override '{override.input_line}'"


def _unknown_key(override: Override, parent: str, missing: str, known: list[str] | None) -> Problem:
    """`known` are the names beside the missing one; null when its parent holds no keys at all."""
    key, value = override.key_or_group, override.value()
    reason, hint = "unknown key", ""
    if missing in RENAMED and key != "experiment":
        hint = RENAMED[missing]
    elif known is None:
        reason = f"'{parent}' holds no keys here"
        hint = {
            "lmcache": "lmcache=on turns it on",
            "accuracy": "accuracy=mmlu or accuracy=custom turns it on",
        }.get(parent, "")
    elif parent.rpartition(".")[2] in OPEN:
        guess = nearest(missing, known)
        reason = f"'{parent}' has no '{missing}' yet"
        hint = (f"did you mean '{guess[0]}'? " if guess else "") + f"to add it write +{override.input_line}"
    elif missing in TOOLS:
        hint = f"bench={missing} brings it"
    elif key.lstrip("+") == "experiment":
        reason, hint = "there are no experiments here", "leave it out"
        if value is not None:
            name = (override.input_line or "").partition("=")[2]
            file = f"experiment/{name if _FILE_NAME.match(name) else '<name>'}.yaml"
            hint = f"put {file} into a folder named by --config-dir"
    else:
        hint = did_you_mean(missing, known)
    return error("unknown-key", key, value, reason, hint).at(place(override))


def _where_it_ends(key: str, config: DictConfig) -> tuple[str, str | None, list[str] | None]:
    """Deepest parent of `key` that exists, the first name missing below it, and the names there are."""
    node: Any = config
    walked: list[str] = []
    for name in re.split(r"[.\[]", key.replace("]", "")):
        if not isinstance(node, DictConfig) or node._is_none():
            return ".".join(walked), name, None
        # Not `in`: OmegaConf says that a value to be set (`???`) is not there.
        if node._get_node(name, validate_access=False) is None:
            return ".".join(walked), name, [str(k) for k in node if k != "hydra"]
        node = node._get_node(name)
        walked.append(name)
    return ".".join(walked), None, None
