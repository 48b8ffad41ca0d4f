"""Derived values filled in. Idempotent: `normalise(normalise(config)) == normalise(config)`.

Taken from: `schema`. Given to: `place`, `check`, `lower`.
Never does: refusing anything. What does not fit is left as it is, for `check` to tell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from compiler.errors import json_value
from compiler.model import OWN_SEED, ROLES_OF_TOPOLOGY, Config, Model, Role
from compiler.once import once


def normalise(config: Config) -> Config:
    """The configuration with the allocation, the roles' node counts, the tokenizer and random seeds filled in."""
    allocation = config.num_nodes or (len(config.nodes) if config.nodes else None)
    shares_all = config.topology != "separate"
    filled = {
        name: _role(role, allocation if shares_all else None)
        for name, role in {
            "prefill": config.prefill,
            "decode": config.decode,
            "aggregated": config.aggregated,
        }.items()
    }
    used = [filled[name].num_nodes or 1 for name in ROLES_OF_TOPOLOGY[config.topology]]
    changed: dict[str, Any] = {**filled, "model": _with_tokenizer(config.model)}
    return _seeded(replace(config, num_nodes=allocation or _derived(config.topology, used), **changed))


@once
def _role(role: Role, allocation: int | None) -> Role:
    number = role.num_nodes or (len(role.nodes) if role.nodes else None) or allocation or 1
    return replace(role, num_nodes=number)


@once
def _with_tokenizer(model: Model) -> Model:
    return replace(model, tokenizer=model.tokenizer or model.source)


def _derived(topology: str, numbers: Sequence[int]) -> int:
    """Nodes needed by the roles: their sum when they are separate, else the larger one."""
    return sum(numbers) if topology == "separate" else max(numbers)


def _seeded(config: Config) -> Config:
    """With a seed of its own for each round that wants one, so that no round asks what an earlier one has cached.

    It comes from what is asked, and not from where: the same load asks the same of every deployment.
    """
    rounds = [config.phase_arguments(phase) for phase in config.phases] or [config.arguments]
    if all(arguments.get("random_seed") != OWN_SEED for arguments in rounds):
        return config
    seeds = [_seed(config, index, arguments) for index, arguments in enumerate(rounds)]
    phases = [
        {**phase, "random_seed": seed}
        if config.phase_arguments(phase).get("random_seed") == OWN_SEED
        else phase
        for phase, seed in zip(config.phases, seeds, strict=False)
    ]
    base = config.arguments
    if base.get("random_seed") == OWN_SEED:
        base = {**base, "random_seed": seeds[0]}
    changed: dict[str, Any] = {config.bench.name: base, "phases": phases}
    return replace(config, **changed)


def _seed(config: Config, index: int, arguments: Mapping[str, Any]) -> int:
    """31 bits of a hash of one round: its place, its arguments and the trial."""
    asked = [config.bench.name, config.trial, index, {**arguments, "random_seed": None}]
    text = json.dumps(json_value(asked), sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4]) >> 1
