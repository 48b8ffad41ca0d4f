"""The typed configuration: what a user may say, with every field said in words. Read this first.

Taken from: plain data composed by Hydra (`compose`). Given to: every later pass.
Never does: anything. Rules that need more than one field live in `check`.

The classes are frozen, slotted standard dataclasses; pydantic reads them at the boundary (`schema`), so the
annotations here are the whole type check, and unknown keys are refused at every depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from compiler.kinds import (
    STRICT,
    Arguments,
    Argv,
    Count,
    Duration,
    Env,
    Flag,
    NodeCount,
    Nodes,
    Port,
    Positive,
    Text,
    Whole,
    number,
    whole_number,
)
from compiler.settings.backend import Backend, Dynamo, Engine, LmcacheController, Mocker, Size, WorkerPort
from compiler.settings.bench import Accuracy, Bench, BetweenPhases, Objective, Sample, Validity
from compiler.settings.cluster import BenchPod, Kubernetes, Results, SecretKey
from compiler.settings.roles import DP_ATTENTION, Constraints, Model, Role

__all__ = [
    "AUTO",
    "DP_ATTENTION",
    "HOOKS",
    "NO_CONTAINER",
    "OWN_SEED",
    "PYXIS",
    "ROLES_OF_TOPOLOGY",
    "Accuracy",
    "Backend",
    "Bench",
    "BenchPod",
    "BetweenPhases",
    "Config",
    "Constraints",
    "Container",
    "Dcgm",
    "Dynamo",
    "Engine",
    "Gc",
    "Gpu",
    "Kubernetes",
    "Launch",
    "LmcacheController",
    "Mocker",
    "Model",
    "Objective",
    "Pace",
    "Results",
    "Role",
    "Sample",
    "SecretKey",
    "Size",
    "System",
    "Topology",
    "Validity",
    "WorkerPort",
]
"""Sections are defined in `settings`, the rest here; all of it is imported from here."""

ROLES_OF_TOPOLOGY: Mapping[str, tuple[str, ...]] = {
    "separate": ("decode", "prefill"),
    "shared": ("decode", "prefill"),
    "aggregated": ("aggregated",),
}
"""Worker roles of each topology, in placement order: decode first, as NVIDIA CloudAI places them."""

Topology = Literal["separate", "shared", "aggregated"]

AUTO = "auto"
"""As where metrics are scraped: what the plan has."""
OWN_SEED = "auto"
"""As a random seed: one that the point has for itself."""

HOOKS = ("node_setup_command", "startup_command", "pre_test", "post_test")
"""Keys of commands around a deployment."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things are taken to last, in seconds, for the estimate of a plan."""

    __pydantic_config__ = STRICT

    start_s: Duration
    """Start of a deployment until it is ready."""
    phase_s: Duration
    """Start and end of the load generator, once per phase."""
    request_s: Duration
    """One request, where nothing else bounds a phase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How plans are realised. None of this is part of a digest."""

    __pydantic_config__ = STRICT

    ready_timeout_s: Positive = 600
    stop_timeout_s: Positive = 10
    """Seconds between the signal that stops a process and KILL."""
    max_restarts: Whole = 1
    """Fresh starts of a stack that died, or no longer answered, while a sweep was measured on it."""
    parallel: Count = 1
    """Deployments that run at the same time, as far as the nodes suffice."""
    detach: Flag = False
    """Leave the work to a process of its own and return at once."""
    single_allocation: Flag = False
    """On Slurm: one job for all deployments of a command, one after the other, with the nodes of the largest."""
    hook_timeout_s: Positive = 600
    """Longest time of each hook: the setup of a node, the command before a worker, `pre_test` and `post_test`."""
    prefetch: Literal["none", "login", "job"] = "none"
    """On Slurm, what downloads models and images before nodes with GPUs are asked for: nothing, the command itself, or
    a job without GPUs that the others wait for."""
    reset_timeout_s: Positive = 60
    """Longest time that emptying the caches between two points may take, in seconds."""
    estimate: Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Gc:
    """What `action=gc` lists, beside what no recorded sweep refers to."""

    __pydantic_config__ = STRICT

    older_than_days: Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)] = 14
    """Age from which failed attempts at points that stay are listed."""
    valid: Flag = False
    """Valid results that no sweep refers to are listed, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One point as the user said it: a deployment plus a workload."""

    __pydantic_config__ = STRICT

    action: Literal["run", "plan", "schema", "status", "report", "explain", "gc", "fetch"] = "run"
    format: Literal["text", "json"] = "text"
    output_dir: Text = "outputs"
    strict: Flag = False
    """Warnings forbid to run, as errors do."""
    on_invalid: Literal["error", "skip"] = "error"
    """What a point with errors does to the others: forbids them to run, or is told and left out."""
    zip: dict[str, Any] | None = None
    """Dotted key -> list of values, all of one length: values that belong together. Read as `sample` is."""
    sample: Sample
    max_points: Count | None = None
    """Points a command may measure; null: any number."""
    max_gpu_hours: Positive | None = None
    """GPU hours a command may take by the estimate of its plan; null: any number."""
    yes: Flag = False
    """`action=gc` removes what it lists."""
    between: Annotated[list[Text], Field(min_length=2, max_length=2)] | None = None
    """Two points, for `action=explain` to compare: a digest, a `result.json`, or a point's folder."""
    gc: Gc = field(default_factory=Gc)

    model: Model
    backend: Backend
    serving: Literal["dynamo"]
    topology: Topology
    bench: Bench
    system: System
    engine: Literal["real", "mocker"]

    num_nodes: NodeCount | None = None
    """The allocation, when it is not derived from the roles."""
    nodes: Nodes | None = None
    """The allocation by name; entry i is node i."""
    prefill: Role
    decode: Role
    aggregated: Role
    constraints: Constraints

    dynamo: Dynamo
    mocker: Mocker
    node_setup_command: list[Text] | Text | None = None
    """Run on every node, outside containers, before anything is started. Text is run by `bash -c` as it is; a list is
    one command, its words taken as they are."""
    startup_command: list[Text] | Text | None = None
    """The same before each process of a worker, in its container."""
    pre_test: list[Text] | Text | None = None
    """The same on the frontend's node, after the setup of all nodes and before anything is started."""
    post_test: list[Text] | Text | None = None
    """The same when everything has been stopped."""
    lmcache: Arguments | None = None
    """LMCache settings, written as its YAML; null: no LMCache."""
    lmcache_controller: LmcacheController
    accuracy: Accuracy | None = None
    """Null: no accuracy run."""

    aiperf: Arguments | None = None
    genai_perf: Arguments | None = None
    phases: list[Arguments] = field(default_factory=list)
    """Ordered rounds on the live deployment, each overriding the tool's arguments; empty: one round."""
    between_phases: BetweenPhases

    validity: Validity
    objective: Objective
    search: Literal["bisect"] | None = None
    """How a sweep of one load is measured: null: every point; `bisect`: only those that lead to the highest load that
    meets the gates."""
    budget: Count | None = None
    """Measurements a search may take; null: as many as it needs."""
    gates: list[Text] = field(default_factory=list)
    baseline: Text | None = None
    trial: Whole = 1
    force: Flag = False
    """Measure points again that are done."""
    isolation: Literal["shared", "restart"] = "shared"
    """`restart`: a fresh stack for every point; `shared`: points share one where they can."""
    launch: Launch

    @property
    def roles(self) -> dict[str, Role]:
        """Roles of the topology in placement order."""
        return {name: getattr(self, name) for name in ROLES_OF_TOPOLOGY[self.topology]}

    @property
    def reset(self) -> Argv | None:
        """Command that empties the caches of the engine's workers; null where nothing can.

        With Dynamo's operator, workers are in a namespace of Dynamo that only the operator knows, and pods that ask
        the cluster for each other are not found by one that serves nothing.
        """
        cluster = self.system.kubernetes
        if cluster is not None and (cluster.mode == "operator" or self.dynamo.discovery != "etcd"):
            return None
        return self.backend.engines[self.engine].reset

    @property
    def arguments(self) -> Arguments:
        """Arguments of the chosen load generator."""
        return getattr(self, self.bench.name) or {}

    def phase_arguments(self, phase: Mapping[str, Any]) -> Arguments:
        """The tool's arguments of one phase: the base, overridden by the phase."""
        return {**self.arguments, **{key: value for key, value in phase.items() if key != "name"}}
