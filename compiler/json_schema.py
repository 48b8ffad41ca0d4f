"""The JSON schema of the configuration, for editors that complete and check YAML.

Takes nothing but the model; gives plain data. Files of users are overlays, so no key is required, and Hydra's own
keys (`defaults`, `hydra`) are allowed at the top.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from typing import Any

from compiler import model
from compiler.schema import adapter
from compiler.settings import backend, bench, cluster, roles

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema, each key with its sentence from the model."""
    schema = adapter().json_schema(mode="validation")
    said = _sentences()
    for definition in [schema, *schema.get("$defs", {}).values()]:
        definition.pop("required", None)
        described = said.get(str(definition.get("title")), {})
        for key, place in definition.get("properties", {}).items():
            if key in described:
                place["description"] = described[key]
    schema["properties"] |= {"defaults": {"type": "array"}, "hydra": {"type": "object"}}
    return {
        "$schema": DIALECT,
        "title": "servix configuration",
        **{k: v for k, v in schema.items() if k != "title"},
    }


def _sentences() -> Mapping[str, Mapping[str, str]]:
    """Class -> field -> the sentence written below the field."""
    found: dict[str, dict[str, str]] = {}
    modules = (model, roles, backend, bench, cluster)
    for node in [node for module in modules for node in ast.parse(inspect.getsource(module)).body]:
        if not isinstance(node, ast.ClassDef):
            continue
        fields = found.setdefault(node.name, {})
        for field, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                fields[field.target.id] = " ".join(str(after.value.value).split())
    return found
