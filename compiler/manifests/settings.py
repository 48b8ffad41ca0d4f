"""What the plan does not hold, because no other system has it: the cluster's side of a configuration.

Taken from: the composed configuration of any point of a deployment. Given to: the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compiler.model import Engine, Kubernetes, System
from compiler.schema import section


@dataclass(frozen=True, slots=True)
class Settings:
    """The same for every deployment of a command."""

    system: System
    own: Kubernetes
    rendezvous: frozenset[str]
    """Flags by which the nodes of one worker find each other: the operator gives them."""


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Raises ValueError for the configuration of another kind of system."""
    system = section(System, config["system"])
    if system.kubernetes is None:
        raise ValueError(f"system '{system.name}' has no system.kubernetes")
    engine = section(Engine, config["backend"]["engines"][config["engine"]])
    words = [*engine.multi_node, *engine.multi_node_rest]
    return Settings(system, system.kubernetes, frozenset(word for word in words if word.startswith("--")))
