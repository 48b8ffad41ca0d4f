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

from pydantic import Field

from compiler.kinds import (
    STRICT,
    Arguments,
    Argv,
    Count,
    Flag,
    NodeCount,
    Nodes,
    Positive,
    Text,
    Whole,
)
from compiler.settings.backend import Backend, Dynamo, Engine, LmcacheController, Mocker, Size, WorkerPort
from compiler.settings.bench import Accuracy, Bench, BetweenPhases, Objective, Sample, Validity
from compiler.settings.cluster import BenchPod, Kubernetes, Results, SecretKey
from compiler.settings.launch import Gc, Launch, Pace
from compiler.settings.roles import DP_ATTENTION, Constraints, Model, Role
from compiler.settings.system import NO_CONTAINER, PYXIS, Container, Dcgm, Gpu, System

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
