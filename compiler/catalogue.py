"""What the tools' command lines know: flag names, kinds and choices, read from `catalogues/` when asked for.

Taken from: names of catalogues (`vllm-0.31.0`). Given to: the rules on flags, and `lower`. Files
are written by tools/catalogue.py.
Never does: reading a file twice in a process, or one that nobody named; judging a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from compiler.flags import canonical

FOLDER = Path(__file__).resolve().parent.parent / "catalogues"
SCHEMA = "servix.catalogue/1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
Kind = Literal["int", "float", "text", "flag", "list", "json"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of a tool, in canonical spelling."""

    name: str
    kind: Kind
    aliases: tuple[str, ...] = ()
    """Other long spellings of the same flag."""
    short: tuple[str, ...] = ()
    """Spellings with one dash, which no key of a configuration makes."""
    items: Literal["int", "float", "text", "json"] = "text"
    """Kind of one item of a list."""
    several: bool = False
    """A list may be given as several words; without it one flag takes one word."""
    split: str = ""
    """The tool itself splits a word of the list at this character."""
    bare: bool = False
    """May stand without a value too."""
    choices: tuple[str | int, ...] = ()
    """The only values; none: any of the kind."""
    words: tuple[str, ...] = ()
    """Accepted besides the kind and the choices (`auto` for a number)."""
    loose: bool = False
    """Choices ignore case, `-` and `_`."""
    suffixes: bool = False
    """Whole numbers may be written as 4k or 2M."""
    removed: str = ""
    """The tool refuses it: what to do now."""
    deprecated: str = ""
    """The tool still takes it: what to do now."""

    @property
    def adds_up(self) -> bool:
        """Given twice, both count: a list whose items are words of their own."""
        return self.kind == "list" and (self.several or not self.split)


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """Flags of one or more catalogues that are given to one command; the first one that knows a name counts."""

    names: tuple[str, ...]
    flags: Mapping[str, Flag]
    """Every spelling -> its flag."""
    missing: tuple[str, ...]
    """Named, but there is no such file: what they would know is unknown."""

    @property
    def title(self) -> str:
        """The tools and versions, for people: `dynamo.vllm 1.6.1 and vllm 0.31.0`."""
        return " and ".join(" ".join(name.rsplit("-", 1)) for name in self.names)

    def meant(self, word: str) -> list[str]:
        """Names of the flags that a word of a command line can mean, as argparse reads it; none for a value.

        Several for an abbreviation of several; a long flag that is not known means what it says.
        """
        text = word.partition("=")[0]
        if text.startswith("--"):
            name = canonical(text[2:])
            if name in self.flags or not name:
                return [self.flags[name].name] if name else []
            usable = {
                flag.name for key, flag in self.flags.items() if key.startswith(name) and not flag.removed
            }
            return sorted(usable) or [name]
        if not text.startswith("-") or not text[1:2].isalpha():
            return []
        short = {spelling: flag.name for flag in self.flags.values() for spelling in flag.short}
        # A short flag of one letter may have its value in the same word.
        found = short.get(text[1:]) or short.get(text[1])
        return [found] if found else []


@cache
def catalogue(names: tuple[str, ...], folder: Path = FOLDER) -> Catalogue:
    """The catalogues of these names as one."""
    flags: dict[str, Flag] = {}
    missing = []
    for name in names:
        found = _read(name, folder)
        if found is None:
            missing.append(name)
        else:
            flags = {**found, **flags}
    return Catalogue(names, flags, tuple(missing))


@cache
def _read(name: str, folder: Path) -> Mapping[str, Flag] | None:
    """Spelling -> flag of one file; null where there is none, or one that is no catalogue."""
    if not _NAME.match(name):
        return None
    path = folder / f"{name}.json"
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        return None
    flags: dict[str, Flag] = {}
    for key, entry in data["flags"].items():
        flag = _flag(key, entry)
        flags[key] = flag
        for alias in flag.aliases:
            flags.setdefault(alias, flag)
    return flags


def _flag(name: str, entry: Mapping[str, Any]) -> Flag:
    facts: dict[str, Any] = {
        key: tuple(fact) if isinstance(fact, list) else fact for key, fact in entry.items()
    }
    return Flag(name=name, **facts)


def passed(names: tuple[str, ...], arguments: Mapping[str, Any], drops_unknown: bool) -> dict[str, Any]:
    """The arguments an engine is given: all, or those its catalogues know where it drops the others."""
    known = catalogue(names)
    if not drops_unknown or not known.names:
        return dict(arguments)
    return {name: value for name, value in arguments.items() if canonical(name) in known.flags}
