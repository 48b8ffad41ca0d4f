"""Derived values filled in. Idempotent: `normalise(normalise(config)) == normalise(config)`.

Taken from: `schema`. Given to: `place`, `check`, `lower`.
Never does: refusing anything. What does not fit is left as it is, for `check` to tell.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.model import Config, Role


def normalise(config: Config) -> Config:
    """The configuration with the allocation, the roles' node counts and the tokenizer filled in."""
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
    config = replace(
        config,
        prefill=filled["prefill"],
        decode=filled["decode"],
        aggregated=filled["aggregated"],
        model=replace(config.model, tokenizer=config.model.tokenizer or config.model.source),
    )
    return replace(config, num_nodes=allocation or _derived(config))


def _role(role: Role, allocation: int | None) -> Role:
    number = role.num_nodes or (len(role.nodes) if role.nodes else None) or allocation or 1
    return replace(role, num_nodes=number)


def _derived(config: Config) -> int:
    """Nodes needed by the roles: their sum when they are separate, else the larger one."""
    numbers = [role.num_nodes or 1 for role in config.roles.values()]
    return sum(numbers) if config.topology == "separate" else max(numbers)
