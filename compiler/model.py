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

from pydantic import BeforeValidator, ConfigDict, Field

from compiler.kinds import (
    Arguments,
    Argv,
    Count,
    Duration,
    Env,
    EnvName,
    Flag,
    Fraction,
    GpuIds,
    NodeCount,
    Nodes,
    Port,
    Positive,
    Text,
    Whole,
    Words,
    number,
    whole_number,
)

ROLES_OF_TOPOLOGY: Mapping[str, tuple[str, ...]] = {
    "separate": ("decode", "prefill"),
    "shared": ("decode", "prefill"),
    "aggregated": ("aggregated",),
}
"""Worker roles of each topology, in placement order: decode first, as NVIDIA CloudAI places them."""

Topology = Literal["separate", "shared", "aggregated"]
Size = Literal["tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"]

AUTO = "auto"
"""As where metrics are scraped: what the plan has."""
OWN_SEED = "auto"
"""As a random seed: one that the point has for itself."""
DP_ATTENTION = "enable_dp_attention"
"""Flag of SGLang."""

HOOKS = ("node_setup_command", "startup_command", "pre_test", "post_test")
"""Keys of commands around a deployment."""

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """The workers of one role (`prefill`, `decode` or `aggregated`)."""

    __pydantic_config__ = STRICT

    num_nodes: NodeCount | None = None
    """Nodes this role uses; null: the allocation's number where the topology makes it unambiguous, else 1."""
    nodes: Nodes | None = None
    """Names of those nodes; null: chosen by the compiler."""
    workers_per_node: Count = 1
    tensor_parallel_size: Count = 1
    pipeline_parallel_size: Count = 1
    data_parallel_size: Count = 1
    gpu_ids: GpuIds | None = None
    """GPU indices on each of the role's nodes, for all its workers there; null: chosen by the compiler."""
    args: Arguments = field(default_factory=dict)
    """Engine flags, snake_case."""
    extra_args: Words = field(default_factory=list)
    """Engine words passed as they are, after everything else."""
    env: Env = field(default_factory=dict)

    @property
    def has_dp_attention(self) -> bool:
        """SGLang's DP attention: data parallel ranks are groups of the tensor parallel ones."""
        given = {name.replace("-", "_"): value for name, value in self.args.items()}
        return given.get(DP_ATTENTION) is True or f"--{DP_ATTENTION.replace('_', '-')}" in self.extra_args

    @property
    def attention_tensor_parallel_size(self) -> int:
        """Ranks that share the heads of one attention: TP, or TP / DP with DP attention."""
        groups = self.data_parallel_size if self.has_dp_attention else 1
        return max(1, self.tensor_parallel_size // groups)

    @property
    def tensor_times_data_parallel_size(self) -> int:
        """TP x DP: ranks of one pipeline stage. With DP attention those are the TP ranks."""
        return self.tensor_parallel_size * (1 if self.has_dp_attention else self.data_parallel_size)

    @property
    def world_size(self) -> int:
        """GPUs of one worker: TP x PP x DP, or TP x PP with DP attention."""
        return self.tensor_times_data_parallel_size * self.pipeline_parallel_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Checks taken over from the source documents; each can be lifted."""

    __pydantic_config__ = STRICT

    prefill_tp_le_decode_tp: Flag = True
    tp_times_pp_le_gpus_per_node: Flag = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is served. Static facts carry the names of Hugging Face's config.json."""

    __pydantic_config__ = STRICT

    id: Text
    """Hugging Face id, and the name under which the model is served."""
    revision: Text | None = None
    path: Text | None = None
    """Directory of the weights; null: the hub id is passed to the engine."""
    tokenizer: Text | None = None
    """Tokenizer for the load generator; null: the path, else the id."""
    synthetic: Flag = False
    """Has no weights: only the mocker can serve it."""
    num_attention_heads: Count | None = None
    num_key_value_heads: Count | None = None
    num_hidden_layers: Count | None = None
    hidden_size: Count | None = None
    head_dim: Count | None = None
    intermediate_size: Count | None = None
    moe_intermediate_size: Count | None = None
    num_experts: Count | None = None
    kv_lora_rank: Count | None = None
    """Set for multi-head latent attention, whose KV heads are not split."""
    vocab_size: Count | None = None
    max_position_embeddings: Count | None = None

    @property
    def source(self) -> str:
        """What an engine loads: the path where one is given, else the hub id."""
        return self.path or self.id


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
class Gpu:
    """A GPU kind."""

    __pydantic_config__ = STRICT

    kind: Text | None = None
    memory_gb: Positive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKey:
    """One key of a Secret that is in the cluster already. Its value is never seen here."""

    __pydantic_config__ = STRICT

    name: Text | None = None
    """Name of the Secret; null: none is used."""
    key: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The volume that keeps what the load generator writes."""

    __pydantic_config__ = STRICT

    claim: Text | None = None
    """Name of a PersistentVolumeClaim."""
    size_gb: Positive | None = None
    """Size of the claim, where servix is to make it, in GiB; null: it is there already."""
    storage_class: Text | None = None
    """Of a claim that is made; null: the cluster's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPod:
    """The pod that measures."""

    __pydantic_config__ = STRICT

    image: Text | None = None
    """Has the load generator and servix; null: not said, which is a problem."""
    servix_dir: Text
    """Folder of the servix checkout in the images."""
    resources: Arguments = field(default_factory=dict)
    """What the pod requests: `{cpu: 4, memory: 8Gi}`."""
    head_room: Annotated[float, BeforeValidator(number), Field(ge=1, allow_inf_nan=False)]
    """How many times longer than estimated the points may take before the cluster ends the Job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """How a deployment becomes objects of a Kubernetes cluster."""

    __pydantic_config__ = STRICT

    mode: Literal["operator", "plain"]
    """`operator`: one DynamoGraphDeployment; `plain`: Deployments and Services, for clusters without the operator."""
    api_version: Literal["v1beta1", "v1alpha1"]
    """Of the DynamoGraphDeployment."""
    gpu_resource: Text
    """Name under which the cluster hands out GPUs."""
    bench: BenchPod
    results: Results
    model_cache_claim: Text | None = None
    """PersistentVolumeClaim that is mounted at `system.hf_home` of every pod."""
    hf_token_from: SecretKey
    """Where `HF_TOKEN` of every pod comes from."""
    image_pull_secrets: list[Text] = field(default_factory=list)
    """Names of Secrets."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    service_account: Text | None = None
    priority_class: Text | None = None
    shared_memory_gb: Positive | None = None
    """Size of /dev/shm of a worker, in GiB; null: what the operator gives."""
    host_network: Flag = False
    networks: Text | None = None
    """Secondary networks of the workers' pods: value of the annotation `k8s.v1.cni.cncf.io/networks`."""
    node_selector: dict[str, Text] = field(default_factory=dict)
    tolerations: list[Arguments] = field(default_factory=list)
    annotations: dict[str, Text] = field(default_factory=dict)
    """Of every pod."""
    labels: dict[str, Text] = field(default_factory=dict)
    """Of every pod."""
    pod: Arguments = field(default_factory=dict)
    """Further fields of the spec of every pod of the deployment, merged into what servix writes."""
    container: Arguments = field(default_factory=dict)
    """Further fields of the container of every worker, merged the same way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dcgm:
    """An exporter of GPU metrics on every node, started with the deployment when it has a command."""

    __pydantic_config__ = STRICT

    command: Argv | None = None
    """How it is started on a node (`{host}`, `{port}`), outside containers."""
    port: Port = 9400


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
    hf_home: Text | None = None
    storage_cache_dir: Text | None = None
    env: Env = field(default_factory=dict)
    """Environment of every process. `{host}` is the host of the process's node."""
    mounts: list[Text] = field(default_factory=list)
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
class Bench:
    """A load generator as data. Only the reading of its results is code."""

    __pydantic_config__ = STRICT

    name: Literal["aiperf", "genai_perf"]
    version: Text
    """Release the flags belong to; recorded and part of the digest."""
    command: Argv
    words: list[Text]
    """Words servix itself gives (`{model}`, `{url}`, `{tokenizer}`, `{artifact_dir}`)."""
    revision: list[Text] = field(default_factory=list)
    """Words that pin the model's tokenizer (`{revision}`), given where `model.revision` is set."""
    when_null: dict[str, list[Text]] = field(default_factory=dict)
    """Words given where an argument is null."""
    catalogue: Text | None = None
    """File of catalogues/ that knows the tool's flags; null: they are not checked."""
    reserved: list[Text] = field(default_factory=list)
    """Arguments that would contradict what the plan sets."""
    extra_args: Words = field(default_factory=list)
    env: Env = field(default_factory=dict)
    unset_env: list[EnvName] = field(default_factory=list)
    """Variables the tool must not inherit."""
    needs: list[Text] = field(default_factory=list)
    """Programs that must be there, beside the command itself."""
    needs_hint: Text | None = None
    """What to do where one is missing."""
    timeout_s: Positive = 3600
    """Longest time one phase may take, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The accuracy run, which asks the live deployment after its phases and leaves a CSV with a row OVERALL.

    Words of `entrypoint` and `cli` may hold `{model}`, `{url}`, `{endpoint}`, `{tokenizer}`, `{artifact_dir}` and
    `{result_dir}`.
    """

    __pydantic_config__ = STRICT

    name: Text
    """Shown in plans and results."""
    entrypoint: Words
    """What is started."""
    cli: Words = field(default_factory=list)
    """Its arguments: `entrypoint` and `cli` are one command."""
    endpoint: Text
    """What `{endpoint}` stands for: the path of the API below `{url}`."""
    setup_command: Text | None = None
    """Run by `bash -c` before it."""
    results: Text
    """The CSV it leaves, below its artifact folder."""
    timeout_s: Positive
    """Longest time of the run, and of its setup command, in seconds."""
    catalogue: Text | None = None
    """File of catalogues/ that knows the flags of `cli`; null: they are not checked."""
    required: dict[str, Text | None] = field(default_factory=dict)
    """Flags that `cli` has to hold, with the one word they may have; null: any."""
    synthetic: list[Text] = field(default_factory=list)
    """Flags that have no place in `cli`, because the data set supplies the prompts."""
    env: Env = field(default_factory=dict)
    unset_env: list[EnvName] = field(default_factory=list)
    """Variables the run must not inherit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BetweenPhases:
    """What happens on the live deployment after each phase but the last."""

    __pydantic_config__ = STRICT

    command: list[Text] | Text | None = None
    """Text is run by `bash -c` as it is; a list is one command, its words taken as they are."""
    health_check: Flag = True
    """Ask for one token before the next phase."""
    continue_on_failure: Flag = False
    """Run the next phase although one failed."""
    timeout_s: Positive = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class LmcacheController:
    """The LMCache controller, started on the frontend's node when it has a command."""

    __pydantic_config__ = STRICT

    command: Words | None = None
    ports: list[Port] = field(default_factory=list)
    """Ports it listens on; part of the port check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a sweep looks for."""

    __pydantic_config__ = STRICT

    metric: Text | None = None
    direction: Literal["minimize", "maximize"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """Limits a measurement must keep to count as valid."""

    __pydantic_config__ = STRICT

    max_error_rate: Fraction = 0.0
    output_length_tolerance: Fraction | None = 0.1
    """Allowed relative difference between the mean output length and the one asked for; null: not checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Workload parameters drawn at random. Read before points are composed: each draw is then an override."""

    __pydantic_config__ = STRICT

    count: Whole = 0
    """Rows that are drawn; 0: none."""
    seed: Whole = 1
    params: dict[str, Any] | None = None
    """Dotted key of a load generator's argument -> values, or `{values, weights}`."""


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
