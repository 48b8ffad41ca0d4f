"""What the fuzzers throw at the compiler: commands, plain data and files.

Cases come from pools of hostile words and from grammars around them, so that most are nearly right: a wrong case
that fails in the first pass finds nothing. The words are in hostile.py, what must come of them in outcomes.py.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import yaml
from compiling import shared_composer
from hostile import (
    BASES,
    DEFAULTS,
    GROUPS,
    HEADS,
    KEYS,
    LIKELY,
    OPTIONS,
    PLAUSIBLE,
    SCALARS,
    SNIPPETS,
    SPELLED,
)
from hypothesis import strategies as st
from outcomes import walk

from compiler.compose import Composer

# --- trees

DEEP = 60
"""Levels of what is merely deep; some texts are deeper than any recursion."""


def nested(kind: str, depth: int = DEEP) -> Any:
    """A list or mapping `depth` levels deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


scalars = st.sampled_from(SCALARS) | st.integers() | st.text(max_size=6)
keys: st.SearchStrategy[Any] = st.sampled_from([*KEYS, *KEYS, 0, 1, -1, True, None, 1.5, b"k"])
trees: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
) | st.sampled_from([nested("list"), nested("mapping"), [], {}, [None], [{}], {"a": []}])


# --- overrides


@cache
def paths() -> list[str]:
    """Keys of the configuration at every depth, some with an index."""
    found: dict[str, None] = {}
    for base in (("lmcache=on",), ("bench=genai_perf", "lmcache=on")):
        data = shared_composer().compose(base).data
        assert data is not None
        found |= dict.fromkeys(".".join(map(str, path)) for path in walk(data) if path)
    odd = "nodes[0] phases[0].name phases.0 decode.args[a] a..b .a a. hydra.mode hydra.job.name"
    return [*found, *odd.split()]


def quoted(value: Any) -> str:
    """A plain value in Hydra's spelling, as far as it has one."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, list):
        return "[" + ",".join(map(quoted, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}: {quoted(item)}" for key, item in value.items()) + "}"
    if isinstance(value, int) and not isinstance(value, bool):
        return json.dumps(value) if abs(value) < 10**4000 else hex(value)
    return (
        str(value)
        if isinstance(value, float)
        else {None: "null", True: "true", False: "false"}.get(value, str(value))
    )


def misspelt(name: str, at: int) -> str:
    """The name with one letter left out or doubled."""
    at %= max(1, len(name))
    return name[:at] + name[at + 1 :] if at % 2 else name[:at] + name[at : at + 1] + name[at:]


SIZE_KEYS = [
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "workers_per_node",
    "num_nodes",
]
ROLES = st.sampled_from(["prefill", "decode", "aggregated"])
SIZES = st.builds(
    lambda role, key, value: f"{role}.{key}={value}",
    ROLES,
    st.sampled_from(SIZE_KEYS),
    st.sampled_from([1, 1, 2, 2, 3, 4, 8, 16]),
)
LIKELY_OVERRIDES = SIZES | st.sampled_from(LIKELY)


@st.composite
def override(draw: st.DrawFn) -> str:
    """One override: half of them likely, the others a known or wrong key with a hostile value."""
    form = draw(st.integers(0, 9))
    if form < 4:
        return draw(LIKELY_OVERRIDES)
    if form == 4:
        group = draw(st.sampled_from(sorted(GROUPS)))
        sign = draw(st.sampled_from(["", "", "", "", "+", "~", "++"]))
        package = draw(st.sampled_from([""] * 8 + ["@x", "@_global_", "@a:b", "@"]))
        return f"{sign}{group}{package}={draw(st.sampled_from(GROUPS[group]))}"
    if form == 5 and draw(st.booleans()):
        return draw(
            st.text(max_size=20)
            | st.sampled_from(["", "=", "+", "~", "a", "a=b=c", "=1", "@=1", "~a=1", "+=1"])
        )
    key = draw(st.sampled_from(paths()))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        key = misspelt(key, draw(st.integers(0, 40)))
    elif kind in (1, 2):
        key = f"{key}.{draw(st.sampled_from(KEYS))}"
    sign = draw(st.sampled_from(["", "", "", "", "", "+", "+", "++", "~", "~~"]))
    value = draw(st.sampled_from(SPELLED) | scalars.map(quoted) | trees.map(quoted))
    return f"{sign}{key}" if sign == "~" and draw(st.booleans()) else f"{sign}{key}={value}"


override_lists = st.builds(
    lambda base, more: (*base, *more), st.sampled_from(BASES), st.lists(override(), min_size=1, max_size=4)
)


# --- plain data


@cache
def valid_data() -> list[dict[str, Any]]:
    """Compositions of which nothing is wrong, and a few with what is only seen when it is there."""
    found = []
    for base in BASES:
        data = shared_composer().compose(base).data
        assert data is not None
        found.append(json.loads(json.dumps(data)))
    return found


@cache
def places(index: int) -> list[tuple[Any, ...]]:
    """Places of one composition; those a rule looks at often come more often."""
    found = [path for path in walk(valid_data()[index]) if path]
    busy = (
        "prefill",
        "decode",
        "aggregated",
        "aiperf",
        "genai_perf",
        "lmcache",
        "topology",
        "num_nodes",
        "nodes",
        "phases",
        "gates",
    )
    return [*found, *(path for path in found if path[0] in busy for _ in range(3))]


Change = tuple[tuple[Any, ...], str, Any, Any]
"""Place, action, value, key."""
Case = tuple[int, tuple[Change, ...]]
"""Number of a valid composition, and what is changed in it. Small enough to be pinned as an example."""


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A valid composition with one to four things changed."""
    index = draw(st.integers(0, len(BASES) - 1))
    made: list[Change] = []
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(places(index)))
        dice = draw(st.integers(0, 9))
        if dice < 9:
            value = draw(st.sampled_from(PLAUSIBLE) if dice < 5 else scalars if dice < 7 else trees)
            made.append((path, "set", value, None))
        else:
            action = draw(st.sampled_from(["drop", "add", "rename", "whole", "double"]))
            made.append((path, action, draw(scalars), draw(keys)))
    return index, tuple(made)


def mutated(case: Case) -> dict[str, Any]:
    """The data of a case."""
    index, changes = case
    data = copy.deepcopy(valid_data()[index])
    for path, action, value, key in changes:
        change(data, path, action, copy.deepcopy(value), key)
    return data


def change(data: Any, path: tuple[Any, ...], action: str, value: Any, key: Any) -> None:
    """One change in place; a place that an earlier change took away is left alone."""
    node = data
    for name in path[:-1]:
        if not holds(node, name):
            return
        node = node[name]
    last = path[-1]
    if not holds(node, last):
        return
    if action == "set":
        node[last] = value
    elif action == "drop":
        del node[last]
    elif action == "add" and isinstance(node[last], dict):
        node[last][key] = value
    elif action == "rename" and isinstance(node, dict):
        node[key] = node.pop(last)
    elif action == "whole":
        node[last] = copy.deepcopy(data)
    elif action == "double" and isinstance(node[last], list):
        node[last] = [*node[last], *node[last]]


def holds(node: Any, name: Any) -> bool:
    if isinstance(node, dict):
        return name in node
    return isinstance(node, list) and isinstance(name, int) and -1 < name < len(node)


# --- a user's own files


@st.composite
def own_file(draw: st.DrawFn) -> tuple[str, bytes]:
    """A group, and the text of its option `mine`: a part of the configuration, changed, and often cut up."""
    group = draw(st.sampled_from(OPTIONS))
    body: Any = {}
    data = mutated(draw(cases() | st.tuples(st.integers(0, len(BASES) - 1), st.just(()))))
    if group == "experiment":
        names = [name for name in data if name not in ("topology", "action")]
        chosen = draw(st.lists(st.sampled_from(names), max_size=3, unique_by=str)) if names else []
        body = {name: data[name] for name in chosen}
    elif group in ("system", "bench", "lmcache") and draw(st.booleans()):
        body = {group: data.get(group)}
    else:
        body = data.get(group)
    if isinstance(body, dict) and draw(st.booleans()):
        body = {"defaults": draw(st.sampled_from(DEFAULTS)), **body}
    if draw(st.integers(0, 9)) == 0:
        body = draw(trees)
    text = draw(st.sampled_from(HEADS)) + yaml.safe_dump(
        body, sort_keys=False, allow_unicode=draw(st.booleans()), width=10**6
    )
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, len(text)))
        if draw(st.booleans()):
            text = text[:at] + draw(st.sampled_from(SNIPPETS)) + text[at:]
        else:
            text = text[:at] + text[at + draw(st.integers(1, 30)) :]
    coded = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 19)) == 0:
        coded = text.encode(draw(st.sampled_from(["utf-16", "latin-1", "utf-8-sig"])), "replace")
    return group, coded


def forget(used: Composer) -> None:
    """Makes a composer look at its user's files again."""
    for kept in (used._bases, used._options, used._kept, used._read):
        kept.clear()
