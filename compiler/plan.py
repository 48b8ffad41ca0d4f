"""The typed plan: everything that is decided, and nothing left to decide.

Taken from: `lower`. Given to: `emit`, `digest`, `sweep` and the launchers.
Never does: anything. The JSON form (`servix.plan/1`) is made and read by `plan_json`.

Late-bound names: text may hold the closed set of placeholders in `late.WORDS` (`{frontend_node}`, `{node:0}`, ...),
because hosts and folders are unknown until the allocation exists. Every other brace is literal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from compiler.errors import Problem

SCHEMA = "servix.plan/1"

RoleName = Literal["prefill", "decode", "aggregated", "frontend", "infrastructure"]
Status = Literal["new", "done", "running", "failed", "invalid"]


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the allocation."""

    index: int
    name: str | None
    """Host name where the user gave one; null: known when the allocation exists."""


@dataclass(frozen=True, slots=True)
class Port:
    """`count` consecutive TCP ports starting at `port`."""

    port: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Probe:
    """Something seen by polling an endpoint over HTTP.

    kind `http`: GET `url` answers 200.
    kind `instances`: GET `url` (Dynamo's /health) lists exactly `counts[component]` instances of endpoint `generate`.
    kind `model`: GET `url` (/v1/models) lists `model`.
    kind `completion`: POST `url` (/v1/chat/completions) for one token of `model` answers 200 with a choice.
    """

    kind: Literal["http", "instances", "model", "completion"]
    url: str
    model: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """How a process is stopped: `signal`, then KILL after `grace_s` seconds."""

    signal: str = "TERM"
    grace_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Container:
    """What puts processes into their image, as words before a command; none for Pyxis, which takes flags of srun.

    Words are those of `system.containers`, with braces that are filled when a process is started.
    """

    name: str
    command: tuple[str, ...] = ()
    mount: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Startup:
    """What is run by `bash -c` before a process, where it runs; the process takes its place when it succeeds."""

    text: str
    """Plan text; what is filled in for its placeholders is quoted for the shell."""
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Hook:
    """A command around each start of a deployment, run by `bash -c` on one node to its end.

    `node_setup`, on every node at once, then `pre_test` come before any process; what fails there keeps the
    deployment from being started. `post_test` comes when everything of it has been stopped.
    """

    name: str
    """Of its log: `node-setup-0`, `pre-test`, `post-test`."""
    when: Literal["node_setup", "pre_test", "post_test"]
    node: int
    text: str
    """Plan text; what is filled in for its placeholders is quoted for the shell."""
    env: Mapping[str, str]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Process:
    """One operating-system process of a deployment, on one node."""

    name: str
    """Unique in the deployment: `frontend`, `decode-0`, `prefill-1.0` (worker 1, first of its nodes)."""
    role: RoleName
    worker: int | None
    """Counts from 0 within the role; null for a process that is no worker."""
    node: int
    gpus: tuple[int, ...]
    """GPU indices on that node."""
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ports: Mapping[str, Port]
    image: str | None
    mounts: tuple[str, ...]
    workdir: str
    after: tuple[str, ...]
    """Names of processes that must be ready before this one starts."""
    ready: Probe | None
    """What makes this process ready; null: it is, once it runs."""
    stop: Stop = field(default_factory=Stop)
    startup: Startup | None = None
    """Null: nothing, and then no part of the digest."""
    sees_all_gpus: bool = False
    """It looks at every GPU of its node and has none. Part of the digest where true."""

    @property
    def rank(self) -> int | None:
        """Which of its worker's nodes it is on, from 0; null for a process that is no part of one over several."""
        rank = self.name.rpartition(".")[2]
        return int(rank) if self.worker is not None and "." in self.name and rank.isdecimal() else None


@dataclass(frozen=True, slots=True)
class IdleGpus:
    """GPUs of a node without work."""

    node: int
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reset:
    """One command that empties the prefix caches of every worker, run on the frontend's node, in its image."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The frontend's: what says where the workers are."""
    timeout_s: float
    """After so many seconds the command gives up by itself."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is served: also "the stack"."""

    digest: str
    name: str
    """Readable slug, for folders and tables; not part of the digest."""
    topology: str
    backend: str
    engine: str
    model: str
    """Name under which the model is served."""
    system: str
    gpu: str | None
    num_nodes: int
    gpus_per_node: int
    nodes: tuple[Node, ...]
    idle_gpus: tuple[IdleGpus, ...]
    processes: tuple[Process, ...]
    """In start order: a process comes after everything it waits for."""
    ready: tuple[Probe, ...]
    """Seen in this order, they make the deployment ready."""
    metrics_urls: tuple[str, ...]
    """Prometheus endpoints of the frontend and of every worker."""
    lmcache: Mapping[str, Any] | None
    """LMCache settings; emitted as YAML into `{results_dir}/lmcache.yaml`."""
    storage_cache_dir: str | None
    """What `{storage_cache_dir}` stands for; null: a folder of the results."""
    ready_timeout_s: float
    max_restarts: int
    repeatable: bool
    """False when the image may be another one tomorrow: then no result is taken as done."""
    versions: Mapping[str, str]
    """Releases the flags were written for: `dynamo`, `aiperf`, ..."""
    reset: Reset | None = None
    """How caches are emptied between points; null: the engine cannot."""
    hooks: tuple[Hook, ...] = ()
    """In order; empty: none, and then no part of the digest."""
    container: Container | None = None
    """Null: processes run on the nodes themselves."""
    gpu_log: tuple[str, ...] = ()
    """What writes lines on the use of a node's GPUs, where it is there; empty: no such log."""

    @property
    def gpus(self) -> int:
        """GPUs that have work."""
        return sum(len(process.gpus) for process in self.processes)


@dataclass(frozen=True, slots=True)
class Phase:
    """One round of load against a live deployment."""

    name: str
    argv: tuple[str, ...]
    artifact_dir: str
    """Where the tool writes, relative to the attempt's folder."""
    requests: int | None
    """Requests asked for; null: bounded by time."""
    concurrency: int | None
    output_tokens: int | None
    """Mean output length asked for, in tokens; null: not fixed."""
    timeout_s: float
    random_seed: int | None = None
    """Seed of its prompts; null: the tool chooses one."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One accuracy run against a live deployment, after its phases."""

    name: str
    argv: tuple[str, ...]
    setup: str | None
    """Run by `bash -c` before it."""
    env: Mapping[str, str]
    unset_env: tuple[str, ...]
    artifact_dir: str
    """Where it writes, relative to the attempt's folder."""
    results: str
    """The CSV it leaves, relative to `artifact_dir`."""
    timeout_s: float
    """For the run, and for the setup."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of a deployment."""

    tool: Literal["aiperf", "genai_perf"]
    version: str
    phases: tuple[Phase, ...]
    env: Mapping[str, str]
    unset_env: tuple[str, ...]
    needs: tuple[str, ...]
    """Programs that must be there before anything is started."""
    needs_hint: str | None
    between_command: str | None
    """Run by `bash -c` after each phase but the last."""
    between_timeout_s: float
    health_check: bool
    continue_on_failure: bool
    max_error_rate: float
    """Largest valid share of failed requests, 0 to 1."""
    output_length_tolerance: float | None
    trial: int
    isolation: Literal["shared", "restart"] = "shared"
    """`restart`: measured on a fresh stack that nothing else is measured on."""
    accuracy: Accuracy | None = None
    """Null: no accuracy run, and then no part of the digest."""


@dataclass(frozen=True, slots=True)
class Point:
    """One fully composed configuration. Digest, deployment and workload are null when it has errors."""

    name: str
    overrides: tuple[str, ...]
    digest: str | None
    deployment: str | None
    """Digest of the deployment it runs on."""
    workload: Workload | None
    config: Mapping[str, Any]
    """The composed configuration, for provenance; not part of the digest."""
    problems: tuple[Problem, ...] = ()
    status: Status = "new"

    @property
    def valid(self) -> bool:
        """True when nothing forbids to run it."""
        return all(problem.level != "error" for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Cost:
    """What something is expected to take. GPU hours count every GPU of the allocation, idle ones too."""

    seconds: float
    gpu_hours: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What measuring every point is expected to take, one deployment after another."""

    seconds: float = 0.0
    gpu_hours: float = 0.0
    deployments: Mapping[str, Cost] = field(default_factory=dict)
    """By digest; the start of the deployment and all its points."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All points asked for, and the distinct deployments they need."""

    points: tuple[Point, ...]
    deployments: tuple[Deployment, ...]
    estimate: Estimate = Estimate()

    def deployment(self, digest: str) -> Deployment:
        """The deployment with that digest. Raises KeyError when the plan has none."""
        for deployment in self.deployments:
            if deployment.digest == digest:
                return deployment
        raise KeyError(digest)

    @property
    def valid(self) -> bool:
        """True when every point may run."""
        return all(point.valid for point in self.points)
