"""What is wrong with a configuration, as data, and the one formatter that makes it readable.

Never does: finding problems; knowing where a value came from (`origin` does).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal

from compiler import secret

Level = Literal["error", "warning"]
LONGEST_VALUE = 120
LONGEST_NUMBER = 10_000
"""In bits."""
_ORIGIN = re.compile(r"override '(.*)'\Z", re.DOTALL)


class _Nothing:
    """No value: the problem is about a key, not about what it holds. JSON writes it as null, so both are equal."""

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _Nothing)

    def __hash__(self) -> int:
        return hash(None)

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Any = _Nothing()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing a user has to know: an error forbids to run, a warning does not.

    `code` names the rule; `key` is the dotted place in the configuration ("" for the whole);
    `reason` says the rule that was broken, `hint` the way out; `origin` is `file:line` or the override.
    """

    level: Level
    code: str
    key: str
    value: Any
    reason: str
    hint: str = ""
    origin: str = ""

    def at(self, origin: str) -> Problem:
        """The same problem with its place."""
        return replace(self, origin=origin)

    def as_json(self) -> dict[str, Any]:
        """Keys level, code, key, value, reason, hint, origin; a missing value is null."""
        told = self.masked()
        return {field.name: json_value(getattr(told, field.name)) for field in fields(told)}

    def masked(self) -> Problem:
        """The same problem without the secrets that were typed: what is told of it is read and kept by others."""
        name = self.key.rpartition(".")[2]
        value = self.value if self.value is NOTHING else secret.masked_data(self.value, name)
        reason, hint = secret.masked(self.reason), secret.masked(self.hint)
        origin = _ORIGIN.sub(lambda found: f"override '{secret.masked_override(found[1])}'", self.origin)
        return replace(self, value=value, reason=reason, hint=hint, origin=origin)


@dataclass(frozen=True, slots=True)
class JointProblem(Problem):
    """A problem that several keys make together. `origin` blames the one that the user wrote: see `of_key`."""

    others: tuple[tuple[str, Any], ...] = ()
    """Further keys and their values; the problem's own key is blamed where the user wrote none of them."""

    def of_key(self, key: str, value: Any) -> Problem:
        """The plain problem, told of one of its keys."""
        return Problem(self.level, self.code, key, value, self.reason, self.hint, self.origin)


def error(code: str, key: str, value: Any, reason: str, hint: str = "") -> Problem:
    """A problem that forbids to run."""
    return Problem("error", code, key, value, reason, hint)


def warning(code: str, key: str, value: Any, reason: str, hint: str = "") -> Problem:
    """A problem that is told and does not stop anything."""
    return Problem("warning", code, key, value, reason, hint)


def shown(value: Any) -> str:
    """A value as a person would write it, on one line and not longer than a line."""
    text = (
        "null"
        if value is None
        else repr(_readable(value))
        if not isinstance(value, bool)
        else str(value).lower()
    )
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def format_problem(problem: Problem) -> str:
    """`place: key = value: reason; hint`, one line, without what is not known."""
    problem = problem.masked()
    value = "" if problem.value is NOTHING or not problem.key else f" = {shown(problem.value)}"
    parts = [problem.origin, f"{problem.key}{value}", problem.reason]
    line = ": ".join(part for part in parts if part)
    if problem.hint:
        line += f"; {problem.hint}"
    return one_line(line)


def one_line(text: str) -> str:
    """Text of any kind on one line that every terminal can show."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    """What would end the line, steer a terminal or not be encoded, made visible."""
    return " " if char == "\n" else char.encode("unicode_escape").decode("ascii")


def json_value(value: Any) -> Any:
    """A value of any kind as JSON has it; what JSON cannot say becomes text."""
    if value is NOTHING:
        return None
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    value = _readable(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _readable(value: Any) -> Any:
    """A whole number that Python will not write in digits (there is a limit of 4300) as hexadecimal text."""
    if isinstance(value, int) and value.bit_length() > LONGEST_NUMBER:
        return f"{hex(value)[:20]}..."
    return value


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """At most three known names that look like `name`, best first.

    >>> nearest("sglangg", ["vllm", "sglang"])
    ['sglang']
    """
    return get_close_matches(name, list(known), n=3, cutoff=0.6)


def sweep_hint(key: str, value: Any) -> str:
    """What to write in place of a list of numbers where one belongs ("" for anything else): a sweep was meant.

    >>> sweep_hint("aiperf.concurrency", [2, 4])
    'a list is data; a sweep is written without brackets: aiperf.concurrency=2,4'
    """
    if not isinstance(value, list) or len(value) < 2 or not all(type(item) in (int, float) for item in value):
        return ""
    return f"a list is data; a sweep is written without brackets: {key}={','.join(map(str, value))}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that guesses the name that was meant, else lists what there is ("" when there is nothing)."""
    names = sorted(known)
    guesses = nearest(name, names)
    if guesses:
        return "did you mean " + " or ".join(f"'{guess}'" for guess in guesses) + "?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= 40 else ""
