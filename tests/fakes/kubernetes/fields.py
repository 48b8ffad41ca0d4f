"""Who owns which field: server-side apply, `managedFields` and conflicts.

A field is a path of elements as in `fieldsV1`: `f:spec`, `k:{"name":"main"}` for an item of a list with keys,
`v:"a"` for one of a set, `.` for an item itself.
"""

import copy
import json
from typing import Any

from .kinds import Schema
from .refusals import Refusal
from .schema import child, items, resolved
from .store import Object, now

Path = tuple[str, ...]
NOBODYS = {"apiVersion", "kind", "status"}
NOBODYS_META = {
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
}
NOBODYS_META |= {"deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generateName"}


def owned(obj: Object, schema: Schema) -> set[Path]:
    """The fields of an object that can be somebody's."""
    rest = {key: value for key, value in obj.items() if key not in NOBODYS}
    meta = {key: value for key, value in obj.get("metadata", {}).items() if key not in NOBODYS_META}
    return _paths(
        {**rest, "metadata": meta} if meta else {k: v for k, v in rest.items() if k != "metadata"}, schema
    )


def _list_type(schema: Schema) -> str:
    return str(resolved(schema).get("x-kubernetes-list-type", "atomic"))


def _key(item: Any, schema: Schema) -> str:
    """The element of an item in a list with keys; a key that it lacks takes the schema's default."""
    schema = resolved(schema)
    own = {}
    for name in schema["x-kubernetes-list-map-keys"]:
        value = item.get(name, (child(items(schema), name) or {}).get("default"))
        own[name] = "TCP" if value is None and name == "protocol" else value
    return "k:" + json.dumps(own, separators=(",", ":"), sort_keys=True)


def _paths(value: Any, schema: Schema, above: Path = ()) -> set[Path]:
    schema = resolved(schema)
    if isinstance(value, dict) and value and schema.get("x-kubernetes-map-type") != "atomic":
        found: set[Path] = set()
        for key, one in value.items():
            found |= _paths(one, child(schema, key) or {}, (*above, f"f:{key}"))
        return found
    if isinstance(value, list) and _list_type(schema) == "map":
        found = set()
        for one in value:
            here = (*above, _key(one, schema))
            found |= {(*here, "."), *_paths(one, items(schema), here)}
        return found
    if isinstance(value, list) and _list_type(schema) == "set":
        return {(*above, f"v:{json.dumps(one)}") for one in value}
    return {above} if above else set()


def at(obj: Any, path: Path, schema: Schema) -> Any:
    """The value of a field; None when it is not there."""
    for element in path:
        if obj is None:
            return None
        if element.startswith("f:"):
            obj, schema = (
                obj.get(element[2:]) if isinstance(obj, dict) else None,
                child(schema, element[2:]) or {},
            )
        elif element.startswith("k:"):
            obj = next((one for one in obj if _key(one, schema) == element), None)
            schema = items(schema)
        elif element.startswith("v:"):
            return element if json.loads(element[2:]) in obj else None
    return True if path[-1] == "." else obj


def merged(live: Any, applied: Any, schema: Schema) -> Any:
    """What is live with what was applied over it."""
    schema = resolved(schema)
    if (
        isinstance(live, dict)
        and isinstance(applied, dict)
        and schema.get("x-kubernetes-map-type") != "atomic"
    ):
        own = {k: merged(live.get(k), value, child(schema, k) or {}) for k, value in applied.items()}
        return {**live, **own}
    if isinstance(live, list) and isinstance(applied, list) and _list_type(schema) == "map":
        wanted = {_key(one, schema): one for one in applied}
        kept = [merged(one, wanted.pop(_key(one, schema), one), items(schema)) for one in live]
        return [*kept, *wanted.values()]
    if isinstance(live, list) and isinstance(applied, list) and _list_type(schema) == "set":
        return [*live, *(one for one in applied if one not in live)]
    return copy.deepcopy(applied)


def without(obj: Any, paths: set[Path], schema: Schema) -> Any:
    """A copy of the object without these fields, and without what is empty because of that."""
    obj = copy.deepcopy(obj)
    for path in sorted(paths, key=len, reverse=True):
        _drop(obj, path, schema)
    return obj


def _drop(obj: Any, path: Path, schema: Schema) -> None:
    element, rest = path[0], path[1:]
    if element.startswith("f:") and isinstance(obj, dict):
        name = element[2:]
        if rest and obj.get(name):
            _drop(obj[name], rest, child(schema, name) or {})
        if not rest or obj.get(name) in ({}, []):
            obj.pop(name, None)
    elif element.startswith("k:") and isinstance(obj, list):
        for one in [one for one in obj if _key(one, schema) == element]:
            if rest == (".",):
                obj.remove(one)
            else:
                _drop(one, rest, items(schema))
    elif element.startswith("v:") and isinstance(obj, list) and json.loads(element[2:]) in obj:
        obj.remove(json.loads(element[2:]))


def _tree(paths: set[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        here = tree
        for element in path:
            here = here.setdefault(element, {})
    return tree


def _flat(tree: dict[str, Any], above: Path = ()) -> set[Path]:
    return {
        found for key, inner in tree.items() for found in (_flat(inner, (*above, key)) or {(*above, key)})
    }


def _entries(obj: Object) -> dict[tuple[str, str], set[Path]]:
    """(manager, operation) -> fields."""
    entries = obj["metadata"].get("managedFields", [])
    return {(one["manager"], one["operation"]): _flat(one.get("fieldsV1", {})) for one in entries}


def _with_entries(obj: Object, entries: dict[tuple[str, str], set[Path]]) -> Object:
    kept = [
        {
            "manager": manager,
            "operation": operation,
            "apiVersion": obj["apiVersion"],
            "time": now(),
            "fieldsType": "FieldsV1",
            "fieldsV1": _tree(paths),
        }
        for (manager, operation), paths in entries.items()
        if paths
    ]
    return {**obj, "metadata": {**obj["metadata"], "managedFields": kept}}


def updated(before: Object | None, after: Object, manager: str, schema: Schema) -> Object:
    """`after` with the fields that changed as the manager's own, and nobody else's."""
    here = owned(after, schema)
    changed = {path for path in here if before is None or at(before, path, schema) != at(after, path, schema)}
    entries = {who: (paths & here) - changed for who, paths in _entries(before or after).items()}
    entries[manager, "Update"] = entries.get((manager, "Update"), set()) | changed
    return _with_entries(after, entries)


def applied(live: Object | None, given: Object, manager: str, force: bool, schema: Schema) -> Object:
    """What server-side apply makes of the live object; a Refusal (409) when others own what it would change."""
    mine = owned(given, schema)
    if live is None:
        return _with_entries(copy.deepcopy(given), {(manager, "Apply"): mine})
    entries = _entries(live)
    conflicts = {
        who: lost
        for who, paths in entries.items()
        if who != (manager, "Apply")
        and (lost := {p for p in paths & mine if at(live, p, schema) != at(given, p, schema)})
    }
    if conflicts and not force:
        raise _conflict(conflicts, live["apiVersion"])
    entries = {who: paths - conflicts.get(who, set()) for who, paths in entries.items()}
    given_up = entries.pop((manager, "Apply"), set()) - mine - set().union(*entries.values())
    result = merged(without(live, given_up, schema), given, schema)
    return _with_entries(result, {**entries, (manager, "Apply"): mine})


def _conflict(conflicts: dict[tuple[str, str], set[Path]], api_version: str) -> Refusal:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{who[0]}" using {api_version}',
            "field": _spelled(path),
        }
        for who, paths in conflicts.items()
        for path in sorted(paths)
    ]
    said = "; ".join(f"{one['message']}: {one['field']}" for one in causes)
    word = "conflict" if len(causes) == 1 else "conflicts"
    return Refusal(409, f"Apply failed with {len(causes)} {word}: {said}", causes=causes)


def _spelled(path: Path) -> str:
    """`.spec.components[name="main"].replicas`."""
    text = ""
    for element in path:
        if element.startswith("f:"):
            text += f".{element[2:]}"
        elif element.startswith("k:"):
            own = json.loads(element[2:])
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in own.items()) + "]"
    return text
