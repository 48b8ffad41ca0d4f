"""Structural schemas: what is wrong with a value, and what of it nothing declares."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from .kinds import Schema, definitions

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a schema does not allow."""

    what: Literal["unknown", "type", "invalid", "unsupported", "required"]
    path: str  # spec.components[0].name
    message: str


def resolved(schema: Schema) -> Schema:
    while "$ref" in schema:
        schema = {
            **definitions()[schema["$ref"].rsplit("/", 1)[-1]],
            **{k: v for k, v in schema.items() if k != "$ref"},
        }
    return schema


def child(schema: Schema, key: str) -> Schema | None:
    """The schema of a key of an object; None when nothing declares it."""
    schema = resolved(schema)
    if key in schema.get("properties", {}):
        return resolved(schema["properties"][key])
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        return resolved(more)
    free = schema.get("x-kubernetes-preserve-unknown-fields") or (
        "properties" not in schema and more is not False
    )
    return {"x-kubernetes-preserve-unknown-fields": True} if free else None


def items(schema: Schema) -> Schema:
    return resolved(resolved(schema).get("items", {"x-kubernetes-preserve-unknown-fields": True}))


def faults(value: Any, schema: Schema, path: str = "") -> Iterator[Fault]:
    """Everything about a value that its schema does not allow. Null is allowed, as the server drops it."""
    schema = resolved(schema)
    if value is None:
        return
    if not _has_type(value, schema):
        yield Fault(
            "type", path, f"Invalid value: {_name(value)}: must be of type {schema.get('type', 'string')}"
        )
        return
    yield from _limits(value, schema, path)
    if isinstance(value, dict):
        yield from _of_object(value, schema, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from faults(item, items(schema), f"{path}[{index}]")


def _name(value: Any) -> str:
    return {bool: "boolean", int: "integer", float: "number", str: "string"}.get(
        type(value), type(value).__name__
    )


def _has_type(value: Any, schema: Schema) -> bool:
    either = schema.get("oneOf") or schema.get("anyOf")
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, int | str) and not isinstance(value, bool)
    if either and "type" not in schema:
        return any(_has_type(value, one) for one in either)
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if not names:
        return True
    if isinstance(value, bool):
        return "boolean" in names
    return isinstance(value, tuple(kind for name in names for kind in TYPES[name]))


def _of_object(value: dict[str, Any], schema: Schema, path: str) -> Iterator[Fault]:
    for key in schema.get("required") or []:
        if value.get(key) is None:
            yield Fault("required", f"{path}.{key}".lstrip("."), "Required value")
    for key, one in value.items():
        inner = child(schema, key)
        if inner is None:
            yield Fault("unknown", f"{path}.{key}".lstrip("."), "field not declared in schema")
        else:
            yield from faults(one, inner, f"{path}.{key}".lstrip("."))


def _limits(value: Any, schema: Schema, path: str) -> Iterator[Fault]:
    allowed = schema.get("enum")
    if allowed and value not in allowed:
        said = ", ".join(f'"{one}"' for one in allowed)
        yield Fault("unsupported", path, f'Unsupported value: "{value}": supported values: {said}')
    if isinstance(value, str):
        if (pattern := schema.get("pattern")) and not re.search(pattern, value):
            yield Fault("invalid", path, f"Invalid value: \"{value}\": should match '{pattern}'")
        if len(value) > schema.get("maxLength", len(value)):
            yield Fault("invalid", path, f"Too long: may not be more than {schema['maxLength']} bytes")
        if len(value) < schema.get("minLength", 0):
            yield Fault("invalid", path, f"should be at least {schema['minLength']} chars long")
    elif isinstance(value, list) and len(value) > schema.get("maxItems", len(value)):
        yield Fault("invalid", path, f"Too many: {len(value)}: must have at most {schema['maxItems']} items")
    elif isinstance(value, int | float):
        if value < schema.get("minimum", value):
            low = schema["minimum"]
            yield Fault("invalid", path, f"Invalid value: {value}: should be greater than or equal to {low}")
        if value > schema.get("maximum", value):
            yield Fault(
                "invalid",
                path,
                f"Invalid value: {value}: should be less than or equal to {schema['maximum']}",
            )


def pruned(value: Any, schema: Schema) -> Any:
    """The value without nulls and without what nothing declares."""
    if isinstance(value, dict):
        kept = {key: (one, child(schema, key)) for key, one in value.items()}
        return {
            key: pruned(one, inner)
            for key, (one, inner) in kept.items()
            if inner is not None and one is not None
        }
    if isinstance(value, list):
        return [pruned(one, items(schema)) for one in value]
    return value
