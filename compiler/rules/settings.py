"""Rules on single settings: flags, environments, placeholders, and what would have no effect."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from compiler import flags, late
from compiler.catalogue import catalogue, passed
from compiler.errors import NOTHING, Problem, did_you_mean, error, warning
from compiler.late import MODEL_WORDS, SETTING_WORDS
from compiler.model import ROLES_OF_TOPOLOGY, Config, Engine, Role
from compiler.placement import Placement

_SECRET = re.compile(r"(^|_)(token|secret|password|passwd|api_?key|credentials?|private_key)$")
_LOST_QUOTES = re.compile(r"[\[{][^\"']*[A-Za-z][^\"']*[:,][^\"']*[\]}]\Z")


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


def flags_given(config: Config, placement: Placement) -> Iterable[Problem]:
    """Every mapping that becomes flags."""
    planned = config.backend.engines.get(config.engine)
    reserved = planned.reserved if planned else []
    for name, role in config.roles.items():
        yield from _flags(f"{name}.args", role.args, reserved)
        yield from _reserved_words(f"{name}.extra_args", role.extra_args, reserved)
    yield from _reserved_words("bench.extra_args", config.bench.extra_args, config.bench.reserved)
    yield from _flags(
        "dynamo.frontend_args", config.dynamo.frontend_args, ["http_host", "http_port", "router_mode"]
    )
    tool = config.bench.name
    yield from _flags(tool, config.arguments, config.bench.reserved)
    for index, phase in enumerate(config.phases):
        own = {key: value for key, value in phase.items() if key != "name"}
        yield from _flags(f"phases.{index}", own, config.bench.reserved)
        for key in own:
            plain = flags.canonical(str(key))
            base = [name for name in config.arguments if flags.canonical(name) == plain]
            place = f"phases.{index}.{key}"
            if plain in map(flags.canonical, config.bench.reserved):
                continue
            if not base:
                hint = did_you_mean(str(key), config.arguments)
                reason = f"'{tool}' has no such argument here; add it with +{tool}.{key}=null first"
                yield error("flag", place, own[key], reason, hint)
            elif key not in base:
                yield error(
                    "flag", place, own[key], f"is spelled '{base[0]}' in '{tool}'", "use one spelling"
                )


def _flags(place: str, arguments: Mapping[str, Any], reserved: Iterable[str]) -> Iterable[Problem]:
    planned = {flags.canonical(name) for name in reserved}
    seen: dict[str, str] = {}
    for name, value in arguments.items():
        key, plain = f"{place}.{name}", flags.canonical(str(name))
        if not flags.is_flag_name(str(name)):
            yield error(
                "flag", key, value, "is not a flag's name", "letters, digits and '_', e.g. max_model_len"
            )
        elif plain in planned:
            hint = "use the key of that name in the configuration, e.g. decode.tensor_parallel_size"
            yield error("flag", key, value, "is set by the plan and would contradict it", hint)
        elif plain in seen:
            yield error("flag", key, value, f"is given as '{seen[plain]}' too", "use one spelling")
        seen[plain] = str(name)


def _reserved_words(place: str, given: Iterable[str], reserved: Iterable[str]) -> Iterable[Problem]:
    """Words passed as they are may be any flag, but none that the plan sets."""
    planned = {flags.canonical(name) for name in reserved}
    for index, word in enumerate(given):
        if word.startswith("--") and flags.canonical(word[2:].partition("=")[0]) in planned:
            hint = "use the key of that name in the configuration, e.g. decode.tensor_parallel_size"
            reason = "is set by the plan and would contradict it"
            yield error("flag", f"{place}.{index}", word, reason, hint)


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
    places: dict[str, Mapping[str, Any]] = {"system.env": config.system.env, "dynamo.env": config.dynamo.env}
    places |= {"bench.env": config.bench.env, config.bench.name: config.arguments}
    for name, role in config.roles.items():
        places |= {f"{name}.env": role.env, f"{name}.args": role.args}
    for place, held in places.items():
        for name in held:
            if _SECRET.search(flags.canonical(str(name)).lower()) and held[name] not in (None, ""):
                reason = "looks like a secret, and all that is configured is written into files"
                hint = "export it in your shell: HF_* variables reach the processes without being written"
                yield error("secret", f"{place}.{name}", NOTHING, reason, hint).at("the configuration")


def placeholders(config: Config, placement: Placement) -> Iterable[Problem]:
    """All templated settings of users, read once."""
    for key in ("path", "tokenizer"):
        value = getattr(config.model, key)
        if value and not (key == "tokenizer" and value == config.model.source):
            yield from _template(f"model.{key}", value, {}, MODEL_WORDS)
    for key, text, fields in _settings(config):
        wrong = list(_template(key, text, fields, SETTING_WORDS))
        yield from wrong or _node_words(config, key, text)
    yield from _data_words(config, placement)


def _settings(config: Config) -> Iterable[tuple[str, str, Mapping[str, str]]]:
    """Key, text and own words of every templated setting that may name nodes."""
    host, command = {"host": "x"}, config.between_phases.command
    for place, env in {"system.env": config.system.env, "dynamo.env": config.dynamo.env}.items():
        yield from ((f"{place}.{name}", value, host) for name, value in env.items())
    lists: dict[str, Any] = {
        "system.mounts": config.system.mounts,
        "lmcache": config.lmcache,
        "lmcache_controller.command": config.lmcache_controller.command,
        "between_phases.command": command,
    }
    for place, value in lists.items():
        yield from ((key, text, {}) for key, text in _texts(place, value))


def _data_words(config: Config, placement: Placement) -> Iterable[Problem]:
    """Words of the backend's, serving's and bench's YAML: a user may have written those files."""
    frontend, service = {"host": "x", "port": "1"}, {"host": "x", "port": "1"}
    dynamo, bench = (
        config.dynamo,
        {"model": "x", "url": "x", "address": "x", "tokenizer": "x", "artifact_dir": "x", "revision": "x"},
    )
    lists = [
        ("dynamo.frontend_command", dynamo.frontend_command, frontend),
        ("dynamo.frontend_words", dynamo.frontend_words, frontend),
        ("dynamo.etcd_command", dynamo.etcd_command, service),
        ("dynamo.nats_command", dynamo.nats_command, service),
        ("bench.command", config.bench.command, bench),
        ("bench.words", config.bench.words, bench),
    ]
    for key, words, fields in lists:
        for index, word in enumerate(words):
            yield from _template(f"{key}.{index}", word, fields, SETTING_WORDS)
    chosen = config.backend.engines.get(config.engine)
    if chosen is not None:
        yield from _engine_words(config, chosen, placement)
        reset = {"instances": "x", "timeout_s": "1"}
        for index, word in enumerate(chosen.reset or []):
            yield from _template(f"backend.engines.{config.engine}.reset.{index}", word, reset, SETTING_WORDS)


def _engine_words(config: Config, chosen: Engine, placement: Placement) -> Iterable[Problem]:
    names = [
        "model",
        "served_model",
        "role",
        "worker",
        "host",
        "head_host",
        "num_nodes",
        "node_rank",
        "revision",
    ]
    names += ["tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"]
    place = f"backend.engines.{config.engine}"
    for worker in {worker.role: worker for worker in placement.workers}.values():
        fields = dict.fromkeys([*names, *(f"port.{name}" for name in worker.parts[0].ports)], "x")
        spans = len(worker.parts) > 1
        lists = {
            "command": chosen.command,
            "args": chosen.args,
            f"roles.{worker.role}": chosen.roles.get(worker.role, []),
        }
        lists |= {"multi_node": chosen.multi_node} if spans else {}
        texts = [(f"{key}.{i}", word) for key, words in lists.items() for i, word in enumerate(words)]
        texts += [(f"env.{name}", value) for name, value in chosen.env.items()]
        for key, text in texts:
            yield from _template(f"{place}.{key}", text, fields, SETTING_WORDS)


def _template(key: str, text: str, fields: Mapping[str, str], known: Iterable[str]) -> Iterable[Problem]:
    try:
        late.template(text, fields, tuple(known))
    except late.TemplateError as exception:
        yield error("placeholder", key, text, str(exception))


def _node_words(config: Config, key: str, text: str) -> Iterable[Problem]:
    """`{node:N}` of a node the allocation does not have."""
    count = config.num_nodes or 1
    for word in late.NODE_WORD.findall(text):
        if int(word) >= count:
            reason = f"{{node:{word}}} is not in an allocation of {count} nodes"
            yield error("placeholder", key, text, reason, f"use {{node:0}} to {{node:{count - 1}}}")


def _texts(key: str, value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(f"{key}.{name}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(f"{key}.{index}", item)


def commands(config: Config, placement: Placement) -> Iterable[Problem]:
    """JSON in a command loses its quotes to the shell's rules."""
    places = {f"{name}.extra_args": role.extra_args for name, role in config.roles.items()}
    places |= {
        "lmcache_controller.command": config.lmcache_controller.command or [],
        "bench.extra_args": config.bench.extra_args,
    }
    if isinstance(config.between_phases.command, str):
        yield from _unbalanced("between_phases.command", config.between_phases.command)
    for place, words in places.items():
        for word in words:
            if _LOST_QUOTES.match(word):
                reason = f"the word {word} looks like JSON that lost its quotes"
                yield warning(
                    "command",
                    place,
                    " ".join(words),
                    reason,
                    "put single quotes around the JSON, or give a list",
                )


def _unbalanced(key: str, text: str) -> Iterable[Problem]:
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
