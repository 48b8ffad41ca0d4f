"""Conditions, owner references and events, as controllers write them."""

import uuid
from typing import Any

from . import kinds
from .kinds import Kind
from .objects import Objects
from .store import Object, now


def condition(kind: str, holds: bool, reason: str = "", message: str = "") -> dict[str, str]:
    said = {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": now()}
    return said | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})


def with_conditions(obj: Object, *new: dict[str, str]) -> list[dict[str, str]]:
    """The conditions of an object with these in place of those of the same type; times move only with the status."""
    held = {one["type"]: one for one in obj.get("status", {}).get("conditions", [])}
    for one in new:
        before = held.get(one["type"])
        if before and before["status"] == one["status"]:
            one = {**one, "lastTransitionTime": before["lastTransitionTime"]}
        held[one["type"]] = one
    return list(held.values())


def holds(obj: Object, kind: str) -> bool:
    conditions = obj.get("status", {}).get("conditions", [])
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)


def owner(kind: Kind, obj: Object) -> dict[str, Any]:
    return {
        "apiVersion": obj["apiVersion"],
        "kind": kind.name,
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned_by(obj: Object, uid: str) -> bool:
    return any(one["uid"] == uid for one in obj["metadata"].get("ownerReferences", []))


def event(objects: Objects, kind: Kind, obj: Object, reason: str, message: str, warning: bool = True) -> None:
    """Told once: the same words about the same object again only count up."""
    meta = obj["metadata"]
    namespace = meta.get("namespace", "default")
    with objects.store.lock:
        for one in objects.store.all(kinds.EVENT, namespace):
            if (one["involvedObject"]["uid"], one["reason"], one["message"]) == (
                meta["uid"],
                reason,
                message,
            ):
                return
        if not objects.store.get(kinds.NAMESPACE, None, namespace):
            return
        about = {"apiVersion": obj["apiVersion"], "kind": kind.name, "name": meta["name"], "uid": meta["uid"]}
        words = {"reason": reason, "message": message, "type": "Warning" if warning else "Normal", "count": 1}
        times = {"firstTimestamp": now(), "lastTimestamp": now(), "source": {"component": "fake"}}
        own = {"name": f"{meta['name']}.{uuid.uuid4().hex[:16]}", "namespace": namespace}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": own,
            "involvedObject": {**about, "namespace": namespace},
        }
        objects.store.put(kinds.EVENT, {**body, **words, **times})
