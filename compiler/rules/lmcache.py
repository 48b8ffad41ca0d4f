"""Rules on LMCache's settings: its names and kinds, what its own check asks for, and ports against ranks.

LMCache itself only logs what it does not know and takes null for what it cannot read, so a misspelt setting would
be found in the numbers, or not at all. What is known comes from `catalogues/` (tools/catalogue.py), of the release
named below; `extra_config` is open. A file written for another release can be mounted, and named by
LMCACHE_CONFIG_FILE in a role's `env`, with lmcache=off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from compiler.catalogue import Flag, catalogue
from compiler.errors import Problem, error, nearest, warning
from compiler.kinds import HIGHEST_PORT
from compiler.model import Config
from compiler.placement import Placement

CATALOGUE = "lmcache-0.5.6"
PORTS = "lmcache_worker_ports"
ENCODER = "ec"
"""LMCache reads `ec_NAME`, and names below `ec`, as settings of a second cache for encoders."""
NEEDS: Mapping[str, tuple[str, ...]] = {
    "enable_controller": ("controller_pull_url", "controller_reply_url", PORTS),
    "enable_p2p": ("enable_controller", "p2p_host", "p2p_init_ports", "p2p_lookup_ports", "transfer_channel"),
    "enable_pd": ("pd_role", "pd_buffer_size", "pd_buffer_device"),
    "extra_config.enable_nixl_storage": (
        "extra_config.nixl_backend",
        "extra_config.nixl_pool_size",
        "nixl_buffer_device",
    ),
}
"""Setting that is on -> settings without which LMCache does not start."""
_LIMITS: tuple[tuple[re.Pattern[str], float, float, str], ...] = (
    (re.compile(r"chunk_size\Z"), 1, float("inf"), "at least 1"),
    (re.compile(r".*_ports?\Z|.*_port_start\Z"), 1, HIGHEST_PORT, f"between 1 and {HIGHEST_PORT}"),
    (re.compile(r"lazy_memory_.*_ratio\Z|hit_miss_ratio\Z"), 0, 1, "between 0 and 1"),
    (re.compile(r"blend_check_layers\Z|priority_limit\Z"), float("-inf"), float("inf"), ""),
    (re.compile(r""), 0, float("inf"), "at least 0"),
)
"""Names -> least and greatest number, in words; the first row that fits counts."""
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "text": "text",
    "flag": "true or false",
    "json": "a mapping",
}


def lmcache(config: Config, placement: Placement) -> Iterable[Problem]:
    """Every setting on its own, then together; the file alone does not make an engine use LMCache."""
    if config.lmcache is None:
        return
    yield from _settings("lmcache", config.lmcache)
    yield from _needs(config.lmcache)
    yield from _ranks(config, config.lmcache.get(PORTS))
    roles = config.roles.values()
    arguments = [str(value) for role in roles for value in (*role.args.values(), *role.extra_args)]
    if config.engine == "real" and not any("lmcache" in text.lower() for text in arguments):
        reason = "the settings reach the workers, but no role's args name an LMCache connector"
        hint = "e.g. +decode.args.kv_transfer_config=... with LMCacheConnectorV1"
        yield warning("lmcache", "lmcache", "on", reason, hint)


def _settings(place: str, settings: Mapping[str, Any]) -> Iterable[Problem]:
    """Names and values of a mapping of settings."""
    found = catalogue((CATALOGUE,))
    for name, value in settings.items():
        key, plain = f"{place}.{name}", str(name)
        if plain == ENCODER and isinstance(value, Mapping) and place == "lmcache":
            yield from _settings(key, value)
            continue
        flag = found.flags.get(plain) or found.flags.get(plain.removeprefix(f"{ENCODER}_"))
        if flag is None or flag.removed:
            yield _unknown(key, plain, value, flag)
            continue
        if flag.deprecated:
            yield warning("lmcache", key, value, f"deprecated by {found.title}, {flag.deprecated}")
        yield from _value(key, flag, value)


def _unknown(key: str, name: str, value: Any, flag: Flag | None) -> Problem:
    """A name that LMCache would leave out with a line in its log."""
    found = catalogue((CATALOGUE,))
    if flag is not None:
        return error("lmcache", key, value, f"is no setting of {found.title}", flag.removed)
    guesses = nearest(name, [known for known, one in found.flags.items() if not one.removed])
    meant = f"did you mean {' or '.join(map(repr, guesses))}? " if guesses else ""
    hint = f"{meant}what a backend of LMCache reads goes below extra_config"
    return error("lmcache", key, value, f"is no setting of {found.title}", hint)


def _value(key: str, flag: Flag, value: Any) -> Iterable[Problem]:
    """A value against the kind and the range of its setting."""
    if value is None:
        if not flag.bare:
            reason = f"null is not left out of the file, it should be {_KINDS[flag.kind]}"
            yield error("lmcache", key, value, reason, f"to keep LMCache's default write ~{key}")
        return
    if flag.kind == "list":
        yield from _list(key, flag, value)
    elif not _fits(flag.kind, value):
        hint = "quote the word" if flag.kind == "text" and isinstance(value, bool) else ""
        yield error("lmcache", key, value, f"should be {_KINDS[flag.kind]}", hint)
    elif flag.kind in ("int", "float"):
        yield from _range(key, flag.name, value, value)


def _list(key: str, flag: Flag, value: Any) -> Iterable[Problem]:
    """LMCache splits text at commas itself, but the ports of a plan must be there to be checked."""
    ports = flag.name == PORTS
    if isinstance(value, str) and not ports:
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(_fits(flag.items, item) for item in value):
        what = (
            "ports between 1 and 65535"
            if ports
            else {"int": "whole numbers", "float": "numbers"}.get(flag.items)
        )
        hint = "e.g. [8788,8789]" if ports else ""
        yield error("lmcache", key, value, f"should be a list of {what or 'words'}", hint)
        return
    if flag.items == "text":
        return
    wrong = next((said for item in value for said in _range(key, flag.name, item, value)), None)
    if wrong is not None:
        yield wrong
    twice = next((item for item in value if value.count(item) > 1), None)
    if twice is not None and "port" in flag.name:
        yield error("lmcache", key, value, f"names port {twice} twice", "each rank has a port of its own")


def _range(key: str, name: str, item: Any, value: Any) -> Iterable[Problem]:
    least, greatest, words = next(row[1:] for row in _LIMITS if row[0].match(name))
    if not least <= float(item) <= greatest:
        what = f"should be a list of ports {words}" if name == PORTS else f"should be {words}"
        yield error("lmcache", key, value, what)


def _fits(kind: str, value: Any) -> bool:
    """As LMCache reads a value of this kind without changing it: int(2e9) is, int(1.5) and int(true) are not."""
    if kind == "flag":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if kind == "json":
        return isinstance(value, Mapping) or (isinstance(value, str) and _is_mapping(value))
    if kind == "text":
        return isinstance(value, str | int | float)
    return _is_number(value, whole=kind == "int")


def _is_number(value: Any, whole: bool) -> bool:
    try:
        number = float(value) if isinstance(value, str | int | float) else None
        return number is not None and (not whole or int(value) == number)
    except (ValueError, OverflowError):
        return False


def _is_mapping(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _needs(settings: Mapping[str, Any]) -> Iterable[Problem]:
    """What LMCache asks for when it starts."""
    title = catalogue((CATALOGUE,)).title
    on = [switch for switch in NEEDS if _at(settings, switch) is True]
    for switch in on:
        for name in NEEDS[switch]:
            if _at(settings, name) in (None, False, []):
                reason = f"{title} does not start without it, since {switch} is on"
                yield error(
                    "lmcache", f"lmcache.{name}", _at(settings, name), reason, f"set it, or {switch} to false"
                )
    if "enable_pd" in on and "enable_p2p" in on:
        reason = f"{title} does not start with it, since enable_pd is on"
        yield error("lmcache", "lmcache.enable_p2p", True, reason, "use one of the two")
    size = settings.get("nixl_buffer_size")
    if "extra_config.enable_nixl_storage" in on and settings.get("nixl_buffer_device") == "cpu" and size:
        reason = (
            f"{title} does not start with a buffer size for NIXL storage on the CPU; earlier releases need it"
        )
        yield warning(
            "lmcache", "lmcache.nixl_buffer_size", size, reason, "set it to null, or mind the release"
        )


def _at(settings: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, null where there is none."""
    node: Any = settings
    for name in path.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _ranks(config: Config, ports: Any) -> Iterable[Problem]:
    """One port for every rank of a worker, or for each of those that `lmcache_worker_ids` names."""
    if not isinstance(ports, list) or not all(_fits("int", port) for port in ports):
        return
    ids = (config.lmcache or {}).get("lmcache_worker_ids")
    ranks = {name: role.world_size for name, role in config.roles.items()}
    need = {"lmcache_worker_ids": len(ids)} if isinstance(ids, list) and ids else ranks
    if len(ports) not in need.values():
        said = " or ".join(f"{number} ({name})" for name, number in need.items())
        reason = f"holds {len(ports)} ports, a worker has {said} ranks"
        yield error("lmcache", f"lmcache.{PORTS}", ports, reason, "name one port per rank")
