"""What depends on what is gone, goes: owner references, propagation, namespaces, claims in use."""

from . import kinds
from .defaults import PROTECTION
from .kinds import Kind
from .objects import FOREGROUND, ORPHAN, Objects
from .store import Object


def collect(objects: Objects) -> None:
    """One round over everything; another follows as long as a round changes something."""
    everything = objects.store.everything()
    alive = {obj["metadata"]["uid"]: obj for _, obj in everything}
    dependents: dict[str, list[tuple[Kind, Object]]] = {}
    for kind, obj in everything:
        for owner in obj["metadata"].get("ownerReferences", []):
            dependents.setdefault(owner["uid"], []).append((kind, obj))
    for kind, obj in everything:
        _settle(objects, kind, obj, dependents.get(obj["metadata"]["uid"], []))
        _collect_orphan(objects, kind, obj, alive)
    for namespace in objects.store.all(kinds.NAMESPACE):
        _empty(objects, namespace)
    _release_claims(objects)


def _settle(objects: Objects, kind: Kind, obj: Object, dependents: list[tuple[Kind, Object]]) -> None:
    """Goes on with what waits for its dependents, or is to leave them behind."""
    finalizers = obj["metadata"].get("finalizers", [])
    if not obj["metadata"].get("deletionTimestamp"):
        return
    uid = obj["metadata"]["uid"]
    if ORPHAN in finalizers:
        for their_kind, one in dependents:
            left = [owner for owner in one["metadata"]["ownerReferences"] if owner["uid"] != uid]
            objects.store.put(their_kind, {**one, "metadata": {**one["metadata"], "ownerReferences": left}})
        objects.finalize(kind, obj, ORPHAN)
    elif FOREGROUND in finalizers:
        for their_kind, one in dependents:
            if not one["metadata"].get("deletionTimestamp"):
                _delete(objects, their_kind, one, "Foreground")
        if not any(_blocks(one, uid) for _, one in dependents):
            objects.finalize(kind, obj, FOREGROUND)


def _blocks(obj: Object, uid: str) -> bool:
    return any(
        one["uid"] == uid and one.get("blockOwnerDeletion") for one in obj["metadata"]["ownerReferences"]
    )


def _collect_orphan(objects: Objects, kind: Kind, obj: Object, alive: dict[str, Object]) -> None:
    owners = {one["uid"] for one in obj["metadata"].get("ownerReferences", [])}
    if not owners or obj["metadata"].get("deletionTimestamp") or owners & set(alive):
        return
    # An owner that came after the list was made is no reason to delete anything.
    if not owners & _uids(objects):
        _delete(objects, kind, obj, "Background")


def _uids(objects: Objects) -> set[str]:
    return {obj["metadata"]["uid"] for _, obj in objects.store.everything()}


def _delete(objects: Objects, kind: Kind, obj: Object, policy: str) -> None:
    meta = obj["metadata"]
    with objects.store.lock:
        if objects.store.get(kind, meta.get("namespace"), meta["name"]):
            objects.delete(kind, meta.get("namespace"), meta["name"], policy)


def _empty(objects: Objects, namespace: Object) -> None:
    if not namespace["metadata"].get("deletionTimestamp"):
        return
    name, left = namespace["metadata"]["name"], 0
    for kind, obj in objects.store.everything():
        if kind.namespaced and obj["metadata"].get("namespace") == name:
            left += 1
            if not obj["metadata"].get("deletionTimestamp"):
                _delete(objects, kind, obj, "Background")
    if not left:
        objects.store.remove(kinds.NAMESPACE, namespace)


def _release_claims(objects: Objects) -> None:
    pods = objects.store.all(kinds.POD)
    for claim in objects.store.all(kinds.CLAIM):
        meta = claim["metadata"]
        using = (
            pod
            for pod in pods
            if pod["metadata"]["namespace"] == meta["namespace"] and _uses(pod, meta["name"])
        )
        if meta.get("deletionTimestamp") and PROTECTION in meta.get("finalizers", []) and not any(using):
            objects.finalize(kinds.CLAIM, claim, PROTECTION)


def _uses(pod: Object, claim: str) -> bool:
    over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    volumes = pod["spec"].get("volumes") or []
    return not over and any(
        (one.get("persistentVolumeClaim") or {}).get("claimName") == claim for one in volumes
    )
