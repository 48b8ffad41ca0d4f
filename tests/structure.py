"""Whether an object is what the API of a cluster takes, by the schema of its kind: every field known, of its type.

`check` reads structural schemas as a CustomResourceDefinition has them, and refuses what the server would refuse
with strict field validation, but for rules in CEL. `GRAPHS` are schemas of our own writing, for machines without the
operator's: what is not of a pod. The pods in them are templates as Deployments have them (`kubernetes-validate`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from compiling import ROOT

SHARED = Path(os.environ.get("SERVIX_SHARED", ROOT.parent / "shared"))
CRDS = SHARED / "data" / "kubernetes" / "crds" / "nvidia.com_dynamographdeployments.yaml"
"""The operator's own; it is part of no checkout."""
KINDS: Mapping[str, Any] = {
    "object": Mapping,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


def check(value: Any, schema: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """What is wrong with a value, a line each with its place."""
    here = place or "the object"
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"{here}: {value!r} is neither a number nor text"
            return
    elif (kind := schema.get("type")) is not None and (
        not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")
    ):
        yield f"{here}: {value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{here}: {value!r} is none of {schema['enum']}"
    if isinstance(value, str):
        yield from _text(value, schema, here)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number(value, schema, here)
    elif isinstance(value, Mapping):
        yield from _object(value, schema, place)
    elif isinstance(value, list):
        yield from _array(value, schema, place)


def _text(value: str, schema: Mapping[str, Any], here: str) -> Iterator[str]:
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{here}: {value!r} does not match {schema['pattern']}"
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{here}: {len(value)} characters"


def _number(value: float, schema: Mapping[str, Any], here: str) -> Iterator[str]:
    if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{here}: {value} is out of range"


def _object(value: Mapping[str, Any], schema: Mapping[str, Any], place: str) -> Iterator[str]:
    known, more = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{place}.{name}: is missing"
    free = schema.get("x-kubernetes-preserve-unknown-fields") or more is True
    # The root's metadata is an object without properties in every definition: the server knows them itself.
    free = free or (place == ".metadata" and not known)
    for name, item in value.items():
        inner = f"{place}.{name}"
        if not isinstance(name, str):
            yield f"{inner}: a key is text"
        elif name in known:
            yield from check(item, known[name], inner)
        elif isinstance(more, Mapping):
            yield from check(item, more, inner)
        elif not free:
            yield f"{inner}: is no field"


def _array(value: list[Any], schema: Mapping[str, Any], place: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{place}: {len(value)} items"
    for index, item in enumerate(value):
        yield from check(item, schema.get("items", {}), f"{place}[{index}]")
    if schema.get("x-kubernetes-list-type") == "map":
        keys = [tuple(str(item.get(key)) for key in schema["x-kubernetes-list-map-keys"]) for item in value]
        if len(set(keys)) != len(keys):
            yield f"{place}: two items have the same {schema['x-kubernetes-list-map-keys']}"


def definitions() -> Mapping[str, Any]:
    """apiVersion -> schema of the operator's own definition; empty where that is not at hand."""
    if not CRDS.exists():
        return {}
    (crd,) = [one for one in yaml.load_all(CRDS.read_bytes(), Loader=yaml.CSafeLoader) if one]
    group = crd["spec"]["group"]
    return {
        f"{group}/{version['name']}": version["schema"]["openAPIV3Schema"]
        for version in crd["spec"]["versions"]
    }


def core(data: Mapping[str, Any]) -> list[str]:
    """What is wrong with an object of a kind that every cluster knows, in strict mode."""
    try:
        kubernetes_validate.validate(dict(data), "1.33", strict=True)
    except kubernetes_validate.ValidationError as problem:
        return [f"{data['kind']}: {problem}"]
    return []


def templates(graph: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The pods of a DynamoGraphDeployment of either version, as a Deployment has them."""
    spec = graph["spec"]
    for component in spec.get("components", []):
        yield component["podTemplate"]
    for service in spec.get("services", {}).values():
        pod = dict(service["extraPodSpec"])
        main = {"name": "main", **pod.pop("mainContainer")}
        yield {
            "metadata": service["extraPodMetadata"],
            "spec": {**pod, "containers": [main, *pod.get("containers", [])]},
        }


def as_deployment(template: Mapping[str, Any]) -> dict[str, Any]:
    """A Deployment of those pods."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x"},
        "spec": {"selector": {"matchLabels": template["metadata"]["labels"]}, "template": dict(template)},
    }


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
QUANTITY = {"x-kubernetes-int-or-string": True, "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTPE]i?|m)?$"}
NODES = {
    "type": "object",
    "required": ["nodeCount"],
    "properties": {"nodeCount": {"type": "integer", "minimum": 2}},
}
RELEASE = {"type": "string", "pattern": r"^[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}$"}
FRAMEWORK = {"type": "string", "enum": ["sglang", "vllm", "trtllm"]}
POD = {
    "type": "object",
    "required": ["metadata", "spec"],
    "properties": {
        "metadata": {"type": "object", "properties": {"labels": TEXTS, "annotations": TEXTS}},
        "spec": ANYTHING,
    },
}
QUANTITIES = {
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in ("cpu", "memory", "gpu", "gpuType")},
        "custom": TEXTS,
    },
}
COMPONENT = {
    "type": "object",
    "required": ["name", "type", "podTemplate"],
    "properties": {
        "name": {"type": "string", "maxLength": 63, "pattern": "^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$"},
        "type": {"type": "string", "enum": ["frontend", "worker", "prefill", "decode", "planner", "epp"]},
        "replicas": COUNT,
        "podTemplate": POD,
        "multinode": NODES,
        "sharedMemorySize": QUANTITY,
        "runtimeVersionOverride": RELEASE,
    },
}
SERVICE = {
    "type": "object",
    "required": ["componentType", "extraPodSpec"],
    "properties": {
        # Any word would pass; these are the ones that mean something.
        "componentType": {"type": "string", "enum": ["frontend", "worker"]},
        "subComponentType": {"type": "string", "enum": ["prefill", "decode"]},
        "replicas": COUNT,
        "multinode": NODES,
        "runtimeVersionOverride": RELEASE,
        "resources": {"type": "object", "properties": {"limits": QUANTITIES, "requests": QUANTITIES}},
        "sharedMemory": {"type": "object", "required": ["size"], "properties": {"size": QUANTITY}},
        "extraPodMetadata": POD["properties"]["metadata"],  # type: ignore[index]
        "extraPodSpec": {**ANYTHING, "required": ["mainContainer"]},
    },
}


def _graph(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string", "enum": ["DynamoGraphDeployment"]},
            "metadata": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "maxLength": 63, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"},
                    "namespace": {"type": "string"},
                    "labels": TEXTS,
                    "annotations": TEXTS,
                },
            },
            "spec": {
                "type": "object",
                "properties": {"annotations": TEXTS, "backendFramework": FRAMEWORK, **spec},
            },
        },
    }


GRAPHS: Mapping[str, Any] = {
    "nvidia.com/v1beta1": _graph(
        {
            "components": {
                "type": "array",
                "minItems": 1,
                "maxItems": 25,
                "items": COMPONENT,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            }
        }
    ),
    "nvidia.com/v1alpha1": _graph({"services": {"type": "object", "additionalProperties": SERVICE}}),
}
