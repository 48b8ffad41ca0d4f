"""Rules on templated settings: every `{word}` is one the plan can fill, now or when the allocation is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from compiler import late
from compiler.errors import Problem, error
from compiler.late import MODEL_WORDS, SETTING_WORDS
from compiler.model import HOOKS, Config, Engine
from compiler.placement import Placement
from compiler.rules import accuracy


def placeholders(config: Config, placement: Placement) -> Iterable[Problem]:
    """All templated settings of users, read once."""
    for key in ("path", "tokenizer"):
        value = getattr(config.model, key)
        if value and not (key == "tokenizer" and value == config.model.source):
            yield from _template(f"model.{key}", value, {}, MODEL_WORDS)
    for key, text, fields in settings_with_nodes(config):
        wrong = list(_template(key, text, fields, SETTING_WORDS))
        yield from wrong or _node_words(config, key, text)
    yield from _data_words(config, placement)


def settings_with_nodes(config: Config) -> Iterable[tuple[str, str, Mapping[str, str]]]:
    """Key, text and own words of every templated setting that may name nodes."""
    host, command = {"host": "x"}, config.between_phases.command
    for place, env in {"system.env": config.system.env, "dynamo.env": config.dynamo.env}.items():
        yield from ((f"{place}.{name}", value, host) for name, value in env.items())
    lists: dict[str, Any] = {
        "system.mounts": config.system.mounts,
        "lmcache": config.lmcache,
        "lmcache_controller.command": config.lmcache_controller.command,
        "between_phases.command": command,
        **{key: getattr(config, key) for key in HOOKS},
    }
    for place, value in lists.items():
        yield from ((key, text, {}) for key, text in _texts(place, value))
    yield from accuracy.texts(config)


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
        ("system.dcgm.command", config.system.dcgm.command or [], service),
        ("bench.command", config.bench.command, bench),
        ("bench.words", config.bench.words, bench),
    ]
    for name, each in config.system.containers.items():
        place, image = f"system.containers.{name}", {"image": "x", "workdir": "x", "mounts": "x", "env": "x"}
        lists.append((f"{place}.command", each.command, image))
        lists.append((f"{place}.mount", each.mount, {"mount": "x", "source": "x", "target": "x"}))
        lists.append((f"{place}.env", each.env, {"name": "x"}))
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
        if spans:
            lists |= {"multi_node": chosen.multi_node, "multi_node_rest": chosen.multi_node_rest}
            lists |= {"multi_node_stand_in": chosen.multi_node_stand_in or []}
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
