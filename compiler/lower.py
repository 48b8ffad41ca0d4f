"""Configuration + placement -> plan data: argv, environments, probes. Nothing is left to decide after it.

Taken from: a configuration without errors and its placement. Given to: `digest`, `emit`, the launchers.
Never does: shell text; reading anything. Words of the backend's, serving's and bench's YAML are filled here;
user values enter as literal text (`late.literal`) except in the settings that are documented as templated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compiler import flags, late, quote
from compiler.catalogue import passed
from compiler.image import is_moving
from compiler.late import MODEL_WORDS, SETTING_WORDS
from compiler.model import AUTO, NO_CONTAINER, Config, Engine, Role
from compiler.once import once
from compiler.placement import Part, Placement, Worker
from compiler.plan import (
    Accuracy,
    Container,
    Deployment,
    Hook,
    Node,
    Phase,
    Port,
    Probe,
    Process,
    Reset,
    Startup,
    Stop,
    Workload,
)
from compiler.served import stack_of

LMCACHE_FILE = "{results_dir}/lmcache.yaml"
ACCURACY_FOLDER = "accuracy"
"""Of an attempt: beside `artifacts`, so that no phase has it."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """What one point is made of, before digests: a deployment (digest "") and its workload."""

    deployment: Deployment
    workload: Workload


def lower(config: Config, placement: Placement) -> Lowered:
    """The plan data of one point."""
    return Lowered(_deployment(stack_of(config), placement), _workload(config, placement))


def model_text(config: Config) -> str:
    """What an engine loads, as plan text."""
    path = config.model.path
    return late.template(path, known=MODEL_WORDS) if path else late.literal(config.model.id)


@once
def _deployment(config: Config, placement: Placement) -> Deployment:
    url = f"http://{_host(0)}:{config.dynamo.port}"
    served = config.model.id
    workers = [process for worker in placement.workers for process in _worker(config, worker)]
    infrastructure = _infrastructure(config)
    waits = tuple(process.name for process in infrastructure if process.name in ("etcd", "nats"))
    processes = [*infrastructure, _frontend(config, url), *workers]
    counts: dict[str, int] = {}
    for worker in placement.workers:
        component = _component(config, worker.role)
        counts[component] = counts.get(component, 0) + 1
    return Deployment(
        digest="",
        name=_deployment_name(config, placement),
        topology=config.topology,
        backend=config.backend.name,
        engine=config.engine,
        model=served,
        system=config.system.name,
        gpu=config.system.gpu.kind,
        num_nodes=config.num_nodes or 1,
        gpus_per_node=config.system.gpus_per_node,
        nodes=tuple(Node(index, name) for index, name in enumerate(placement.node_names)),
        idle_gpus=placement.idle_gpus,
        processes=tuple(p if p.name in waits else replace(p, after=waits) for p in processes),
        ready=(
            Probe("instances", f"{url}/health", counts=counts),
            Probe("model", f"{url}/v1/models", model=served),
            Probe("completion", f"{url}/v1/chat/completions", model=served),
        ),
        metrics_urls=_metrics_urls(config, placement),
        lmcache=None if config.lmcache is None else _templated(config.lmcache),
        storage_cache_dir=config.system.storage_cache_dir,
        ready_timeout_s=config.launch.ready_timeout_s,
        max_restarts=config.launch.max_restarts,
        repeatable=not is_moving(config.system.image),
        versions={k: v for k, v in {"dynamo": config.dynamo.version}.items() if v},
        reset=_reset(config, counts),
        hooks=tuple(_hooks(config)),
        container=_container(config),
        gpu_log=tuple(map(late.literal, config.system.gpu_log or ())),
    )


def _container(config: Config) -> Container | None:
    system = config.system
    if system.image is None or system.container == NO_CONTAINER:
        return None
    known = system.containers.get(system.container)
    if known is None:
        return Container(system.container)
    return Container(system.container, tuple(known.command), tuple(known.mount), tuple(known.env))


def _hooks(config: Config) -> Iterator[Hook]:
    setup = _bash_text(config.node_setup_command)
    if setup is not None:
        for node in range(config.num_nodes or 1):
            yield _hook(config, f"node-setup-{node}", "node_setup", node, setup)
    for name, text in (("pre-test", config.pre_test), ("post-test", config.post_test)):
        if (made := _bash_text(text)) is not None:
            yield _hook(config, name, name.replace("-", "_"), 0, made)


def _hook(config: Config, name: str, when: Any, node: int, text: str) -> Hook:
    gpus = ",".join(map(str, range(config.system.gpus_per_node)))
    env = {**_common_env(config, node), "CUDA_VISIBLE_DEVICES": gpus}
    return Hook(name, when, node, text, env, config.launch.hook_timeout_s)


def _reset(config: Config, counts: Mapping[str, int]) -> Reset | None:
    words, timeout_s = config.reset, config.launch.reset_timeout_s
    if words is None:
        return None
    instances = ",".join(f"{component}={count}" for component, count in counts.items())
    fields = {"instances": late.literal(instances), "timeout_s": f"{timeout_s:g}"}
    argv = tuple(late.template(word, fields, SETTING_WORDS) for word in words)
    return Reset(argv, _common_env(config, 0), timeout_s)


def _host(node: int) -> str:
    return f"{{node:{node}}}"


def _component(config: Config, role: str) -> str:
    instances: Mapping[str, str] = {
        str(name): component for name, component in config.backend.instances.items()
    }
    return instances.get(role, role)


def _deployment_name(config: Config, placement: Placement) -> str:
    letters = {"prefill": "p", "decode": "d", "aggregated": "w"}
    counts = {
        name: sum(worker.role == name for worker in placement.workers) for name in ("prefill", *config.roles)
    }
    shape = "".join(f"{number}{letters[name]}" for name, number in counts.items() if number)
    return f"{config.backend.name}-{config.topology}-{shape}-{config.model.id.rpartition('/')[2]}"


def _metrics_urls(config: Config, placement: Placement) -> tuple[str, ...]:
    ports = [
        (part.node, part.ports["system"].port)
        for worker in placement.workers
        for part in worker.parts[:1]
        if "system" in part.ports
    ]
    return tuple(f"http://{_host(node)}:{port}/metrics" for node, port in [(0, config.dynamo.port), *ports])


def _templated(value: Any, fields: Mapping[str, str] | None = None) -> Any:
    """A templated setting (text, or a tree with text in it) as plan text."""
    if isinstance(value, str):
        return late.template(value, fields, SETTING_WORDS)
    if isinstance(value, Mapping):
        return {str(key): _templated(item, fields) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_templated(item, fields) for item in value]
    return value


def _literals(env: Mapping[str, str]) -> dict[str, str]:
    return {name: late.literal(value) for name, value in env.items()}


def _common_env(config: Config, node: int) -> dict[str, str]:
    """Environment of every process of the deployment on a node."""
    own = {"host": _host(node)}
    dynamo = config.dynamo
    env = {
        "CUDA_VISIBLE_DEVICES": "",
        "DYN_DISCOVERY_BACKEND": dynamo.discovery,
        "DYN_REQUEST_PLANE": dynamo.request_plane,
        "DYN_EVENT_PLANE": dynamo.event_plane,
        **{name: late.template(value, own, SETTING_WORDS) for name, value in dynamo.env.items()},
    }
    if dynamo.discovery == "file":
        env["DYN_FILE_KV"] = "{results_dir}/kv"
    if dynamo.discovery == "etcd":
        env["ETCD_ENDPOINTS"] = f"http://{_host(0)}:{dynamo.etcd_port}"
    if "nats" in (dynamo.request_plane, dynamo.event_plane):
        env["NATS_SERVER"] = f"nats://{_host(0)}:{dynamo.nats_port}"
    if config.system.hf_home:
        env["HF_HOME"] = late.literal(config.system.hf_home)
    env |= {name: late.template(value, own, SETTING_WORDS) for name, value in config.system.env.items()}
    return env


def _process(config: Config, name: str, role: Any, argv: Sequence[str], **more: Any) -> Process:
    defaults: dict[str, Any] = {
        "worker": None,
        "node": 0,
        "gpus": (),
        "env": _common_env(config, more.get("node", 0)),
        "ports": {},
        "image": config.system.image,
        "mounts": tuple(late.template(mount, known=SETTING_WORDS) for mount in config.system.mounts),
        "workdir": "{results_dir}",
        "after": (),
        "ready": None,
        "stop": Stop("TERM", config.launch.stop_timeout_s),
    }
    return Process(name=name, role=role, argv=tuple(argv), **{**defaults, **more})


def _infrastructure(config: Config) -> list[Process]:
    """Processes of role `infrastructure`: etcd and nats where the planes need them, the LMCache controller."""
    dynamo, found = config.dynamo, []
    if dynamo.discovery == "etcd":
        url = f"http://{_host(0)}:{dynamo.etcd_port}/health"
        found.append(_service(config, "etcd", dynamo.etcd_command, dynamo.etcd_port, Probe("http", url)))
    if "nats" in (dynamo.request_plane, dynamo.event_plane):
        found.append(_service(config, "nats", dynamo.nats_command, dynamo.nats_port, None))
    if config.lmcache_controller.command:
        argv = [late.template(word, known=SETTING_WORDS) for word in config.lmcache_controller.command]
        ports = {f"port_{number}": Port(number) for number in config.lmcache_controller.ports}
        found.append(_process(config, "lmcache-controller", "infrastructure", argv, ports=ports))
    return found + _exporters(config)


def _exporters(config: Config) -> list[Process]:
    """One on every node, outside containers: what it looks at belongs to the node."""
    dcgm, found = config.system.dcgm, []
    for node in range(config.num_nodes or 1) if dcgm.command else ():
        fields = {"host": _host(node), "port": str(dcgm.port)}
        argv = [late.template(word, fields, SETTING_WORDS) for word in dcgm.command or ()]
        made = _process(config, f"dcgm-{node}", "infrastructure", argv, node=node)
        gpus = ",".join(map(str, range(config.system.gpus_per_node)))
        found.append(
            replace(
                made,
                env={**made.env, "CUDA_VISIBLE_DEVICES": gpus},
                ports={"http": Port(dcgm.port)},
                image=None,
                mounts=(),
                ready=Probe("http", _dcgm_url(config, node)),
                sees_all_gpus=True,
            )
        )
    return found


def _dcgm_url(config: Config, node: int) -> str:
    return f"http://{_host(node)}:{config.system.dcgm.port}/metrics"


def _service(config: Config, name: str, command: Sequence[str], port: int, ready: Probe | None) -> Process:
    fields = {"host": _host(0), "port": str(port)}
    argv = [late.template(word, fields, SETTING_WORDS) for word in command]
    return _process(config, name, "infrastructure", argv, ports={"client": Port(port)}, ready=ready)


def _frontend(config: Config, url: str) -> Process:
    dynamo = config.dynamo
    fields = {"host": _host(0), "port": str(dynamo.port)}
    arguments = {
        **({"router_mode": dynamo.router_mode} if dynamo.router_mode else {}),
        **dynamo.frontend_args,
    }
    argv = [
        *(
            late.template(word, fields, SETTING_WORDS)
            for word in [*dynamo.frontend_command, *dynamo.frontend_words]
        ),
        *map(late.literal, flags.words(arguments)),
    ]
    ports = {"http": Port(dynamo.port)}
    return _process(config, "frontend", "frontend", argv, ports=ports, ready=Probe("http", f"{url}/health"))


def _worker(config: Config, worker: Worker) -> list[Process]:
    """The processes of one worker: one per node it spans; only the first is asked whether it is ready."""
    several, text = len(worker.parts) > 1, _bash_text(config.startup_command)
    return [
        _process(
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
    return Probe("http", f"http://{_host(part.node)}:{port.port}/health") if port else None


def _fields(config: Config, worker: Worker, part: Part, rank: int) -> dict[str, str]:
    """What words of a backend's YAML may name."""
    role = config.roles[worker.role]
    return {
        "model": model_text(config),
        "served_model": late.literal(config.model.id),
        "role": worker.role,
        "worker": str(worker.index),
        "host": _host(part.node),
        "head_host": _host(worker.parts[0].node),
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
        **_common_env(config, part.node),
        **{name: late.template(value, fields, SETTING_WORDS) for name, value in engine.env.items()},
        **{env: str(port.port) for name, port in part.ports.items() if (env := families[name].env)},
        **({"LMCACHE_CONFIG_FILE": LMCACHE_FILE} if config.lmcache is not None else {}),
        **_literals(config.roles[worker.role].env),
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, part.gpus)),
    }


def _workload(config: Config, placement: Placement) -> Workload:
    between = config.between_phases
    return Workload(
        tool=config.bench.name,
        version=config.bench.version,
        phases=tuple(_phase(config, placement, phase) for phase in config.phases or [{}]),
        env=_literals(config.bench.env),
        unset_env=tuple(config.bench.unset_env),
        needs=tuple(dict.fromkeys([config.bench.command[0], *config.bench.needs])),
        needs_hint=config.bench.needs_hint,
        between_command=_bash_text(between.command),
        between_timeout_s=between.timeout_s,
        health_check=between.health_check,
        continue_on_failure=between.continue_on_failure,
        max_error_rate=config.validity.max_error_rate,
        output_length_tolerance=config.validity.output_length_tolerance,
        trial=config.trial,
        isolation=config.isolation,
        accuracy=_accuracy(config),
    )


def _bash_text(command: str | Sequence[str] | None) -> str | None:
    """One text for `bash -c`; placeholders stay outside quotes, since their values are quoted when bound."""
    if command is None or isinstance(command, str):
        return command and late.template(command, known=SETTING_WORDS)
    words = [late.template(word, known=SETTING_WORDS) for word in command]
    return " ".join(
        "".join(
            f"{{{piece}}}" if is_word else late.literal(quote.shell(piece))
            for piece, is_word in late.pieces(word)
        )
        for word in words
    )


def _phase(config: Config, placement: Placement, phase: Mapping[str, Any]) -> Phase:
    bench, arguments = config.bench, config.phase_arguments(phase)
    urls = {
        "server_metrics": _metrics_urls(config, placement),
        "gpu_telemetry": tuple(_dcgm_url(config, node) for node in range(config.num_nodes or 1)),
    }
    for key, found in urls.items():
        if arguments.get(key) == AUTO:
            arguments[key] = list(found)
    name = str(phase.get("name", "main"))
    folder = f"artifacts/{name}" if config.phases else "artifacts"
    fields = _client_fields(config, folder)
    tokenizer = config.model.tokenizer or config.model.source
    pinned = config.model.revision is not None and tokenizer == config.model.id
    absent = [word for key, words in bench.when_null.items() if arguments.get(key) is None for word in words]
    rendered = flags.words(arguments)
    ours = {url for found in urls.values() for url in found}
    return Phase(
        name=name,
        argv=(
            *(
                late.template(word, fields, SETTING_WORDS)
                for word in [*bench.command, *bench.words, *(bench.revision if pinned else [])]
            ),
            *(word if word in ours else late.literal(word) for word in rendered),
            *absent,
            *map(late.literal, bench.extra_args),
        ),
        artifact_dir=folder,
        requests=arguments.get("request_count"),
        concurrency=arguments.get("concurrency"),
        output_tokens=arguments.get("output_tokens_mean"),
        timeout_s=bench.timeout_s,
        random_seed=arguments.get("random_seed"),
    )


def _client_fields(config: Config, folder: str) -> dict[str, str]:
    """What words of a client of the deployment may name; it writes to `folder` of the attempt."""
    address = f"{_host(0)}:{config.dynamo.port}"
    return {
        "model": late.literal(config.model.id),
        "url": f"http://{address}",
        "address": address,
        "tokenizer": late.template(config.model.tokenizer or config.model.source, known=MODEL_WORDS),
        "artifact_dir": "{results_dir}/" + folder,
        "revision": late.literal(config.model.revision or ""),
    }


def _accuracy(config: Config) -> Accuracy | None:
    said = config.accuracy
    if said is None:
        return None
    fields = _client_fields(config, ACCURACY_FOLDER)
    fields |= {"endpoint": late.literal(said.endpoint), "result_dir": "{results_dir}"}
    return Accuracy(
        name=said.name,
        argv=tuple(late.template(word, fields, SETTING_WORDS) for word in [*said.entrypoint, *said.cli]),
        setup=_bash_text(said.setup_command),
        env=_literals(said.env),
        unset_env=tuple(said.unset_env),
        artifact_dir=ACCURACY_FOLDER,
        results=said.results,
        timeout_s=said.timeout_s,
    )
