"""Where pods may run: the topology of a plan as affinities. A scheduler chooses the nodes, so it is told the rules.

`separate`: no prefill and decode on one node. `shared`: a prefill beside a decode. Where the plan has one worker of a
role on each of its nodes, no two pods of it share one. Nodes that the user names are required.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compiler.manifests.components import Component
from compiler.manifests.names import ROLE, labels_of
from compiler.plan import Deployment

HOST = "kubernetes.io/hostname"


def affinity(deployment: Deployment, component: Component) -> dict[str, Any]:
    """The `affinity` of the component's pods; empty where nothing is asked for."""
    near, apart = _near(deployment, component), _apart(deployment, component)
    found: dict[str, Any] = {}
    if names := _named(deployment, component):
        found["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": HOST, "operator": "In", "values": names}]}
                ]
            }
        }
    if near:
        found["podAffinity"] = near
    if apart:
        found["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": apart}
    return found


def beside(deployment: Deployment, role: str) -> dict[str, Any]:
    """A `podAffinity` that prefers the node of pods of that role."""
    term = {"weight": 100, "podAffinityTerm": _term(deployment, role)}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [term]}


def _term(deployment: Deployment, role: str) -> dict[str, Any]:
    return {"labelSelector": {"matchLabels": {**labels_of(deployment), ROLE: role}}, "topologyKey": HOST}


def _near(deployment: Deployment, component: Component) -> Mapping[str, Any]:
    if component.role == "frontend":
        here = [
            p.role for p in deployment.processes if p.worker is not None and p.node == component.main.node
        ]
        return beside(deployment, here[0]) if here else {}
    if deployment.topology == "shared" and component.role == "prefill":
        return {"requiredDuringSchedulingIgnoredDuringExecution": [_term(deployment, "decode")]}
    return {}


def _apart(deployment: Deployment, component: Component) -> list[Any]:
    if component.role == "frontend":
        return []
    roles = {p.role for p in deployment.processes if p.worker is not None}
    others = sorted(roles - {component.role}) if deployment.topology == "separate" else []
    itself = [component.role] if component.alone and len(component.nodes) > 1 else []
    return [_term(deployment, role) for role in [*others, *itself]]


def _named(deployment: Deployment, component: Component) -> list[str]:
    """Names of the component's nodes, if the user named them all."""
    names = [deployment.nodes[node].name for node in sorted(set(component.nodes))]
    return [name for name in names if name is not None] if all(names) else []
