"""What a request comes to: objects read or written, and the events of a watch."""

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .asked import Asked
from .kinds import Kind
from .refusals import Refusal
from .selectors import selection
from .store import Change, Object

if TYPE_CHECKING:
    from .server import ApiServer

MERGE = ("application/merge-patch+json", "application/strategic-merge-patch+json")
APPLY = ("application/apply-patch+yaml", "application/apply-patch+cbor")


def _as(obj: Object, asked: Asked) -> Object:
    assert asked.kind is not None
    return {**obj, "apiVersion": asked.kind.api_version(asked.version), "kind": asked.kind.name}


def read(server: "ApiServer", asked: Asked) -> Any:
    kind, store = asked.kind, server.objects.store
    assert kind is not None
    if asked.name:
        return _as(server.objects.get(kind, asked.namespace, asked.name), asked)
    with store.lock:
        chosen = [_as(one, asked) for one in store.all(kind, asked.namespace) if selection(asked.query)(one)]
        meta = {"resourceVersion": str(store.version)}
    limit, start = int(asked.query.get("limit") or 0), int(asked.query.get("continue") or 0)
    if limit and start + limit < len(chosen):
        meta |= {"continue": str(start + limit)}
    chosen = chosen[start : start + limit] if limit else chosen
    return {
        "apiVersion": kind.api_version(asked.version),
        "kind": f"{kind.name}List",
        "metadata": meta,
        "items": chosen,
    }


def write(server: "ApiServer", asked: Asked, body: bytes, content: str) -> tuple[int, Any]:
    kind, objects, how = asked.kind, server.objects, asked.how
    assert kind is not None
    given = decoded(body, content)
    if asked.verb == "create":
        return 201, _as(objects.create(kind, asked.namespace, given, how), asked)
    if asked.verb == "deletecollection":
        chosen = [one for one in objects.store.all(kind, asked.namespace) if selection(asked.query)(one)]
        for one in chosen:
            _delete(server, asked, one["metadata"]["name"], given)
        return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    assert asked.name is not None
    if asked.verb == "delete":
        return 200, _delete(server, asked, asked.name, given)
    if asked.verb == "update":
        return 200, _as(objects.replace(kind, asked.namespace, asked.name, given, how), asked)
    if content.split(";")[0] in APPLY:
        if not asked.query.get("fieldManager"):
            raise Refusal(
                400,
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
            )
        obj, new = objects.apply(kind, asked.namespace, asked.name, given, how)
        return (201 if new else 200), _as(obj, asked)
    if content.split(";")[0] in MERGE:
        return 200, _as(objects.patch(kind, asked.namespace, asked.name, given, how), asked)
    raise Refusal(
        415,
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(MERGE)}",
    )


def decoded(body: bytes, content: str) -> Any:
    if not body:
        return {}
    if "protobuf" in content or "cbor" in content:
        raise Refusal(
            415, "the body of the request was in an unknown format - accepted media types include: json, yaml"
        )
    try:
        return json.loads(body)
    except ValueError as error:
        if "yaml" not in content:
            raise Refusal(400, f"couldn't get version/kind; json parse error: {error}") from None
    import yaml

    try:
        return yaml.safe_load(body)
    except yaml.YAMLError as error:
        raise Refusal(400, f"error decoding YAML: {error}") from None


def _delete(server: "ApiServer", asked: Asked, name: str, options: dict[str, Any]) -> Any:
    assert asked.kind is not None
    policy = asked.query.get("propagationPolicy") or options.get("propagationPolicy")
    if policy not in (None, "Orphan", "Background", "Foreground"):
        raise Refusal(
            422, f'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "{policy}"'
        )
    grace = asked.query.get("gracePeriodSeconds", options.get("gracePeriodSeconds"))
    uid = (options.get("preconditions") or {}).get("uid")
    dry_run = asked.query.get("dryRun") == "All"
    seconds = None if grace is None else int(grace)
    live = server.objects.delete(asked.kind, asked.namespace, name, policy, seconds, dry_run, uid)
    if server.objects.store.get(asked.kind, asked.namespace, name):
        return _as(live, asked)
    details = {"name": name, "kind": asked.kind.plural, "uid": live["metadata"]["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def events(server: "ApiServer", asked: Asked) -> Iterator[Any]:
    """What a watch says; None now and then, when there is nothing to say. Ends after `timeoutSeconds`."""
    store, wanted, kind = server.objects.store, selection(asked.query), asked.kind

    def name_too(obj):
        return not asked.name or obj["metadata"]["name"] == asked.name

    cuts, expiries, begun = server.cuts, server.expiries, time.monotonic()
    limit_s = float(asked.query.get("timeoutSeconds") or 3600)
    given = asked.query.get("resourceVersion") or "0"
    server.watches += 1
    with store.lock:
        version = int(given) or store.version
        first = (
            []
            if int(given)
            else [one for one in store.all(kind, asked.namespace) if wanted(one) and name_too(one)]
        )
    for one in first:
        yield {"type": "ADDED", "object": _as(one, asked)}
    while time.monotonic() - begun < limit_s:
        if server.cuts != cuts:
            raise ConnectionAbortedError
        if version < store.oldest or server.expiries != expiries:
            said = f"too old resource version: {version} ({store.oldest})"
            yield {"type": "ERROR", "object": Refusal(410, said).status()}
            return
        for change in store.since(version):
            version = change.version
            event = _event(change, kind, asked.namespace, lambda one: wanted(one) and name_too(one))
            if event:
                yield {"type": event[0], "object": _as(event[1], asked)}
        store.wait(version, 0.1)
        yield None
    if asked.query.get("allowWatchBookmarks") == "true":
        assert kind is not None
        meta = {"resourceVersion": str(version), "creationTimestamp": None}
        yield {
            "type": "BOOKMARK",
            "object": {"kind": kind.name, "apiVersion": kind.api_version(asked.version), "metadata": meta},
        }


def _event(
    change: Change, kind: Kind | None, namespace: str | None, wanted: Any
) -> tuple[str, Object] | None:
    any_of = change.after or change.before
    assert any_of is not None
    if change.kind is not kind or (namespace and any_of["metadata"].get("namespace") != namespace):
        return None
    before = change.before is not None and wanted(change.before)
    after = change.after is not None and wanted(change.after)
    if not before and not after:
        return None
    kind_of = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
    last = change.after if after else {**(change.before or {}), "metadata": {**any_of["metadata"]}}
    assert last is not None
    return kind_of, last
