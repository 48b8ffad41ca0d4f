"""Processes beside the workers: infrastructure, exporters and the frontend. Part of `lower`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from compiler import flags, late
from compiler.late import SETTING_WORDS
from compiler.lowering.texts import dcgm_url, host
from compiler.model import Config
from compiler.plan import Port, Probe, Process, Stop


def common_env(config: Config, node: int) -> dict[str, str]:
    """Environment of every process of the deployment on a node."""
    own = {"host": host(node)}
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
        env["ETCD_ENDPOINTS"] = f"http://{host(0)}:{dynamo.etcd_port}"
    if "nats" in (dynamo.request_plane, dynamo.event_plane):
        env["NATS_SERVER"] = f"nats://{host(0)}:{dynamo.nats_port}"
    if config.system.hf_home:
        env["HF_HOME"] = late.literal(config.system.hf_home)
    env |= {name: late.template(value, own, SETTING_WORDS) for name, value in config.system.env.items()}
    return env


def process_of(config: Config, name: str, role: Any, argv: Sequence[str], **more: Any) -> Process:
    """A process with what all have in common; `more` are its other fields."""
    defaults: dict[str, Any] = {
        "worker": None,
        "node": 0,
        "gpus": (),
        "env": common_env(config, more.get("node", 0)),
        "ports": {},
        "image": config.system.image,
        "mounts": tuple(late.template(mount, known=SETTING_WORDS) for mount in config.system.mounts),
        "workdir": "{results_dir}",
        "after": (),
        "ready": None,
        "stop": Stop("TERM", config.launch.stop_timeout_s),
    }
    return Process(name=name, role=role, argv=tuple(argv), **{**defaults, **more})


def infrastructure_of(config: Config) -> list[Process]:
    """Processes of role `infrastructure`: etcd and nats where the planes need them, the LMCache controller."""
    dynamo, found = config.dynamo, []
    if dynamo.discovery == "etcd":
        url = f"http://{host(0)}:{dynamo.etcd_port}/health"
        found.append(_service(config, "etcd", dynamo.etcd_command, dynamo.etcd_port, Probe("http", url)))
    if "nats" in (dynamo.request_plane, dynamo.event_plane):
        found.append(_service(config, "nats", dynamo.nats_command, dynamo.nats_port, None))
    if config.lmcache_controller.command:
        argv = [late.template(word, known=SETTING_WORDS) for word in config.lmcache_controller.command]
        ports = {f"port_{number}": Port(number) for number in config.lmcache_controller.ports}
        found.append(process_of(config, "lmcache-controller", "infrastructure", argv, ports=ports))
    return found + _exporters(config)


def _exporters(config: Config) -> list[Process]:
    """One on every node, outside containers: what it looks at belongs to the node."""
    dcgm, found = config.system.dcgm, []
    for node in range(config.num_nodes or 1) if dcgm.command else ():
        fields = {"host": host(node), "port": str(dcgm.port)}
        argv = [late.template(word, fields, SETTING_WORDS) for word in dcgm.command or ()]
        made = process_of(config, f"dcgm-{node}", "infrastructure", argv, node=node)
        gpus = ",".join(map(str, range(config.system.gpus_per_node)))
        found.append(
            replace(
                made,
                env={**made.env, "CUDA_VISIBLE_DEVICES": gpus},
                ports={"http": Port(dcgm.port)},
                image=None,
                mounts=(),
                ready=Probe("http", dcgm_url(config, node)),
                sees_all_gpus=True,
            )
        )
    return found


def _service(config: Config, name: str, command: Sequence[str], port: int, ready: Probe | None) -> Process:
    fields = {"host": host(0), "port": str(port)}
    argv = [late.template(word, fields, SETTING_WORDS) for word in command]
    return process_of(config, name, "infrastructure", argv, ports={"client": Port(port)}, ready=ready)


def frontend_of(config: Config, url: str) -> Process:
    """The frontend, which answers at `url`."""
    dynamo = config.dynamo
    fields = {"host": host(0), "port": str(dynamo.port)}
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
    return process_of(config, "frontend", "frontend", argv, ports=ports, ready=Probe("http", f"{url}/health"))
