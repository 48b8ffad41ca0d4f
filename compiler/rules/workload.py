"""Rules on the workload: phases, load, gates and the objective."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from compiler import metrics
from compiler.errors import Problem, error, sweep_hint, warning
from compiler.model import AUTO, Config
from compiler.placement import Placement

_PHASE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_GATE = re.compile(
    r"\s*(?P<metric>[a-z][a-z0-9_]*(?:\.[a-z0-9]+)?)\s*(?P<sign><=|>=|<|>)\s*(?P<value>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(?P<percent>%?)\s*\Z"
)

_KEEPS_GOING = re.compile(
    r"ignore_eos(?!['\"]?\s*[:=]\s*['\"]?(false|0))|min_(new_)?tokens|output_tokens_mean.deterministic|force.min.tokens"
)
"""What the inputs of a request may say to keep an answer going."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A threshold that fails the run. `relative`: `limit` is a percentage of change from the baseline."""

    text: str
    metric: str
    sign: str
    limit: float
    relative: bool


def read_gate(text: str) -> Gate | None:
    """A gate such as `time_to_first_token_ms.p99 <= 200`, or null when it cannot be read."""
    match = _GATE.match(text)
    if match is None:
        return None
    return Gate(text, match["metric"], match["sign"], float(match["value"]), bool(match["percent"]))


def phases(config: Config, placement: Placement) -> Iterable[Problem]:
    """Names become folders."""
    seen: set[str] = set()
    for index, phase in enumerate(config.phases):
        key, name = f"phases.{index}.name", phase.get("name")
        if not isinstance(name, str) or not _PHASE_NAME.match(name):
            reason = "a phase needs a name of letters, digits, '_', '.', '-'"
            yield error("phases", key, name, reason, f"e.g. name: round_{index + 1}")
        elif name in seen:
            yield error("phases", key, name, "two phases have this name", "name each phase once")
        seen.add(str(name))


def telemetry(config: Config, placement: Placement) -> Iterable[Problem]:
    """Exporters and who asks them belong together."""
    runs = config.system.dcgm.command is not None
    places: dict[str, Mapping[str, Any]] = {config.bench.name: config.arguments}
    places |= {f"phases.{index}": phase for index, phase in enumerate(config.phases)}
    found = {f"{place}.gpu_telemetry": given.get("gpu_telemetry") for place, given in places.items()}
    for key in [key for key, value in found.items() if value == AUTO and not runs]:
        reason = "system.dcgm.command is null, so no exporter is started"
        yield error("telemetry", key, AUTO, reason, "name the command that starts one, or give addresses")
    if runs and not any(found.values()):
        reason = "exporters are started on every node, and the load generator does not ask them"
        hint = "set aiperf.gpu_telemetry=auto"
        yield warning("telemetry", "system.dcgm.command", config.system.dcgm.command, reason, hint)


def load(config: Config, placement: Placement) -> Iterable[Problem]:
    """Each round, as base plus phase."""
    tool = config.bench.name
    for index, phase in enumerate(config.phases or [{}]):
        arguments = config.phase_arguments(phase)
        where = {key: f"phases.{index}.{key}" if key in phase else f"{tool}.{key}" for key in arguments}
        yield from _numbers(arguments, where)
        requests, concurrency = arguments.get("request_count"), arguments.get("concurrency")
        if requests is None and arguments.get("benchmark_duration") is None:
            reason = "neither a request count nor a duration ends the load"
            key = where.get("request_count", f"{tool}.request_count")
            yield error("load", key, requests, reason, f"set {tool}.request_count=...")
        if _is_count(requests) and _is_count(concurrency) and int(requests or 0) < int(concurrency or 0):
            reason = f"fewer requests than the {concurrency} kept in flight"
            # A rate paces the load by itself; the concurrency is only its ceiling then.
            tell = error if arguments.get("request_rate") is None else warning
            yield tell("load", where["request_count"], requests, reason, f"at least {concurrency}")


def answers(config: Config, placement: Placement) -> Iterable[Problem]:
    """A real model ends its answer where it likes, unless it is told to go on to the length that is asked for."""
    if config.engine != "real" or config.validity.output_length_tolerance is None:
        return
    tool = config.bench.name
    for index, phase in enumerate(config.phases or [{}]):
        arguments = config.phase_arguments(phase)
        said = [arguments.get("extra_inputs"), *config.bench.extra_args]
        fixed = arguments.get("output_tokens_mean") is not None and not any(map(arguments.get, _OWN_LENGTHS))
        if not fixed or any(map(arguments.get, _GOES_ON)) or any(map(_goes_on, said)):
            continue
        place = f"phases.{index}" if "extra_inputs" in phase else tool
        reason = "nothing tells the engine to go on after the end of an answer, so answers are shorter than asked for"
        hint = _SET_GOES_ON[tool]
        yield warning("load", f"{place}.extra_inputs", arguments.get("extra_inputs"), reason, hint)
        if place == tool:
            return  # the base is the same for every phase


_OWN_LENGTHS = ("input_file", "public_dataset")
"""Arguments that bring answers of their own lengths."""
_GOES_ON = ("force_min_tokens", "output_tokens_mean_deterministic")
"""Arguments of the tools that ask for exactly the length."""
_SET_GOES_ON = {
    "aiperf": "set aiperf.extra_inputs={ignore_eos: true}",
    "genai_perf": "set genai_perf.extra_inputs='ignore_eos:true'",
}


def _goes_on(inputs: object) -> bool:
    """True for inputs, in any of the forms of a tool, that keep an answer going."""
    text = str(inputs).lower()
    return bool(_KEEPS_GOING.search(text))


def times(config: Config, limit_min: float | None) -> Iterable[Problem]:
    """What may be waited for, against the minutes after which the launcher's job ends; null: it never does."""
    if limit_min is None:
        return
    waits = {
        "launch.ready_timeout_s": (config.launch.ready_timeout_s, "the start of the deployment"),
        "bench.timeout_s": (config.bench.timeout_s, "one phase"),
    }
    for key, (seconds, what) in waits.items():
        if seconds > limit_min * 60:
            reason = f"{what} may take {seconds:g} s, the whole job ends after {limit_min:g} min ({limit_min * 60:g} s)"
            hint = f"lower it, or set hydra.launcher.timeout_min={-(-seconds // 60):g} or more"
            yield warning("time-limit", key, seconds, reason, hint)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_count(value: object) -> bool:
    return _is_whole(value) and value != 0


def _is_size(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_above_zero(value: object) -> bool:
    return _is_size(value) and value != 0


_KINDS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    (
        "whole number of at least 1",
        _is_count,
        "request_count concurrency output_tokens_mean synthetic_input_tokens_mean num_dataset_entries "
        "workers_max record_processors",
    ),
    ("whole number of at least 0", _is_whole, "warmup_request_count random_seed"),
    ("number above 0", _is_above_zero, "request_rate benchmark_duration request_timeout_seconds"),
    ("number of at least 0", _is_size, "output_tokens_stddev synthetic_input_tokens_stddev"),
)
NUMBERS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    key: (rule, holds) for rule, holds, keys in _KINDS for key in keys.split()
}
"""Argument of a load generator -> what it must be, and the test of it."""


def _numbers(arguments: dict[str, object], where: dict[str, str]) -> Iterable[Problem]:
    for key, (rule, holds) in NUMBERS.items():
        value = arguments.get(key)
        if value is not None and not holds(value):
            yield error("load", where[key], value, f"should be a {rule}", sweep_hint(where[key], value))


def gates(config: Config, placement: Placement) -> Iterable[Problem]:
    """Gates are text about metrics that a result can hold; a percentage needs something to compare with."""
    asked: dict[str, tuple[str, str]] = {}
    for index, text in enumerate(config.gates):
        gate, key = read_gate(text), f"gates.{index}"
        if gate is None:
            hint = "write e.g. 'time_to_first_token_ms.p99 <= 200'"
            yield error("gates", key, text, "cannot be read as metric, sign and number", hint)
            continue
        asked[key] = (text, gate.metric)
        if gate.relative and config.baseline is None:
            reason = "a percentage is relative to a baseline, and there is none"
            yield error("gates", key, text, reason, "set baseline=...")
    if config.objective.metric is not None:
        asked["objective.metric"] = (config.objective.metric, config.objective.metric)
    yield from _measured(config, asked)
    if config.objective.metric is not None and config.objective.direction is None:
        hint = "set objective.direction=minimize or maximize"
        yield error("gates", "objective.direction", None, "an objective needs a direction", hint)
    if config.objective.direction is not None and config.objective.metric is None:
        reason = "has no effect without objective.metric"
        yield warning("gates", "objective.direction", config.objective.direction, reason)


def _measured(config: Config, asked: Mapping[str, tuple[str, str]]) -> Iterable[Problem]:
    """Metrics asked for (key -> value, metric) against those of the load generator."""
    bench = config.bench
    known = metrics.metrics(bench.name, bench.version)
    if known is None:
        if asked:
            reason = f"there is no list of the metrics of {bench.name} {bench.version}"
            hint = "misspelt metrics of gates and objective will only be found in the results"
            yield warning("no-catalogue", "bench.version", bench.version, reason, hint)
        return
    if config.accuracy is not None:
        known = {**known, "accuracy": (metrics.ALONE,)}
    for key, (value, metric) in asked.items():
        if metric == "accuracy" and config.accuracy is None:
            reason = "there is no accuracy run, so no result has this metric"
            yield error("unknown-metric", key, value, reason, "choose accuracy=mmlu or accuracy=custom")
        elif said := metrics.wrong(metric, known):
            reason, hint = said
            yield error("unknown-metric", key, value, f"{reason} of {bench.name} {bench.version}", hint)
