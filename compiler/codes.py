"""Every code a problem can carry: what it means, what to do, and an example that brings it about.

Given to: `tools/problems.py`, which writes docs/problems.md, and the test that runs every example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Page:
    """One code. `example` are overrides; `files` go into a folder for --config-dir."""

    code: str
    rule: str
    cure: str
    example: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)


_ONE_NODE = "constraints.tp_times_pp_le_gpus_per_node=false"

PAGES: tuple[Page, ...] = (
    # Composing
    Page(
        "override-syntax",
        "an override is key=value in Hydra's grammar",
        "quote what the shell or Hydra would read",
        ("phases=[1,2",),
    ),
    Page(
        "unknown-key",
        "a key is one of those there are",
        "take the name that is suggested; open mappings take new keys with +",
        ("aiperf.concurency=4",),
    ),
    Page(
        "unknown-option",
        "a group's option is one of those there are",
        "take one of the options listed, or add yours with --config-dir",
        ("backend=sglangg",),
    ),
    Page(
        "override",
        "an override fits what it overrides",
        "write one override per key, of the kind the key holds",
        ("phases={a: 1}",),
    ),
    Page("missing", "every key without a default is given", "give it a value", ("dynamo.port=???",)),
    Page(
        "interpolation",
        "an interpolation names a key that can be resolved",
        "name a key that exists, without a cycle",
        ("prefill.num_nodes=${nothing}",),
    ),
    Page(
        "yaml",
        "configuration files are YAML in UTF-8, each key once, option names quoted",
        "mend the file at the place named",
        ("model=mine",),
        {"model/mine.yaml": "id: a\nid: b\n"},
    ),
    Page(
        "compose",
        "Hydra can compose the configuration",
        "read what is said, and the file it names",
        ("experiment=mine",),
        {"experiment/mine.yaml": "# mine\n# @package _global_\ndefaults:\n  - override /topology: shared\n"},
    ),
    Page(
        "hydra",
        "settings of Hydra's own are there, and send every point through our launcher",
        "leave hydra.* alone but for hydra.launcher.* and hydra.sweeper.params",
        ("hydra.mode=RUN",),
    ),
    Page(
        "config-dir",
        "a folder of one's own adds options, it does not replace those of servix",
        "give the file another name",
        ("model=tiny",),
        {"model/tiny.yaml": "id: mine\n"},
    ),
    Page(
        "swept",
        "what is about the whole command is not swept",
        "run one command for each value",
        ("system=local,slurm",),
    ),
    Page(
        "zip",
        "the lists of a zip are of one length, and no key is given twice",
        "give each list one value per row; leave out what sets the same key",
        ("zip.aiperf.concurrency=[2,4]", "zip.aiperf.request_count=[20]"),
    ),
    Page(
        "sample",
        "rows are drawn from arguments of the load generator, by weights that are numbers",
        "set sample.count, and for each of sample.params a list, or {values: [...], weights: [...]}",
        ("sample.count=2", "sample.params.decode.num_nodes=[1,2]"),
    ),
    Page(
        "budget",
        "a command stays within max_points, max_gpu_hours and the time limit of a job, by the plan's estimate",
        "ask for fewer points or less load, raise the limit, or mend launch.estimate",
        ("max_points=1", "aiperf.concurrency=2,4"),
    ),
    Page(
        "value",
        "a value is of the kind and in the range of its key",
        "give such a value",
        ("prefill.tensor_parallel_size=0",),
    ),
    Page(
        "duplicate-point",
        "a point is asked for once",
        "drop the double, or set trial=1,2,3 to measure repeats",
        ("aiperf.concurrency=2,2",),
    ),
    Page(
        "warm-cache",
        "points on one stack do not warm each other's prefix cache",
        "give each point a seed of its own with random_seed=auto, use isolation=restart, or turn the cache off",
        ("aiperf.concurrency=2,4", "aiperf.random_seed=7"),
    ),
    # Sizes and GPUs
    Page(
        "engine",
        "the backend offers the engine, and only the mocker serves a model without weights",
        "choose another engine or model",
        ("engine=real",),
    ),
    Page(
        "tp-pp-gpus",
        "a worker fits one node, unless the constraint is lifted",
        f"lower the sizes, or set {_ONE_NODE}",
        ("decode.tensor_parallel_size=16",),
    ),
    Page(
        "worker-larger-than-node",
        "a worker larger than a node takes whole nodes, alone",
        "use a multiple of the node's GPUs, and of the worker's nodes",
        ("decode.tensor_parallel_size=16", _ONE_NODE),
    ),
    Page(
        "gpus-per-node",
        "the workers on a node need no more GPUs than it has",
        "lower the sizes or workers_per_node, or use topology=separate",
        ("topology=shared", "decode.tensor_parallel_size=8", "prefill.tensor_parallel_size=8"),
    ),
    Page(
        "prefill-tp",
        "prefill TP is at most decode TP, unless the constraint is lifted",
        "raise decode TP, or set constraints.prefill_tp_le_decode_tp=false",
        ("prefill.tensor_parallel_size=2",),
    ),
    Page(
        "gpu-ids",
        "gpu_ids hold each GPU once, within the node, exactly as many as the workers there need",
        "name that many GPUs, or leave gpu_ids out",
        ("decode.gpu_ids=[0,1]",),
    ),
    Page(
        "gpu-overlap",
        "no GPU is given to two workers",
        "give each role GPUs of its own",
        ("topology=shared", "decode.gpu_ids=[0]", "prefill.gpu_ids=[0]"),
    ),
    # The model
    Page(
        "heads",
        "attention heads and KV heads divide by TP",
        "use a TP that divides them",
        ("decode.tensor_parallel_size=3",),
    ),
    Page(
        "dp-attention",
        "with SGLang's DP attention a worker has TP x PP GPUs, and its TP ranks divide into DP groups",
        "use a DP that divides TP",
        (
            "backend=sglang",
            "+decode.args.enable_dp_attention=true",
            "decode.tensor_parallel_size=4",
            "decode.data_parallel_size=3",
        ),
    ),
    Page(
        "layers",
        "there is a layer for every pipeline stage, best the same number",
        "use a PP that divides the layers",
        ("decode.pipeline_parallel_size=5",),
    ),
    Page(
        "experts",
        "experts divide by EP, and EP divides the worker's GPUs",
        "use such an EP",
        ("system=slurm", "model.num_experts=8", "+decode.args.ep_size=3", "backend=sglang"),
    ),
    Page(
        "memory",
        "weights and KV cache fit the GPUs; all of it is estimated, so only weights that cannot fit are an error",
        "raise TP or PP, take a quantised model, or say system.gpu.memory_gb where the kind is not known",
        ("system=slurm", "system.gpu.kind=T4", "model.num_hidden_layers=2000"),
    ),
    Page(
        "context",
        "prompt and answer fit the context length",
        "ask for fewer tokens, or raise max_model_len up to what the model was trained for",
        ("aiperf.output_tokens_mean=40000",),
    ),
    # Nodes
    Page(
        "node-list",
        "a node list has no name twice and as many names as its count",
        "mend the list, or drop the count",
        ("nodes=[a,a]",),
    ),
    Page(
        "node-unknown",
        "nodes of a role belong to the allocation",
        "add the node to 'nodes', or drop it from the role",
        ("nodes=[a,b]", "prefill.nodes=[c]"),
    ),
    Page(
        "topology-nodes",
        "equal node lists need topology=shared, disjoint ones topology=separate",
        "change the lists or the topology",
        ("prefill.nodes=[a]", "decode.nodes=[a]"),
    ),
    Page(
        "allocation",
        "the allocation holds all nodes of the roles, and the system holds the allocation",
        "use topology=shared, more nodes, or smaller roles",
        ("num_nodes=1",),
    ),
    Page(
        "idle",
        "every node of the allocation has work",
        "lower num_nodes, or give the roles more",
        ("num_nodes=4",),
    ),
    Page(
        "idle-gpus",
        "GPUs without work on a node that has some are told; strict=true does not forbid them",
        "raise the sizes or workers_per_node, or leave them idle",
        ("system=slurm", "model.revision=main"),
    ),
    # Ports
    Page("port-overlap", "no port is taken twice on a host", "move one of the two", ("dynamo.port=9090",)),
    Page(
        "port-range",
        "every port is between 1 and 65535, also that of the last worker",
        "lower the base",
        ("backend.ports.nixl.base=65535", "decode.tensor_parallel_size=2"),
    ),
    Page(
        "port-privileged",
        "ports below 1024 need rights that engines rarely have",
        "use a port from 1024 on",
        ("dynamo.port=80",),
    ),
    # Images and paths
    Page(
        "image",
        "an image is a reference or an absolute file, best pinned by its digest",
        "name registry/name:tag@sha256:..., or /path/to/image.sqsh",
        ("system=slurm", "system.image=nvcr.io/nvidia/ai-dynamo/vllm-runtime"),
    ),
    Page(
        "revision",
        "a model of the hub is pinned by its revision",
        "set model.revision to a commit of the hub",
        ("system=slurm",),
    ),
    Page(
        "path",
        "paths are absolute: they are read on other machines and in containers",
        "start them with /",
        ("system.hf_home=models",),
    ),
    # Flags, environments, templated settings
    Page(
        "flag",
        "arguments are names of flags, each given once, that do not contradict the plan",
        "use the key that is named for what the plan sets, also in extra_args and in short spellings",
        ("+decode.args.tensor_parallel_size=2",),
    ),
    Page(
        "unknown-flag",
        "arguments are flags of the tool's version",
        "take the name suggested; what is new goes through extra_args",
        ("+aiperf.concurency=4",),
    ),
    Page(
        "flag-value",
        "a flag's value is of its kind",
        "give such a value",
        ("+decode.args.max_num_seqs=many",),
    ),
    Page(
        "deprecated-flag",
        "flags are not about to be removed",
        "use what takes its place",
        ("+dynamo.frontend_args.load_aware=true",),
    ),
    Page(
        "no-catalogue",
        "the flags of a tool are known, so that misspelt ones are found before it starts",
        "name a catalogue of the tool's version, or mind the spelling",
        ("backend.engines.mocker.catalogues=[]", "+decode.args.max_num_seqs=8"),
    ),
    Page(
        "environment",
        "environments do not contradict the plan",
        "use the setting that the plan has for it",
        ("+decode.env.CUDA_VISIBLE_DEVICES='0,1'",),
    ),
    Page(
        "secret",
        "no secret is configured: all that is configured is written into plans, results and reports",
        "export it in your shell; HF_* variables reach the processes without being written",
        ("+decode.env.HF_TOKEN=x",),
    ),
    Page(
        "placeholder",
        "templated settings hold known placeholders of the allocation",
        "use one of those listed; double a literal brace",
        ("lmcache=on", "lmcache.controller_pull_url='{frontend}:8300'"),
    ),
    Page(
        "lmcache",
        "LMCache knows its settings by name and kind, and they fit the deployment",
        "take the name suggested, name one worker port per rank, and a connector in the engine's args",
        ("lmcache=on", "lmcache.lmcache_worker_ports=[8788,8789]"),
    ),
    Page(
        "command",
        "the words of a command are what was meant",
        "put single quotes around JSON, or give a list of words",
        ("lmcache=on", "lmcache_controller.command='lmcache_controller --ports {\"pull\":8300}'"),
    ),
    Page(
        "no-effect",
        "settings have an effect",
        "drop the setting, or choose what it belongs to",
        ("topology=aggregated", "prefill.tensor_parallel_size=2"),
    ),
    Page(
        "container",
        "something puts processes into their image",
        "name Pyxis, or a program of system.containers",
        ("system=slurm", "system.container=podman"),
    ),
    # The workload
    Page(
        "telemetry",
        "exporters of GPU metrics are started where they are asked",
        "set system.dcgm.command, or drop gpu_telemetry=auto",
        ("aiperf.gpu_telemetry=auto",),
    ),
    Page(
        "phases",
        "phases are named once, with names fit for a folder",
        "name each phase with letters, digits, '_', '.', '-'",
        ("phases=[{concurrency: 2}]",),
    ),
    Page(
        "load",
        "a round of load ends, has as many requests as it keeps in flight, and a real engine keeps to its lengths",
        "set a request count, at least the concurrency, and ignore_eos or min_tokens in extra_inputs",
        ("aiperf.concurrency=100",),
    ),
    Page(
        "accuracy",
        "an accuracy run names a program, asks the deployment and writes where it is looked for",
        "keep {model}, {url} and {artifact_dir} in accuracy.cli, and paths absolute",
        ("accuracy=mmlu", "accuracy.cli='--model {model} --url http://elsewhere:8000'"),
    ),
    Page(
        "slurm",
        "settings of jobs do not contradict what the plan decides",
        "leave nodes, GPUs and what servix gives every step to the plan",
        ("system=slurm", "+hydra.launcher.additional_parameters.nodes=3"),
    ),
    Page(
        "jobs",
        "what is about jobs is asked of a system that has them",
        "leave it out, or choose a Slurm system",
        ("launch.single_allocation=true",),
    ),
    Page(
        "kubernetes",
        "what a cluster is asked for is what its API and Dynamo's operator take",
        "name images, volumes and accounts in system.kubernetes; leave what the plan decides to the plan",
        ("system=kubernetes",),
    ),
    Page(
        "time-limit",
        "what may be waited for ends before the job does",
        "lower the timeout, or raise the job's limit (hydra.launcher.timeout_min)",
        ("system=slurm", "hydra.launcher.timeout_min=60", "bench.timeout_s=7200"),
    ),
    Page(
        "gates",
        "gates and objective can be read",
        "write e.g. time_to_first_token_ms.p99 <= 200",
        ("gates=['fast']",),
    ),
    Page(
        "unknown-metric",
        "gates and objective name metrics that a result of the load generator can hold",
        "take the name suggested; a distribution needs a statistic, a single number has none",
        ("gates=['ttft.p99 <= 200']",),
    ),
    Page(
        "search",
        "a search has gates to meet, and a sweep of one load on one deployment",
        "sweep one numeric key of the load generator, and say in gates what must hold",
        ("search=bisect", "aiperf.concurrency=range(1,33)"),
    ),
)
"""In the order a configuration is read."""
