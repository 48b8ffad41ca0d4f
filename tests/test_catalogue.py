"""The catalogues of flags: current, complete for what servix itself emits, and what is refused with them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache

import pytest
from compiling import ROOT, shared_composer

from compiler.catalogue import FOLDER, Flag, catalogue
from compiler.errors import Problem, format_problem
from compiler.lower import lower
from compiler.model import Config
from compiler.normalise import normalise
from compiler.place import Placement, place
from compiler.rules import flags as rule
from compiler.schema import parse

INSTALLED = ["aiperf", "dynamo.frontend", "dynamo.mocker", "dynamo.vllm", "dynamo.sglang"]
FILES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "notes")
VLLM, SGLANG = ("dynamo.vllm-1.6.1", "vllm-0.31.0"), ("dynamo.sglang-1.6.1", "sglang-0.5.21")
AIPERF, GENAI_PERF, MOCKER = ("aiperf-0.13.0",), ("genai_perf-0.0.16",), ("dynamo.mocker-1.6.1",)
FRONTEND = ("dynamo.frontend-1.6.1",)
REAL = ("engine=real", "model=qwen3-0.6b")
ABBREVIATED: set[str] = set()
"""Words of ours that a tool takes only as an abbreviation of argparse (SGLang's --tp-size)."""


@cache
def compiled(*overrides: str) -> tuple[Config, Placement]:
    """Configuration and placement before any rule."""
    composed = shared_composer().compose(overrides)
    assert composed.data is not None, composed.problems
    config, wrong = parse(composed.data)
    assert config is not None, wrong
    config = normalise(config)
    return config, place(config)


def told(*overrides: str) -> list[Problem]:
    """What the rules find, without the warnings about what no catalogue knows."""
    return [*rule.served(*compiled(*overrides)), *rule.asked(*compiled(*overrides))]


def lines(problems: Iterable[Problem]) -> str:
    return "\n".join(f"{one.level} {one.code}: {format_problem(one)}" for one in problems)


# --- the files


def test_catalogues_of_the_installed_tools_are_what_their_parsers_say() -> None:
    command = [sys.executable, "tools/catalogue.py", "--check", *INSTALLED]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", FILES)
def test_every_file_can_be_read_and_says_where_it_is_from(name: str) -> None:
    data = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert f"{data['tool']}-{data['version']}" == name
    assert data["source"]
    found = catalogue((name,))
    assert not found.missing
    for spelling, flag in found.flags.items():
        assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", spelling), spelling
        assert flag.kind in ("int", "float", "text", "flag", "list", "json")
        assert spelling == flag.name or spelling in flag.aliases


@pytest.mark.parametrize("name", FILES)
def test_a_sentence_names_only_flags_that_there_are(name: str) -> None:
    """What to do now must be possible now."""
    engine = {"dynamo.vllm-1.6.1": VLLM, "vllm-0.31.0": VLLM, "dynamo.sglang-1.6.1": SGLANG}.get(
        name, (name,)
    )
    around = catalogue(engine).flags
    for flag in catalogue((name,)).flags.values():
        sentence = flag.removed or flag.deprecated
        if "policy" in sentence:  # keys of the router's policy file
            continue
        named = re.findall(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b", sentence)
        own = {"pylogging_config_file", "disaggregation_mode"}
        gone = [word for word in named if word not in own and (word not in around or around[word].removed)]
        assert not gone, f"{flag.name}: {sentence}"


# --- what servix itself says


def flag_names(argv: Sequence[str]) -> list[str]:
    return [
        word[2:].partition("=")[0].replace("-", "_")
        for word in argv
        if word.startswith("--") and word != "--"
    ]


@pytest.mark.parametrize("tool", ["aiperf", "genai_perf"])
@pytest.mark.parametrize("engine", [(), REAL], ids=["mocker", "real"])
@pytest.mark.parametrize("topology", ["separate", "shared", "aggregated"])
@pytest.mark.parametrize("backend", ["vllm", "sglang"])
def test_every_flag_servix_emits_is_known(
    backend: str, topology: str, engine: tuple[str, ...], tool: str
) -> None:
    config, placement = compiled(f"backend={backend}", f"topology={topology}", f"bench={tool}", *engine)
    made = lower(config, placement)
    real = {"vllm": VLLM, "sglang": SGLANG}[backend] if engine else MOCKER
    for process in made.deployment.processes:
        if process.role in ("frontend", "prefill", "decode", "aggregated"):
            names = FRONTEND if process.role == "frontend" else real
            assert not unknown(process.argv, names), process.argv
    bench = {"aiperf": AIPERF, "genai_perf": GENAI_PERF}[tool]
    for phase in made.workload.phases:
        assert not unknown(phase.argv, bench), phase.argv


def unknown(argv: Sequence[str], names: tuple[str, ...]) -> list[str]:
    return [
        name for name in flag_names(argv) if name not in catalogue(names).flags and name not in ABBREVIATED
    ]


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
def test_words_for_workers_larger_than_a_node_are_known(backend: str) -> None:
    engine = compiled(f"backend={backend}")[0].backend.engines["real"]
    names = {"vllm": VLLM, "sglang": SGLANG}[backend]
    assert not unknown(engine.multi_node, names)
    assert not unknown(list(engine.sizes.values()), names)


@pytest.mark.parametrize("tool", ["aiperf", "genai_perf"])
def test_every_default_argument_is_known_and_of_its_kind(tool: str) -> None:
    assert told(f"bench={tool}") == []


@pytest.mark.parametrize("short", ["m", "u"])
def test_genai_perf_has_the_short_flags_we_write(short: str) -> None:
    assert any(short in flag.short for flag in catalogue(GENAI_PERF).flags.values())


# --- what is refused

TYPOS = [
    (AIPERF, "request_cont", "request_count"),
    (AIPERF, "num_request", "num_requests"),
    (AIPERF, "concurency", "concurrency"),
    (AIPERF, "synthetic_input_token_mean", "synthetic_input_tokens_mean"),
    (AIPERF, "warm_up_request_count", "warmup_request_count"),
    (AIPERF, "benchmark_durations", "benchmark_duration"),
    (GENAI_PERF, "endpoint_typ", "endpoint_type"),
    (GENAI_PERF, "stability_precentage", "stability_percentage"),
    (VLLM, "max_model_length", "max_model_len"),
    (VLLM, "gpu_memory_utilisation", "gpu_memory_utilization"),
    (VLLM, "enable_prefix_cache", "enable_prefix_caching"),
    (VLLM, "kv_transfer_configs", "kv_transfer_config"),
    (VLLM, "max_num_seq", "max_num_seqs"),
    (VLLM, "enforce_eagre", "enforce_eager"),
    (VLLM, "route_to_encoders", "route_to_encoder"),
    (SGLANG, "mem_fraction_statics", "mem_fraction_static"),
    (SGLANG, "contex_length", "context_length"),
    (SGLANG, "disable_radix_cach", "disable_radix_cache"),
    (SGLANG, "chunked_prefil_size", "chunked_prefill_size"),
    (FRONTEND, "router_mod", "router_mode"),
    (FRONTEND, "kv_cache_block_sizes", "kv_cache_block_size"),
    (MOCKER, "decode_speedup_ration", "decode_speedup_ratio"),
]


@pytest.mark.parametrize(("names", "typo", "meant"), TYPOS, ids=[row[1] for row in TYPOS])
def test_a_typo_is_answered_with_the_nearest_name(names: tuple[str, ...], typo: str, meant: str) -> None:
    (one,) = rule.given("place", {typo: 1}, catalogue(names), "extra", [])
    assert (one.level, one.code, one.key) == ("error", "unknown-flag", f"place.{typo}")
    assert f"'{meant}'" in one.hint
    assert "goes through extra" in one.hint


REFUSED: list[tuple[tuple[str, ...], str, str, list[str]]] = [
    (
        ("+aiperf.request_cont=3",),
        "unknown-flag",
        "aiperf.request_cont",
        ["aiperf 0.13.0", "bench.extra_args"],
    ),
    (
        ("+prefill.args.max_model_length=9",),
        "unknown-flag",
        "prefill.args.max_model_length",
        ["max_model_len"],
    ),
    (
        ("+decode.args.utilization=1", *REAL),
        "unknown-flag",
        "decode.args.utilization",
        ["gpu_memory_utilization"],
    ),
    (("+decode.args.xyzzy=1", *REAL), "unknown-flag", "decode.args.xyzzy", ["decode.extra_args"]),
    (
        ("+dynamo.frontend_args.router_modes=1",),
        "unknown-flag",
        "frontend_args.router_modes",
        ["router_mode"],
    ),
    (("+aiperf.measurement_interval=1",), "unknown-flag", "measurement_interval", ["benchmark_duration"]),
    (("+decode.args.connector=nixl", *REAL), "unknown-flag", "connector", ["kv_transfer_config"]),
    (("+decode.args.is_decode_worker=true",), "unknown-flag", "is_decode_worker", ["leave it out"]),
    (("+decode.args.num_scheduler_steps=8", *REAL), "unknown-flag", "num_scheduler_steps", ["multi-step"]),
    (("+dynamo.frontend_args.router_reset_states=true",), "unknown-flag", "reset_states", ["leave it out"]),
    (("+decode.args.max_num_seqs=many", *REAL), "flag-value", "max_num_seqs", ["a whole number", "'many'"]),
    (("+decode.args.max_num_seqs=1.5", *REAL), "flag-value", "max_num_seqs", ["a whole number"]),
    (("+decode.args.max_num_seqs=true", *REAL), "flag-value", "max_num_seqs", ["not a boolean"]),
    (("+decode.args.max_num_seqs=false", *REAL), "flag-value", "max_num_seqs", ["not a boolean", "null"]),
    (("+decode.args.max_num_seqs=[1,2]", *REAL), "flag-value", "max_num_seqs", ["one value"]),
    (("+decode.args.dtype=bfloat1", *REAL), "flag-value", "dtype", ["'bfloat16'"]),
    (("+decode.args.enforce_eager=yes_please", *REAL), "flag-value", "enforce_eager", ["takes no value"]),
    (("+decode.args.enforce_eager=1", *REAL), "flag-value", "enforce_eager", ["takes no value", "true"]),
    (("+decode.args.max_lora_rank=7", *REAL), "flag-value", "max_lora_rank", ["16"]),
    (("+decode.args.compilation_config='{mode: 3}'", *REAL), "flag-value", "compilation_config", ["JSON"]),
    (("aiperf.ui=fancy",), "flag-value", "aiperf.ui", ["dashboard"]),
    (("aiperf.endpoint_type=chats",), "flag-value", "aiperf.endpoint_type", ["'chat'"]),
    (("aiperf.streaming=maybe",), "flag-value", "aiperf.streaming", ["takes no value"]),
    (("+aiperf.conversation_num=[1,2]",), "flag-value", "conversation_num", ["','"]),
    (("+aiperf.conversation_num='1,x'",), "flag-value", "conversation_num", ["a whole number"]),
    (("+phases=[{name: a, ui: fancy}]",), "flag-value", "phases.0.ui", ["dashboard"]),
    (("+aiperf.num_requests=3",), "flag", "aiperf.num_requests", ["same flag as 'request_count'"]),
    (
        ("+decode.args.nccl_init_addr=x", *REAL, "backend=sglang"),
        "flag",
        "nccl_init_addr",
        ["dist_init_addr"],
    ),
]


@pytest.mark.parametrize(("overrides", "code", "key", "words"), REFUSED, ids=[row[0][0] for row in REFUSED])
def test_what_a_tool_would_refuse_is_refused(
    overrides: tuple[str, ...], code: str, key: str, words: list[str]
) -> None:
    (one,) = told(*overrides)
    assert (one.level, one.code) == ("error", code), lines([one])
    assert key in one.key
    assert not [word for word in words if word not in format_problem(one)], lines([one])


ACCEPTED = [
    ("+decode.args.max_model_len=4096",),
    ("+decode.args.max-model-len=4096",),
    ("+decode.args.enforce_eager=true",),
    ("+decode.args.mem_fraction_static=0.9", "backend=sglang"),
    ("+decode.args.decode_speedup_ratio=2",),
    ("+decode.args.max_model_len=8k", *REAL),
    ("+decode.args.max_model_len=auto", *REAL),
    ("+decode.args.gpu_memory_utilization=1", *REAL),
    ("+decode.args.gpu_memory_utilization='0.9'", *REAL),
    ("+decode.args.max_num_seqs=null", *REAL),
    ("+decode.args.no_enable_prefix_caching=true", *REAL),
    ("+decode.args.cudagraph_capture_sizes=[1,2,4]", *REAL),
    ("+decode.args.compilation_config={mode: 3}", *REAL),
    ('+decode.args.kv_transfer_config=\'{"kv_connector": "NixlConnector"}\'', *REAL),
    ("+decode.args.load_format=gms", *REAL, "backend=sglang"),
    ("+decode.args.hf_token=true", *REAL),
    ("+decode.args.dyn_tool_call_parser=hermes", *REAL),
    ("decode.extra_args='--what-is-new 1'", *REAL),
    ("bench.extra_args='--what-is-new 1'",),
    ("+aiperf.num_requests=null",),
    ("+aiperf.arrival_pattern=concurrency_burst",),
    ("+aiperf.accuracy_benchmark=gsm8k",),
    ("aiperf.server_metrics=auto",),
    ("aiperf.gpu_telemetry=true",),
    ("aiperf.goodput='time_to_first_token:200'",),
    ("aiperf.streaming=false",),
    ("+dynamo.frontend_args.router_kv_events=true",),
    ("+dynamo.frontend_args={chat_processor: vllm, tool_call_parser: hermes}",),
    ("+phases=[{name: a, concurrency: 4}]",),
]


@pytest.mark.parametrize("overrides", ACCEPTED, ids=[row[0] for row in ACCEPTED])
def test_what_a_tool_takes_is_accepted(overrides: tuple[str, ...]) -> None:
    assert told(*overrides) == []


WARNED = [
    (("+dynamo.frontend_args.router_temperature=0.5",), "deprecated-flag", "v1.7"),
    (("+dynamo.frontend_args.kv_events=true",), "deprecated-flag", "router_kv_events"),
    (("+dynamo.frontend_args.enforce_disagg=true",), "deprecated-flag", "ignored"),
    (("+decode.args.enable_prefix_caching=false", *REAL), "flag-value", "no_enable_prefix_caching: true"),
    (("bench.catalogue=aiperf-9",), "no-catalogue", "there is no catalogue 'aiperf-9'"),
    (("bench.catalogue=null",), "no-catalogue", "no catalogue is named"),
    (
        ("+decode.args.x=1", *REAL, "backend.engines.real.catalogues=[]"),
        "no-catalogue",
        "no catalogue is named",
    ),
    (
        ("+decode.args.x=1", *REAL, "backend.engines.real.catalogues=[vllm-9,vllm-0.31.0]"),
        "no-catalogue",
        "'vllm-9'",
    ),
]


@pytest.mark.parametrize(("overrides", "code", "words"), WARNED, ids=[row[0][0] for row in WARNED])
def test_what_works_but_should_be_known_is_a_warning(
    overrides: tuple[str, ...], code: str, words: str
) -> None:
    (one,) = told(*overrides)
    assert (one.level, one.code) == ("warning", code), lines([one])
    assert words in format_problem(one)


def test_flags_are_not_missed_where_none_are_given() -> None:
    assert told("backend.engines.mocker.catalogues=[]", "dynamo.frontend_catalogue=null") == []


def test_the_first_catalogue_that_knows_a_name_counts() -> None:
    both = catalogue(VLLM).flags
    assert both["connector"].removed == catalogue(VLLM[:1]).flags["connector"].removed
    assert both["tensor_parallel_size"] == Flag("tensor_parallel_size", "int", short=("tp",))
