"""Inference engines as data, and the processes around their workers. Part of `model`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from compiler.kinds import (
    STRICT,
    Arguments,
    Argv,
    Count,
    Env,
    EnvName,
    Flag,
    Port,
    Text,
    Words,
    number,
)

Size = Literal["tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPort:
    """A family of ports: each worker on a node takes the next ones after `base`."""

    __pydantic_config__ = STRICT

    base: Port
    stride: (
        Count
        | Literal[
            "tensor_parallel_size", "data_parallel_size", "tensor_times_data_parallel_size", "world_size"
        ]
    ) = 1
    """Ports one worker takes: a number, or the size that says how many."""
    env: EnvName | None = None
    """Environment variable that tells the worker its first port; null: arguments do (`{port.<name>}`)."""
    roles: list[Literal["prefill", "decode", "aggregated"]] | None = None
    """Roles that take such a port; null: all."""
    multi_node: Flag = False
    """Taken only by workers that span nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How one engine is started. Words may hold compile-time fields such as `{model}` or `{port.nixl}`."""

    __pydantic_config__ = STRICT

    command: Argv
    sizes: dict[Size, Text] = field(default_factory=dict)
    """Planned size -> its flag (`tensor_parallel_size: --tp`); a size without flag is not passed."""
    args: list[Text] = field(default_factory=list)
    """Words for every worker."""
    roles: dict[str, list[Text]] = field(default_factory=dict)
    """Role -> further words: how prefill and decode are told apart."""
    multi_node: list[Text] = field(default_factory=list)
    """Words for a worker that spans nodes (`{num_nodes}`, `{node_rank}`, `{head_host}`)."""
    multi_node_rest: list[Text] = field(default_factory=list)
    """Further words for every node of such a worker but its first."""
    multi_node_stand_in: Argv | None = None
    """Whole command of those nodes, where one process plays the worker on all of them; null: the engine's own."""
    data_parallel_over_nodes: Flag = True
    """A worker that spans nodes may have a data parallel size above 1 without DP attention."""
    revision: list[Text] = field(default_factory=list)
    """Words that pin the hub model (`{revision}`), given where `model.revision` is set."""
    reserved: list[Text] = field(default_factory=list)
    """`args` keys that would contradict what the plan sets."""
    catalogues: list[Text] = field(default_factory=list)
    """Files of catalogues/ (without .json) that know this engine's flags; none: flags are not checked."""
    drops_unknown: Flag = False
    """Flags its catalogues do not know are left out and told: the mocker stands in for another engine."""
    reset: Argv | None = None
    """Command that empties the prefix caches of every worker (`{instances}`, `{timeout_s}`); null: it cannot."""
    env: Env = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """An inference engine as data: adding one is one YAML file."""

    __pydantic_config__ = STRICT

    name: Text
    engines: dict[Literal["real", "mocker"], Engine]
    ports: dict[str, WorkerPort] = field(default_factory=dict)
    instances: dict[Literal["prefill", "decode", "aggregated"], Text] = field(default_factory=dict)
    """Role -> component name under which the frontend counts its instances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamo:
    """The Dynamo processes around the workers."""

    __pydantic_config__ = STRICT

    version: Text | None = None
    """Release the flags below belong to; recorded and part of the digest."""
    frontend_command: Argv
    frontend_words: list[Text] = field(default_factory=list)
    """Words servix itself gives the frontend (`{host}`, `{port}`)."""
    frontend_args: Arguments = field(default_factory=dict)
    frontend_catalogue: Text | None = None
    """File of catalogues/ that knows the frontend's flags; null: they are not checked."""
    port: Port = 8000
    etcd_port: Port = 2379
    nats_port: Port = 4222
    etcd_command: Argv = field(default_factory=lambda: ["etcd"])
    nats_command: Argv = field(default_factory=lambda: ["nats-server"])
    router_mode: Text | None = None
    discovery: Literal["file", "etcd", "kubernetes"] = "file"
    request_plane: Literal["tcp", "nats"] = "tcp"
    event_plane: Literal["zmq", "nats"] = "zmq"
    env: Env = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mocker:
    """The simulated engine's own settings; used with `engine=mocker` only."""

    __pydantic_config__ = STRICT

    speedup_ratio: Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)] | None = None
    """How much faster than modelled the engine answers; 0: no simulated delay."""
    startup_time: Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)] | None = None
    """Simulated model load, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LmcacheController:
    """The LMCache controller, started on the frontend's node when it has a command."""

    __pydantic_config__ = STRICT

    command: Words | None = None
    ports: list[Port] = field(default_factory=list)
    """Ports it listens on; part of the port check."""
