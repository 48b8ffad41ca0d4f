"""What a plan holds whatever was asked: names, rendered commands, sweeps, and the invariants of every plan."""

import json
from collections import Counter
from math import prod
from typing import Any

import pytest
from compiling import deployment, plan, point, problems, told, workers
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.errors import format_problem
from compiler.late import literal
from compiler.plan import Deployment, Plan, Process
from compiler.plan_json import from_json, to_json


def words_after(process: Process, flag: str) -> str:
    return process.argv[process.argv.index(flag) + 1]


def named(made: Deployment, name: str) -> Process:
    return next(process for process in made.processes if process.name == name)


def check_invariants(made: Plan) -> None:
    """What holds in every valid plan."""
    document = json.loads(json.dumps(to_json(made)))
    read = from_json(document)
    assert read.deployments == made.deployments
    assert to_json(read) == document
    digests = [held.digest for held in made.deployments]
    assert len(set(digests)) == len(digests)
    assert {one.deployment for one in made.points} == set(digests)
    for held in made.deployments:
        check_deployment(held)


def check_deployment(made: Deployment) -> None:
    assert [node.index for node in made.nodes] == list(range(made.num_nodes))
    busy = Counter((process.node, gpu) for process in made.processes for gpu in process.gpus)
    idle = Counter((entry.node, gpu) for entry in made.idle_gpus for gpu in entry.gpus)
    everything = {(node, gpu) for node in range(made.num_nodes) for gpu in range(made.gpus_per_node)}
    assert max((busy + idle).values(), default=1) == 1, "a GPU is given twice"
    assert set(busy) | set(idle) == everything
    ports = Counter(
        (process.node, number)
        for process in made.processes
        for port in process.ports.values()
        for number in range(port.port, port.port + port.count)
    )
    assert max(ports.values()) == 1, "a port is taken twice on a host"
    assert all(1 <= number <= 65535 for _, number in ports)
    names = [process.name for process in made.processes]
    assert len(set(names)) == len(names)
    for index, process in enumerate(made.processes):
        assert set(process.after) <= set(names[:index]), "a process starts before what it waits for"
        assert process.env["CUDA_VISIBLE_DEVICES"] == ",".join(map(str, process.gpus))


def check_world_sizes(made: Deployment, sizes: dict[str, int]) -> None:
    held: Counter[tuple[str, int | None]] = Counter()
    for process in workers(made):
        held[process.role, process.worker] += len(process.gpus)
    assert all(number == sizes[role] for (role, _), number in held.items())


ROLE = st.fixed_dictionaries(
    {
        "tensor_parallel_size": st.sampled_from([1, 1, 2, 2, 4, 8, 16]),
        "workers_per_node": st.sampled_from([1, 1, 1, 2, 3, 4]),
    },
    optional={
        "num_nodes": st.sampled_from(["null", 1, 2, 3, 4]),
        "pipeline_parallel_size": st.sampled_from([1, 1, 2]),
        "data_parallel_size": st.sampled_from([1, 1, 2, 3]),
        "gpu_ids": st.sampled_from(["null"] * 8 + ["[0]", "[1]", "[3,2]", "[0,1,2,3]", "[4,5,6,7]", "[8]"]),
    },
)
TOP = st.fixed_dictionaries(
    {
        "topology": st.sampled_from(["separate", "shared", "shared", "aggregated"]),
        "backend": st.sampled_from(["vllm", "sglang"]),
        "constraints.tp_times_pp_le_gpus_per_node": st.sampled_from(["true", "false", "false"]),
        "constraints.prefill_tp_le_decode_tp": st.sampled_from(["true", "false", "false"]),
    },
    optional={
        "num_nodes": st.sampled_from(["null", "null", "null", 2, 4, 6]),
        "system.max_nodes": st.just("null"),
        "system.gpus_per_node": st.sampled_from([2, 4, 8, 8]),
        "dynamo.port": st.sampled_from([8000, 9090, 9093, 5560, 20081]),
        "backend.ports.system.base": st.sampled_from([9090, 9090, 5550, 65534]),
        "nodes": st.sampled_from(["null"] * 4 + ["'n[1-2]'", "'n[1-4]'", "[a,b,c]"]),
    },
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TOP, ROLE, ROLE)
def test_any_sizes_give_problems_or_a_plan_that_holds(
    top: dict[str, Any], first: dict[str, Any], prefill: dict[str, Any]
) -> None:
    main = "aggregated" if top["topology"] == "aggregated" else "decode"
    values = {**top, **{f"{main}.{key}": value for key, value in first.items()}}
    values |= {f"prefill.{key}": value for key, value in prefill.items()}
    made = plan(*(f"{key}={value}" for key, value in values.items()))
    if not made.valid:
        assert made.deployments == ()
        assert all("\n" not in format_problem(problem) for problem in problems(made))
        return
    check_invariants(made)
    check_world_sizes(made.deployments[0], {main: world(first), "prefill": world(prefill)})


def world(role: dict[str, Any]) -> int:
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    return prod(role.get(size, 1) for size in sizes)


VALID = [
    ("default", ()),
    ("sglang-shared", ("topology=shared", "backend=sglang")),
    ("slurm", ("system=slurm", "decode.tensor_parallel_size=8")),
    ("aggregated", ("topology=aggregated", "num_nodes=3")),
    ("etcd-nats", ("dynamo.discovery=etcd", "dynamo.request_plane=nats")),
    ("lmcache", ("lmcache=on", "lmcache_controller.command=run", "lmcache_controller.ports=[9000]")),
    ("genai-perf", ("bench=genai_perf",)),
    ("phases", ("phases=[{name: a, concurrency: 1},{name: b, concurrency: 2}]",)),
    ("sweep", ("backend=vllm,sglang", "aiperf.concurrency=1,2")),
]


@pytest.mark.parametrize("overrides", [row[1] for row in VALID], ids=[row[0] for row in VALID])
def test_a_plan_holds(overrides: tuple[str, ...]) -> None:
    made = plan(*overrides)
    assert made.valid, told(made)
    check_invariants(made)


def test_compiling_twice_gives_the_same() -> None:
    arguments = ("topology=shared", "decode.tensor_parallel_size=4", "aiperf.concurrency=2,4")
    assert plan(*arguments) == plan(*arguments)


def test_a_sweep_of_load_shares_one_deployment() -> None:
    made = plan("aiperf.concurrency=2,4,8")
    assert [one.workload.phases[0].concurrency for one in made.points if one.workload] == [2, 4, 8]
    assert len(made.deployments) == 1
    assert len({one.digest for one in made.points}) == 3


def test_a_sweep_of_sizes_has_a_deployment_each() -> None:
    made = plan("decode.tensor_parallel_size=1,2", "aiperf.concurrency=2,4")
    assert (len(made.points), len(made.deployments)) == (4, 2)


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
def test_workers_of_a_real_engine_have_their_caches_reset(backend: str) -> None:
    made = deployment("system=slurm", f"backend={backend}", "decode.num_nodes=2", "launch.reset_timeout_s=9")
    assert made.reset is not None
    assert made.reset.argv[:2] == ("python", "{servix_dir}/launchers/clear_caches.py")
    assert made.reset.argv[2:4] == ("--timeout-s", "9")
    assert made.reset.timeout_s == 9
    asked = dict(part.split("=") for part in made.reset.argv[-1].split(","))
    assert {name: int(count) for name, count in asked.items()} == made.ready[0].counts
    assert made.reset.env == named(made, "frontend").env
    check_invariants(plan("system=slurm", f"backend={backend}"))


def test_the_mocker_cannot_reset_its_caches() -> None:
    assert deployment().reset is None


SAME_SEED = ("aiperf.concurrency=2,4", "aiperf.random_seed=7")


@pytest.mark.parametrize(
    ("overrides", "warned"),
    [
        (SAME_SEED, True),
        ((*SAME_SEED, "system=slurm"), False),
        ((*SAME_SEED, "system=slurm", "backend.engines.real.reset=null"), True),
        ((*SAME_SEED, "backend.engines.mocker.reset=[flush]"), False),
        ((*SAME_SEED, "isolation=restart"), False),
        (("aiperf.concurrency=2,4",), False),
    ],
    ids=["mocker", "real", "cannot", "can", "isolation", "own seeds"],
)
def test_a_shared_seed_is_told_where_caches_are_not_reset(overrides: tuple[str, ...], warned: bool) -> None:
    codes = [problem.code for problem in problems(plan(*overrides), "warning")]
    assert codes.count("warm-cache") == warned


def test_an_invalid_point_does_not_hide_the_others() -> None:
    made = plan("decode.tensor_parallel_size=4,64")
    assert [one.valid for one in made.points] == [True, False]
    assert (made.valid, len(made.deployments)) == (False, 1)


def test_the_same_point_twice_is_told() -> None:
    made = plan("aiperf.concurrency=2,2")
    assert made.valid
    assert [problem.code for problem in problems(made, "warning")] == ["duplicate-point"]


def test_a_list_is_data_and_no_sweep() -> None:
    only = point("phases=[{name: a, concurrency: 2},{name: b, concurrency: 4, request_count: 9}]")
    assert only.workload is not None
    found = [(p.name, p.concurrency, p.requests, p.artifact_dir) for p in only.workload.phases]
    assert found == [("a", 2, 50, "artifacts/a"), ("b", 4, 9, "artifacts/b")]


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
def test_what_the_user_said_reaches_the_worker_as_one_word(backend: str) -> None:
    hostile = "a b; $(c) {frontend_node} \"d\" 'e'"
    quoted = hostile.replace("'", "\\'")
    made = deployment(
        *("system=slurm", f"backend={backend}", f"+decode.args.download_dir='{quoted}'"),
        *(f"+decode.env.X='{quoted}'", f"decode.extra_args=['{quoted}']"),
    )
    decode = named(made, "decode-0")
    assert words_after(decode, "--download-dir") == literal(hostile)
    assert decode.env["X"] == literal(hostile)
    assert decode.argv[-1] == literal(hostile)


def test_planned_sizes_are_spelled_as_the_engine_spells_them() -> None:
    sizes = ("decode.tensor_parallel_size=4", "decode.pipeline_parallel_size=2")
    vllm = named(deployment("system=slurm", *sizes), "decode-0")
    sglang = named(deployment("system=slurm", "backend=sglang", *sizes), "decode-0")
    assert (words_after(vllm, "--tensor-parallel-size"), words_after(vllm, "--pipeline-parallel-size")) == (
        "4",
        "2",
    )
    assert (words_after(sglang, "--tp-size"), words_after(sglang, "--pp-size")) == ("4", "2")
    for process in (vllm, sglang):
        assert words_after(process, "--disaggregation-mode") == "decode"


def test_the_mocker_gets_only_what_it_knows_and_the_rest_is_told() -> None:
    made = plan("+decode.args.max_num_seqs=8", "+decode.args.enforce_eager=true")
    decode = named(made.deployments[0], "decode-0")
    assert words_after(decode, "--max-num-seqs") == "8"
    assert "--enforce-eager" not in decode.argv
    assert any("enforce_eager" in problem.key for problem in problems(made, "warning"))


def test_processes_wait_for_the_planes_they_use() -> None:
    made = deployment("dynamo.discovery=etcd", "dynamo.event_plane=nats")
    assert [process.name for process in made.processes][:3] == ["etcd", "nats", "frontend"]
    assert all(process.after == ("etcd", "nats") for process in made.processes[2:])
    assert named(made, "decode-0").env["ETCD_ENDPOINTS"] == "http://{node:0}:2379"
    assert named(made, "decode-0").env["NATS_SERVER"] == "nats://{node:0}:4222"


def test_readiness_counts_every_worker_once() -> None:
    shape = ("topology=shared", "num_nodes=2", "decode.workers_per_node=3", "prefill.workers_per_node=2")
    probes = deployment(*shape).ready
    assert [probe.kind for probe in probes] == ["instances", "model", "completion"]
    assert probes[0].counts == {"backend": 6, "prefill": 4}
