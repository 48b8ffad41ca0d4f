"""What the fuzzers throw at the compiler, and what every outcome must be.

Cases come from pools of hostile words and from grammars around them, so that most are nearly right: a wrong case
that fails in the first pass finds nothing. Strategies here, properties in test_fuzz.py.
"""

from __future__ import annotations

import copy
import json
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from math import prod
from types import FrameType
from typing import Any

import yaml
from compiling import plan, shared_composer
from hypothesis import strategies as st
from test_compile import check_deployment

from compiler import digest, late
from compiler.check import check
from compiler.codes import PAGES
from compiler.compose import Composer
from compiler.emit import emit, lmcache_text
from compiler.errors import Problem, format_problem
from compiler.facts import with_facts
from compiler.lower import lower
from compiler.model import Config
from compiler.normalise import normalise
from compiler.place import place
from compiler.plan import Deployment, Plan, Point
from compiler.plan_json import from_json, to_json
from compiler.schema import parse

LIMIT_S = 5
"""CPU seconds one case may take; what is usual is a hundredth of one."""
STACK = 940
"""Frames the compiler may use: Python's limit of 1000, without those of a command around it."""
CODES = {page.code for page in PAGES}
WITHOUT_PLACE = {"duplicate-point", "warm-cache", "idle"}
"""Problems of no single key."""


class TooLong(BaseException):
    """A case took more than its share. No Exception, so that nothing on the way swallows it."""


@contextmanager
def bounded(seconds: float = LIMIT_S) -> Iterator[None]:
    """Ends a case that does not end. CPU time, so that a busy machine proves nothing."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"more than {seconds} CPU seconds")

    before, frames = signal.signal(signal.SIGVTALRM, give_up), sys.getrecursionlimit()
    # Hypothesis allows a deeper stack than a command has.
    sys.setrecursionlimit(depth() + STACK)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        sys.setrecursionlimit(frames)


def depth() -> int:
    """Frames below this one."""
    frame, number = sys._getframe(1), 0
    while frame.f_back is not None:
        frame, number = frame.f_back, number + 1
    return number


# --- outcomes


def outcome(overrides: Sequence[str], using: Composer | None = None) -> str:
    """Compiles a command twice and looks at everything: "plan" or "problems"."""
    with bounded():
        made = plan(*overrides, using=using)
        check_plan(made)
        if not made.deployments:
            return "problems"
        again = plan(*overrides, using=using)
        assert digests(again) == digests(made), "another digest the second time"
    return "plan"


def digests(made: Plan) -> list[str]:
    """Sorted: `shuffle(1,2)` is in no order."""
    return sorted(point.digest or "" for point in made.points)


def check_plan(made: Plan) -> None:
    """What holds whatever was asked."""
    for point in made.points:
        assert (
            point.valid
            == (point.digest is not None)
            == (point.workload is not None)
            == (point.deployment is not None)
        )
        assert point.problems or point.valid, "refused without a word"
        for problem in point.problems:
            check_problem(problem)
    document = json.loads(json.dumps(to_json(made), allow_nan=False))
    assert to_json(from_json(document)) == document
    for deployment in made.deployments:
        mine = [point for point in made.points if point.deployment == deployment.digest]
        assert mine, "a deployment of no point"
        check_deployment(deployment)
        check_references(deployment)
        check_workers(deployment, mine[0].config)
        check_files(deployment, mine)


def check_problem(problem: Problem) -> None:
    assert problem.code in CODES, problem
    assert problem.reason, problem
    assert problem.origin or problem.code in WITHOUT_PLACE, problem
    line = format_problem(problem)
    assert line.isprintable(), f"not one line that can be printed: {line!r}"
    json.dumps(problem.as_json(), allow_nan=False)


def check_workers(made: Deployment, config: Mapping[str, Any]) -> None:
    """Each worker has exactly its world size, over all its parts."""
    held: Counter[tuple[str, int]] = Counter()
    for process in made.processes:
        if process.worker is not None:
            held[process.role, process.worker] += len(process.gpus)
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    for (role, worker), number in held.items():
        assert number == prod(int(config[role].get(size, 1)) for size in sizes), f"{role}-{worker}"


def check_references(made: Deployment) -> None:
    """Every late-bound word of a plan can be bound."""
    known = {*late.WORDS, *(f"node:{node.index}" for node in made.nodes)}
    for text in texts(json.loads(json.dumps(to_json(Plan((), (made,)))["deployments"]))):
        assert set(late.words_of(text)) <= known, text


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from texts(item)


def check_files(made: Deployment, points: Sequence[Point]) -> None:
    """The files can be written, and no script passes on what only looks like a placeholder."""
    files = emit(made, points)
    for text in files.values():
        text.encode()
    if made.lmcache is not None:
        values = dict.fromkeys((*late.WORDS, *(f"node:{node.index}" for node in made.nodes)), "x y")
        assert isinstance(yaml.safe_load(lmcache_text(made, values)), dict)
    script = files.get("run.sh", "")
    said = [text for point in points for text in texts([list(phase.argv) for phase in point.workload.phases])]  # type: ignore[union-attr]
    said += texts(json.loads(files["plan.json"]))
    if not any(RAW.search(piece) for text in said for piece, bound in late.pieces(text) if not bound):
        found = RAW.search(script)
        assert found is None, f"run.sh passes {found[0] if found else ''}"


RAW = re.compile(r"\{(" + "|".join(late.WORDS) + r"|node:\d+)\}")


# --- hostile words, as YAML, Hydra and a shell may give them

DEEP = 60
"""Levels of what is merely deep; some texts are deeper than any recursion."""
NUMBERS: list[Any] = [
    *(
        0,
        -1,
        1,
        2,
        3,
        4,
        7,
        8,
        9,
        16,
        64,
        255,
        1023,
        8000,
        9090,
        5557,
        20080,
        65535,
        65536,
        10_001,
        1_000_001,
    ),
    *(2**31, 2**53, 2**53 + 1, 2**63, -(2**63), 10**30, 10**400),
    *(0.0, -0.0, 0.5, 1.0, 1.5, -2.5, 1e-300, 1e16, 1e308, float("inf"), float("-inf"), float("nan")),
]
TEXTS = [
    *(
        "",
        " ",
        "a",
        "a b",
        "null",
        "true",
        "on",
        "off",
        "yes",
        "~",
        "0",
        "1",
        "-1",
        "1.5",
        "1e3",
        "0x1f",
        "4k",
        "٣",
        "²",
    ),
    *(
        "it's",
        '"',
        "'",
        "\\",
        "`id`",
        "$(id)",
        "$HOME",
        "a;b",
        "a|b",
        "&",
        "*",
        "?",
        "#",
        "!x",
        "--",
        "-x",
        "--x=y",
    ),
    *(
        "\n",
        "\r",
        "\t",
        "a\nb",
        "\x00",
        "a\x00b",
        "\x07",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\u2028",
        "\u202e",
        "\ufeff",
    ),
    *("模型", "é", "e\u0301", "😀", "\udcff", "a\ud800b", "\uffff"),
    *(
        "{",
        "}",
        "{}",
        "{{",
        "}}",
        "{x}",
        "{{x}}",
        "{results_dir}",
        "{frontend_node}:1",
        "{node:0}",
        "{node:99}",
        "{{node:0}}",
    ),
    *(
        "{host}",
        "{port}",
        "{port.system}",
        "{model}",
        "{{results_dir}}}",
        "{results_dir}{host}",
        '{"a": {results_dir}}',
        "{ x }",
    ),
    *("n[1-2]", "n[01-03,7],x", "n[1-", "n[0-99999999]", "n[1-100][1-100][1-100]", "[", "]", "a,b", ","),
    *(
        "0,1",
        "0, 1",
        "a=b",
        "a:b",
        "/a",
        "/a:/b",
        "/a:/b:ro",
        "x/y:latest",
        "x@sha256:" + "0" * 64,
        "../x",
        ".",
    ),
    *(
        "time_to_first_token_ms.p99 <= 200",
        "ttft <= 1",
        "request_count >= 1e999",
        "a <= -3%",
        "x" * 300,
        "9" * 4301,
        "-" * 50,
    ),
    *('{"a": 1}', "[1, 2]", "{a: 1}", "[{", "--kv '", 'a "b', "x --tensor-parallel-size 2", "???", "1_000"),
]
KEYS = [
    *(
        "name",
        "args",
        "env",
        "concurrency",
        "request_count",
        "request-count",
        "max_model_len",
        "max-model-len",
        "new",
    ),
    *(
        "",
        " ",
        "a b",
        "a.b",
        "A",
        "é",
        "{results_dir}",
        "\n",
        "a\x00",
        "\udcff",
        "--x",
        "0",
        "x" * 200,
        "hydra",
        "defaults",
    ),
    *(
        "tensor_parallel_size",
        "model",
        "ec",
        "chunk_size",
        "extra_config",
        "CUDA_VISIBLE_DEVICES",
        "PATH",
        "A-B",
    ),
]
SCALARS: list[Any] = [None, True, False, *NUMBERS, *TEXTS, b"", b"\xff"]


def nested(kind: str, depth: int = DEEP) -> Any:
    """A list or mapping `depth` levels deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


scalars = st.sampled_from(SCALARS) | st.integers() | st.text(max_size=6)
keys: st.SearchStrategy[Any] = st.sampled_from([*KEYS, *KEYS, 0, 1, -1, True, None, 1.5, b"k"])
trees: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
) | st.sampled_from([nested("list"), nested("mapping"), [], {}, [None], [{}], {"a": []}])


# --- overrides

BASES: list[tuple[str, ...]] = [
    (),
    ("lmcache=on", "topology=shared"),
    ("bench=genai_perf", "backend=sglang"),
    ("system=slurm", "topology=aggregated"),
    ("system=slurm", "lmcache=on", "backend=sglang"),
    ("dynamo.discovery=etcd", "dynamo.event_plane=nats"),
    ("topology=shared", "decode.tensor_parallel_size=4", "prefill.tensor_parallel_size=2", "num_nodes=2"),
    (
        "constraints.tp_times_pp_le_gpus_per_node=false",
        "decode.tensor_parallel_size=16",
        "decode.num_nodes=2",
    ),
    (
        "phases=[{name: a, concurrency: 1},{name: b, concurrency: 2}]",
        "between_phases.command='echo {results_dir}'",
    ),
    ("lmcache=on", "lmcache_controller.command='run --x'", "lmcache_controller.ports=[9000]"),
]
GROUPS = {
    "system": ["local", "slurm", "Local", "null", "[local]", "a/b"],
    "model": ["tiny", "qwen3-0.6b", "files", "tiny.yaml", "../config"],
    "backend": ["vllm", "sglang", "vllm,sglang", "glob(*)", "glob(v*,exclude=x)", "glob(q*)"],
    "topology": ["separate", "shared", "aggregated", "shared,separate", "[shared,separate]", "{a: 1}"],
    "bench": ["aiperf", "genai_perf", "aiperf,genai_perf", "''"],
    "lmcache": ["on", "off", "'on'", "true", "null", "choice(on,off)"],
    "accuracy": ["none", "None", "~"],
    "serving": ["dynamo", "1"],
    "experiment": ["x", "null", "[a,b]"],
    "hydra/launcher": ["local", "nope"],
    "hydra/sweeper": ["basic"],
}
SPELLED = [
    *(
        "null",
        "true",
        "True",
        "off",
        "",
        "''",
        '""',
        "'a b'",
        '"a,b"',
        "'it\\'s'",
        "\\,",
        "a\\,b",
        "a b",
        " a",
        "???",
        "'???'",
    ),
    *(
        "1,2",
        "1,1",
        "a,b,c",
        "1,,2",
        ",",
        "range(1,4)",
        "range(3)",
        "range(1,1000000000)",
        "range(0,1,0)",
        "range(1,2,1e-9)",
    ),
    *(
        "choice(1,2)",
        "choice()",
        "interval(0,1)",
        "glob(*)",
        "shuffle(1,2,3)",
        "sort(3,1,2)",
        "sort(a,1,reverse=true)",
    ),
    *(
        "tag(x,choice(1,2))",
        "int(3.7)",
        "int(a)",
        "int([1,a])",
        "str(1)",
        "bool(2)",
        "float(x)",
        "json_str({a:1})",
    ),
    *(
        "extend_list(1,2)",
        "nope(1)",
        "[]",
        "[1]",
        "[1,2",
        "1]",
        "[[1],[2]]",
        "[{a: 1}]",
        "[,]",
        "{}",
        "{a: 1}",
        "{a: {b: [c]}}",
    ),
    *(
        "{a}",
        "{1: 2}",
        "{true: 1}",
        "{null: 1}",
        "{a b: 1}",
        "{a:1,a:2}",
        "{a: ${b}}",
        "{'a.b': 1}",
        "{${a}: 1}",
    ),
    *(
        "${nothing}",
        "${decode.num_nodes}",
        "${.num_nodes}",
        "${..x}",
        "${a",
        "$",
        "$$",
        "${}",
        "${ }",
        "'${trial}'",
        "\\${x}",
    ),
    *(
        "${oc.env:HOME}",
        "${oc.env:SERVIX_NOT_THERE}",
        "${oc.env:SERVIX_NOT_THERE,3}",
        "${oc.decode:'[1'}",
        "${oc.decode:'3'}",
    ),
    *(
        "${oc.create:{a: 1}}",
        "${oc.dict.keys:decode}",
        "${oc.select:nope,1}",
        "${nope:1}",
        "${hydra:runtime.cwd}",
        "${now:%Y}",
    ),
    *(
        "${decode}",
        "${prefill.${trial}}",
        "${trial}${trial}",
        "x${decode.env}y",
        "[${trial},${nope}]",
        "${oc.deprecated:trial}",
    ),
    *("[" * 500 + "]" * 500, "{a: " * 500 + "1" + "}" * 500, "[" * 2000, "${" * 300 + "trial" + "}" * 300),
    *(
        "[" * 40 + "]" * 40,
        "{a: " * 30 + "1" + "}" * 30,
        "9" * 4301,
        "1e999",
        "-inf",
        "nan",
        "0x10",
        "1_0",
        "007",
        "+1",
        "--1",
    ),
]


@cache
def paths() -> list[str]:
    """Keys of the configuration at every depth, some with an index."""
    found: dict[str, None] = {}
    for base in (("lmcache=on",), ("bench=genai_perf", "lmcache=on")):
        data = shared_composer().compose(base).data
        assert data is not None
        found |= dict.fromkeys(".".join(map(str, path)) for path in walk(data) if path)
    return [
        *found,
        "nodes[0]",
        "phases[0].name",
        "phases.0",
        "decode.args[a]",
        "a..b",
        ".a",
        "a.",
        "hydra.mode",
        "hydra.job.name",
    ]


def walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a tree, the root first."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(item, (*path, key))


def quoted(value: Any) -> str:
    """A plain value in Hydra's spelling, as far as it has one."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, list):
        return "[" + ",".join(map(quoted, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}: {quoted(item)}" for key, item in value.items()) + "}"
    if isinstance(value, int) and not isinstance(value, bool):
        return json.dumps(value) if abs(value) < 10**4000 else hex(value)
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if not isinstance(value, float)
        else str(value)
    )


def misspelt(name: str, at: int) -> str:
    """The name with one letter left out or doubled."""
    at %= max(1, len(name))
    return name[:at] + name[at + 1 :] if at % 2 else name[:at] + name[at : at + 1] + name[at:]


ROLES = st.sampled_from(["prefill", "decode", "aggregated"])
SIZES = st.builds(
    lambda role, key, value: f"{role}.{key}={value}",
    ROLES,
    st.sampled_from(
        [
            "tensor_parallel_size",
            "pipeline_parallel_size",
            "data_parallel_size",
            "workers_per_node",
            "num_nodes",
        ]
    ),
    st.sampled_from([1, 1, 2, 2, 3, 4, 8, 16]),
)
LIKELY = SIZES | st.sampled_from(
    [
        *(
            "num_nodes=2",
            "num_nodes=4",
            "nodes=[a,b]",
            "nodes='n[1-4]'",
            "decode.nodes=[a]",
            "prefill.nodes=[b]",
        ),
        *(
            "decode.gpu_ids='0,1'",
            "decode.gpu_ids=[7]",
            "prefill.gpu_ids=[0]",
            "system.gpus_per_node=4",
            "system.max_nodes=null",
        ),
        *(
            "constraints.tp_times_pp_le_gpus_per_node=false",
            "constraints.prefill_tp_le_decode_tp=false",
            "strict=true",
        ),
        *(
            "engine=real",
            "system.engine=mocker",
            "model.synthetic=false",
            "dynamo.port=9090",
            "backend.ports.system.base=65530",
        ),
        *(
            "+decode.args.max_num_seqs=8",
            "+decode.args.enforce_eager=true",
            "decode.extra_args='--a \"b c\"'",
            "+decode.env.A=1",
        ),
        *(
            "aiperf.concurrency=1,2",
            "trial=1,2",
            "aiperf.request_count=null",
            "+aiperf.benchmark_duration=5",
            "~prefill.env",
        ),
        *(
            "model.path=/models/x",
            "model.revision=abc",
            "system.image='r/x:1'",
            "system.mounts=['/a:/b']",
            "system.hf_home=/hf",
        ),
        *(
            "lmcache.lmcache_worker_ports=[8788,8789]",
            "+lmcache.enable_controller=true",
            "lmcache.chunk_size=64",
            "~lmcache",
        ),
        *(
            "dynamo.discovery=etcd",
            "dynamo.request_plane=nats",
            "dynamo.router_mode=kv",
            "+dynamo.frontend_args.router_mode=kv",
        ),
    ]
)


@st.composite
def override(draw: st.DrawFn) -> str:
    """One override: half of them likely, the others a known or wrong key with a hostile value."""
    form = draw(st.integers(0, 9))
    if form < 4:
        return draw(LIKELY)
    if form == 4:
        group = draw(st.sampled_from(sorted(GROUPS)))
        sign = draw(st.sampled_from(["", "", "", "", "+", "~", "++"]))
        package = draw(st.sampled_from([""] * 8 + ["@x", "@_global_", "@a:b", "@"]))
        return f"{sign}{group}{package}={draw(st.sampled_from(GROUPS[group]))}"
    if form == 5 and draw(st.booleans()):
        return draw(
            st.text(max_size=20)
            | st.sampled_from(["", "=", "+", "~", "a", "a=b=c", "=1", "@=1", "~a=1", "+=1"])
        )
    key = draw(st.sampled_from(paths()))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        key = misspelt(key, draw(st.integers(0, 40)))
    elif kind in (1, 2):
        key = f"{key}.{draw(st.sampled_from([name for name in KEYS if isinstance(name, str)]))}"
    sign = draw(st.sampled_from(["", "", "", "", "", "+", "+", "++", "~", "~~"]))
    value = draw(st.sampled_from(SPELLED) | scalars.map(quoted) | trees.map(quoted))
    return f"{sign}{key}" if sign == "~" and draw(st.booleans()) else f"{sign}{key}={value}"


override_lists = st.builds(
    lambda base, more: (*base, *more), st.sampled_from(BASES), st.lists(override(), min_size=1, max_size=4)
)


# --- plain data


@cache
def valid_data() -> list[dict[str, Any]]:
    """Compositions of which nothing is wrong, and a few with what is only seen when it is there."""
    found = []
    for base in BASES:
        data = shared_composer().compose(base).data
        assert data is not None
        found.append(json.loads(json.dumps(data)))
    return found


@cache
def places(index: int) -> list[tuple[Any, ...]]:
    """Places of one composition; those a rule looks at often come more often."""
    found = [path for path in walk(valid_data()[index]) if path]
    busy = (
        "prefill",
        "decode",
        "aggregated",
        "aiperf",
        "genai_perf",
        "lmcache",
        "topology",
        "num_nodes",
        "nodes",
        "phases",
        "gates",
    )
    return [*found, *(path for path in found if path[0] in busy for _ in range(3))]


PLAUSIBLE: list[Any] = [
    *(1, 2, 4, 8, 16, 3, "2", "4", None, [0], [0, 1], "0,1", ["a", "b"], "n[1-2]", True, False),
    *(
        [{"name": "a"}],
        [{"name": "a", "concurrency": 2}, {"name": "b"}],
        "/x",
        "shared",
        "separate",
        "aggregated",
        "mocker",
    ),
    *(
        ["request_latency_ms.p99 <= 1"],
        {"max_num_seqs": 8},
        {"A": "1"},
        {"A": 1.5},
        "x --y z",
        ["x", "--y"],
        65535,
        9090,
    ),
]


Change = tuple[tuple[Any, ...], str, Any, Any]
"""Place, action, value, key."""
Case = tuple[int, tuple[Change, ...]]
"""Number of a valid composition, and what is changed in it. Small enough to be pinned as an example."""


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A valid composition with one to four things changed."""
    index = draw(st.integers(0, len(BASES) - 1))
    made: list[Change] = []
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(places(index)))
        dice = draw(st.integers(0, 9))
        if dice < 9:
            value = draw(st.sampled_from(PLAUSIBLE) if dice < 5 else scalars if dice < 7 else trees)
            made.append((path, "set", value, None))
        else:
            action = draw(st.sampled_from(["drop", "add", "rename", "whole", "double"]))
            made.append((path, action, draw(scalars), draw(keys)))
    return index, tuple(made)


def mutated(case: Case) -> dict[str, Any]:
    """The data of a case."""
    index, changes = case
    data = copy.deepcopy(valid_data()[index])
    for path, action, value, key in changes:
        change(data, path, action, copy.deepcopy(value), key)
    return data


def change(data: Any, path: tuple[Any, ...], action: str, value: Any, key: Any) -> None:
    """One change in place; a place that an earlier change took away is left alone."""
    node = data
    for name in path[:-1]:
        if not holds(node, name):
            return
        node = node[name]
    last = path[-1]
    if not holds(node, last):
        return
    if action == "set":
        node[last] = value
    elif action == "drop":
        del node[last]
    elif action == "add" and isinstance(node[last], dict):
        node[last][key] = value
    elif action == "rename" and isinstance(node, dict):
        node[key] = node.pop(last)
    elif action == "whole":
        node[last] = copy.deepcopy(data)
    elif action == "double" and isinstance(node[last], list):
        node[last] = [*node[last], *node[last]]


def holds(node: Any, name: Any) -> bool:
    if isinstance(node, dict):
        return name in node
    return isinstance(node, list) and isinstance(name, int) and -1 < name < len(node)


def direct(data: Mapping[str, Any]) -> tuple[Config | None, list[Problem], Plan | None]:
    """The passes after composing: the configuration, every problem, and the plan where there is one."""
    config, problems = parse(data)
    if config is None:
        return None, problems, None
    assert normalise(normalise(config)) == normalise(config)
    config = with_facts(normalise(config))
    placement = place(config)
    problems = check(config, placement)
    if any(problem.level == "error" for problem in problems):
        return config, problems, None
    problems = [problem.at("somewhere") for problem in problems]
    lowered = lower(config, placement)
    deployment = replace(lowered.deployment, digest=digest.deployment_digest(lowered.deployment, {}))
    name = digest.point_digest(deployment.digest, lowered.workload)
    point = Point("x", (), name, deployment.digest, lowered.workload, data, tuple(problems))
    return config, problems, Plan((point,), (deployment,))


# --- a user's own files

OPTIONS = ["experiment", "model", "system", "backend", "topology", "lmcache", "bench"]
HEADS = [
    "",
    "# @package _global_\n",
    "# @package _global_\n",
    "# @package x\n",
    "# @package\n",
    "# mine\n# @package _global_\n",
]
DEFAULTS: list[Any] = [
    *(
        None,
        [],
        ["_self_"],
        [{"override /topology": "shared"}],
        [{"override /topology": "sharde"}],
        [{"/model": "tiny"}],
    ),
    *(
        [{"override /lmcache": False}],
        [{"override /lmcache": "on"}],
        ["local"],
        ["vllm"],
        ["nope"],
        [{"a": {"b": 1}}],
        [1],
        {"a": 1},
    ),
    *(
        [{"optional x": "y"}],
        ["mine"],
        [{"/experiment": "mine"}],
        [None],
        [{"override /system": "slurm"}],
        "x",
        [{}],
        ["/"],
    ),
    *(
        [{"override hydra/launcher": "slurm"}],
        [{"override /backend": ["vllm", "sglang"]}],
        [{"/model@decode": "tiny"}],
    ),
]
SNIPPETS = [
    *(
        "\t",
        "\n",
        ":",
        " :",
        "- ",
        "  ",
        "? ",
        "!!",
        "!!python/object:os.system x",
        "!!binary x",
        "&a ",
        "*a",
        "*nope",
        "<<: *a",
        "'",
        '"',
    ),
    *(
        "|",
        ">",
        "%YAML 9.9\n",
        "---\n",
        "...\n",
        "{",
        "}",
        "[",
        "]",
        ",",
        "#",
        "@",
        "`",
        "~",
        "0x",
        "1e9",
        "${a}",
        "${",
        "???",
        "on",
        "\r",
    ),
    *(
        "2026-01-01",
        "12:30:00",
        "0o17",
        "1_000",
        ".inf",
        ".nan",
        "!!set {a}",
        "!!omap",
        "\x00",
        "\ufeff",
        "\u2028",
        "a: b: c",
        "x: 1\nx: 2\n",
    ),
    *(
        "=",
        "<<: 1\n",
        "<<: {a: 1}\n",
        "? [a]\n: 1\n",
        "? {a: 1}\n: 2\n",
        "1: 2\n",
        "null: 1\n",
        "yes: 1\n",
        "0x" + "f" * 5000,
        "[" * 90,
    ),
    *("[" * 3000, "a: " + "[" * 600 + "]" * 600 + "\n", "{a: " * 400, "- " * 1500),
]


@st.composite
def own_file(draw: st.DrawFn) -> tuple[str, bytes]:
    """A group, and the text of its option `mine`: a part of the configuration, changed, and often cut up."""
    group = draw(st.sampled_from(OPTIONS))
    body: Any = {}
    data = mutated(draw(cases() | st.tuples(st.integers(0, len(BASES) - 1), st.just(()))))
    if group == "experiment":
        names = [name for name in data if name not in ("topology", "action")]
        chosen = draw(st.lists(st.sampled_from(names), max_size=3, unique_by=str)) if names else []
        body = {name: data[name] for name in chosen}
    elif group in ("system", "bench", "lmcache") and draw(st.booleans()):
        body = {group: data.get(group)}
    else:
        body = data.get(group)
    if isinstance(body, dict) and draw(st.booleans()):
        body = {"defaults": draw(st.sampled_from(DEFAULTS)), **body}
    if draw(st.integers(0, 9)) == 0:
        body = draw(trees)
    text = draw(st.sampled_from(HEADS)) + yaml.safe_dump(
        body, sort_keys=False, allow_unicode=draw(st.booleans()), width=10**6
    )
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, len(text)))
        if draw(st.booleans()):
            text = text[:at] + draw(st.sampled_from(SNIPPETS)) + text[at:]
        else:
            text = text[:at] + text[at + draw(st.integers(1, 30)) :]
    coded = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 19)) == 0:
        coded = text.encode(draw(st.sampled_from(["utf-16", "latin-1", "utf-8-sig"])), "replace")
    return group, coded


def forget(used: Composer) -> None:
    """Makes a composer look at its user's files again."""
    for kept in (used._bases, used._options, used._kept, used._read):
        kept.clear()  # type: ignore[attr-defined]
