"""Rules on the flags of tools: named, given once, known to the version, none that the plan sets.

Which catalogues apply is data (`backend.engines.*.catalogues`, `bench.catalogue`, `dynamo.frontend_catalogue`).
What a flag is worth (a concurrency of 0) is told by `workload.load`. Words of `extra_args` may be new to us: only
what the plan sets, or has a value already, is refused there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from compiler import flags
from compiler.catalogue import Catalogue, catalogue
from compiler.errors import Problem, did_you_mean, error, nearest, warning
from compiler.model import Config, Engine
from compiler.placement import Placement
from compiler.rules import reserved
from compiler.rules.values import value_of
from compiler.rules.workload import NUMBERS


def served(config: Config, placement: Placement) -> Iterable[Problem]:
    """Every mapping that becomes flags, and every list of further words, against the tools that will read them."""
    chosen = config.backend.engines.get(config.engine)
    if chosen is not None:
        yield from _engine(config, chosen)
    yield from _frontend(config)


def _engine(config: Config, chosen: Engine) -> Iterable[Problem]:
    """Flags of roles. The mocker leaves out what only the real engine knows, so both may know a flag."""
    engines = config.backend.engines
    names, others = tuple(chosen.catalogues), tuple[str, ...]()
    if config.engine == "mocker" and "real" in engines:
        others = tuple(engines["real"].catalogues)
    used = {name: value for role in config.roles.values() for name, value in role.args.items()}
    key = f"backend.engines.{config.engine}.catalogues"
    yield from unchecked(key, names, used)
    complete = bool(names) and (config.engine != "mocker" or bool(others))
    found = catalogue(names + others) if complete else catalogue(names)
    for name, role in config.roles.items():
        args, extra = f"{name}.args", f"{name}.extra_args"
        yield from given(args, role.args, found, extra, chosen.reserved, named=complete)
        held = reserved.held(found, [(args, role.args)])
        yield from reserved.words(extra, role.extra_args, found, chosen.reserved, held)


def asked(config: Config, placement: Placement) -> Iterable[Problem]:
    """Arguments of the load generator: the base, what each phase changes of it, and further words."""
    bench, tool = config.bench, config.bench.name
    names = (bench.catalogue,) if bench.catalogue else ()
    yield from unchecked("bench.catalogue", names, config.arguments)
    found, extra = catalogue(names), "bench.extra_args"
    yield from given(tool, config.arguments, found, extra, bench.reserved, skip=NUMBERS)
    base = {flags.canonical(name): name for name in config.arguments}
    places: list[tuple[str, Mapping[str, Any]]] = [(tool, config.arguments)]
    for index, phase in enumerate(config.phases):
        own = {key: value for key, value in phase.items() if key != "name"}
        place = f"phases.{index}"
        yield from given(place, own, found, extra, bench.reserved, skip=NUMBERS, named=False)
        yield from _of_base(place, own, base, tool, bench.reserved)
        places.append((place, own))
    yield from reserved.words(extra, bench.extra_args, found, bench.reserved, reserved.held(found, places))


def _of_base(
    place: str, own: Mapping[str, Any], base: Mapping[str, str], tool: str, planned: Iterable[str]
) -> Iterable[Problem]:
    """A phase changes arguments that the base has, in the base's spelling."""
    told = set(map(flags.canonical, planned))
    for key, value in own.items():
        plain = flags.canonical(str(key))
        if plain in told or not flags.is_flag_name(str(key)):
            continue
        if plain not in base:
            reason = f"'{tool}' has no such argument here; add it with +{tool}.{key}=null first"
            yield error("flag", f"{place}.{key}", value, reason, did_you_mean(str(key), base.values()))
        elif key != base[plain]:
            reason = f"is spelled '{base[plain]}' in '{tool}'"
            yield error("flag", f"{place}.{key}", value, reason, "use one spelling")


def _frontend(config: Config) -> Iterable[Problem]:
    """With a chat processor of an engine the frontend takes that engine's flags too."""
    dynamo, extra = config.dynamo, "dynamo.frontend_words"
    names = (dynamo.frontend_catalogue,) if dynamo.frontend_catalogue else ()
    yield from unchecked("dynamo.frontend_catalogue", names, dynamo.frontend_args)
    found = catalogue(names)
    if dynamo.router_mode is not None:
        yield from given("dynamo", {"router_mode": dynamo.router_mode}, found, extra, [])
    processor = {flags.canonical(name): value for name, value in dynamo.frontend_args.items()}
    plain = processor.get("chat_processor") in (None, "dynamo")
    place = "dynamo.frontend_args"
    yield from given(place, dynamo.frontend_args, found, extra, reserved.FRONTEND, named=plain)


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
    planned: Iterable[str],
    *,
    skip: Iterable[str] = (),
    named: bool = True,
) -> Iterable[Problem]:
    """Problems of one mapping of flags.

    `extra` is the key for what no catalogue knows, `planned` are the flags that the plan sets, `skip` names flags
    whose values another rule judges, `named` says whether an unknown name is told here.
    """
    taken = reserved.spellings(found, tuple(planned))
    complete = bool(found.names) and not found.missing
    seen: dict[str, str] = {}
    meant: dict[str, str] = {}
    for name, value in arguments.items():
        plain, key = flags.canonical(str(name)), f"{place}.{name}"
        flag = found.flags.get(plain)
        if not flags.is_flag_name(str(name)):
            yield error(
                "flag", key, value, "is not a flag's name", "letters, digits and '_', e.g. max_model_len"
            )
        elif plain in taken:
            yield reserved.planned(key, value, plain, taken[plain])
        elif plain in seen:
            yield error("flag", key, value, f"is given as '{seen[plain]}' too", "use one spelling")
        elif flag is None:
            if named and complete:
                yield _unknown(key, plain, value, found, extra)
        elif flag.removed:
            yield error("unknown-flag", key, value, flag.removed)
        else:
            if value is not None and (other := meant.setdefault(flag.name, plain)) != plain:
                reason = f"is the same flag as '{other}', given too"
                yield error("flag", key, value, reason, "use one spelling")
            if flag.deprecated and value is not None and value is not False:
                yield warning("deprecated-flag", key, value, f"deprecated, {flag.deprecated}")
            if plain not in skip:
                yield from value_of(key, flag, value, found)
        seen[plain] = str(name)


def _unknown(key: str, plain: str, value: Any, found: Catalogue, extra: str) -> Problem:
    usable = [name for name, flag in found.flags.items() if not flag.removed]
    guesses = nearest(plain, usable) or _with_same_words(plain, usable)
    meant = f"did you mean {' or '.join(map(repr, guesses))}? " if guesses else ""
    hint = f"{meant}what is new to servix goes through {extra}"
    if plain in reserved.KEYS:
        hint = reserved.hint(key, plain)
    return error("unknown-flag", key, value, f"is no flag of {found.title}", hint)


def _with_same_words(plain: str, usable: Iterable[str]) -> list[str]:
    """At most three names that hold all words of this one, shortest first: `utilization` finds its flag."""
    words = set(plain.split("_"))
    holding = [name for name in usable if words <= set(name.split("_"))]
    return sorted(holding, key=lambda name: (len(name), name))[:3]
