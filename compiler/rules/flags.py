"""Rules on the flags of tools: what a catalogue of the configured version does not know is refused.

Which catalogues apply is data (`backend.engines.*.catalogues`, `bench.catalogue`, `dynamo.frontend_catalogue`).
Names that are no flag's name, given twice or reserved by the plan are told by `settings.flags_given`; what a
flag is worth (a concurrency of 0) by `workload.load`. Words of `extra_args` are never looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from compiler import flags
from compiler.catalogue import Catalogue, Flag, catalogue
from compiler.errors import Problem, error, nearest, warning
from compiler.model import Config
from compiler.placement import Placement
from compiler.rules.workload import NUMBERS

_WHOLE = re.compile(r"[+-]?\d+\Z")
_WITH_SUFFIX = re.compile(r"[+-]?\d+(\.\d+)?[kKmMgGtT]?\Z")
_SUFFIXED = re.compile(r"(?<=\d)[kKmMgGtT]\b")
_KINDS = {"int": "a whole number", "float": "a number", "text": "a text", "json": "JSON", "list": "a value"}
MOST_CHOICES = 12


def known(config: Config, placement: Placement) -> Iterable[Problem]:
    """Every mapping that becomes flags, against the catalogues of the tools that will read them."""
    yield from _engine(config)
    bench, tool = config.bench, config.bench.name
    names = (bench.catalogue,) if bench.catalogue else ()
    yield from unchecked("bench.catalogue", names, config.arguments)
    found, extra = catalogue(names), "bench.extra_args"
    yield from given(tool, config.arguments, found, extra, bench.reserved, skip=NUMBERS)
    base = {flags.canonical(name) for name in config.arguments}
    for index, phase in enumerate(config.phases):
        own = {key: value for key, value in phase.items() if flags.canonical(str(key)) in base}
        yield from given(f"phases.{index}", own, found, extra, bench.reserved, skip=NUMBERS, named=False)
    yield from _frontend(config)


def _engine(config: Config) -> Iterable[Problem]:
    """Flags of roles. The mocker leaves out what only the real engine knows, so both may know a flag."""
    engines = config.backend.engines
    chosen = engines.get(config.engine)
    if chosen is None:
        return
    names, others = tuple(chosen.catalogues), tuple[str, ...]()
    if config.engine == "mocker" and "real" in engines:
        others = tuple(engines["real"].catalogues)
    used = {name: value for role in config.roles.values() for name, value in role.args.items()}
    key = f"backend.engines.{config.engine}.catalogues"
    yield from unchecked(key, names, used)
    complete = bool(names) and (config.engine != "mocker" or bool(others))
    found = catalogue(names + others) if complete else catalogue(names)
    for name, role in config.roles.items():
        yield from given(
            f"{name}.args", role.args, found, f"{name}.extra_args", chosen.reserved, named=complete
        )


def _frontend(config: Config) -> Iterable[Problem]:
    """With a chat processor of an engine the frontend takes that engine's flags too."""
    dynamo = config.dynamo
    names = (dynamo.frontend_catalogue,) if dynamo.frontend_catalogue else ()
    yield from unchecked("dynamo.frontend_catalogue", names, dynamo.frontend_args)
    if dynamo.router_mode is not None:
        mode = {"router_mode": dynamo.router_mode}
        yield from given("dynamo", mode, catalogue(names), "dynamo.frontend_words", [])
    processor = {flags.canonical(name): value for name, value in dynamo.frontend_args.items()}
    plain = processor.get("chat_processor") in (None, "dynamo")
    reserved = ["http_host", "http_port", "router_mode"]
    yield from given(
        "dynamo.frontend_args",
        dynamo.frontend_args,
        catalogue(names),
        "dynamo.frontend_words",
        reserved,
        named=plain,
    )


def unchecked(key: str, names: tuple[str, ...], arguments: Mapping[str, Any]) -> Iterable[Problem]:
    """One warning where flags are given and no catalogue, or one that is not there, would know them."""
    missing = catalogue(names).missing
    if arguments and (missing or not names):
        reason = f"there is no catalogue '{missing[0]}'" if missing else "no catalogue is named"
        hint = "misspelt flags will only be found when the tool starts"
        yield warning(
            "no-catalogue", key, list(names) or None, f"{reason}, so flags are not fully checked", hint
        )


def given(
    place: str,
    arguments: Mapping[str, Any],
    found: Catalogue,
    extra: str,
    reserved: Iterable[str],
    *,
    skip: Iterable[str] = (),
    named: bool = True,
) -> Iterable[Problem]:
    """Problems of one mapping of flags.

    `extra` is the key for what no catalogue knows, `skip` names flags whose values another rule judges,
    `named` says whether an unknown name is told here.
    """
    planned = _spellings(found, tuple(reserved))
    complete = bool(found.names) and not found.missing
    seen: dict[str, str] = {}
    for name, value in arguments.items():
        plain, key = flags.canonical(str(name)), f"{place}.{name}"
        if plain in planned:
            yield from _planned(key, plain, value, planned)
            continue
        flag = found.flags.get(plain)
        if flag is None:
            if named and complete and flags.is_flag_name(str(name)):
                yield _unknown(key, plain, value, found, extra)
            continue
        if flag.removed:
            yield error("unknown-flag", key, value, flag.removed)
            continue
        if value is not None and seen.setdefault(flag.name, plain) != plain:
            yield error(
                "flag", key, value, f"is the same flag as '{seen[flag.name]}', given too", "use one spelling"
            )
        if flag.deprecated and value is not None and value is not False:
            yield warning("deprecated-flag", key, value, f"deprecated, {flag.deprecated}")
        if plain not in skip:
            yield from _value(key, flag, value, found)


@cache
def _spellings(found: Catalogue, reserved: tuple[str, ...]) -> Mapping[str, str]:
    """Every spelling of the flags the plan sets -> the spelling that is reserved by name."""
    result: dict[str, str] = {}
    for name in map(flags.canonical, reserved):
        flag = found.flags.get(name)
        for spelling in (name, *((flag.name, *flag.aliases) if flag else ())):
            result.setdefault(spelling, name)
    result.update({flags.canonical(name): flags.canonical(name) for name in reserved})
    return result


def _planned(key: str, plain: str, value: Any, planned: Mapping[str, str]) -> Iterable[Problem]:
    """Another spelling of a reserved flag; the reserved spelling itself is told by `settings`."""
    if planned[plain] != plain:
        reason = f"is another spelling of '{planned[plain]}', which is set by the plan"
        yield error("flag", key, value, reason, "use the key of that name in the configuration")


def _unknown(key: str, plain: str, value: Any, found: Catalogue, extra: str) -> Problem:
    usable = [name for name, flag in found.flags.items() if not flag.removed]
    guesses = nearest(plain, usable) or _with_same_words(plain, usable)
    meant = f"did you mean {' or '.join(map(repr, guesses))}? " if guesses else ""
    hint = f"{meant}what is new to servix goes through {extra}"
    return error("unknown-flag", key, value, f"is no flag of {found.title}", hint)


def _with_same_words(plain: str, usable: Iterable[str]) -> list[str]:
    """At most three names that hold all words of this one, shortest first: `utilization` finds its flag."""
    words = set(plain.split("_"))
    holding = [name for name in usable if words <= set(name.split("_"))]
    return sorted(holding, key=lambda name: (len(name), name))[:3]


def _value(key: str, flag: Flag, value: Any, found: Catalogue) -> Iterable[Problem]:
    """The value against the flag's kind."""
    if value is None or (value is True and (flag.bare or flag.kind == "flag")):
        return
    if value is False:
        yield from _false(key, flag, found)
    elif flag.kind == "flag":
        hint = f"write true for --{flag.name.replace('_', '-')}, null to leave it out"
        yield error("flag-value", key, value, "takes no value", hint)
    elif value is True:
        yield error("flag-value", key, value, f"takes {_KINDS[flag.kind]}, not a boolean", _hint(flag))
    elif flag.kind != "list" and isinstance(value, list) and flag.kind != "json" and len(value) != 1:
        yield error("flag-value", key, value, "takes one value, not a list", _hint(flag))
    else:
        yield from _items(key, flag, value)


def _false(key: str, flag: Flag, found: Catalogue) -> Iterable[Problem]:
    """False is not passed: harmless for a flag that is off by default, misleading for the others."""
    opposite = found.flags.get(f"no_{flag.name}")
    if flag.kind != "flag" and not flag.bare:
        reason = f"takes {_KINDS[flag.kind]}, not a boolean"
        yield error("flag-value", key, False, reason, "quote the word, or use null to leave the flag out")
    elif opposite is not None and not opposite.removed:
        reason = "is not passed, so the tool keeps its default"
        yield warning("flag-value", key, False, reason, f"to switch it off write {opposite.name}: true")


def _items(key: str, flag: Flag, value: Any) -> Iterable[Problem]:
    """Each word that the value becomes."""
    kind = flag.items if flag.kind == "list" else flag.kind
    words = value if isinstance(value, list) and kind != "json" else [value]
    if flag.kind == "list" and len(words) > 1 and not flag.several:
        hint = f"join the items with '{flag.split}'" if flag.split else "the tool takes one item"
        yield error("flag-value", key, value, "takes one word, not several", hint)
        return
    for word in words:
        for item in _split(word, flag, kind):
            wrong = _wrong(item, kind, flag)
            if wrong:
                yield error("flag-value", key, value, wrong, _hint(flag, item))
                return


def _split(word: Any, flag: Flag, kind: str) -> list[Any]:
    if flag.split and isinstance(word, str) and kind != "json":
        return [part.strip() for part in word.split(flag.split)]
    return [word]


def _wrong(item: Any, kind: str, flag: Flag) -> str:
    """What is wrong with one item ("" when nothing is)."""
    if isinstance(item, str) and item in flag.words:
        return ""
    if flag.choices:
        return "" if _chosen(item, flag) else "is not one of the flag's values"
    if kind == "json":
        return (
            ""
            if not isinstance(item, str) or _is_json(item)
            else "looks like JSON and cannot be read as such"
        )
    if isinstance(item, bool) or not _fits(item, kind, flag):
        return f"should be {_KINDS[kind]}"
    return ""


def _fits(item: Any, kind: str, flag: Flag) -> bool:
    if kind == "text":
        return True
    if isinstance(item, str):
        if kind == "int":
            return bool((_WITH_SUFFIX if flag.suffixes else _WHOLE).match(item))
        return _is_number(item)
    return isinstance(item, int) if kind == "int" else isinstance(item, int | float)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_json(text: str) -> bool:
    """False for text that opens like JSON and is none; other text is left to the tool."""
    if not text.lstrip().startswith(("{", "[")):
        return True
    for form in (text, _SUFFIXED.sub("", text)):
        try:
            json.loads(form)
        except ValueError:
            continue
        return True
    return False


def _chosen(item: Any, flag: Flag) -> bool:
    if isinstance(item, bool):
        return False
    texts = [str(choice) for choice in flag.choices]
    return str(item) in texts or (flag.loose and _folded(str(item)) in map(_folded, texts))


def _folded(text: str) -> str:
    return text.lower().replace("-", "").replace("_", "")


def _hint(flag: Flag, item: Any = None) -> str:
    """The way out: near choices, all of a few, or the words besides numbers."""
    choices = [str(choice) for choice in flag.choices]
    near = nearest(str(item), choices) if choices and item is not None else []
    if near:
        return "did you mean " + " or ".join(map(repr, near)) + "?"
    if choices:
        more = "" if len(choices) <= MOST_CHOICES else f" and {len(choices) - MOST_CHOICES} more"
        return f"one of {', '.join(choices[:MOST_CHOICES])}{more}"
    if flag.split:
        return f"several are joined with '{flag.split}'"
    named = [word for word in flag.words if word != "None"]
    return f"or {', '.join(named)}" if named else ""
