"""What can be done to objects: create, apply, replace, patch, delete, with the answers of a real API server.

The HTTP server calls this with what was sent; the fake operator, kubelet and controllers call it too.
"""

import copy
import random
from dataclasses import dataclass
from typing import Any

from . import kinds
from .admission import admit
from .defaults import defaulted
from .fields import applied, updated
from .kinds import Kind
from .refusals import Refusal, cause, invalid, not_found
from .schema import Fault, faults, pruned
from .store import Object, Store, now

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
HAS_GENERATION = {kinds.DGD, kinds.JOB, kinds.DEPLOYMENT, kinds.CRDS}


@dataclass(frozen=True, slots=True)
class How:
    """The query of a write."""

    manager: str = "unknown"
    dry_run: bool = False
    force: bool = False
    validation: str = "Warn"  # Ignore, Warn, Strict
    version: str | None = None  # of the path; None: the kind's own
    subresource: str | None = None


HERE = How()


class Objects:
    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        found = self.store.get(kind, namespace, name)
        if found is None:
            raise not_found(kind.resource, name)
        return found

    def create(self, kind: Kind, namespace: str | None, given: Object, how: How = HERE) -> Object:
        given = self._addressed(kind, namespace, given, None)
        self._refuse_faults(kind, given, how, applying=False)
        given = pruned(given, kinds.schema_of(kind, self._version(kind, how)))
        if not given["metadata"].get("name") and given["metadata"].get("generateName"):
            given["metadata"]["name"] = given["metadata"]["generateName"] + suffix(5)
        if not given["metadata"].get("name"):
            raise invalid(
                kind.name, "", [cause("metadata.name", "Required value: name or generateName is required")]
            )
        with self.store.lock:
            name = given["metadata"]["name"]
            if self.store.get(kind, namespace, name):
                raise Refusal(409, f'{kind.resource} "{name}" already exists', "AlreadyExists")
            return self._write(kind, None, self._without_status(kind, given), how)

    def apply(
        self, kind: Kind, namespace: str | None, name: str, given: Object, how: How
    ) -> tuple[Object, bool]:
        """The object, and whether it is new."""
        given = self._addressed(kind, namespace, given, name)
        if given["metadata"].get("managedFields"):
            raise Refusal(400, "metadata.managedFields must be nil")
        self._refuse_faults(kind, given, how, applying=True)
        schema = kinds.schema_of(kind, self._version(kind, how))
        given = pruned(given, schema)
        with self.store.lock:
            live = self.store.get(kind, namespace, name)
            self._check_identity(kind, given, live)
            if how.subresource == "status":
                live = self.get(kind, namespace, name)
                return self._write(
                    kind, live, {**live, "status": given.get("status", {})}, how, kept=True
                ), False
            result = applied(live, self._without_status(kind, given), how.manager, how.force, schema)
            return self._write(kind, live, result, how, kept=True), live is None

    def replace(self, kind: Kind, namespace: str | None, name: str, given: Object, how: How = HERE) -> Object:
        given = self._addressed(kind, namespace, given, name)
        self._refuse_faults(kind, given, how, applying=False)
        with self.store.lock:
            live = self.get(kind, namespace, name)
            self._check_identity(kind, given, live)
            given = pruned(given, kinds.schema_of(kind, self._version(kind, how)))
            return self._write(kind, live, self._laid_over(kind, live, given, how), how)

    def patch(self, kind: Kind, namespace: str | None, name: str, patch: Object, how: How = HERE) -> Object:
        """A merge patch: null takes away."""
        with self.store.lock:
            live = self.get(kind, namespace, name)
            given = _merge_patched(live, patch)
            self._check_identity(kind, given, live)
            self._refuse_faults(kind, given, how, applying=False)
            return self._write(kind, live, self._laid_over(kind, live, given, how), how)

    def set_status(self, kind: Kind, obj: Object, **status: Any) -> None:
        """What a controller does: these parts of the status; nothing when that changes nothing or it is gone."""
        with self.store.lock:
            live = self.store.get(kind, obj["metadata"].get("namespace"), obj["metadata"]["name"])
            if live is None or live["metadata"]["uid"] != obj["metadata"]["uid"]:
                return
            wanted = {
                key: value for key, value in {**live.get("status", {}), **status}.items() if value is not None
            }
            if wanted != live.get("status"):
                self.store.put(kind, {**live, "status": wanted})

    def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        policy: str | None = None,
        grace_s: int | None = None,
        dry_run: bool = False,
        uid: str | None = None,
    ) -> Object:
        """The object as it was or as it is while it goes; what depends on it goes as `policy` says."""
        with self.store.lock:
            live = self.get(kind, namespace, name)
            if uid and uid != live["metadata"]["uid"]:
                own = live["metadata"]["uid"]
                said = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
                raise Refusal(409, f'Operation cannot be fulfilled on {kind.resource} "{name}": {said}')
            if dry_run:
                return live
            return self._going(
                kind, live, policy or (ORPHAN.title() if kind is kinds.JOB else "Background"), grace_s
            )

    def _going(self, kind: Kind, live: Object, policy: str, grace_s: int | None) -> Object:
        meta = dict(live["metadata"])
        finalizers = [one for one in meta.get("finalizers", []) if one not in (FOREGROUND, ORPHAN)]
        finalizers += {"Foreground": [FOREGROUND], "Orphan": [ORPHAN]}.get(policy, [])
        if kind is kinds.POD and grace_s != 0 and live["spec"].get("nodeName") and not _is_over(live):
            own = live["spec"].get("terminationGracePeriodSeconds", 30)
            meta["deletionGracePeriodSeconds"] = own if grace_s is None else grace_s
        elif not finalizers and kind is not kinds.NAMESPACE:
            self.store.remove(kind, live)
            return live
        meta.setdefault("deletionTimestamp", now())
        gone = {**live, "metadata": {**meta, "finalizers": finalizers}}
        if not finalizers:
            gone["metadata"].pop("finalizers")
        if kind is kinds.NAMESPACE:
            gone["status"] = {"phase": "Terminating"}
        return self.store.put(kind, gone)

    def finalize(self, kind: Kind, obj: Object, finalizer: str | None) -> None:
        """Takes a finalizer (None: the grace of a pod) away; the last one takes the object along."""
        with self.store.lock:
            live = self.store.get(kind, obj["metadata"].get("namespace"), obj["metadata"]["name"])
            if live is None or live["metadata"]["uid"] != obj["metadata"]["uid"]:
                return
            meta = {
                k: v for k, v in live["metadata"].items() if finalizer or k != "deletionGracePeriodSeconds"
            }
            left = [one for one in meta.pop("finalizers", []) if one != finalizer]
            if not left and meta.get("deletionTimestamp") and "deletionGracePeriodSeconds" not in meta:
                self.store.remove(kind, live)
            else:
                self.store.put(kind, {**live, "metadata": {**meta, **({"finalizers": left} if left else {})}})

    def _write(self, kind: Kind, live: Object | None, obj: Object, how: How, kept: bool = False) -> Object:
        """Stores what was asked for after all checks, or only answers it if it is a dry run."""
        obj = defaulted(kind, obj, live)
        admit(self.store, kind, live, obj)
        if not kept and how.subresource != "status":
            obj = updated(live, obj, how.manager, kinds.schema_of(kind, self._version(kind, how)))
        obj = self._with_generation(kind, live, obj)
        if live is not None and _same(live, obj):
            return live
        if how.dry_run:
            meta = {
                "uid": "00000000-0000-0000-0000-000000000000",
                "creationTimestamp": now(),
                **obj["metadata"],
            }
            return {**obj, "metadata": meta}
        if obj["metadata"].get("deletionTimestamp") and not obj["metadata"].get("finalizers"):
            self.store.remove(kind, obj)
            return obj
        return self.store.put(kind, obj)

    def _with_generation(self, kind: Kind, live: Object | None, obj: Object) -> Object:
        if kind not in HAS_GENERATION:
            return obj
        before = live["metadata"].get("generation", 1) if live else 0
        changed = live is None or live.get("spec") != obj.get("spec")
        return {**obj, "metadata": {**obj["metadata"], "generation": before + changed}}

    def _laid_over(self, kind: Kind, live: Object, given: Object, how: How) -> Object:
        """What a write to the object, or to its status alone, may change of it."""
        if how.subresource == "status":
            return {**live, "status": given.get("status", {})}
        result = copy.deepcopy(given)
        if kind.status:
            result.pop("status", None)
            result |= {"status": live["status"]} if "status" in live else {}
        for name in ("uid", "creationTimestamp", "deletionTimestamp", "generation", "managedFields"):
            result["metadata"].pop(name, None)
            if name in live["metadata"]:
                result["metadata"][name] = live["metadata"][name]
        return result

    def _addressed(self, kind: Kind, namespace: str | None, given: Object, name: str | None) -> Object:
        """The object with the name and namespace of its path."""
        if not isinstance(given, dict) or not given.get("kind"):
            raise Refusal(400, "Object 'Kind' is missing in the request body")
        if given["kind"] != kind.name or given.get("apiVersion", "").rpartition("/")[0] != kind.group:
            raise Refusal(
                400,
                f"{given.get('apiVersion')}, Kind={given['kind']} does not match the expected {kind.name}",
            )
        meta = dict(given.get("metadata") or {})
        if name is not None and meta.setdefault("name", name) != name:
            raise Refusal(
                400, f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            )
        if kind.namespaced and meta.setdefault("namespace", namespace) != namespace:
            own = meta["namespace"]
            raise Refusal(
                400,
                f"the namespace of the provided object does not match the namespace sent on the request: {own}",
            )
        return {**given, "metadata": meta}

    def _version(self, kind: Kind, how: How) -> str:
        return how.version or kind.versions[0]

    def _without_status(self, kind: Kind, given: Object) -> Object:
        return {key: value for key, value in given.items() if not (kind.status and key == "status")}

    def _check_identity(self, kind: Kind, given: Object, live: Object | None) -> None:
        name, meta = given["metadata"]["name"], given["metadata"]
        own = live["metadata"] if live else {}
        if meta.get("uid") and meta["uid"] != own.get("uid"):
            raise Refusal(409, f'Operation cannot be fulfilled on {kind.resource} "{name}": uid mismatch')
        if meta.get("resourceVersion") and meta["resourceVersion"] != own.get("resourceVersion"):
            said = (
                "the object has been modified; please apply your changes to the latest version and try again"
            )
            raise Refusal(409, f'Operation cannot be fulfilled on {kind.resource} "{name}": {said}')

    def _refuse_faults(self, kind: Kind, given: Object, how: How, applying: bool) -> None:
        found = list(faults(given, kinds.schema_of(kind, self._version(kind, how))))
        typed = [one for one in found if one.what in (("unknown", "type") if applying else ("type",))]
        if typed and applying:
            # The real server answers so, with neither reason nor cause.
            meta = given["metadata"]
            name = f"{meta.get('namespace', '')}/{meta['name']}; {given['apiVersion']}, Kind={kind.name}"
            said = "; ".join(f".{one.path}: {one.message}" for one in typed)
            raise Refusal(500, f"failed to create typed patch object ({name}): {said}", "")
        unknown = [one for one in found if one.what == "unknown"]
        if unknown and how.validation == "Strict":
            said = ", ".join(f'unknown field "{one.path}"' for one in unknown)
            raise Refusal(400, f"{kind.name} in version {self._version(kind, how)!r} cannot be handled as a"
                          f" {kind.name}: strict decoding error: {said}")  # fmt: skip
        if typed and kind.definition:
            said = "; ".join(f"{one.path}: {one.message}" for one in typed)
            raise Refusal(
                400, f"{kind.name} in version {self._version(kind, how)!r} cannot be handled: {said}"
            )
        wrong = [one for one in found if one.what != "unknown"]
        if wrong:
            name = f"{kind.name}.{kind.group}" if kind.group else kind.name
            raise invalid(name, given["metadata"].get("name", ""), [_cause(one) for one in wrong])


def _cause(fault: Fault) -> dict[str, str]:
    reasons = {
        "unsupported": "FieldValueNotSupported",
        "required": "FieldValueRequired",
        "type": "FieldValueTypeInvalid",
    }
    return cause(fault.path, fault.message, reasons.get(fault.what, "FieldValueInvalid"))


def _is_over(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _same(live: Object, obj: Object) -> bool:
    def told(one: Object) -> Object:
        kept = {
            key: value
            for key, value in one["metadata"].items()
            if key not in ("managedFields", "resourceVersion")
        }
        entries = [{**entry, "time": None} for entry in one["metadata"].get("managedFields", [])]
        return {**one, "metadata": {**kept, "managedFields": entries}}

    return told(live) == told(obj)


def _merge_patched(value: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    base = value if isinstance(value, dict) else {}
    own = {key: _merge_patched(base.get(key), one) for key, one in patch.items() if one is not None}
    return {**{key: one for key, one in base.items() if key not in patch}, **own}


def suffix(length: int) -> str:
    return "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=length))
