"""The table of rules. Each is a small function `(config, placement) -> problems`, checked on every run.

Taken from: a normalised configuration and its placement. Gives: every problem, in the order of the table.
Never does: changing anything. Rules live by subject in `rules/`; a new rule is a function there and a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from compiler.errors import Problem
from compiler.model import Config
from compiler.once import once
from compiler.placement import Placement
from compiler.rules import (
    accuracy,
    files,
    flags,
    kubernetes,
    lmcache,
    memory,
    model,
    nodes,
    placeholders,
    ports,
    settings,
    sizes,
    workload,
)
from compiler.served import stack_of

Check = Callable[[Config, Placement], Iterable[Problem]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that must hold: `code` names it in every problem it gives, `summary` says it in one line."""

    code: str
    summary: str
    check: Check
    of: Literal["point", "stack"] = "point"
    """`stack`: reads nothing of the workload, so it is asked once for all points of a deployment."""


RULES: tuple[Rule, ...] = (
    Rule(
        "engine",
        "the backend must offer the engine, and only the mocker serves a synthetic model",
        settings.engine,
        of="stack",
    ),
    Rule(
        "tp-pp-gpus",
        "TP x PP of a worker fits one node, unless the constraint is lifted",
        sizes.tp_pp_fits,
        of="stack",
    ),
    Rule(
        "worker-larger-than-node",
        "a worker larger than a node takes whole nodes",
        sizes.whole_nodes,
        of="stack",
    ),
    Rule(
        "gpus-per-node",
        "the workers on a node need no more GPUs than it has",
        sizes.gpus_per_node,
        of="stack",
    ),
    Rule(
        "prefill-tp",
        "prefill TP is at most decode TP, unless the constraint is lifted",
        sizes.prefill_tp,
        of="stack",
    ),
    Rule("heads", "attention heads and KV heads divide by TP", model.heads, of="stack"),
    Rule(
        "dp-attention", "TP divides by DP where SGLang's DP attention is on", model.dp_attention, of="stack"
    ),
    Rule("layers", "layers divide by PP", model.layers, of="stack"),
    Rule("experts", "experts divide by EP, and EP divides the worker's GPUs", model.experts, of="stack"),
    Rule("memory", "weights and KV cache fit the GPUs", memory.memory, of="stack"),
    Rule("context", "prompt and answer fit the context length", model.context),
    Rule(
        "node-list", "a node list has no name twice and as many names as its count", nodes.lists, of="stack"
    ),
    Rule("node-unknown", "nodes of a role belong to the allocation", nodes.belong, of="stack"),
    Rule(
        "topology-nodes",
        "equal node lists need topology=shared, disjoint ones separate",
        nodes.topology,
        of="stack",
    ),
    Rule(
        "allocation",
        "the allocation holds all nodes of the roles, and the system holds the allocation",
        nodes.enough,
        of="stack",
    ),
    Rule(
        "gpu-ids",
        "gpu_ids hold each GPU once, within the node, exactly as many as the workers need",
        sizes.gpu_ids,
        of="stack",
    ),
    Rule("gpu-overlap", "no GPU is given to two workers", sizes.gpu_overlap, of="stack"),
    Rule("port-overlap", "no port is taken twice on a host", ports.overlap, of="stack"),
    Rule("port-range", "every port is between 1 and 65535", ports.in_range, of="stack"),
    Rule(
        "port-privileged",
        "ports below 1024 need rights that engines rarely have",
        ports.privileged,
        of="stack",
    ),
    Rule(
        "image", "an image is a reference or an absolute file, best pinned by digest", files.image, of="stack"
    ),
    Rule("container", "something puts processes into their image", files.container, of="stack"),
    Rule("revision", "a model of the hub is pinned by its revision", files.revision, of="stack"),
    Rule("path", "paths are absolute", files.paths, of="stack"),
    Rule(
        "flag",
        "arguments are flags of the tool of this version, given once, that do not contradict the plan",
        flags.served,
        of="stack",
    ),
    Rule("jobs", "what is about jobs is asked of a system that has them", settings.jobs),
    Rule("flag", "the same of the load generator", flags.asked),
    Rule("environment", "environments do not contradict the plan", settings.environment, of="stack"),
    Rule("secret", "no secret is configured", settings.secrets, of="stack"),
    Rule("secret", "nor in the workload", settings.secrets_of_workload),
    Rule(
        "placeholder",
        "templated settings hold known placeholders only",
        placeholders.placeholders,
        of="stack",
    ),
    Rule("lmcache", "LMCache knows its settings, and they fit the deployment", lmcache.lmcache, of="stack"),
    Rule("command", "words of a command are what was meant", settings.commands, of="stack"),
    Rule("telemetry", "exporters of GPU metrics are started where they are asked", workload.telemetry),
    Rule("phases", "phases are named once, with names fit for a folder", workload.phases),
    Rule(
        "load", "a round of load ends, and has at least as many requests as it keeps in flight", workload.load
    ),
    Rule(
        "accuracy",
        "an accuracy run names a program, asks the deployment and writes where it is looked for",
        accuracy.accuracy,
        of="stack",
    ),
    Rule("load", "a real engine answers with the length that is asked for", workload.answers),
    Rule("gates", "gates and objective can be read", workload.gates),
    Rule(
        "kubernetes",
        "what a cluster is asked for is what its API and the operator take",
        kubernetes.kubernetes,
    ),
    Rule("no-effect", "settings have an effect", settings.without_effect, of="stack"),
    Rule("idle", "every node of the allocation has work", nodes.idle, of="stack"),
    Rule("idle-gpus", "GPUs without work on a used node are told", nodes.idle_gpus, of="stack"),
)
"""Every rule, in the order its problems are told."""


def check(config: Config, placement: Placement) -> list[Problem]:
    """Every problem of a point. What is idle is told only of a plan that could run."""
    of_stack = _of_stack(stack_of(config), placement)
    found = [
        problem
        for rule, known in zip(RULES, of_stack, strict=True)
        for problem in (known if rule.of == "stack" else rule.check(config, placement))
    ]
    if any(problem.level == "error" for problem in found):
        return [problem for problem in found if problem.code not in ("idle", "idle-gpus")]
    return found


@once
def _of_stack(stack: Config, placement: Placement) -> tuple[tuple[Problem, ...], ...]:
    """Problems of what is served, by rule; none of rules on the workload."""
    return tuple(tuple(rule.check(stack, placement)) if rule.of == "stack" else () for rule in RULES)
