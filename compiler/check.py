"""The table of rules. Each is a small function `(config, placement) -> problems`, checked on every run.

Taken from: a normalised configuration and its placement. Gives: every problem, in the order of the table.
Never does: changing anything. Rules live by subject in `rules/`; a new rule is a function there and a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from compiler.errors import Problem
from compiler.model import Config
from compiler.placement import Placement
from compiler.rules import (
    accuracy,
    files,
    flags,
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

Check = Callable[[Config, Placement], Iterable[Problem]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that must hold: `code` names it in every problem it gives, `summary` says it in one line."""

    code: str
    summary: str
    check: Check


RULES: tuple[Rule, ...] = (
    Rule(
        "engine",
        "the backend must offer the engine, and only the mocker serves a synthetic model",
        settings.engine,
    ),
    Rule(
        "tp-pp-gpus", "TP x PP of a worker fits one node, unless the constraint is lifted", sizes.tp_pp_fits
    ),
    Rule("worker-larger-than-node", "a worker larger than a node takes whole nodes", sizes.whole_nodes),
    Rule("gpus-per-node", "the workers on a node need no more GPUs than it has", sizes.gpus_per_node),
    Rule("prefill-tp", "prefill TP is at most decode TP, unless the constraint is lifted", sizes.prefill_tp),
    Rule("heads", "attention heads and KV heads divide by TP", model.heads),
    Rule("dp-attention", "TP divides by DP where SGLang's DP attention is on", model.dp_attention),
    Rule("layers", "layers divide by PP", model.layers),
    Rule("experts", "experts divide by EP, and EP divides the worker's GPUs", model.experts),
    Rule("memory", "weights and KV cache fit the GPUs", memory.memory),
    Rule("context", "prompt and answer fit the context length", model.context),
    Rule("node-list", "a node list has no name twice and as many names as its count", nodes.lists),
    Rule("node-unknown", "nodes of a role belong to the allocation", nodes.belong),
    Rule("topology-nodes", "equal node lists need topology=shared, disjoint ones separate", nodes.topology),
    Rule(
        "allocation",
        "the allocation holds all nodes of the roles, and the system holds the allocation",
        nodes.enough,
    ),
    Rule(
        "gpu-ids",
        "gpu_ids hold each GPU once, within the node, exactly as many as the workers need",
        sizes.gpu_ids,
    ),
    Rule("gpu-overlap", "no GPU is given to two workers", sizes.gpu_overlap),
    Rule("port-overlap", "no port is taken twice on a host", ports.overlap),
    Rule("port-range", "every port is between 1 and 65535", ports.in_range),
    Rule("port-privileged", "ports below 1024 need rights that engines rarely have", ports.privileged),
    Rule("image", "an image is a reference or an absolute file, best pinned by digest", files.image),
    Rule("revision", "a model of the hub is pinned by its revision", files.revision),
    Rule("path", "paths are absolute", files.paths),
    Rule(
        "flag",
        "arguments are flags of the tool of this version, given once, that do not contradict the plan",
        flags.known,
    ),
    Rule("jobs", "what is about jobs is asked of a system that has them", settings.jobs),
    Rule("environment", "environments do not contradict the plan", settings.environment),
    Rule("secret", "no secret is configured", settings.secrets),
    Rule("placeholder", "templated settings hold known placeholders only", placeholders.placeholders),
    Rule("lmcache", "LMCache knows its settings, and they fit the deployment", lmcache.lmcache),
    Rule("command", "words of a command are what was meant", settings.commands),
    Rule("telemetry", "exporters of GPU metrics are started where they are asked", workload.telemetry),
    Rule("phases", "phases are named once, with names fit for a folder", workload.phases),
    Rule(
        "load", "a round of load ends, and has at least as many requests as it keeps in flight", workload.load
    ),
    Rule(
        "accuracy",
        "an accuracy run names a program, asks the deployment and writes where it is looked for",
        accuracy.accuracy,
    ),
    Rule("load", "a real engine answers with the length that is asked for", workload.answers),
    Rule("gates", "gates and objective can be read", workload.gates),
    Rule("no-effect", "settings have an effect", settings.without_effect),
    Rule("idle", "every node of the allocation has work", nodes.idle),
    Rule("idle-gpus", "GPUs without work on a used node are told", nodes.idle_gpus),
)
"""Every rule, in the order its problems are told."""


def check(config: Config, placement: Placement) -> list[Problem]:
    """Every problem of a point. What is idle is told only of a plan that could run."""
    found = [problem for rule in RULES for problem in rule.check(config, placement)]
    if any(problem.level == "error" for problem in found):
        return [problem for problem in found if problem.code not in ("idle", "idle-gpus")]
    return found
