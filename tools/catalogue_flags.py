"""Options of an `argparse.ArgumentParser` as entries of a catalogue: names, kinds, choices, what is deprecated.

Given to: `catalogue_installed`, `catalogue_engines` and `catalogue`. Never does: knowing a tool; copying a help text.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import Any

from catalogue_static import TypeOf

Entry = dict[str, Any]
Flags = dict[str, Entry]

KIND_OF_PARSER = {
    "int": TypeOf("int"),
    "float": TypeOf("float"),
    "nullable_int": TypeOf("int", words=("None",)),
    "nullable_float": TypeOf("float", words=("None",)),
    "_parse_structural_tag": TypeOf("json"),
    "_conditional_disagg_config_arg": TypeOf("json"),
}
"""Name of an argparse `type` -> what it reads; anything else reads text."""


def key(option: str) -> str:
    """`--max-model-len` -> `max_model_len`."""
    return option.lstrip("-").replace("-", "_")


def entry(kind: str, **facts: Any) -> Entry:
    """An entry without the facts that say nothing."""
    return {"kind": kind, **{name: fact for name, fact in facts.items() if fact}}


def in_order(choices: Iterable[Any]) -> list[Any]:
    """Numbers by size, then words: some tools keep their choices in sets."""
    return sorted(choices, key=lambda choice: (isinstance(choice, str), choice))


def from_argparse(actions: Iterable[argparse.Action]) -> Flags:
    """Every option of a parser: one entry per flag, and one per negative form."""
    found: Flags = {}
    for action in actions:
        if not isinstance(action, argparse._HelpAction | argparse._VersionAction):
            found.update(from_action(action))
    return found


def from_action(action: argparse.Action) -> Flags:
    """The entries of one option; a long alias that only survives for old commands is told as deprecated."""
    options = action.option_strings
    negative = [name for name in options if name.startswith("--no-") and "--" + name[5:] in options]
    long = [name for name in options if name.startswith("--") and name not in negative]
    if not long:
        return {}
    short = [key(name) for name in options if not name.startswith("--")]
    help_text = "" if action.help in (None, argparse.SUPPRESS) else str(action.help)
    old = [name for name in long[1:] if f"deprecating flag: {name}" in help_text or name.startswith("--aic-")]
    aliases = [key(name) for name in long[1:] if name not in old]
    facts = value_of(action) | {"deprecated": deprecation(action, help_text)}
    found = {key(long[0]): entry(**facts, aliases=aliases, short=short)}
    for name in old:
        now = f"the old spelling of {key(long[0])}"
        found[key(name)] = entry(**{**facts, "deprecated": facts["deprecated"] or now})
    for name in negative:
        told = f"the old spelling of no_{key(long[0])}" if "--" + name[5:] in old else facts["deprecated"]
        found[key(name)] = entry("flag", deprecated=told)
    return found


def deprecation(action: argparse.Action, help_text: str) -> str:
    """What Dynamo's own machinery says of a deprecated option, in one form ("" for the others)."""
    said = re.match(r"\S+ is deprecated and will be removed in (.+?); use (.+?)\.(\s|$)", help_text)
    if said:
        return f"goes away in {said[1]}: use {said[2]}"
    return "deprecated by the tool" if type(action).__name__ == "DeprecatedAction" else ""


def value_of(action: argparse.Action) -> Entry:
    """Kind of the value, and what else is accepted as one."""
    if action.nargs == 0:
        return {"kind": "flag"}
    reads = action.type if isinstance(action.type, TypeOf) else named_type(action.type)
    facts: Entry = {
        "choices": in_order(choice for choice in action.choices or () if choice is not None),
        "words": list(reads.words),
        "suffixes": reads.suffixes,
        "loose": reads.loose,
        "bare": action.nargs in ("?", "*"),
    }
    appended = isinstance(action, argparse._AppendAction)
    if appended or isinstance(action.nargs, int) or action.nargs in ("+", "*"):
        return {"kind": "list", "items": reads.kind, "several": not appended, **facts}
    return {"kind": reads.kind, **facts}


def named_type(parser: object) -> TypeOf:
    """What a plain callable reads, by its name."""
    return KIND_OF_PARSER.get(getattr(parser, "__name__", ""), TypeOf("text"))
