"""The scheduler: which node a pod fits on, by GPUs, selectors, required affinity and taints; or why it fits on none."""

from collections import Counter
from decimal import Decimal
from typing import Any

from . import kinds
from .admission import quantity
from .conditions import condition, event, with_conditions
from .objects import Objects
from .store import Object

GPU = "nvidia.com/gpu"


def schedule(objects: Objects) -> None:
    for pod in objects.store.all(kinds.POD):
        if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp") or _is_over(pod):
            continue
        node, why = _choice(objects, pod)
        if node is None:
            _refuse(objects, pod, why)
            continue
        with objects.store.lock:
            live = objects.store.get(kinds.POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
            if live is not None and live["metadata"]["uid"] == pod["metadata"]["uid"]:
                told = with_conditions(live, condition("PodScheduled", True))
                status = {**live.get("status", {}), "conditions": told, "hostIP": "127.0.0.1"}
                spec = {**live["spec"], "nodeName": node["metadata"]["name"]}
                objects.store.put(kinds.POD, {**live, "spec": spec, "status": status})


def _refuse(objects: Objects, pod: Object, why: Counter[str]) -> None:
    total = len(objects.store.all(kinds.NODE))
    said = (
        f"0/{total} nodes are available: "
        + ", ".join(f"{n} {reason}" for reason, n in sorted(why.items()))
        + "."
    )
    told = with_conditions(pod, condition("PodScheduled", False, "Unschedulable", said))
    objects.set_status(kinds.POD, pod, conditions=told)
    event(objects, kinds.POD, pod, "FailedScheduling", said)


def _choice(objects: Objects, pod: Object) -> tuple[Object | None, Counter[str]]:
    why: Counter[str] = Counter()
    for node in objects.store.all(kinds.NODE):
        reason = _refusal(objects, pod, node)
        if reason is None:
            return node, why
        why[reason] += 1
    return None, why


def _refusal(objects: Objects, pod: Object, node: Object) -> str | None:
    labels, spec = node["metadata"].get("labels", {}), pod["spec"]
    affinity = spec.get("affinity") or {}
    if node.get("spec", {}).get("unschedulable"):
        return "node(s) were unschedulable"
    for taint in node.get("spec", {}).get("taints", []):
        if taint["effect"] in ("NoSchedule", "NoExecute") and not _tolerates(
            spec.get("tolerations") or [], taint
        ):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if not (spec.get("nodeSelector") or {}).items() <= labels.items() or not _node_affinity(
        affinity, labels, node
    ):
        return "node(s) didn't match Pod's node affinity/selector"
    others = [
        one for one in objects.store.all(kinds.POD) if one["spec"].get("nodeName") and not _is_over(one)
    ]
    if not _pod_affinity(objects, affinity, pod, node, others):
        return "node(s) didn't match pod affinity rules"
    if _met_anti_affinity(objects, affinity, pod, node, others):
        return "node(s) didn't match pod anti-affinity rules"
    taken = sum(gpus(one) for one in others if one["spec"]["nodeName"] == node["metadata"]["name"])
    if gpus(pod) and gpus(pod) + taken > quantity(node["status"]["allocatable"].get(GPU, 0)):
        return f"Insufficient {GPU}"
    return None


def gpus(pod: Object) -> Decimal:
    limits = [(one.get("resources") or {}).get("limits") or {} for one in pod["spec"]["containers"]]
    return sum((quantity(one.get(GPU, 0)) for one in limits), Decimal(0))


def _is_over(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _tolerates(tolerations: list[dict[str, Any]], taint: dict[str, str]) -> bool:
    return any(
        one.get("key") in (None, taint["key"])
        and one.get("effect") in (None, "", taint["effect"])
        and (one.get("operator") == "Exists" or one.get("value", "") == taint.get("value", ""))
        for one in tolerations
    )


def _matches(expressions: list[dict[str, Any]], labels: dict[str, str]) -> bool:
    def one(rule: dict[str, Any]) -> bool:
        value, among = labels.get(rule["key"]), rule.get("values") or []
        tests = {"In": value in among, "NotIn": value not in among, "Exists": value is not None}
        return bool({**tests, "DoesNotExist": value is None}[rule["operator"]])

    return all(one(rule) for rule in expressions)


def _node_affinity(affinity: dict[str, Any], labels: dict[str, str], node: Object) -> bool:
    required = (affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    named = {"metadata.name": node["metadata"]["name"]}
    return not required or any(
        _matches(term.get("matchExpressions") or [], labels)
        and _matches(term.get("matchFields") or [], named)
        for term in required["nodeSelectorTerms"]
    )


def _selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    equal = (selector.get("matchLabels") or {}).items() <= labels.items()
    return equal and _matches(selector.get("matchExpressions") or [], labels)


def _near(objects: Objects, term: dict[str, Any], pod: Object, node: Object, others: list[Object]) -> bool:
    """Whether a pod that the term means is in the same place as the node."""
    key, namespace = term["topologyKey"], pod["metadata"]["namespace"]
    places = {
        one["metadata"]["name"]: one["metadata"].get("labels", {}).get(key)
        for one in objects.store.all(kinds.NODE)
    }
    here = places[node["metadata"]["name"]]
    return here is not None and any(
        places.get(one["spec"]["nodeName"]) == here
        and one["metadata"]["namespace"] in (term.get("namespaces") or [namespace])
        and _selected(term.get("labelSelector") or {}, one["metadata"].get("labels") or {})
        for one in others
    )


def _terms(affinity: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return list((affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or [])


def _pod_affinity(
    objects: Objects, affinity: dict[str, Any], pod: Object, node: Object, others: list[Object]
) -> bool:
    """The first pod of a group that wants to be together may go anywhere."""
    for term in _terms(affinity, "podAffinity"):
        alone = not any(
            _selected(term.get("labelSelector") or {}, one["metadata"].get("labels") or {}) for one in others
        )
        itself = _selected(term.get("labelSelector") or {}, pod["metadata"].get("labels") or {})
        if not (alone and itself) and not _near(objects, term, pod, node, others):
            return False
    return True


def _met_anti_affinity(
    objects: Objects, affinity: dict[str, Any], pod: Object, node: Object, others: list[Object]
) -> bool:
    if any(_near(objects, term, pod, node, others) for term in _terms(affinity, "podAntiAffinity")):
        return True
    # Those who are there already may not want this one.
    here = [one for one in others if one["spec"]["nodeName"] == node["metadata"]["name"]]
    return any(
        _selected(term.get("labelSelector") or {}, pod["metadata"].get("labels") or {})
        for one in here
        for term in _terms(one["spec"].get("affinity") or {}, "podAntiAffinity")
    )
