"""Hostile and likely words the fuzzers are made of, as a shell, Hydra and YAML may give them. Data only."""

# fmt: off
from __future__ import annotations

from typing import Any

NUMBERS: list[Any] = [
    0, -1, 1, 2, 3, 4, 7, 8, 9, 16, 64, 255, 1023, 8000, 9090, 5557, 20080, 65535, 65536, 10_001, 1_000_001,
    2**31, 2**53, 2**53 + 1, 2**63, -(2**63), 10**30, 10**400, 10**4299, 0.0, -0.0, 0.5, 1.0, 1.5, -2.5,
    1e-300, 1e16, 1e308, float("inf"), float("-inf"), float("nan"),
]
TEXTS = [
    "", " ", "a", "a b", "null", "true", "on", "off", "yes", "~", "0", "1", "-1", "1.5", "1e3", "0x1f", "4k",
    "٣", "²", "it's", '"', "'", "\\", "`id`", "$(id)", "$HOME", "a;b", "a|b", "&", "*", "?", "#", "!x", "--",
    "-x", "--x=y", "\n", "\r", "\t", "a\nb", "\x00", "a\x00b", "\x07", "\x1b[31m", "\x7f", "\x85", "\u2028",
    "\u202e", "\ufeff", "模型", "é", "e\u0301", "😀", "\udcff", "a\ud800b", "\uffff", "{", "}", "{}", "{{", "}}",
    "{x}", "{{x}}", "{results_dir}", "{frontend_node}:1", "{node:0}", "{node:99}", "{{node:0}}", "{host}",
    "{port}", "{port.system}", "{model}", "{{results_dir}}}", "{results_dir}{host}", '{"a": {results_dir}}',
    "{ x }", "n[1-2]", "n[01-03,7],x", "n[1-", "n[0-99999999]", "n[1-100][1-100][1-100]", "[", "]", "a,b",
    ",", "0,1", "0, 1", "a=b", "a:b", "/a", "/a:/b", "/a:/b:ro", "x/y:latest", "x@sha256:" + "0" * 64, "../x",
    ".", "time_to_first_token_ms.p99 <= 200", "ttft <= 1", "request_count >= 1e999", "a <= -3%", "x" * 300,
    "9" * 4301, "-" * 50, '{"a": 1}', "[1, 2]", "{a: 1}", "[{", "--kv '", 'a "b',
    "x --tensor-parallel-size 2", "???", "1_000", "notes", "../config/config", "metrics/aiperf-0.13.0",
    "/x" * 3000, "aiperf-0.13.0", "x" * 5000,
]
KEYS = [
    "name", "args", "env", "concurrency", "request_count", "request-count", "max_model_len", "max-model-len",
    "new", "", " ", "a b", "a.b", "A", "é", "{results_dir}", "\n", "a\x00", "\udcff", "--x", "0", "x" * 200,
    "hydra", "defaults", "tensor_parallel_size", "model", "ec", "chunk_size", "extra_config",
    "CUDA_VISIBLE_DEVICES", "PATH", "A-B",
]
SCALARS: list[Any] = [
    None, True, False, *NUMBERS, *TEXTS, b"", b"\xff",
]
BASES: list[tuple[str, ...]] = [
    (), ("lmcache=on", "topology=shared"), ("bench=genai_perf", "backend=sglang"),
    ("system=slurm", "topology=aggregated"), ("system=slurm", "lmcache=on", "backend=sglang"),
    ("dynamo.discovery=etcd", "dynamo.event_plane=nats"),
    ("topology=shared", "decode.tensor_parallel_size=4", "prefill.tensor_parallel_size=2", "num_nodes=2"),
    ('constraints.tp_times_pp_le_gpus_per_node=false', 'decode.tensor_parallel_size=16', 'decode.num_nodes=2'),
    ('phases=[{name: a, concurrency: 1},{name: b, concurrency: 2}]', "between_phases.command='echo {results_dir}'"),
    ("lmcache=on", "lmcache_controller.command='run --x'", "lmcache_controller.ports=[9000]"),
    ("accuracy=mmlu", "gates=['accuracy >= 0.5']"),
    ("accuracy=custom", "accuracy.entrypoint='python /x.py'", "accuracy.setup_command='echo {results_dir}'"),
]
"""Commands of which nothing is wrong; the fuzzers change them."""
GROUPS = {
    "system": ["local", "slurm", "Local", "null", "[local]", "a/b"],
    "model": ["tiny", "qwen3-0.6b", "files", "tiny.yaml", "../config"],
    "backend": ["vllm", "sglang", "vllm,sglang", "glob(*)", "glob(v*,exclude=x)", "glob(q*)"],
    "topology": ["separate", "shared", "aggregated", "shared,separate", "[shared,separate]", "{a: 1}"],
    "bench": ["aiperf", "genai_perf", "aiperf,genai_perf", "''"],
    "lmcache": ["on", "off", "'on'", "true", "null", "choice(on,off)"],
    "accuracy": ["none", "mmlu", "custom", "None", "~"],
    "serving": ["dynamo", "1"],
    "experiment": ["x", "null", "[a,b]"],
    "hydra/launcher": ["local", "nope"],
    "hydra/sweeper": ["basic"],
}
LIKELY = [
    "num_nodes=2", "num_nodes=4", "nodes=[a,b]", "nodes='n[1-4]'", "decode.nodes=[a]", "prefill.nodes=[b]",
    "decode.gpu_ids='0,1'", "decode.gpu_ids=[7]", "prefill.gpu_ids=[0]", "system.gpus_per_node=4",
    "system.max_nodes=null", "constraints.tp_times_pp_le_gpus_per_node=false",
    "constraints.prefill_tp_le_decode_tp=false", "strict=true", "engine=real", "system.engine=mocker",
    "model.synthetic=false", "dynamo.port=9090", "backend.ports.system.base=65530",
    "+decode.args.max_num_seqs=8", "+decode.args.enforce_eager=true", "decode.extra_args='--a \"b c\"'",
    "+decode.env.A=1", "aiperf.concurrency=1,2", "trial=1,2", "aiperf.request_count=null",
    "+aiperf.benchmark_duration=5", "~prefill.env", "model.path=/models/x", "model.revision=abc",
    "system.image='r/x:1'", "system.mounts=['/a:/b']", "system.hf_home=/hf",
    "lmcache.lmcache_worker_ports=[8788,8789]", "+lmcache.enable_controller=true", "lmcache.chunk_size=64",
    "~lmcache", "dynamo.discovery=etcd", "dynamo.request_plane=nats", "dynamo.router_mode=kv",
    "+dynamo.frontend_args.router_mode=kv",
]
"""Overrides that are often right together."""
SPELLED = [
    "null", "true", "True", "off", "", "''", '""', "'a b'", '"a,b"', "'it\\'s'", "\\,", "a\\,b", "a b", " a",
    "???", "'???'", "1,2", "1,1", "a,b,c", "1,,2", ",", "range(1,4)", "range(3)", "range(1,1000000000)",
    "range(0,1,0)", "range(1,2,1e-9)", "choice(1,2)", "choice()", "interval(0,1)", "glob(*)",
    "shuffle(1,2,3)", "sort(3,1,2)", "sort(a,1,reverse=true)", "tag(x,choice(1,2))", "int(3.7)", "int(a)",
    "int([1,a])", "str(1)", "bool(2)", "float(x)", "json_str({a:1})", "extend_list(1,2)", "nope(1)", "[]",
    "[1]", "[1,2", "1]", "[[1],[2]]", "[{a: 1}]", "[,]", "{}", "{a: 1}", "{a: {b: [c]}}", "{a}", "{1: 2}",
    "{true: 1}", "{null: 1}", "{a b: 1}", "{a:1,a:2}", "{a: ${b}}", "{'a.b': 1}", "{${a}: 1}", "${nothing}",
    "${decode.num_nodes}", "${.num_nodes}", "${..x}", "${a", "$", "$$", "${}", "${ }", "'${trial}'", "\\${x}",
    "${oc.env:HOME}", "${oc.env:SERVIX_NOT_THERE}", "${oc.env:SERVIX_NOT_THERE,3}", "${oc.decode:'[1'}",
    "${oc.decode:'3'}", "${oc.create:{a: 1}}", "${oc.dict.keys:decode}", "${oc.select:nope,1}", "${nope:1}",
    "${hydra:runtime.cwd}", "${now:%Y}", "${decode}", "${prefill.${trial}}", "${trial}${trial}",
    "x${decode.env}y", "[${trial},${nope}]", "${oc.deprecated:trial}", "[" * 500 + "]" * 500,
    "{a: " * 500 + "1" + "}" * 500, "[" * 2000, "${" * 300 + "trial" + "}" * 300, "[" * 40 + "]" * 40,
    "{a: " * 30 + "1" + "}" * 30, "9" * 4301, "1e999", "-inf", "nan", "0x10", "1_0", "007", "+1", "--1",
]
"""Values in Hydra's grammar, right and wrong."""
PLAUSIBLE: list[Any] = [
    1, 2, 4, 8, 16, 3, "2", "4", None, [0], [0, 1], "0,1", ["a", "b"], "n[1-2]", True, False, [{"name": "a"}],
    [{"name": "a", "concurrency": 2}, {"name": "b"}], "/x", "shared", "separate", "aggregated", "mocker",
    ["request_latency_ms.p99 <= 1"], {"max_num_seqs": 8}, {"A": "1"}, {"A": 1.5}, "x --y z", ["x", "--y"],
    65535, 9090,
]
"""Values that fit somewhere."""
OPTIONS = [
    "experiment", "model", "system", "backend", "topology", "lmcache", "bench",
]
HEADS = [
    "", "# @package _global_\n", "# @package _global_\n", "# @package x\n", "# @package\n",
    "# mine\n# @package _global_\n",
]
"""First lines of a user's file."""
DEFAULTS: list[Any] = [
    None, [], ["_self_"], [{"override /topology": "shared"}], [{"override /topology": "sharde"}],
    [{"/model": "tiny"}], [{"override /lmcache": False}], [{"override /lmcache": "on"}], ["local"], ["vllm"],
    ["nope"], [{"a": {"b": 1}}], [1], {"a": 1}, [{"optional x": "y"}], ["mine"], [{"/experiment": "mine"}],
    [None], [{"override /system": "slurm"}], "x", [{}], ["/"], [{"override hydra/launcher": "slurm"}],
    [{"override /backend": ["vllm", "sglang"]}], [{"/model@decode": "tiny"}],
]
SNIPPETS = [
    "\t", "\n", ":", " :", "- ", "  ", "? ", "!!", "!!python/object:os.system x", "!!binary x", "&a ", "*a",
    "*nope", "<<: *a", "'", '"', "|", ">", "%YAML 9.9\n", "---\n", "...\n", "{", "}", "[", "]", ",", "#", "@",
    "`", "~", "0x", "1e9", "${a}", "${", "???", "on", "\r", "2026-01-01", "12:30:00", "0o17", "1_000", ".inf",
    ".nan", "!!set {a}", "!!omap", "\x00", "\ufeff", "\u2028", "a: b: c", "x: 1\nx: 2\n", "=", "<<: 1\n",
    "<<: {a: 1}\n", "? [a]\n: 1\n", "? {a: 1}\n: 2\n", "1: 2\n", "null: 1\n", "yes: 1\n", "0x" + "f" * 5000,
    "[" * 90, "[" * 3000, "a: " + "[" * 600 + "]" * 600 + "\n", "{a: " * 400, "- " * 1500,
]
"""What is put in the middle of a YAML file."""
