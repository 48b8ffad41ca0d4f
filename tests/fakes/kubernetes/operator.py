"""Dynamo's operator: pods and the frontend's service of every DynamoGraphDeployment, and its status.

Pods belong to the graph directly, where the real operator has Deployments, PodCliques or LeaderWorkerSets between.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from . import kinds
from .conditions import condition, event, holds, owned_by, owner, with_conditions
from .objects import Objects
from .refusals import Refusal
from .store import Object
from .workloads import make_pod

GRAPH = "nvidia.com/dynamo-graph-deployment-name"
TYPE = "nvidia.com/dynamo-component-type"
COMPONENT = "nvidia.com/dynamo-component"
NODE_RANK = "nvidia.com/dynamo-node-rank"  # ours: the pods of one worker that spans nodes


@dataclass
class Operator:
    objects: Objects
    failing: dict[str, tuple[str, float]] = field(default_factory=dict)  # graph -> (words, until monotonic_s)
    asleep: bool = False  # reconciles nothing: an operator that is not there

    def step(self) -> None:
        for graph in [] if self.asleep else self.objects.store.all(kinds.DGD):
            if not graph["metadata"].get("deletionTimestamp"):
                self._reconcile(graph)

    def _reconcile(self, graph: Object) -> None:
        words, until = self.failing.get(graph["metadata"]["name"]) or self.failing.get("*") or ("", 0.0)
        if time.monotonic() < until:
            self._fail(graph, words)
            return
        try:
            self._check(graph)
            for component in components(graph):
                self._make(graph, component)
            self._serve(graph)
        except Refusal as refusal:
            self._fail(graph, refusal.message)
            return
        self._tell(graph)

    def _check(self, graph: Object) -> None:
        """What only the operator enforces."""
        found = components(graph)
        if not found:
            raise Refusal(400, "at least one component is required")
        for one in found:
            names = [container["name"] for container in one["template"].get("spec", {}).get("containers", [])]
            if "main" not in names:
                raise Refusal(400, f"component {one['name']}: podTemplate has no container named main")

    def _fail(self, graph: Object, words: str) -> None:
        """`failed`, for any error; the generation that was seen stays as it was."""
        told = with_conditions(graph, condition("Ready", False, "failed_to_reconcile_the_resources", words))
        self.objects.set_status(kinds.DGD, graph, state="failed", conditions=told)
        event(self.objects, kinds.DGD, graph, "ReconcileError", words)

    def _pods(self, graph: Object, name: str | None = None) -> list[Object]:
        pods = self.objects.store.all(kinds.POD, graph["metadata"]["namespace"])
        own = [pod for pod in pods if owned_by(pod, graph["metadata"]["uid"])]
        return [pod for pod in own if name is None or pod["metadata"]["labels"][COMPONENT] == name]

    def _make(self, graph: Object, component: dict[str, Any]) -> None:
        """The pods that are missing: one for each node of each replica; those that are over are made again."""
        there = {}
        for pod in self._pods(graph, component["name"]):
            if pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
                self.objects.delete(
                    kinds.POD, pod["metadata"]["namespace"], pod["metadata"]["name"], "Background"
                )
            else:
                there[pod["metadata"]["name"]] = pod
        stem = f"{graph['metadata']['name']}-{component['name'].lower()}"
        wanted = [
            (f"{stem}-{replica}" + (f"-{rank}" if component["nodes"] > 1 else ""), rank)
            for replica in range(component["replicas"])
            for rank in range(component["nodes"])
        ]
        for name, rank in wanted:
            if name not in there and not self.objects.store.get(
                kinds.POD, graph["metadata"]["namespace"], name
            ):
                labels = {
                    GRAPH: graph["metadata"]["name"],
                    COMPONENT: component["name"],
                    NODE_RANK: str(rank),
                }
                labels |= {TYPE: component["type"]} if component["type"] else {}
                try:
                    make_pod(self.objects, kinds.DGD, graph, component["template"], name, labels)
                except Refusal as refusal:
                    # Said of what Grove makes pods from; the graph itself only waits.
                    meta = {"name": f"{stem}-0", "namespace": graph["metadata"]["namespace"], "uid": stem}
                    clique = {"apiVersion": "grove.io/v1alpha1", "kind": "PodClique", "metadata": meta}
                    words = f"Error creating pod {name}: {refusal.message}"
                    event(self.objects, kinds.DGD, clique, "PodCreateFailed", words)
        for name in set(there) - {name for name, _ in wanted}:
            self.objects.delete(kinds.POD, graph["metadata"]["namespace"], name, "Background")

    def _serve(self, graph: Object) -> None:
        name, namespace = f"{graph['metadata']['name']}-frontend", graph["metadata"]["namespace"]
        fronts = [one for one in components(graph) if one["type"] == "frontend"]
        if fronts and not self.objects.store.get(kinds.SERVICE, namespace, name):
            selector = {GRAPH: graph["metadata"]["name"], TYPE: "frontend"}
            port = {"name": "http", "port": 8000, "targetPort": 8000}
            meta = {"name": name, "namespace": namespace, "ownerReferences": [owner(kinds.DGD, graph)]}
            body = {"apiVersion": "v1", "kind": "Service", "metadata": {**meta, "labels": selector}}
            self.objects.create(
                kinds.SERVICE, namespace, {**body, "spec": {"selector": selector, "ports": [port]}}
            )

    def _tell(self, graph: Object) -> None:
        counts = {}
        for one in components(graph):
            pods = self._pods(graph, one["name"])
            whole = [pod for pod in pods if holds(pod, "Ready")]
            ready = len(whole) // one["nodes"]
            own = {"componentKind": "PodClique" if one["nodes"] == 1 else "PodCliqueScalingGroup"}
            numbers = {
                "replicas": one["replicas"],
                "updatedReplicas": one["replicas"],
                "readyReplicas": ready,
            }
            counts[one["name"]] = {
                **own,
                "componentNames": [f"{graph['metadata']['name']}-{one['name']}"],
                **numbers,
            }
        short = [name for name, one in counts.items() if one["readyReplicas"] < one["replicas"]]
        reason, state = (
            ("some_resources_are_not_ready", "pending")
            if short
            else ("all_resources_are_ready", "successful")
        )
        said = f"resources not ready: {', '.join(sorted(short))}" if short else "all resources are ready"
        told = with_conditions(graph, condition("Ready", not short, reason, said))
        generation = graph["metadata"]["generation"]
        part = "components" if "components" in graph["spec"] else "services"
        own = {"observedGeneration": generation, "state": state, "conditions": told, part: counts}
        self.objects.set_status(kinds.DGD, graph, **own)


def components(graph: Object) -> list[dict[str, Any]]:
    """Name, type, replicas, nodes and pod template of each component, of either version."""
    spec = graph["spec"]
    if "components" in spec:
        return [
            {
                "name": one["name"],
                "type": one.get("type", "worker"),
                "replicas": one.get("replicas", 1),
                "nodes": one["multinode"].get("nodeCount", 2) if "multinode" in one else 1,
                "template": one.get("podTemplate") or {},
            }
            for one in spec["components"]
        ]
    return [
        {
            "name": name,
            "type": one.get("subComponentType") or one.get("componentType"),
            "replicas": one.get("replicas", 1),
            "nodes": (one.get("multinode") or {}).get("nodeCount", 1),
            "template": _old_template(one),
        }
        for name, one in (spec.get("services") or {}).items()
    ]


def _old_template(service: dict[str, Any]) -> dict[str, Any]:
    """The pod of a v1alpha1 service: its main container and its resources, whose GPUs are called `gpu` there."""
    extra = dict(service.get("extraPodSpec") or {})
    main = {"name": "main", **(extra.pop("mainContainer", None) or {})}
    main["env"] = [*(service.get("envs") or []), *(main.get("env") or [])]
    limits = dict((service.get("resources") or {}).get("limits") or {})
    if "gpu" in limits:
        limits["nvidia.com/gpu"] = limits.pop("gpu")
    limits.pop("custom", None)
    if limits:
        main["resources"] = {"limits": limits}
    others = extra.pop("containers", None) or []
    return {
        "metadata": service.get("extraPodMetadata") or {},
        "spec": {**extra, "containers": [main, *others]},
    }
