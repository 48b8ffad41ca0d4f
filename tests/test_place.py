"""Where everything is: roles on nodes, GPU slices, ports. Rows marked A, B come from NVIDIA CloudAI's behaviour
(facts/cloudai.md), rows marked S from srt-slurm's own allocator (facts/peers.md)."""

from typing import Any

import pytest
from compiling import deployment, plan, problems, workers

from compiler.plan import Deployment

BIG = ("constraints.tp_times_pp_le_gpus_per_node=false", "system.max_nodes=null")
ANY_TP = "constraints.prefill_tp_le_decode_tp=false"


def role(name: str, **sizes: Any) -> tuple[str, ...]:
    """Overrides of a role: `role("decode", n=2, tp=4)`."""
    keys = {
        "n": "num_nodes",
        "w": "workers_per_node",
        "tp": "tensor_parallel_size",
        "pp": "pipeline_parallel_size",
        "dp": "data_parallel_size",
    }
    return tuple(f"{name}.{keys.get(key, key)}={value}" for key, value in sizes.items())


def gpus(made: Deployment, of: str) -> list[list[tuple[int, str]]]:
    """Per worker of a role, in order: node and GPUs (as `0-3`) of each of its parts."""
    found: dict[int, list[tuple[int, str]]] = {}
    for process in workers(made):
        if process.role == of:
            assert process.worker is not None
            found.setdefault(process.worker, []).append((process.node, span(process.gpus)))
    assert list(found) == list(range(len(found)))
    return list(found.values())


def span(numbers: tuple[int, ...]) -> str:
    whole = tuple(range(numbers[0], numbers[-1] + 1)) == numbers if numbers else False
    return f"{numbers[0]}-{numbers[-1]}" if whole and len(numbers) > 1 else ",".join(map(str, numbers))


SLICES = [
    # id, overrides, decode (or aggregated) workers, prefill workers, idle GPUs
    ("separate-default", (), [[(0, "0")]], [[(1, "0")]], 14),
    (
        "A2-separate-2+2",
        (*role("prefill", n=2, tp=8), *role("decode", n=2, tp=8)),
        [[(0, "0-7")], [(1, "0-7")]],
        [[(2, "0-7")], [(3, "0-7")]],
        0,
    ),
    (
        "dp-attention-takes-no-further-gpus",
        (
            *("backend=sglang", "+decode.args.enable_dp_attention=true"),
            *("decode.tensor_parallel_size=8", "decode.data_parallel_size=8"),
        ),
        [[(0, "0-7")]],
        [[(1, "0")]],
        7,
    ),
    ("separate-1+3", (*role("prefill", n=3),), [[(0, "0")]], [[(1, "0")], [(2, "0")], [(3, "0")]], 28),
    (
        "A14-two-workers-of-tp4",
        (*role("decode", w=2, tp=4), *role("prefill", w=2, tp=4)),
        [[(0, "0-3")], [(0, "4-7")]],
        [[(1, "0-3")], [(1, "4-7")]],
        0,
    ),
    (
        "A14-a-remainder-is-idle",
        role("decode", w=2, dp=3),
        [[(0, "0-2")], [(0, "3-5")]],
        [[(1, "0")]],
        9,
    ),
    ("tp-times-pp", role("decode", tp=2, pp=4), [[(0, "0-7")]], [[(1, "0")]], 7),
    ("tp-times-dp", role("decode", tp=2, dp=2), [[(0, "0-3")]], [[(1, "0")]], 11),
    ("shared-1+1", ("topology=shared",), [[(0, "0")]], [[(0, "1")]], 6),
    (
        "A6-two-shared-nodes-on-slurm",
        ("topology=shared", "num_nodes=2", *role("prefill", n=2, tp=4), *role("decode", n=2, tp=4)),
        [[(0, "0-3")], [(1, "0-3")]],
        [[(0, "4-7")], [(1, "4-7")]],
        0,
    ),
    (
        "A3-count-from-the-allocation",
        ("topology=shared", "num_nodes=2", *role("prefill", tp=4), *role("decode", tp=4)),
        [[(0, "0-3")], [(1, "0-3")]],
        [[(0, "4-7")], [(1, "4-7")]],
        0,
    ),
    (
        "A6-several-workers-decode-slices-first",
        ("topology=shared", *role("prefill", w=2, tp=2), *role("decode", w=2, tp=2)),
        [[(0, "0-1")], [(0, "2-3")]],
        [[(0, "4-5")], [(0, "6-7")]],
        0,
    ),
    (
        "A6-different-sizes",
        ("topology=shared", *role("prefill", w=3, tp=1), *role("decode", w=2, tp=2)),
        [[(0, "0-1")], [(0, "2-3")]],
        [[(0, "4")], [(0, "5")], [(0, "6")]],
        1,
    ),
    (
        "A8-shared-with-fewer-decode-nodes",
        ("topology=shared", *role("prefill", n=2, tp=4), *role("decode", n=1, tp=4)),
        [[(0, "0-3")]],
        [[(0, "4-7")], [(1, "4-7")]],
        4,
    ),
    (
        "S-aggregated-8-of-tp2-on-2-nodes",
        ("topology=aggregated", "num_nodes=2", *role("aggregated", w=4, tp=2)),
        [[(n, s)] for n in (0, 1) for s in ("0-1", "2-3", "4-5", "6-7")],
        [],
        0,
    ),
    (
        "S-aggregated-count-of-its-own",
        ("topology=aggregated", *role("aggregated", n=3, tp=8)),
        [[(0, "0-7")], [(1, "0-7")], [(2, "0-7")]],
        [],
        0,
    ),
    (
        "S-multi-node-data-parallel-2+2",
        (*BIG, *role("decode", n=2, dp=16), *role("prefill", n=2, dp=16)),
        [[(0, "0-7"), (1, "0-7")]],
        [[(2, "0-7"), (3, "0-7")]],
        0,
    ),
    (
        "S-TP16-2+4-nodes",
        (*BIG, *role("prefill", n=2, tp=16), *role("decode", n=4, tp=16)),
        [[(0, "0-7"), (1, "0-7")], [(2, "0-7"), (3, "0-7")]],
        [[(4, "0-7"), (5, "0-7")]],
        0,
    ),
    (
        "S-4-GPU-nodes-3-of-8-and-1-of-16",
        (*BIG, "system.gpus_per_node=4", *role("prefill", n=6, tp=8), *role("decode", n=4, tp=16)),
        [[(0, "0-3"), (1, "0-3"), (2, "0-3"), (3, "0-3")]],
        [[(4, "0-3"), (5, "0-3")], [(6, "0-3"), (7, "0-3")], [(8, "0-3"), (9, "0-3")]],
        0,
    ),
    (
        "S-waste-is-told",
        (*BIG, ANY_TP, "num_nodes=5", *role("prefill", n=2, w=2, tp=4), *role("decode", n=1, tp=8)),
        [[(0, "0-7")]],
        [[(1, "0-3")], [(1, "4-7")], [(2, "0-3")], [(2, "4-7")]],
        16,
    ),
    (
        "explicit-gpu-ids",
        ("decode.gpu_ids=[7,2,5,0]", *role("decode", w=2, tp=2)),
        [[(0, "7,2")], [(0, "5,0")]],
        [[(1, "0")]],
        11,
    ),
    (
        "explicit-gpu-ids-of-both-roles",
        (
            *("topology=shared", "num_nodes=2", "decode.gpu_ids='4,5,6,7'", "prefill.gpu_ids='0,1,2,3'"),
            *(*role("decode", tp=4), *role("prefill", tp=4)),
        ),
        [[(0, "4-7")], [(1, "4-7")]],
        [[(0, "0-3")], [(1, "0-3")]],
        0,
    ),
]


@pytest.mark.parametrize(
    ("overrides", "first", "prefill", "idle"), [r[1:] for r in SLICES], ids=[r[0] for r in SLICES]
)
def test_gpu_slices(overrides: tuple[str, ...], first: Any, prefill: Any, idle: int) -> None:
    made = deployment(*overrides)
    assert gpus(made, "aggregated" if made.topology == "aggregated" else "decode") == first
    assert gpus(made, "prefill") == prefill
    assert sum(len(entry.gpus) for entry in made.idle_gpus) == idle
    assert made.gpus + idle == made.num_nodes * made.gpus_per_node


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
def test_each_part_of_a_worker_over_nodes_is_told_its_rank(backend: str) -> None:
    """TP16 over two nodes of 8: one process per node, the first one's host is the head of both."""
    made = deployment(
        *("system=slurm", f"backend={backend}", "topology=aggregated", *BIG),
        *role("aggregated", n=4, tp=16),
    )
    parts = workers(made)
    assert [p.name for p in parts] == ["aggregated-0.0", "aggregated-0.1", "aggregated-1.0", "aggregated-1.1"]
    assert [p.argv[p.argv.index("--node-rank") + 1] for p in parts] == ["0", "1", "0", "1"]
    assert all(p.argv[p.argv.index("--nnodes") + 1] == "2" for p in parts)
    heads = ["{node:0}", "{node:0}", "{node:2}", "{node:2}"]
    flag = {"vllm": "--master-addr", "sglang": "--dist-init-addr"}[backend]
    assert [p.argv[p.argv.index(flag) + 1].removesuffix(":29500") for p in parts] == heads
    assert [p.ready is not None for p in parts] == [True, False, True, False]
    assert all(p.env["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7" for p in parts)


def test_one_mocker_plays_a_worker_over_nodes() -> None:
    made = deployment("topology=aggregated", *BIG, *role("aggregated", n=4, tp=16))
    modules = [part.argv[1:3] for part in workers(made)]
    assert [words[0] == "-m" for words in modules] == [True, False, True, False]
    last = workers(made)[3]
    assert last.argv[1:] == (
        *("{servix_dir}/launchers/stand_in.py", "--head", "{node:2}:9090", "--rank", "1", "--of", "2"),
    )
    assert (last.rank, workers(made)[2].rank, made.processes[0].rank) == (1, 0, None)


NODES = [
    # id, overrides, names of the nodes, nodes of decode (or aggregated), nodes of prefill
    ("none", (), [None, None], [0], [1]),
    ("allocation", ("nodes=[a,b]",), ["a", "b"], [0], [1]),
    ("allocation-larger", ("nodes=[a,b,c]",), ["a", "b", "c"], [0], [1]),
    (
        "A10-slurm-range",
        ("nodes='node[001-003,7]'", "decode.num_nodes=3"),
        ["node001", "node002", "node003", "node7"],
        [0, 1, 2],
        [3],
    ),
    ("both-roles-named", ("prefill.nodes=[p1,p2]", "decode.nodes=[d1]"), ["d1", "p1", "p2"], [0], [1, 2]),
    ("only-prefill-named", ("prefill.nodes=[p]",), [None, "p"], [0], [1]),
    ("only-decode-named", ("decode.nodes=[d]", "prefill.num_nodes=2"), ["d", None, None], [0], [1, 2]),
    ("role-in-allocation", ("nodes=[a,b]", "decode.nodes=[b]"), ["a", "b"], [1], [0]),
    (
        "roles-in-allocation",
        ("nodes=[a,b,c]", "decode.nodes=[c]", "prefill.nodes=[b]"),
        ["a", "b", "c"],
        [2],
        [1],
    ),
    (
        "range-of-a-role",
        ("decode.nodes='d[1-2]'", "prefill.nodes='p[1-2]'"),
        ["d1", "d2", "p1", "p2"],
        [0, 1],
        [2, 3],
    ),
    (
        "A3-equal-lists-shared",
        ("topology=shared", "prefill.nodes=[a,b]", "decode.nodes=[a,b]"),
        ["a", "b"],
        [0, 1],
        [0, 1],
    ),
    (
        "shared-other-order",
        ("topology=shared", "prefill.nodes=[a,b]", "decode.nodes=[b,a]"),
        ["b", "a"],
        [0, 1],
        [1, 0],
    ),
    ("shared-allocation", ("topology=shared", "nodes=[a,b]"), ["a", "b"], [0, 1], [0, 1]),
    (
        "shared-prefill-named-only",
        ("topology=shared", "prefill.nodes=[a,b]", "decode.num_nodes=2"),
        ["a", "b"],
        [0, 1],
        [0, 1],
    ),
    (
        "aggregated-named",
        ("topology=aggregated", "aggregated.nodes='n[08-10]'"),
        ["n08", "n09", "n10"],
        [0, 1, 2],
        [],
    ),
]


@pytest.mark.parametrize(
    ("overrides", "names", "first", "prefill"), [r[1:] for r in NODES], ids=[r[0] for r in NODES]
)
def test_nodes(overrides: tuple[str, ...], names: Any, first: list[int], prefill: list[int]) -> None:
    made = deployment(*overrides)
    assert [node.name for node in made.nodes] == names
    assert made.num_nodes == len(names)
    main = "aggregated" if made.topology == "aggregated" else "decode"
    assert [p.node for p in workers(made) if p.role == main] == first
    assert [p.node for p in workers(made) if p.role == "prefill"] == prefill


DERIVED = [
    ("separate-is-the-sum", ("prefill.num_nodes=2", "decode.num_nodes=2"), 4),
    ("shared-is-the-larger", ("topology=shared", "prefill.num_nodes=3", "decode.num_nodes=2"), 3),
    ("aggregated-is-its-own", ("topology=aggregated", "aggregated.num_nodes=2"), 2),
    ("unused-role-does-not-count", ("topology=aggregated", "decode.num_nodes=3"), 1),
    ("explicit-wins", ("num_nodes=4",), 4),
]


@pytest.mark.parametrize(("overrides", "number"), [r[1:] for r in DERIVED], ids=[r[0] for r in DERIVED])
def test_the_allocation_is_derived(overrides: tuple[str, ...], number: int) -> None:
    assert deployment(*overrides).num_nodes == number


def numbers(made: Deployment, family: str) -> dict[str, tuple[int, int]]:
    """Process name -> first port and count of a family."""
    return {p.name: (p.ports[family].port, p.ports[family].count) for p in workers(made) if family in p.ports}


VLLM, SGLANG = "backend=vllm", "backend=sglang"
TWO_TP4 = (*role("decode", w=2, tp=4), *role("prefill", w=2, tp=4))
PORTS = [
    ("one-each", (VLLM,), "nixl", {"decode-0": (5557, 1), "prefill-0": (5557, 1)}),
    (
        "B1-nixl-stride-is-tp",
        (VLLM, *TWO_TP4),
        "nixl",
        {"decode-0": (5557, 4), "decode-1": (5561, 4), "prefill-0": (5557, 4), "prefill-1": (5561, 4)},
    ),
    (
        "B1-status",
        (VLLM, *TWO_TP4),
        "system",
        {"decode-0": (9090, 1), "decode-1": (9091, 1), "prefill-0": (9090, 1), "prefill-1": (9091, 1)},
    ),
    (
        "B2-shared-shifts-nixl-by-tp",
        (VLLM, "topology=shared", *role("decode", tp=4), *role("prefill", tp=2)),
        "nixl",
        {"decode-0": (5557, 4), "prefill-0": (5561, 2)},
    ),
    (
        "B2-shared-shifts-kv-events",
        (VLLM, "topology=shared", *role("decode", tp=4)),
        "kv_event",
        {"decode-0": (20080, 1), "prefill-0": (20081, 1)},
    ),
    (
        "B2-shared-shifts-status-by-all-decode-workers",
        (SGLANG, "topology=shared", *role("decode", w=3)),
        "system",
        {"decode-0": (9090, 1), "decode-1": (9091, 1), "decode-2": (9092, 1), "prefill-0": (9093, 1)},
    ),
    (
        "kv-events-take-one-per-dp-rank",
        (VLLM, *role("decode", w=2, dp=2)),
        "kv_event",
        {"decode-0": (20080, 2), "decode-1": (20082, 2), "prefill-0": (20080, 1)},
    ),
    (
        "bootstrap-is-prefill-only",
        (SGLANG, "topology=shared", *role("prefill", w=2)),
        "bootstrap",
        {"prefill-0": (12345, 1), "prefill-1": (12346, 1)},
    ),
    ("no-master-on-one-node", (VLLM,), "master", {}),
    (
        "the-same-on-every-node",
        (SGLANG, "topology=shared", "num_nodes=2"),
        "system",
        {"decode-0": (9090, 1), "decode-1": (9090, 1), "prefill-0": (9091, 1), "prefill-1": (9091, 1)},
    ),
    (
        "a-base-of-the-user",
        (VLLM, "backend.ports.system.base=7000", *role("decode", w=2)),
        "system",
        {"decode-0": (7000, 1), "decode-1": (7001, 1), "prefill-0": (7000, 1)},
    ),
]


@pytest.mark.parametrize(
    ("overrides", "family", "expected"), [r[1:] for r in PORTS], ids=[r[0] for r in PORTS]
)
def test_ports(overrides: tuple[str, ...], family: str, expected: dict[str, tuple[int, int]]) -> None:
    assert numbers(deployment(*overrides), family) == expected


def test_ports_reach_the_worker() -> None:
    made = deployment("topology=shared", "system=slurm", *role("decode", tp=4), *role("prefill", tp=4))
    prefill = next(p for p in made.processes if p.name == "prefill-0")
    assert prefill.env["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "5561"
    assert prefill.env["DYN_SYSTEM_PORT"] == "9091"
    assert any('"endpoint": "tcp://*:20081"' in word for word in prefill.argv)
    assert prefill.env["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"
    assert prefill.ready is not None
    assert prefill.ready.url == "http://{node:0}:9091/health"


@pytest.mark.parametrize("topology", ["separate", "shared", "aggregated"])
def test_the_frontend_and_infrastructure_are_on_node_0(topology: str) -> None:
    made = deployment(
        *(f"topology={topology}", "dynamo.discovery=etcd", "dynamo.event_plane=nats"),
        *("lmcache_controller.command=run", "lmcache_controller.ports=[9000]"),
    )
    beside = {p.name: p for p in made.processes if p.worker is None}
    assert set(beside) == {"etcd", "nats", "lmcache-controller", "frontend"}
    assert all(p.node == 0 and p.gpus == () for p in beside.values())
    assert {p.role for p in beside.values()} == {"frontend", "infrastructure"}
    assert all(p.env["CUDA_VISIBLE_DEVICES"] == "" for p in beside.values())


TOLD = [
    ("idle-node", ("num_nodes=3",), "1 of 3 nodes have no work: node 2"),
    ("idle-named-node", ("nodes=[a,b,c]",), "no work: c"),
    ("idle-gpus", ("system.gpu.kind=H100", "decode.tensor_parallel_size=8"), "node 1: 1-7"),
    ("idle-between", ("system.gpu.kind=H100", "decode.gpu_ids=[3]"), "node 0: 0-2,4-7"),
]


@pytest.mark.parametrize(("overrides", "words"), [r[1:] for r in TOLD], ids=[r[0] for r in TOLD])
def test_what_has_no_work_is_told(overrides: tuple[str, ...], words: str) -> None:
    assert any(words in problem.reason for problem in problems(plan(*overrides), "warning"))


def test_nothing_idle_is_not_told() -> None:
    assert not problems(plan("topology=shared", *role("decode", tp=4), *role("prefill", tp=4)), "warning")
