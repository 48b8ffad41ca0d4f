"""The points of ordinary sweeps, each multiplied by the rows of `zip` and `sample` of its configuration.

Files say what is zipped and sampled as well as the command line does, so it is read per group selection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override

from compiler.compose.choosing import Columns, Row, columns_of, rows, text, typed
from compiler.compose.loader import COMPLAINTS, Base
from compiler.compose.sweeps import MOST_POINTS, of_the_command, too_many
from compiler.compose.values import unknown_key
from compiler.errors import NOTHING, Problem, error

if TYPE_CHECKING:
    from compiler.compose.composer import Composer


def with_rows(
    composer: Composer, points: Sequence[Row], given: Sequence[Override], chosen: Sequence[Override]
) -> tuple[list[Row], list[Problem]]:
    """Every point with every row behind it, and what is wrong with the rows.

    `given` are the overrides of all points, `chosen` those of `zip` and `sample`.
    """
    groups = [index for index, part in enumerate(points[0]) if composer.is_group(part)] if points else []
    selections = [tuple(point[index] for index in groups) for point in points]
    found = {one: _rows(composer, one, given, chosen) for one in dict.fromkeys(selections)}
    problems: list[Problem] = []
    for _, wrong in found.values():
        problems += [problem for problem in wrong if problem not in problems]
    number = sum(len(found[selection][0]) for selection in selections)
    if number > MOST_POINTS:
        return [], [*problems, too_many(number, "sample.count" if chosen else "zip")]
    return [
        (*point, *row)
        for point, selection in zip(points, selections, strict=True)
        for row in found[selection][0]
    ], problems


def _rows(
    composer: Composer, groups: Sequence[str], given: Sequence[Override], chosen: Sequence[Override]
) -> tuple[list[Row], list[Problem]]:
    try:
        base = composer.base(composer.selection(groups))
    except COMPLAINTS:
        return [()], []  # told of each point, when it is composed
    problems = _not_read(composer, base, groups)
    zipped, sampled, wrong = columns_of(typed(base.choosing, chosen))
    problems += wrong
    for place, columns in (("zip", zipped), ("sample.params", sampled)):
        problems += _wrong_keys(composer, place, columns, base, given)
    if not problems:
        problems += _brought_along(composer, base, groups, zipped)
    if problems:
        return [()], problems
    return [(*one, *other) for one in rows(zipped) for other in rows(sampled)], []


def _wrong_keys(
    composer: Composer, place: str, columns: Columns, base: Base, given: Sequence[Override]
) -> list[Problem]:
    problems: list[Problem] = []
    # An option of a group brings keys of its own; what is unknown is then told of each point.
    open_to_groups = any(composer.is_group(f"{key}={text(values[0])}") for key, values in columns.items())
    for key, values in columns.items():
        told = _wrong_key(composer, key, values, given)
        if told is None and not open_to_groups:
            told = _unknown(composer, key, values, base)
        problems += [replace(told, key=f"{place}.{key}", origin="")] if told is not None else []
    return problems


def _wrong_key(
    composer: Composer, key: str, values: Sequence[Any], given: Sequence[Override]
) -> Problem | None:
    override, problem = composer.parsed(f"{key}={text(values[0])}")
    shown = list(values)
    if override is None or override.is_delete():
        reason = problem.reason if problem is not None else "removes a key, and cannot have values"
        return error("zip", key, shown, reason, "name a key, as in an override")
    if (said := of_the_command(override.key_or_group)) is not None:
        return error("swept", key, shown, *said)
    for other in given:
        if other.key_or_group == override.key_or_group:
            reason = f"the key is also given as '{other.input_line}'"
            return error("zip", key, shown, reason, "leave one of them out; zip=null turns a zip off")
    return None


def _unknown(composer: Composer, key: str, values: Sequence[Any], base: Base) -> Problem | None:
    override, _ = composer.parsed(f"{key}={text(values[0])}")
    if override is None or override.is_add() or override.is_force_add():
        return None
    told = unknown_key(override, base.config)
    if told is None:
        return None
    guess, add, _ = told.hint.partition("to add it write")
    hint = f"{guess}to add it write '+{key}' in a mapping: zip={{+{key}: [...]}}" if add else told.hint
    return replace(told, value=list(values), hint=hint)


def _not_read(composer: Composer, base: Base, groups: Sequence[str]) -> list[Problem]:
    """Sweep parameters in an option that is itself swept: Hydra's sweeper reads them once, before that."""
    if composer.read_params is NOTHING or base.choosing.params == composer.read_params:
        return []
    told = _told_late("hydra.sweeper.params", base.choosing.params, groups)
    return [told.at(f"override '{' '.join(groups)}'")]


def _brought_along(
    composer: Composer, base: Base, groups: Sequence[str], columns: Mapping[str, Sequence[Any]]
) -> list[Problem]:
    """Options of groups in a zip that would choose points themselves: what they say would be lost."""
    options = {key: values for key, values in columns.items() if composer.is_group(f"{key}=x")}
    for row in dict.fromkeys(rows(options)):
        try:
            other = composer.base(composer.selection([*groups, *row])).choosing
        except COMPLAINTS:
            continue
        if other != base.choosing:
            return [_told_late(f"zip.{next(iter(options))}", NOTHING, row)]
    return []


def _told_late(key: str, value: Any, groups: Sequence[str]) -> Problem:
    reason = f"'{' '.join(groups)}' sweeps, zips or samples itself, which is read once for the whole command"
    hint = "run one command for each of these options"
    return error("swept", key, value, reason, hint)
