"""Random commands, files and data: a plan that holds, or problems in words. Never an exception, never for ever.

10,000 cases by default, the same ones each time; SERVIX_FUZZ=20 throws twenty times as many, others each time.
What was found this way is pinned below, or is a row of problems.yaml.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from compiling import CONFIG, ROOT, plan
from fuzzing import Case, cases, forget, mutated, nested, override_lists, own_file, valid_data
from hostile import BASES
from hypothesis import HealthCheck, Phase, example, given, settings
from outcomes import bounded, check_plan, check_problem, digests, direct, outcome

from compiler.compose import composer

TIMES = max(1, int(os.environ.get("SERVIX_FUZZ", "1")))
COMMANDS, DATA, FILES = 1_800, 8_000, 200
"""Cases of each kind. A change of data costs 5 ms of CPU, a command 30, a file 150: Hydra composes again."""

pytestmark = pytest.mark.timeout(600 * TIMES)


def often(number: int) -> settings:
    """So many cases, the same in every run unless more are asked for."""
    return settings(
        max_examples=number * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )


def both(seen: Counter[str], number: int) -> None:
    """A fuzzer that is always refused, or never, tests one half."""
    assert seen["plan"] > number / 50, seen
    assert seen["problems"] > number / 50, seen


def test_commands() -> None:
    seen: Counter[str] = Counter()

    @often(COMMANDS)
    @given(override_lists)
    def check(overrides: tuple[str, ...]) -> None:
        seen[outcome(overrides)] += 1

    check()
    both(seen, COMMANDS)


def test_data() -> None:
    """Every pass but composing, with what no override can spell."""
    seen: Counter[str] = Counter()

    @often(DATA)
    @given(cases())
    @example((6, ((("aiperf", "extra_inputs", "ignore_eos"), "set", "a\ud800b", None),)))
    @example((1, ((("system", "env", "HF_HUB_OFFLINE"), "set", "\udcff", None),)))
    @example((1, ((("bench", "command", 0), "set", float("inf"), None),)))
    @example((5, ((("aiperf", "extra_inputs"), "set", {b"k": 0}, None),)))
    @example((7, ((("aggregated", "env"), "add", "1", "a\x00"),)))
    @example((9, ((("backend", "engines", "mocker", "sizes", "data_parallel_size"), "rename", "", "--x"),)))
    @example((8, ((("backend", "ports", "nixl", "env"), "set", "{frontend_node}:1", None),)))
    @example((0, ((("aiperf", "goodput"), "set", 10**4299, None),)))
    @example((0, ((("aiperf", "extra_inputs"), "set", {0: 1, "a": 1}, None),)))
    def check(case: Case) -> None:
        seen[of_data(mutated(case))] += 1

    check()
    both(seen, DATA)


def test_files(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    valid_data()  # with a composer of its own: Hydra has one at a time
    with composer(CONFIG, tmp_path) as used:

        @often(FILES)
        @given(own_file())
        @example(("lmcache", b"{}\n"))
        @example(("experiment", b"# @package x\nnull\n"))
        @example(("topology", b"# @package _global_[_\nshared\n"))
        @example(("system", b"# @package _global_\ndefaults: [mine]\n"))
        @example(("experiment", b"a: " + b"[" * 600 + b"]" * 600))
        @example(("model", b"{a: " * 3000))
        def check(made: tuple[str, bytes]) -> None:
            group, text = made
            path = tmp_path / group / "mine.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text)
            forget(used)
            seen[outcome([f"{group}=mine"], used)] += 1
            path.unlink()

        check()
    both(seen, FILES)


def of_data(data: dict[str, Any]) -> str:
    """Runs the passes on data twice: "plan" or "problems"."""
    before = repr(data)
    with bounded():
        _, problems, made = direct(data)
        for problem in problems:
            check_problem(problem.at("somewhere"))
        if made is not None:
            check_plan(made)
            again = direct(data)[2]
            assert again is not None
            assert digests(again) == digests(made)
    assert repr(data) == before, "the input was changed"
    return "problems" if made is None else "plan"


PINNED = [
    ("number-of-too-many-digits", ("aiperf.request_count=" + "9" * 4301,)),
    ("hexadecimal-of-too-many-digits", ("+aiperf.new=0x" + "f" * 5000,)),
    ("not-a-number", ("+backend.ports.master=nan", "backend.ports.master=nan")),
    ("lists-too-deep", ("+aiperf.extra_inputs.a=" + "[" * 400 + "]" * 400,)),
    ("lists-deep", ("model.vocab_size=" + "[" * 60 + "]" * 60,)),
    ("mappings-too-deep", ("+decode.args.a=" + "{a: " * 300 + "1" + "}" * 300,)),
    ("open-brackets", ("+decode.args.a=" + "[" * 2000,)),
    ("bytes-that-are-not-utf-8", ("+aiperf.api_key='\udcff'",)),
    ("escape-sequence", ("+decode.env={'\x1b[31m': 1}",)),
    ("shuffled-sweep", ("trial=shuffle(1,2,3)",)),
    ("phases-that-warm-each-other", (*BASES[8], "strict=true")),
    ("catalogue-of-metrics", ("dynamo.frontend_catalogue=metrics/aiperf-0.13.0",)),
    ("catalogue-of-a-long-name", ("bench.catalogue=" + "x" * 5000,)),
]


@pytest.mark.parametrize("overrides", [row[1] for row in PINNED], ids=[row[0] for row in PINNED])
def test_what_was_found_stays_mended(overrides: tuple[str, ...]) -> None:
    outcome(overrides)


@pytest.mark.parametrize(
    "value", [16**5000, -(16**5000), nested("list", 100), b"\xff"], ids=["huge", "negative", "deep", "bytes"]
)
def test_values_that_only_yaml_can_bring(value: Any) -> None:
    """Python writes no number this long, so Hypothesis cannot show one."""
    for path in (
        ("trial",),
        ("aiperf", "goodput"),
        ("system", "env", "HOME"),
        ("lmcache", "chunk_size"),
        ("model",),
    ):
        data = mutated((9, ()))
        node = data
        for name in path[:-1]:
            node = node[name]
        node[path[-1]] = value
        with bounded():
            _, problems, made = direct(data)
            for problem in problems:
                check_problem(problem.at("somewhere"))
            if made is not None:
                check_plan(made)


STORED = [
    *BASES,
    *((*base, f"aiperf.concurrency={number}") for base in BASES[:1] + BASES[3:6] for number in (1, 2, 4)),
    *(
        (f"topology={name}", f"backend={engine}")
        for name in ("separate", "shared", "aggregated")
        for engine in ("vllm", "sglang")
    ),
    ("+decode.args.max_num_seqs=8", "+decode.args.block_size=16"),
    ("+decode.env={B: 1, A: 2, C: 3}", "+system.env={Z: 1, Y: 2}"),
    ("lmcache=on", "+lmcache.extra_config={c: 1, a: {z: 1, b: 2}}"),
    *((f"aiperf.extra_inputs={{b: {number}, a: 1}}",) for number in range(4)),
    *((f"phases=[{{name: a, concurrency: {number}}},{{concurrency: 2, name: b}}]",) for number in (1, 3, 5)),
    *((f"trial={number}", "lmcache=on", "num_nodes=3") for number in range(8)),
    *((f"decode.tensor_parallel_size={number}", "prefill.data_parallel_size=2") for number in (1, 2, 4)),
    *((f"nodes='n[1-{number}]'", f"gates=['request_count >= {number}']") for number in (2, 3, 4)),
]
"""Commands that hold mappings, sets of nodes and lists, whose order must not reach a digest."""
SCRIPT = """
import json, sys
sys.path[:0] = ["tests", "."]
from compiling import plan
from outcomes import digests
print(json.dumps([digests(plan(*overrides)) for overrides in json.load(sys.stdin)]))
"""


def test_digests_are_the_same_under_another_hash_seed() -> None:
    here = [digests(plan(*overrides)) for overrides in STORED]
    assert sum(any(found) for found in here) > 40
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(STORED),
        env={**os.environ, "PYTHONHASHSEED": "4242"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == here
