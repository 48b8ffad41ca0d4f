"""What the API server checks beside the schema: names, references, what cannot change, quotas; and its defaults."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from . import kinds
from .kinds import Kind
from .refusals import Refusal, cause, invalid, not_found
from .store import Object, Store

NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
LABEL_KEY = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
MIB = 1024 * 1024
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "k": 10**3, "M": 10**6, "G": 10**9}
UNITS |= {"T": 10**12, "m": Decimal("0.001")}
Causes = Iterator[dict[str, str]]


def quantity(text: Any) -> Decimal:
    """`1`, `500m`, `16Gi` as a number."""
    found = re.fullmatch(r"([+-]?[0-9.]+)([A-Za-z]*)", str(text))
    if not found:
        raise Refusal(400, f'quantities must match the regular expression: "{text}"')
    return Decimal(found[1]) * UNITS.get(found[2], 1)


def admit(store: Store, kind: Kind, before: Object | None, after: Object) -> None:
    """Returns when the object may be stored; a Refusal otherwise."""
    _check_namespace(store, kind, before, after)
    causes = [*_metadata(kind, after), *CHECKS.get(kind, lambda _: iter(()))(after)]
    if before is not None:
        causes += _changes(kind, before, after)
    if causes:
        raise invalid(_full_name(kind), after["metadata"]["name"], causes)
    if before is None:
        _check_quota(store, kind, after)


def _full_name(kind: Kind) -> str:
    return f"{kind.name}.{kind.group}" if kind.group else kind.name


def _check_namespace(store: Store, kind: Kind, before: Object | None, after: Object) -> None:
    if not kind.namespaced or before is not None:
        return
    name = after["metadata"]["namespace"]
    found = store.get(kinds.NAMESPACE, None, name)
    if found is None:
        raise not_found("namespaces", name)
    if found["metadata"].get("deletionTimestamp"):
        said = f"unable to create new content in namespace {name} because it is being terminated"
        own = f'{kind.resource} "{after["metadata"]["name"]}" is forbidden: {said}'
        raise Refusal(403, own, causes=[cause("metadata.namespace", said, "NamespaceTerminating")])


def _metadata(kind: Kind, obj: Object) -> Causes:
    meta = obj["metadata"]
    single = kind in (kinds.NAMESPACE, kinds.SERVICE)
    if not (LABEL if single else NAME).match(meta["name"]) or len(meta["name"]) > (63 if single else 253):
        yield cause("metadata.name", f'Invalid value: "{meta["name"]}": a lowercase RFC 1123 name must consist of'
                    " lower case alphanumeric characters, '-' or '.'")  # fmt: skip
    yield from _labels(meta.get("labels") or {}, "metadata.labels")
    if sum(len(key) + len(str(value)) for key, value in (meta.get("annotations") or {}).items()) > 262144:
        yield cause(
            "metadata.annotations", "Too long: may not be more than 262144 bytes", "FieldValueTooLong"
        )
    for index, one in enumerate(meta.get("ownerReferences") or []):
        if not one.get("uid"):
            yield cause(f"metadata.ownerReferences[{index}].uid", 'Invalid value: "": uid must not be empty')


def _labels(labels: dict[str, str], path: str) -> Causes:
    for key, value in labels.items():
        if not LABEL_KEY.match(key) or len(key.rpartition("/")[2]) > 63:
            yield cause(path, f'Invalid value: "{key}": name part must consist of alphanumeric characters')
        if not VALUE.match(value) or len(value) > 63:
            yield cause(
                path, f'Invalid value: "{value}": must be no more than 63 characters and a valid label value'
            )


def _config_map(obj: Object) -> Causes:
    size = sum(
        len(value.encode()) for part in ("data", "binaryData") for value in (obj.get(part) or {}).values()
    )
    if size > MIB:
        yield cause("", "Too long: may not be more than 1048576 bytes", "FieldValueTooLong")
    for key in obj.get("data") or {}:
        if not re.fullmatch(r"[-._a-zA-Z0-9]+", key) or len(key) > 253:
            yield cause(f"data[{key}]", f'Invalid value: "{key}": a valid config key must consist of alphanumeric'
                        " characters, '-', '_' or '.'")  # fmt: skip


def _job(obj: Object) -> Causes:
    spec = obj["spec"]
    policy = spec["template"].get("spec", {}).get("restartPolicy", "Always")
    if policy not in ("Never", "OnFailure"):
        where = "spec.template.spec.restartPolicy"
        said = 'supported values: "OnFailure", "Never"'
        yield cause(where, f'Unsupported value: "{policy}": {said}', "FieldValueNotSupported")
    for key in (
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "parallelism",
        "completions",
    ):
        if (spec.get(key) or 0) < 0:
            yield cause(f"spec.{key}", f"Invalid value: {spec[key]}: must be greater than or equal to 0")
    if len(obj["metadata"]["name"]) > 63:
        said = "must be no more than 63 characters"
        yield cause("spec.template.labels", f'Invalid value: "{obj["metadata"]["name"]}": {said}')
    yield from _template(spec["template"], "spec.template")


def _deployment(obj: Object) -> Causes:
    selector = (obj["spec"].get("selector") or {}).get("matchLabels") or {}
    labels = (obj["spec"]["template"].get("metadata") or {}).get("labels") or {}
    if not selector:
        yield cause("spec.selector", "Required value", "FieldValueRequired")
    elif not selector.items() <= labels.items():
        said = f"Invalid value: {json.dumps(labels)}: `selector` does not match template `labels`"
        yield cause("spec.template.metadata.labels", said)
    yield from _template(obj["spec"]["template"], "spec.template")


def _template(template: Object, path: str) -> Causes:
    yield from _labels((template.get("metadata") or {}).get("labels") or {}, f"{path}.metadata.labels")
    yield from _pod_spec(template.get("spec") or {}, f"{path}.spec")


def _pod_spec(spec: Object, path: str) -> Causes:
    volumes = {one["name"] for one in spec.get("volumes") or []}
    seen: set[str] = set()
    if not spec.get("containers"):
        yield cause(f"{path}.containers", "Required value", "FieldValueRequired")
    for index, container in enumerate([*(spec.get("initContainers") or []), *(spec.get("containers") or [])]):
        where = f"{path}.containers[{index}]"
        if container["name"] in seen:
            yield cause(f"{where}.name", f'Duplicate value: "{container["name"]}"', "FieldValueDuplicate")
        seen.add(container["name"])
        yield from _container(container, where, volumes)


def _container(container: Object, path: str, volumes: set[str]) -> Causes:
    if not LABEL.match(container["name"]):
        yield cause(f"{path}.name", f'Invalid value: "{container["name"]}": a lowercase RFC 1123 label')
    if not container.get("image"):
        yield cause(f"{path}.image", "Required value", "FieldValueRequired")
    for index, mount in enumerate(container.get("volumeMounts") or []):
        if mount["name"] not in volumes:
            where = f"{path}.volumeMounts[{index}].name"
            yield cause(where, f'Not found: "{mount["name"]}"', "FieldValueNotFound")
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name, value in {**requests, **limits}.items():
        if "/" not in name:
            continue
        if (
            quantity(limits.get(name, 0)) != quantity(requests.get(name, limits.get(name, 0)))
            or name not in limits
        ):
            said = "Required value: Limit must be set for non overcommitable resources and equal requests"
            yield cause(f"{path}.resources.limits", f'{said}: "{name}": {value}')


def _service(obj: Object) -> Causes:
    ports = (obj.get("spec") or {}).get("ports") or []
    if not ports and (obj.get("spec") or {}).get("clusterIP") != "None":
        yield cause("spec.ports", "Required value", "FieldValueRequired")
    for index, port in enumerate(ports):
        if not 0 < port["port"] < 65536:
            said = f"Invalid value: {port['port']}: must be between 1 and 65535, inclusive"
            yield cause(f"spec.ports[{index}].port", said)


def _graph(obj: Object) -> Causes:
    """The CEL rules of the CRD that a manifest of ours could break."""
    components = (obj.get("spec") or {}).get("components") or []
    names = [one.get("name", "").lower() for one in components]
    if len(names) != len(set(names)):
        yield cause("spec.components", "Invalid value: component names must be unique, case-insensitively")
    for index, one in enumerate(components):
        if one.get("replicas") != 0 and one.get("minAvailable", 0) > one.get("replicas", 1):
            said = "Invalid value: minAvailable must be less than or equal to replicas"
            yield cause(f"spec.components[{index}]", said)


CHECKS = {
    kinds.CONFIG_MAP: _config_map,
    kinds.SECRET: _config_map,
    kinds.JOB: _job,
    kinds.DEPLOYMENT: _deployment,
    kinds.POD: lambda obj: _pod_spec(obj["spec"], "spec"),
    kinds.SERVICE: _service,
    kinds.DGD: _graph,
}
FIXED = {
    kinds.JOB: ("template", "selector", "completions", "completionMode"),
    kinds.DEPLOYMENT: ("selector",),
    kinds.POD: ("containers", "initContainers", "volumes", "restartPolicy"),
    kinds.CLAIM: ("accessModes", "storageClassName", "volumeMode"),
    kinds.SERVICE: ("clusterIP",),
}
"""What cannot change once it is there."""


def _changes(kind: Kind, before: Object, after: Object) -> Causes:
    for name in FIXED.get(kind, ()):
        old, new = (before.get("spec") or {}).get(name), (after.get("spec") or {}).get(name)
        if old is not None and old != new:
            yield cause(f"spec.{name}", f"Invalid value: {json.dumps(new)[:200]}: field is immutable")
    parts = ("data", "binaryData", "immutable")
    if kind in (kinds.CONFIG_MAP, kinds.SECRET) and before.get("immutable"):
        for part in parts if any(before.get(one) != after.get(one) for one in parts) else ():
            yield cause(part, "Forbidden: field is immutable when `immutable` is set", "FieldValueForbidden")


def charge(kind: Kind, obj: Object) -> dict[str, Decimal]:
    """What an object counts for against quotas."""
    counts = {f"count/{kind.resource}": Decimal(1)}
    if not kind.group:
        counts[kind.plural] = Decimal(1)
    if kind is kinds.POD and obj.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
        for container in obj["spec"]["containers"]:
            resources = container.get("resources") or {}
            limits = resources.get("limits") or {}
            for part, values in (
                ("requests", {**limits, **(resources.get("requests") or {})}),
                ("limits", limits),
            ):
                for name, value in values.items():
                    counts[f"{part}.{name}"] = counts.get(f"{part}.{name}", Decimal(0)) + quantity(value)
    if kind is kinds.CLAIM:
        counts["requests.storage"] = quantity(
            obj["spec"].get("resources", {}).get("requests", {}).get("storage", 0)
        )
    return counts


def used(store: Store, namespace: str) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for kind, obj in store.everything():
        if kind.namespaced and obj["metadata"]["namespace"] == namespace:
            for name, count in charge(kind, obj).items():
                total[name] = total.get(name, Decimal(0)) + count
    return total


def _check_quota(store: Store, kind: Kind, obj: Object) -> None:
    if not kind.namespaced:
        return
    namespace = obj["metadata"]["namespace"]
    for quota in store.all(kinds.QUOTA, namespace):
        hard, now = quota.get("spec", {}).get("hard") or {}, used(store, namespace)
        asked = {name: count for name, count in charge(kind, obj).items() if name in hard}
        over = [name for name, count in asked.items() if now.get(name, 0) + count > quantity(hard[name])]
        if over:
            said = ", ".join(
                f"requested: {n}={asked[n]}, used: {n}={now.get(n, 0)}, limited: {n}={hard[n]}" for n in over
            )
            name, own = obj["metadata"]["name"], quota["metadata"]["name"]
            raise Refusal(403, f'{kind.resource} "{name}" is forbidden: exceeded quota: {own}, {said}')
