"""Where plans are realised: inventory, paths, containers. Part of `model`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from compiler.kinds import STRICT, Argv, Env, NodeCount, Port, Positive, Text, whole_number
from compiler.settings.cluster import Kubernetes

NO_CONTAINER, PYXIS = "none", "pyxis"
"""As `system.container`: nothing, and the plugin of Slurm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU kind."""

    __pydantic_config__ = STRICT

    kind: Text | None = None
    memory_gb: Positive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dcgm:
    """An exporter of GPU metrics on every node, started with the deployment when it has a command."""

    __pydantic_config__ = STRICT

    command: Argv | None = None
    """How it is started on a node (`{host}`, `{port}`), outside containers."""
    port: Port = 9400


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A program that puts a command into a container, as the words before that command."""

    __pydantic_config__ = STRICT

    command: Argv
    """`{image}` and `{workdir}` are filled in; the words `{mounts}` and `{env}` are as many words as there are."""
    mount: list[Text]
    """Words for one mount: `{mount}`, as in `system.mounts`, or its `{source}` and `{target}`."""
    env: list[Text] = field(default_factory=list)
    """Words that hand on one variable (`{name}`) of the caller's environment; empty: the program hands on all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Where plans are realised: inventory, paths, containers."""

    __pydantic_config__ = STRICT

    name: Text
    kind: Literal["local", "slurm", "kubernetes"]
    engine: Literal["real", "mocker"]
    gpus_per_node: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=256)]
    max_nodes: NodeCount | None = None
    """Nodes there are; null: unlimited."""
    gpu: Gpu = field(default_factory=Gpu)
    image: Text | None = None
    """Container image of every process; null: the host's own installation."""
    image_dir: Text | None = None
    """Folder of the squash files that images are imported into; null: one below `output_dir`."""
    hf_home: Text | None = None
    storage_cache_dir: Text | None = None
    env: Env = field(default_factory=dict)
    """Environment of every process. `{host}` is the host of the process's node."""
    mounts: list[Text] = field(default_factory=list)
    container: Text = NO_CONTAINER
    """What puts processes into the image: `pyxis` (flags of srun), a name of `containers`, or `none`."""
    containers: dict[str, Container] = field(default_factory=dict)
    context: Text | None = None
    """Context of the kubeconfig; null: its only one."""
    namespace: Text | None = None
    """Kubernetes namespace; null: that of the context."""
    kubernetes: Kubernetes | None = None
    """Null for a system that is no Kubernetes cluster."""
    dcgm: Dcgm = field(default_factory=Dcgm)
    gpu_log: Argv | None = None
    """What writes lines on the use of a node's GPUs until it is stopped; null, or not there: no such log."""
