"""Configuration + placement -> plan data: argv, environments, probes. Nothing is left to decide after it.

Taken from: a configuration without errors and its placement. Given to: `digest`, `emit`, the launchers.
Never does: shell text; reading anything. Words of the backend's, serving's and bench's YAML are filled here;
user values enter as literal text (`late.literal`) except in the settings that are documented as templated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from compiler import late
from compiler.image import is_moving
from compiler.late import SETTING_WORDS
from compiler.lowering.processes import common_env, frontend_of, infrastructure_of
from compiler.lowering.texts import bash_text, host, metrics_urls, templated
from compiler.lowering.workers import worker_processes
from compiler.lowering.workload import workload_of
from compiler.model import NO_CONTAINER, Config
from compiler.once import once
from compiler.placement import Placement
from compiler.plan import Container, Deployment, Hook, Node, Probe, Reset, Workload
from compiler.served import stack_of


@dataclass(frozen=True, slots=True)
class Lowered:
    """What one point is made of, before digests: a deployment (digest "") and its workload."""

    deployment: Deployment
    workload: Workload


def lower(config: Config, placement: Placement) -> Lowered:
    """The plan data of one point."""
    return Lowered(_deployment(stack_of(config), placement), workload_of(config, placement))


@once
def _deployment(config: Config, placement: Placement) -> Deployment:
    url = f"http://{host(0)}:{config.dynamo.port}"
    served = config.model.id
    workers = [process for worker in placement.workers for process in worker_processes(config, worker)]
    infrastructure = infrastructure_of(config)
    waits = tuple(process.name for process in infrastructure if process.name in ("etcd", "nats"))
    processes = [*infrastructure, frontend_of(config, url), *workers]
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
        metrics_urls=metrics_urls(config, placement),
        lmcache=None if config.lmcache is None else templated(config.lmcache),
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
    setup = bash_text(config.node_setup_command)
    if setup is not None:
        for node in range(config.num_nodes or 1):
            yield _hook(config, f"node-setup-{node}", "node_setup", node, setup)
    for name, text in (("pre-test", config.pre_test), ("post-test", config.post_test)):
        if (made := bash_text(text)) is not None:
            yield _hook(config, name, name.replace("-", "_"), 0, made)


def _hook(config: Config, name: str, when: Any, node: int, text: str) -> Hook:
    gpus = ",".join(map(str, range(config.system.gpus_per_node)))
    env = {**common_env(config, node), "CUDA_VISIBLE_DEVICES": gpus}
    return Hook(name, when, node, text, env, config.launch.hook_timeout_s)


def _reset(config: Config, counts: Mapping[str, int]) -> Reset | None:
    words, timeout_s = config.reset, config.launch.reset_timeout_s
    if words is None:
        return None
    instances = ",".join(f"{component}={count}" for component, count in counts.items())
    fields = {"instances": late.literal(instances), "timeout_s": f"{timeout_s:g}"}
    argv = tuple(late.template(word, fields, SETTING_WORDS) for word in words)
    return Reset(argv, common_env(config, 0), timeout_s)


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
