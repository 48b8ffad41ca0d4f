"""Hand-built plans for tests of what comes after the compiler's passes."""

from dataclasses import replace
from typing import Any

from compiler.plan import Deployment, Node, Phase, Plan, Point, Port, Probe, Process, Stop, Workload

URL = "http://{node:0}:8000"
MODEL = "servix/tiny"


def worker(role: str, node: int, port: int) -> Process:
    return Process(
        name=f"{role}-0",
        role=role,  # type: ignore[arg-type]
        worker=0,
        node=node,
        gpus=(0, 1),
        argv=(
            *("python", "-m", "dynamo.mocker", "--model-path", "{servix_dir}/config/model/files/tiny"),
            *("--model-name", MODEL, "--disaggregation-mode", role, "--extra", '{"a b": "it\'s $HOME"}'),
        ),
        env={
            "HOME": "{results_dir}/home",
            "DYN_FILE_KV": "{results_dir}/kv",
            "DYN_SYSTEM_HOST": f"{{node:{node}}}",
            "DYN_SYSTEM_PORT": str(port),
            "CUDA_VISIBLE_DEVICES": "0,1",
            "LMCACHE_CONFIG_FILE": "{results_dir}/lmcache.yaml",
        },
        ports={"system": Port(port), "nixl": Port(5557, 2)},
        image=None,
        mounts=(),
        workdir="{results_dir}",
        after=("etcd",),
        ready=Probe("http", f"http://{{node:{node}}}:{port}/health"),
    )


def one_prefill_one_decode() -> Plan:
    """1P1D on two nodes, with etcd, LMCache and two points: one with two phases, one that is invalid."""
    common = {"worker": None, "node": 0, "gpus": (), "image": None, "mounts": (), "workdir": "{results_dir}"}
    etcd = Process(
        name="etcd",
        role="infrastructure",
        argv=("etcd", "--data-dir", "{results_dir}/etcd"),
        env={},
        ports={"client": Port(2379)},
        after=(),
        ready=Probe("http", "http://{node:0}:2379/health"),
        **common,  # type: ignore[arg-type]
    )
    frontend = Process(
        name="frontend",
        role="frontend",
        argv=("python", "-m", "dynamo.frontend", "--http-host", "{node:0}", "--http-port", "8000"),
        env={"HOME": "{results_dir}/home", "DYN_FILE_KV": "{results_dir}/kv"},
        ports={"http": Port(8000)},
        after=("etcd",),
        ready=Probe("http", f"{URL}/health"),
        stop=Stop("INT", 2.5),
        **common,  # type: ignore[arg-type]
    )
    deployment = Deployment(
        digest="d1-0123456789abcdef",
        name="vllm-separate-1p1d-tiny",
        topology="separate",
        backend="vllm",
        engine="mocker",
        model=MODEL,
        system="local",
        gpu="virtual",
        num_nodes=2,
        gpus_per_node=8,
        nodes=(Node(0, None), Node(1, "host-b")),
        idle_gpus=(),
        processes=(etcd, frontend, worker("decode", 0, 9090), worker("prefill", 1, 9090)),
        ready=(
            Probe("instances", f"{URL}/health", counts={"prefill": 1, "backend": 1}),
            Probe("model", f"{URL}/v1/models", model=MODEL),
            Probe("completion", f"{URL}/v1/chat/completions", model=MODEL),
        ),
        metrics_urls=(f"{URL}/metrics",),
        lmcache={
            "chunk_size": 256,
            "local_cpu": True,
            "max_local_cpu_size": 6.0,
            "controller_pull_url": "{frontend_node}:8300",
            "lmcache_worker_ports": [8788, 8789],
            "extra_config": {"nixl_backend": "POSIX", "nixl_path": "{storage_cache_dir}/a b", "off": None},
        },
        storage_cache_dir=None,
        ready_timeout_s=600,
        max_restarts=1,
        repeatable=True,
        versions={"dynamo": "1.6.1"},
    )
    return Plan((two_phases(deployment), invalid()), (deployment,))


def phase(name: str, concurrency: int) -> Phase:
    return Phase(
        name=name,
        argv=(
            *("aiperf", "profile", "--model", MODEL, "--url", URL, "--concurrency", str(concurrency)),
            *("--artifact-dir", f"{{results_dir}}/artifacts/{name}"),
        ),
        artifact_dir=f"artifacts/{name}",
        requests=50,
        concurrency=concurrency,
        output_tokens=None,
        timeout_s=3600.0,
    )


def workload(**changes: Any) -> Workload:
    made = Workload(
        tool="aiperf",
        version="0.13.0",
        phases=(phase("main", 2),),
        env={},
        unset_env=("HF_HUB_OFFLINE",),
        needs=("aiperf",),
        needs_hint=None,
        between_command=None,
        between_timeout_s=120.0,
        health_check=True,
        continue_on_failure=False,
        max_error_rate=0.0,
        output_length_tolerance=0.1,
        trial=1,
    )
    return replace(made, **changes)


def two_phases(deployment: Deployment) -> Point:
    asked = workload(
        phases=(phase("round_1", 2), phase("round_2", 4)),
        env={"AIPERF_LOG": "a; b"},
        between_command="echo 'between rounds' >> {results_dir}/notes",
    )
    return Point(
        name="aiperf-2phases",
        overrides=("phases=[...]",),
        digest="p1-00",
        deployment=deployment.digest,
        workload=asked,
        config={"model": {"id": MODEL}, "gates": [], "trial": 1},
    )


def invalid() -> Point:
    from compiler.errors import NOTHING, error

    problems = (
        error("gpus", "prefill.tensor_parallel_size", 16, "more GPUs than a node has").at("config.yaml:3"),
        error("key", "no_such_key", NOTHING, "is not a key"),
    )
    return Point("invalid", ("no_such_key=1",), None, None, None, {}, problems, "invalid")
