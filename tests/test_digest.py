"""Digests: pinned per version, blind to where and how a point runs, sensitive to what can change a number."""

import subprocess
import sys

import golden
import pytest
from compiling import ROOT, plan, point, told

from compiler.digest import DIGEST_VERSION, digest, short

BASE = ("system=slurm", "system.image=registry/engine:1.0", "model.revision=abc")
PINNED = ((), ("topology=shared", "backend=sglang"), ("bench=genai_perf", "trial=2", "lmcache=on"))
BUMP = (
    "Finished results of such points will be measured again. When what is hashed, or how it is written, changed: "
    "raise DIGEST_VERSION first. When only a default, an argv or an environment changed on purpose: say so in "
    "CHANGELOG.md."
)


def ids_of(*overrides: str) -> tuple[str | None, str | None]:
    """Digest of the deployment and of the point."""
    made = plan(*overrides)
    assert made.valid, told(made)
    return made.points[0].deployment, made.points[0].digest


def test_the_canonical_form_is_pinned() -> None:
    """Made-up data: differs only when the form itself changes."""
    data = {"b": [1, 2.5, None, True], "a": {"é": "x y", "0": {}}}
    pinned = {1: "v1-f6e85c31ea269ac90e66e1fc16cbc0dbebc3dc6a9b6117e1b796fe8d2c1a4a04"}
    assert digest(data) == pinned.get(DIGEST_VERSION), (
        "raise DIGEST_VERSION, and pin the new value for it here"
    )


def test_digests_of_three_points_are_pinned() -> None:
    lines = [f"{' '.join(overrides) or 'default'}: {point(*overrides).digest}" for overrides in PINNED]
    try:
        golden.check(f"digest/v{DIGEST_VERSION}.txt", "\n".join(lines) + "\n")
    except AssertionError as difference:
        raise AssertionError(f"{difference}\n\n{BUMP}") from None


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_the_hash_seed_of_python_does_not_matter(seed: str) -> None:
    code = (
        "from compiling import point\n"
        "print(point('topology=shared', 'backend=sglang', '+decode.env={B: 1, A: 2}', 'lmcache=on').digest)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    here = point("topology=shared", "backend=sglang", "+decode.env={B: 1, A: 2}", "lmcache=on").digest
    assert ran.stdout.strip() == here


@pytest.mark.parametrize(
    "override",
    [
        *(
            "launch.ready_timeout_s=1",
            "launch.stop_timeout_s=1",
            "launch.max_restarts=5",
            "launch.reset_timeout_s=5",
            "backend.engines.real.reset=null",
            "output_dir=/elsewhere",
        ),
        *("action=plan", "format=json", "bench.timeout_s=7", "between_phases.timeout_s=7"),
        *("hydra.launcher.partition=gpu", "hydra.launcher.account=me", "hydra.launcher.timeout_min=5"),
        *("nodes=[a,b]", "decode.nodes=[host7]", "system.name=other", "system.max_nodes=7"),
        *(
            "gates=['time_to_first_token_ms.p99 <= 200']",
            "objective={metric: request_latency_ms.p99, direction: minimize}",
            "baseline=x",
        ),
        *("num_nodes=2", "decode.num_nodes=1", "decode.gpu_ids=[0]", "decode.tensor_parallel_size=1"),
        *("constraints.prefill_tp_le_decode_tp=false", "aggregated.tensor_parallel_size=4"),
        *("system.storage_cache_dir=/scratch", "lmcache_controller.ports=[9000]", "aiperf.workers_max=null"),
    ],
)
def test_what_cannot_change_a_number_is_not_hashed(override: str) -> None:
    assert ids_of(*BASE, override) == ids_of(*BASE)


@pytest.mark.parametrize(
    "override",
    [
        *("decode.tensor_parallel_size=2", "decode.pipeline_parallel_size=2", "decode.data_parallel_size=2"),
        *("decode.num_nodes=2", "decode.workers_per_node=2", "topology=shared", "topology=aggregated"),
        *(
            "backend=sglang",
            "engine=mocker",
            "model.id=other/model",
            "model.revision=def",
            "model.path=/models/x",
        ),
        *("system.image=registry/engine:1.1", "system.gpu.kind=H100", "system.gpus_per_node=4"),
        *("+decode.env.X=1", "+system.env.X=1", "+decode.args.max_num_seqs=8", "decode.extra_args=[--x]"),
        *("decode.gpu_ids=[1]", "dynamo.router_mode=kv", "dynamo.version=1.7.0", "dynamo.event_plane=nats"),
        *("lmcache=on", "+dynamo.frontend_args.router_temperature=0.5", "num_nodes=3"),
    ],
)
def test_what_is_served_is_hashed_in_both(override: str) -> None:
    deployment, whole = ids_of(*BASE, override)
    assert deployment != ids_of(*BASE)[0]
    assert whole != ids_of(*BASE)[1]


@pytest.mark.parametrize(
    "override",
    [
        *(
            "aiperf.concurrency=4",
            "aiperf.request_count=60",
            "aiperf.random_seed=8",
            "aiperf.output_tokens_mean=9",
        ),
        *("trial=2", "bench.version=0.14.0", "bench=genai_perf", "phases=[{name: a, concurrency: 4}]"),
        *("bench.extra_args=[--x]", "+bench.env.X=1", "between_phases.command='echo 1'"),
        *("validity.max_error_rate=0.1", "+aiperf.prefill_concurrency=3", "model.tokenizer=other/tokenizer"),
    ],
)
def test_what_is_asked_is_hashed_in_the_point_only(override: str) -> None:
    deployment, whole = ids_of(*BASE, override)
    assert deployment == ids_of(*BASE)[0]
    assert whole != ids_of(*BASE)[1]


def test_the_order_of_overrides_does_not_matter() -> None:
    first = ("+decode.env.A=1", "+decode.env.B=2", "decode.tensor_parallel_size=2", "topology=shared")
    assert ids_of(*first) == ids_of(*reversed(first))


def test_a_short_digest_tells_points_apart() -> None:
    made = plan("aiperf.concurrency=1,2,3", "trial=1,2")
    assert len({short(one.digest) for one in made.points if one.digest}) == 6
