"""Reads Python source out of a wheel, without importing any of it: classes, names, and options of a parser.

Given to: `catalogue_engines`, which knows where each engine defines its command line; `metrics`.
Never does: knowing a tool.
"""

from __future__ import annotations

import argparse
import ast
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TypeOf:
    """Stands for an argparse `type`: what kind of text it reads.

    `words` are accepted besides the kind, `suffixes` means 4k and 2M are whole numbers, `loose` that
    choices ignore case and `-` is `_`.
    """

    kind: str
    words: tuple[str, ...] = ()
    suffixes: bool = False
    loose: bool = False

    def __call__(self, text: str) -> str:
        return text

    def optional(self) -> TypeOf:
        """The same, where `None` is a word for no value."""
        return replace(self, words=(*self.words, "None"))


class _Unknown:
    """A value that cannot be read without running the code."""


UNKNOWN: Any = _Unknown()
TYPES = {
    "int": TypeOf("int"),
    "float": TypeOf("float"),
    "str": TypeOf("text"),
    "bool": TypeOf("text"),
    "Path": TypeOf("text"),
    "nullable_str": TypeOf("text"),
    "positive_integer": TypeOf("int"),
    "file_or_directory": TypeOf("text"),
    "human_readable_int": TypeOf("int", suffixes=True),
    "json_list_type": TypeOf("json"),
    "parse_cuda_graph_config_arg": TypeOf("json"),
}
ACTIONS = {
    "BooleanOptionalAction": argparse.BooleanOptionalAction,
    "DeprecatedStoreTrueAction": "store_true",
    "LoRAPathAction": "store",
    "DeprecatedLogConfigFileAction": "store",
}
RESULTS = {
    "_reasoning_parser_choices": "REASONING_PARSER_NAMES",
    "_tool_call_parser_choices": "TOOL_CALL_PARSER_NAMES",
    "_real_kv_hash_modes": "RealKvHashMode",
}
"""Functions that give the list, or the enumeration, of that name."""


class Sources:
    """The parsed modules of a wheel, and the names they define."""

    def __init__(self, wheel: Path, inside: Iterable[str]) -> None:
        self.unknown: list[str] = []
        self.modules: dict[str, ast.Module] = {}
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".py") and name.startswith(tuple(inside)):
                    self.modules[name] = ast.parse(archive.read(name))
        self.names: dict[str, ast.AST] = {}
        for module in self.modules.values():
            for name, node in defined(module.body):
                # `LoadConfig = Any` where types are not checked must not hide the class.
                if not isinstance(self.names.get(name), ast.ClassDef) or isinstance(node, ast.ClassDef):
                    self.names[name] = node

    def class_of(self, name: str) -> ast.ClassDef | None:
        found = self.names.get(name)
        return found if isinstance(found, ast.ClassDef) else None

    def function(self, name: str, inside: ast.Module | ast.ClassDef | None = None) -> ast.FunctionDef:
        """The function of that name; LookupError where there is none."""
        found = dict(defined(inside.body)).get(name) if inside else self.names.get(name)
        if not isinstance(found, ast.FunctionDef):
            raise LookupError(f"no function {name} in the wheel")
        return found


def defined(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """Names a block defines, with the expression, class or function they stand for."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value
        elif isinstance(node, ast.If):  # if TYPE_CHECKING: ... else: what holds at run time
            yield from defined(node.orelse)
        elif isinstance(node, ast.Try):
            yield from defined(node.body)


class Reader:
    """Evaluates the few kinds of expression that command-line definitions are made of."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.locals: dict[str, Any] = {}

    def value(self, node: ast.AST) -> Any:
        """The value, or UNKNOWN."""
        method = getattr(self, "_" + type(node).__name__.lower(), None)
        return method(node) if method else UNKNOWN

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.locals:
            return self.locals[node.id]
        if node.id in TYPES:
            return TYPES[node.id]
        if node.id in ACTIONS:
            return ACTIONS[node.id]
        found = self.sources.names.get(node.id)
        return UNKNOWN if found is None or isinstance(found, ast.ClassDef) else self.value(found)

    def _attribute(self, node: ast.Attribute) -> Any:
        if node.attr in ACTIONS:
            return ACTIONS[node.attr]
        if isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) == ("json", "loads"):
                return TypeOf("json")
            owner = self.sources.class_of(node.value.id)
            if owner is not None:
                inner = Reader(self.sources)
                for name, item in members(owner):
                    inner.locals[name] = inner.value(item)
                return inner.locals.get(node.attr, UNKNOWN)
        return UNKNOWN

    def _items(self, nodes: Iterable[ast.expr]) -> Any:
        result: list[Any] = []
        for node in nodes:
            inner = self.value(node.value if isinstance(node, ast.Starred) else node)
            if inner is UNKNOWN:
                return UNKNOWN
            result += list(inner) if isinstance(node, ast.Starred) else [inner]
        return result

    def _list(self, node: ast.List | ast.Tuple | ast.Set) -> Any:
        return self._items(node.elts)

    _tuple = _set = _list

    def _dict(self, node: ast.Dict) -> Any:
        result: dict[Any, Any] = {}
        for name, item in zip(node.keys, node.values, strict=True):
            if name is None:
                inner = self.value(item)
                if not isinstance(inner, dict):
                    return UNKNOWN
                result |= inner
            else:
                result[self.value(name)] = self.value(item)
        return result

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
            return left + right
        return UNKNOWN

    def _subscript(self, node: ast.Subscript) -> Any:
        if isinstance(node.value, ast.Name) and node.value.id == "Literal":
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            read = [self.value(item) for item in inner]
            if any(item is UNKNOWN for item in read):
                return UNKNOWN
            return [value for item in read for value in (item if isinstance(item, list) else [item])]
        owner = self.value(node.value)
        if isinstance(owner, list) and isinstance(node.slice, ast.Slice):
            low, high = (part and self.value(part) for part in (node.slice.lower, node.slice.upper))
            return owner[low:high]
        inner = self.value(node.slice)
        return owner.get(inner, UNKNOWN) if isinstance(owner, dict) else UNKNOWN

    def _listcomp(self, node: ast.ListComp) -> Any:
        """`[m.name.lower() for m in modes()]` of an enumeration."""
        over = ast.unparse(node.generators[0].iter).removesuffix("()")
        found = self.sources.class_of(RESULTS.get(over, ""))
        if found is None or not ast.unparse(node.elt).endswith(".name.lower()"):
            return UNKNOWN
        return [name.lower() for name, _ in members(found)]

    def _lambda(self, node: ast.Lambda) -> Any:
        return TypeOf("text", loose="lower" in ast.dump(node))

    def _call(self, node: ast.Call) -> Any:
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in ("list", "tuple", "sorted", "get_args", "set"):
            inner = self.value(node.args[0])
            return UNKNOWN if inner is UNKNOWN else list(inner)
        if name == "keys" and isinstance(node.func, ast.Attribute):
            return self._keys(node.func.value)
        if name == "get_enum_names":
            return self._enum_names(node.args[0])
        if name in RESULTS:
            return self._name(ast.Name(RESULTS[name]))
        if name == "optional_type":
            inner = self.value(node.args[0])
            return inner.optional() if isinstance(inner, TypeOf) else UNKNOWN
        return self.called(name, node)

    def called(self, name: str, node: ast.Call) -> Any:  # noqa: ARG002 - for the tool that overrides it
        """Calls only one tool's sources make."""
        return UNKNOWN

    def _keys(self, node: ast.AST) -> Any:
        found = self.sources.names.get(ast.unparse(node))
        return [self.value(item) for item in found.keys if item] if isinstance(found, ast.Dict) else UNKNOWN

    def _enum_names(self, node: ast.expr) -> Any:
        found = self.sources.class_of(ast.unparse(node).rpartition(".")[2])
        return [name.lower() for name, _ in members(found)] if found else UNKNOWN

    def add(self, parser: argparse.ArgumentParser, call: ast.Call) -> None:
        """One `add_argument(...)` of the source, added to our parser."""
        given: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg is None:
                inner = self.value(keyword.value)
                if not isinstance(inner, dict):
                    raise LookupError(f"cannot read {ast.unparse(call)}")
                given |= inner
            elif keyword.arg in READ:
                given[keyword.arg] = self.value(keyword.value)
        self.option(parser, [self.value(item) for item in call.args], given)

    def option(self, parser: argparse.ArgumentParser, names: list[str], given: Mapping[str, Any]) -> None:
        """An option with what is known of it; what is not is told."""
        known = {key: value for key, value in given.items() if key in READ and value is not None}
        for key in [key for key, value in known.items() if value is UNKNOWN]:
            self.sources.unknown.append(f"{key} of {names[0]}")
            del known[key]
        if isinstance(known.get("type"), list):
            del known["type"]
        if known.get("action", "store") not in ("store", "append"):
            known = {"action": known["action"]}
        parser.add_argument(*names, **known)


READ = ("type", "choices", "nargs", "action")
"""Arguments of add_argument that say what a flag takes."""


def members(found: ast.ClassDef) -> Iterator[tuple[str, ast.AST]]:
    """Members of an enumeration."""
    return ((name, item) for name, item in defined(found.body) if not isinstance(item, ast.FunctionDef))


def calls(body: Iterable[ast.stmt]) -> Iterator[ast.Call]:
    """Calls that are statements of their own, in order."""
    for node in body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node.value
        elif isinstance(node, ast.If):
            yield from calls([*node.body, *node.orelse])


def is_add_argument(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"


def new_parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
