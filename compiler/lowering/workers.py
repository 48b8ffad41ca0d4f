"""The processes of workers: command lines and environments. Part of `lower`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from compiler import flags, late
from compiler.catalogue import passed
from compiler.late import SETTING_WORDS
from compiler.lowering.processes import common_env, process_of
from compiler.lowering.texts import bash_text, host, literals, model_text
from compiler.model import Config, Engine, Role
from compiler.placement import Part, Worker
from compiler.plan import Probe, Process, Startup

LMCACHE_FILE = "{results_dir}/lmcache.yaml"


def worker_processes(config: Config, worker: Worker) -> list[Process]:
    """The processes of one worker: one per node it spans; only the first is asked whether it is ready."""
    several, text = len(worker.parts) > 1, bash_text(config.startup_command)
    return [
        process_of(
            config,
            f"{worker.role}-{worker.index}" + (f".{rank}" if several else ""),
            worker.role,
            _worker_argv(config, worker, part, rank),
            worker=worker.index,
            node=part.node,
            gpus=part.gpus,
            env=_worker_env(config, worker, part, rank),
            ports=dict(part.ports),
            ready=_worker_probe(part) if rank == 0 else None,
            startup=None if text is None else Startup(text, config.launch.hook_timeout_s),
        )
        for rank, part in enumerate(worker.parts)
    ]


def _worker_probe(part: Part) -> Probe | None:
    port = part.ports.get("system")
    return Probe("http", f"http://{host(part.node)}:{port.port}/health") if port else None


def _fields(config: Config, worker: Worker, part: Part, rank: int) -> dict[str, str]:
    """What words of a backend's YAML may name."""
    role = config.roles[worker.role]
    return {
        "model": model_text(config),
        "served_model": late.literal(config.model.id),
        "role": worker.role,
        "worker": str(worker.index),
        "host": host(part.node),
        "head_host": host(worker.parts[0].node),
        "revision": late.literal(config.model.revision or ""),
        "num_nodes": str(len(worker.parts)),
        "node_rank": str(rank),
        "tensor_parallel_size": str(role.tensor_parallel_size),
        "pipeline_parallel_size": str(role.pipeline_parallel_size),
        "data_parallel_size": str(role.data_parallel_size),
        **{f"port.{name}": str(port.port) for name, port in part.ports.items()},
    }


def _worker_argv(config: Config, worker: Worker, part: Part, rank: int) -> list[str]:
    engine, role = config.backend.engines[config.engine], config.roles[worker.role]
    templated = [*engine.command, *engine.args, *engine.roles.get(worker.role, [])]
    if config.model.revision is not None and config.model.path is None:
        templated += engine.revision
    fields = _fields(config, worker, part, rank)
    if rank > 0 and engine.multi_node_stand_in is not None:
        return [late.template(word, fields, SETTING_WORDS) for word in engine.multi_node_stand_in]
    if len(worker.parts) > 1:
        templated += [*engine.multi_node, *(engine.multi_node_rest if rank > 0 else [])]
    given = {"--" + flags.canonical(name).replace("_", "-") for name in role.args}
    return [
        *(late.template(word, fields, SETTING_WORDS) for word in _without_flags(templated, given)),
        *_sizes(engine, role),
        *(_mocker_words(config) if config.engine == "mocker" else []),
        *map(late.literal, flags.words(passed(tuple(engine.catalogues), role.args, engine.drops_unknown))),
        *map(late.literal, role.extra_args),
    ]


def _without_flags(words: Sequence[str], given: Collection[str]) -> list[str]:
    """Words without the flags that a user gives too, and without those flags' values: the user's are passed."""
    result, dropping = [], False
    for word in words:
        if word.startswith("--"):
            dropping = word in given
        if not dropping:
            result.append(word)
    return result


def _sizes(engine: Engine, role: Role) -> list[str]:
    return [word for size, flag in engine.sizes.items() for word in (flag, str(getattr(role, size)))]


def _mocker_words(config: Config) -> list[str]:
    mocker = config.mocker
    return flags.words({"speedup_ratio": mocker.speedup_ratio, "startup_time": mocker.startup_time})


def _worker_env(config: Config, worker: Worker, part: Part, rank: int) -> dict[str, str]:
    fields = _fields(config, worker, part, rank)
    engine = config.backend.engines[config.engine]
    families = config.backend.ports
    return {
        **common_env(config, part.node),
        **{name: late.template(value, fields, SETTING_WORDS) for name, value in engine.env.items()},
        **{env: str(port.port) for name, port in part.ports.items() if (env := families[name].env)},
        **({"LMCACHE_CONFIG_FILE": LMCACHE_FILE} if config.lmcache is not None else {}),
        **literals(config.roles[worker.role].env),
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, part.gpus)),
    }
