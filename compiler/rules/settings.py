"""Rules on single settings: the engine, environments, secrets, commands, and what would have no effect."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from compiler import flags, late, secret
from compiler.catalogue import catalogue, passed
from compiler.errors import NOTHING, Problem, error, warning
from compiler.model import HOOKS, ROLES_OF_TOPOLOGY, Config, Role
from compiler.placement import Placement
from compiler.served import WORKLOAD

_LOST_QUOTES = re.compile(r"[\[{][^\"']*[A-Za-z][^\"']*[:,][^\"']*[\]}]\Z")

_QUOTES_INSIDE = ("<<", "$'", "$(", "${", "`")
"""Here-documents, ANSI-C quotes and substitutions, which quote by rules of their own."""


def _planned_env(config: Config) -> dict[str, str]:
    """Variables the plan sets itself -> the key that decides them."""
    dynamo = config.dynamo
    planned = {
        "CUDA_VISIBLE_DEVICES": "gpu_ids",
        "DYN_DISCOVERY_BACKEND": "dynamo.discovery",
        "DYN_REQUEST_PLANE": "dynamo.request_plane",
        "DYN_EVENT_PLANE": "dynamo.event_plane",
    }
    if dynamo.discovery == "file":
        planned["DYN_FILE_KV"] = "dynamo.discovery"
    if dynamo.discovery == "etcd":
        planned["ETCD_ENDPOINTS"] = "dynamo.etcd_port"
    if "nats" in (dynamo.request_plane, dynamo.event_plane):
        planned["NATS_SERVER"] = "dynamo.nats_port"
    if config.lmcache is not None:
        planned["LMCACHE_CONFIG_FILE"] = "lmcache.*"
    ports = config.backend.ports.items()
    return planned | {family.env: f"backend.ports.{name}.base" for name, family in ports if family.env}


def engine(config: Config, placement: Placement) -> Iterable[Problem]:
    """What serves the model."""
    offered = config.backend.engines
    if config.engine not in offered:
        reason = f"backend '{config.backend.name}' has no engine '{config.engine}'"
        yield error("engine", "engine", config.engine, reason, f"it offers {', '.join(offered)}")
    if config.dynamo.discovery == "kubernetes" and config.system.kind != "kubernetes":
        reason = f"system '{config.system.name}' is no Kubernetes cluster"
        yield error("engine", "dynamo.discovery", "kubernetes", reason, "use file or etcd")
    if config.engine == "real" and config.model.synthetic:
        reason = f"model '{config.model.id}' has no weights, a real engine cannot serve it"
        yield error("engine", "engine", config.engine, reason, "use model=qwen3-0.6b, or engine=mocker")


def jobs(config: Config, placement: Placement) -> Iterable[Problem]:
    """What is about jobs of a cluster needs one that has them."""
    if config.launch.single_allocation and config.system.kind != "slurm":
        reason = (
            f"system '{config.system.name}' has no allocations, deployments run one after the other anyway"
        )
        yield error("jobs", "launch.single_allocation", True, reason, "leave it out, or use system=slurm")
    if config.launch.prefetch != "none" and config.system.kind != "slurm":
        reason = (
            f"system '{config.system.name}' is of kind {config.system.kind}, and no job of Slurm waits there"
        )
        hint = "leave it out: what is missing is downloaded when it is needed; or use system=slurm"
        yield error("jobs", "launch.prefetch", config.launch.prefetch, reason, hint)


def environment(config: Config, placement: Placement) -> Iterable[Problem]:
    """Variables that the plan sets itself."""
    places = {f"{name}.env": role.env for name, role in config.roles.items()}
    places |= {"system.env": config.system.env, "dynamo.env": config.dynamo.env}
    planned = _planned_env(config)
    for place, env in places.items():
        for name in [name for name in env if name in planned]:
            reason = "is set by the plan and would contradict it"
            yield error("environment", f"{place}.{name}", env[name], reason, f"use {planned[name]} instead")


def secrets(config: Config, placement: Placement) -> Iterable[Problem]:
    """What is typed into the configuration is written into plans, results and reports, and is hashed."""
    yield from _secrets_in(config, [name for name in _names(Config) if name not in WORKLOAD])


def secrets_of_workload(config: Config, placement: Placement) -> Iterable[Problem]:
    """The same of what differs from point to point."""
    yield from _secrets_in(config, WORKLOAD)


def _secrets_in(config: Config, names: Iterable[str]) -> Iterable[Problem]:
    of_pods = config.system.kind == "kubernetes"
    return (_secret(key, of_pods) for name in names for key in _secrets(getattr(config, name), name, name))


def _secret(key: str, of_pods: bool) -> Problem:
    reason = "looks like a secret, and all that is configured is written into files"
    hint = "export it in your shell: HF_* variables reach the processes without being written"
    if of_pods:
        hint = "refer to a Secret of the cluster: system.kubernetes.hf_token_from.name, or valueFrom"
    return error("secret", key, NOTHING, reason, hint)


def _secrets(value: Any, key: str, name: str) -> Iterator[str]:
    """Keys at or below `key` whose value holds a secret; `name` is the last part of it."""
    if name and secret.is_name(name) and not secret.holds_nothing(value):
        yield key
    elif isinstance(value, str):
        if secret.is_in(value):
            yield key
    elif isinstance(value, list | tuple) and all(isinstance(word, str | int | float) for word in value):
        # Words of a command: a flag and its value belong together.
        if secret.is_in(" ".join(map(str, value))):
            yield key
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _secrets(item, f"{key}.{index}", "")
    elif isinstance(value, Mapping) and secret.is_variable(value):
        yield f"{key}.value"
    elif isinstance(value, Mapping) or is_dataclass(value):
        for inner, item in _items(value):
            yield from _secrets(item, f"{key}.{inner}" if key else inner, inner)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(name), item) for name, item in value.items())
    else:
        kind: Any = type(value)
        yield from ((name, getattr(value, name)) for name in _names(kind))


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def commands(config: Config, placement: Placement) -> Iterable[Problem]:
    """JSON in a command loses its quotes to the shell's rules."""
    places = {f"{name}.extra_args": role.extra_args for name, role in config.roles.items()}
    places |= {
        "lmcache_controller.command": config.lmcache_controller.command or [],
        "bench.extra_args": config.bench.extra_args,
    }
    texts = {"between_phases.command": config.between_phases.command}
    texts |= {key: getattr(config, key) for key in HOOKS}
    for place, text in texts.items():
        if isinstance(text, str):
            yield from _unbalanced(place, text)
    if config.accuracy is not None:
        places |= {"accuracy.entrypoint": config.accuracy.entrypoint, "accuracy.cli": config.accuracy.cli}
        yield from _unbalanced("accuracy.setup_command", config.accuracy.setup_command or "")
    for place, words in places.items():
        for word in words:
            if _LOST_QUOTES.match(word) and not late.NODE_WORD.fullmatch(word):
                reason = f"the word {word} looks like JSON that lost its quotes"
                yield warning(
                    "command",
                    place,
                    " ".join(words),
                    reason,
                    "put single quotes around the JSON, or give a list",
                )


def _unbalanced(key: str, text: str) -> Iterable[Problem]:
    """Quotes that bash could not close either; only it can judge texts with quotes inside other forms."""
    if any(form in text for form in _QUOTES_INSIDE):
        return
    try:
        shlex.split(text, comments=True)
    except ValueError as exception:
        reason = f"cannot be read by a shell ({str(exception).lower()})"
        yield error("command", key, text, reason, "check its quotes")


def without_effect(config: Config, placement: Placement) -> Iterable[Problem]:
    """Settings of a role the topology does not have, and engine flags the mocker does not know."""
    chosen = config.backend.engines.get(config.engine)
    for name in ("prefill", "decode", "aggregated"):
        role: Role = getattr(config, name)
        if name not in ROLES_OF_TOPOLOGY[config.topology]:
            yield from _unused_role(config, name, role)
        elif chosen is not None:
            kept, real = (
                passed(tuple(chosen.catalogues), role.args, chosen.drops_unknown),
                config.backend.engines.get("real"),
            )
            others = catalogue(tuple(real.catalogues)) if real is not None else None
            for flag in [flag for flag in role.args if flag not in kept]:
                if others is not None and others.names and flags.canonical(str(flag)) not in others.flags:
                    continue  # no engine knows it: that is an error of its own
                reason = f"the {config.engine} engine does not know it, so it is left out"
                yield warning("no-effect", f"{name}.args.{flag}", role.args[flag], reason)
    controller = config.lmcache_controller
    if controller.ports and not controller.command:
        reason = "no controller is started, since lmcache_controller.command is null"
        hint = "set the command, or leave the ports out"
        yield warning("no-effect", "lmcache_controller.ports", controller.ports, reason, hint)
    if config.engine != "mocker" and config.mocker.startup_time is not None:
        yield warning("no-effect", "mocker.startup_time", config.mocker.startup_time, "the engine is real")


def _unused_role(config: Config, name: str, role: Role) -> Iterable[Problem]:
    fresh = Role(num_nodes=role.num_nodes if role.nodes is None else None)
    for key in (
        "nodes",
        "workers_per_node",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "gpu_ids",
    ):
        value = getattr(role, key)
        if value != getattr(fresh, key):
            yield warning(
                "no-effect", f"{name}.{key}", value, f"topology {config.topology} has no role '{name}'"
            )
