"""Flags that the plan sets: every spelling of them, and the key of the configuration to use for each.

Which flags those are is data (`backend.engines.*.reserved`, `bench.reserved`); aliases, short spellings and
abbreviations come from the catalogues.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from compiler import flags
from compiler.catalogue import Catalogue
from compiler.errors import Problem, error
from compiler.model import ROLES_OF_TOPOLOGY

_ROLES = {name for names in ROLES_OF_TOPOLOGY.values() for name in names}
_KEYS: tuple[tuple[str, str], ...] = (
    ("<role>.tensor_parallel_size", "tensor_parallel_size tp_size tp"),
    ("<role>.pipeline_parallel_size", "pipeline_parallel_size pp_size pp"),
    ("<role>.data_parallel_size", "data_parallel_size dp_size dp data_parallel_size_local"),
    ("<role>.num_nodes", "nnodes"),
    ("<role>.workers_per_node", "num_workers"),
    ("topology", "disaggregation_mode"),
    ("backend", "engine_type"),
    ("model.id, or model.path for a folder", "model model_path model_names m"),
    ("model.id", "served_model_name model_name"),
    ("model.revision", "revision tokenizer_revision"),
    ("model.tokenizer", "tokenizer"),
    ("backend.ports.bootstrap.base", "disaggregation_bootstrap_port"),
    ("backend.ports.dist_init.base", "dist_init_addr"),
    ("backend.ports.master.base", "master_port"),
    ("dynamo.port", "http_port"),
    ("dynamo.router_mode", "router_mode"),
    ("dynamo.discovery", "discovery_backend"),
    ("dynamo.request_plane", "request_plane"),
    ("dynamo.event_plane", "event_plane"),
    ("mocker.speedup_ratio", "speedup_ratio"),
    ("mocker.startup_time", "startup_time"),
    ("aiperf.server_metrics", "no_server_metrics"),
    ("aiperf.gpu_telemetry", "no_gpu_telemetry"),
)
KEYS: Mapping[str, str] = {name: key for key, names in _KEYS for name in names.split()}
"""Flag -> key that decides it; for the flags of the plan that are not here servix leaves no choice."""
FRONTEND = ("http_host", "http_port", "router_mode")
"""Flags of the frontend that the plan sets."""


@cache
def spellings(found: Catalogue, reserved: tuple[str, ...]) -> Mapping[str, str]:
    """Every long spelling of the flags the plan sets -> the spelling that is reserved by name."""
    result: dict[str, str] = {}
    for name in map(flags.canonical, reserved):
        flag = found.flags.get(name)
        for spelling in (name, *((flag.name, *flag.aliases) if flag else ())):
            result.setdefault(spelling, name)
    return result | {name: name for name in map(flags.canonical, reserved)}


def planned(key: str, value: Any, spelling: str, name: str) -> Problem:
    """The problem of giving the flag `name`, which the plan sets, in a spelling of it."""
    same = flags.canonical(spelling) == name
    reason = "is set by the plan" if same else f"means '{name}', which is set by the plan"
    return error("flag", key, value, f"{reason} and would contradict it", hint(key, name))


def hint(place: str, name: str) -> str:
    """What to do in place of giving the flag `name` at a place of the configuration."""
    key = KEYS.get(name)
    if key is None:
        return "servix sets it, so leave it out"
    role = place.partition(".")[0]
    return f"use {key.replace('<role>', role) if role in _ROLES else key}"


def words(
    place: str, given: Iterable[str], found: Catalogue, reserved: Iterable[str], held: Mapping[str, str]
) -> Iterable[Problem]:
    """Words passed as they are may be any flag, but none that the plan sets or that has a value already.

    `held` are the flags that the configuration gives beside them -> their keys.
    """
    taken = spellings(found, tuple(reserved))
    for index, word in enumerate(given):
        if word == "--":
            # What follows is for a program behind the tool, which has flags of its own.
            found, held = Catalogue((), {}, ()), {}
            continue
        spelling, names = word.lstrip("-").partition("=")[0], found.meant(word)
        key = f"{place}.{index}"
        if names and all(name in taken for name in names):
            yield planned(key, word, spelling, taken[names[0]])
        elif len(names) == 1 and names[0] in held:
            other = held[names[0]]
            yield error("flag", key, word, f"is the flag of {other}, given too", f"use {other}")


def held(found: Catalogue, places: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Flags that mappings of the configuration give -> the key of each; those that add up are left out."""
    result: dict[str, str] = {}
    for place, arguments in places:
        for name, value in arguments.items():
            flag = found.flags.get(flags.canonical(str(name)))
            if flag is not None and value is not None and value is not False and not flag.adds_up:
                result.setdefault(flag.name, f"{place}.{name}")
    return result
