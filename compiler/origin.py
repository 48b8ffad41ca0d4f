"""Key -> the place its value came from: file and line, or the override. Used only when there is a problem to show.

OmegaConf keeps no line numbers, so the YAML files of the selection are read again, in merge order; the last
writer of a key is its origin, and an override beats them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import yaml

from compiler.complaint import shown
from compiler.compose import COMPLAINTS, Composer
from compiler.errors import JointProblem, Problem


class Origins:
    """Places of one point's keys."""

    def __init__(self, composer: Composer, overrides: Sequence[str]) -> None:
        self._lines, self._own = composer.kept(_places, composer.selection(overrides))
        # The option of a group is chosen by an override; the keys below it were written in the option's file.
        self._groups = {_key(text): f"override '{text}'" for text in overrides if composer.is_group(text)}
        self._overrides = {
            _key(text): f"override '{text}'" for text in overrides if _key(text) not in self._groups
        }

    def of(self, key: str) -> str:
        """The override of the key or of what holds it, else `file:line` of the same, else ""."""
        paths = _paths(key)
        if paths[0] in self._groups:
            return self._groups[paths[0]]
        for places in (self._overrides, self._lines, self._groups):
            for path in paths:
                if path in places:
                    return places[path]
        below = (place for path, place in self._overrides.items() if path.startswith(paths[0] + "."))
        # A key that is nowhere is missing in one of the options that were chosen: bench=mine without `aiperf`.
        near = [place for group, place in self._groups.items() if paths[-1].startswith(group)]
        return next(below, ", ".join(near or self._groups.values()))

    def blamed(self, problem: JointProblem) -> Problem:
        """The problem told of the first of its keys that an override sets, else a file of the user's, else its own."""
        keys = [(problem.key, problem.value), *problem.others]
        by_override = (pair for pair in keys if any(path in self._overrides for path in _paths(pair[0])))
        by_file = (pair for pair in keys if pair[0] in self._own)
        return problem.of_key(*next(by_override, next(by_file, keys[0])))


def with_origins(
    composer: Composer, overrides: Sequence[str], problems: Sequence[Problem]
) -> tuple[Problem, ...]:
    """The same problems, each with its place where it had none."""
    if all(problem.origin for problem in problems):
        return tuple(problems)
    origins = Origins(composer, overrides)
    plain = [origins.blamed(p) if isinstance(p, JointProblem) else p for p in problems]
    return tuple(p if p.origin else p.at(origins.of(p.key)) for p in plain)


def _paths(key: str) -> list[str]:
    """The key and what holds it, innermost first."""
    parts = re.sub(r"\[(\d+)\]", r".\1", key).split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


@dataclass(frozen=True, slots=True)
class _Line:
    """Where a file writes a key, and whether that file is the user's own."""

    place: str
    own: bool


def _places(composer: Composer, selection: Sequence[str]) -> tuple[Mapping[str, str], frozenset[str]]:
    """The place of every key that a file writes, and the keys whose file is the user's own."""
    lines = _lines(composer, selection)
    return (
        {key: line.place for key, line in lines.items()},
        frozenset(key for key, line in lines.items() if line.own),
    )


def _lines(composer: Composer, selection: Sequence[str]) -> Mapping[str, _Line]:
    lines: dict[str, _Line] = {}
    try:
        sources = composer.sources(selection)
    except COMPLAINTS:  # the selection itself is what is wrong: its problems carry their own place
        return lines
    for source in sources:
        try:
            root = yaml.compose(
                source.path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            )
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
            continue
        prefix, file, own = [source.package] if source.package else [], shown(source.path), source.own
        if prefix and not composer.options(source.package.partition(".")[0]):
            lines.setdefault(source.package, _Line(f"{file}:1", own))
        for path, line in _keys(root, prefix):
            lines[path] = _Line(f"{file}:{line}", own)
    return lines


def _keys(node: yaml.Node | None, path: list[str]) -> Iterable[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = [*path, str(key.value)]
            yield ".".join(here), key.start_mark.line + 1
            yield from _keys(value, here)
    elif isinstance(node, yaml.ScalarNode) and not path:
        yield str(node.value), node.start_mark.line + 1  # a lone word is read as a key without value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = [*path, str(index)]
            yield ".".join(here), value.start_mark.line + 1
            yield from _keys(value, here)
