"""Recorded tool outputs and results made by hand, shared by the tests of results, store and report."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from compiler.plan import Deployment, Phase, Plan, Point, Workload
from launchers.results import Counts, PhaseResult, Result, Verdict, VerdictStatus
from launchers.store import Store

DATA = Path(__file__).parent / "data"


def digest(letter: str) -> str:
    return "v1-" + letter * 64


def phase(name: str = "round", **fields: Any) -> Phase:
    base = Phase(name, ("aiperf", "profile"), "artifacts", 20, 4, 32, 60.0)
    return replace(base, **fields)


def workload(**fields: Any) -> Workload:
    base = Workload(
        tool="aiperf",
        version="0.13.0",
        phases=(phase(),),
        env={},
        unset_env=(),
        needs=(),
        needs_hint=None,
        between_command=None,
        between_timeout_s=60,
        health_check=True,
        continue_on_failure=False,
        max_error_rate=0.0,
        output_length_tolerance=0.1,
        trial=1,
    )
    return replace(base, **fields)


def deployment(letter: str = "d", name: str = "separate-vllm") -> Deployment:
    # The store and the report look at nothing else.
    blank = {field.name: None for field in fields(Deployment)}
    return Deployment(**{**blank, "digest": digest(letter), "name": name})  # type: ignore[arg-type]


def point(letter: str = "a", name: str = "aiperf.concurrency=2") -> Point:
    return Point(name, (name,), digest(letter), digest("d"), workload(), {})


def measured(
    status: VerdictStatus = "valid", *reasons: str, name: str = "round", **metrics: float
) -> PhaseResult:
    numbers = {
        "time_to_first_token_ms.avg": 74.72211825,
        "time_to_first_token_ms.p99": 95.15,
        "inter_token_latency_ms.avg": 4.675376838709677,
        "request_latency_ms.avg": 219.65880024999998,
        "output_token_throughput_per_s": 552.5568229622392,
        "output_token_throughput_per_gpu_per_s": 276.2784114811196,
        **metrics,
    }
    counts = Counts(20, 20, 0, 0) if status == "valid" else Counts(60, 20, 38, 2)
    return PhaseResult(name, Verdict(status, reasons), numbers, counts, name, 0, 9.5, 4, "0.13.0")


def result(*phases: PhaseResult, **fields: Any) -> Result:
    rounds = phases or (measured(),)
    base = Result(
        point_digest=digest("a"),
        deployment_digest=digest("d"),
        point_name="aiperf.concurrency=2",
        deployment_name="separate-vllm",
        overrides=("aiperf.concurrency=2",),
        trial=1,
        attempt=1,
        tool="aiperf",
        tool_version="0.13.0",
        verdict=rounds[-1].verdict,
        metrics=rounds[-1].metrics,
        phases=rounds,
        durations_s={"ready": 2.5, "phases": 9.5, "stop": 0.4},
        node_seconds=24.8,
        gpu_seconds=24.8,
        ran={"versions": {"dynamo": "1.6.1", "aiperf": "0.13.0"}, "hosts": ["127.0.0.2", "127.0.0.3"]},
        started_at="2026-11-21T15:42:05Z",
        finished_at="2026-11-21T15:42:18Z",
        config={"topology": "separate", "backend": {"name": "vllm"}, "aiperf": {"concurrency": 2}},
    )
    return replace(base, **fields)


def stored(store: Store, plan: Plan, asked: Point, **fields: Any) -> Path:
    """The point's folder after one more attempt at it."""
    on = plan.deployment(str(asked.deployment))
    attempt = store.new_attempt(on, asked)
    made = result(
        point_digest=str(asked.digest),
        deployment_digest=on.digest,
        point_name=asked.name,
        deployment_name=on.name,
        overrides=asked.overrides,
        attempt=attempt.number,
        config=asked.config,
        **fields,
    )
    return store.write_result(on, asked, made).parent
