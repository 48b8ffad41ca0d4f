"""Reads command-line definitions out of a wheel's source, without importing any of it.

Each reader gives an `argparse.ArgumentParser` whose options have the names, kinds and choices of the real
one (no help, no defaults), so that installed and static tools end in the same function of `catalogue`.
Rules that turn a field's type into an option are those of vllm.engine.arg_utils and sglang's arg_utils.
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


# --- GenAI-Perf ----------------------------------------------------------------------------------------------


def genai_perf_parser(sources: Sources) -> argparse.ArgumentParser:
    """`genai-perf profile`: every group of options that its subcommand adds."""
    parser, reader = new_parser(), Reader(sources)
    for call in calls(sources.function("_parse_profile_args").body):
        if isinstance(call.func, ast.Name):
            for inner in calls(sources.function(call.func.id).body):
                if is_add_argument(inner):
                    reader.add(parser, inner)
    return parser


# --- SGLang --------------------------------------------------------------------------------------------------


def sglang_parser(sources: Sources) -> argparse.ArgumentParser:
    """ServerArgs: the fields of its namespaces, then what add_cli_args adds by hand."""
    parser, reader = new_parser(), Reader(sources)
    for name, module in sources.modules.items():
        if "/arg_groups/fields/" in name:
            for owner in [node for node in module.body if isinstance(node, ast.ClassDef)]:
                if "_NS_PATH" in dict(defined(owner.body)):
                    for field in owner.body:
                        if isinstance(field, ast.AnnAssign):
                            _sglang_field(reader, parser, field)
    server_args = sources.class_of("ServerArgs")
    body = sources.function("add_cli_args", server_args).body
    for statement in body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            reader.locals[statement.targets[0].id] = reader.value(statement.value)
        for call in calls([statement]):
            if is_add_argument(call):
                reader.add(parser, call)
    return parser


TEXT = (ast.Constant, ast.JoinedStr, ast.BinOp)
"""A help text in place of Arg(...)."""


def _sglang_field(reader: Reader, parser: argparse.ArgumentParser, field: ast.AnnAssign) -> None:
    """One field `name: A[type, help or Arg(...)]`, as add_cli_args_from_dataclass reads it."""
    note = field.annotation
    if not (isinstance(note, ast.Subscript) and ast.unparse(note.value) in ("A", "Annotated")):
        return
    assert isinstance(note.slice, ast.Tuple)
    assert isinstance(field.target, ast.Name)
    hint, *metadata = note.slice.elts
    said = next((item for item in metadata if isinstance(item, ast.Call) and _is_arg(item)), None)
    if said is None and not any(isinstance(item, TEXT) for item in metadata):
        return
    given = said.keywords if said else []
    arg = {keyword.arg: reader.value(keyword.value) for keyword in given if keyword.arg != "help"}
    if arg.get("no_cli") is True:
        return
    names = [arg.get("cli_name") or "--" + field.target.id.replace("_", "-"), *(arg.get("aliases") or [])]
    if arg.get("action") is not None:
        nargs = (arg.get("action_kwargs") or {}).get("nargs")
        reader.option(parser, names, {"action": arg["action"], "nargs": nargs})
        return
    inner = _without_none(hint)
    takes = {key: arg[key] for key in ("choices", "nargs") if arg.get(key) is not None}
    origin = ast.unparse(inner.value).lower() if isinstance(inner, ast.Subscript) else ""
    if origin == "literal":
        values = reader.value(inner)
        takes = {"choices": takes.get("choices") or values}
        takes["type"] = TypeOf("int" if all(isinstance(value, int) for value in values) else "text")
    elif origin == "list" and "type_parser" not in arg:
        assert isinstance(inner, ast.Subscript)
        takes = {"type": TYPES.get(ast.unparse(inner.slice), TypeOf("text")), "nargs": "+", **takes}
    elif ast.unparse(inner) == "bool":
        takes = {"action": "store_true"}
    else:
        takes["type"] = arg.get("type_parser") or TYPES.get(ast.unparse(inner), TypeOf("text"))
    reader.option(parser, names, takes)


def _is_arg(call: ast.Call) -> bool:
    return ast.unparse(call.func) == "Arg"


def _without_none(hint: ast.expr) -> ast.expr:
    """The X of Optional[X], Union[X, None] and X | None."""
    if isinstance(hint, ast.Subscript) and ast.unparse(hint.value) == "Optional":
        return hint.slice
    if isinstance(hint, ast.BinOp) and ast.unparse(hint.right) == "None":
        return hint.left
    return hint


# --- vLLM ----------------------------------------------------------------------------------------------------

Hint = tuple[Any, ...]
"""A type a field may have: its name, then what it holds."""


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


HUMAN_READABLE = {
    *("max_num_batched_tokens", "max_num_scheduled_tokens", "kv_cache_memory_bytes"),
    *("safetensors_prefetch_block_size", "max_num_queued_tokens", "max_model_len"),
}


class VllmReader(Reader):
    """Knows vLLM's `get_kwargs(Config)`: options derived from the types of a dataclass's fields."""

    def called(self, name: str, node: ast.Call) -> Any:
        if name != "get_kwargs":
            return UNKNOWN
        owner = self.sources.class_of(ast.unparse(node.args[0]))
        if owner is None:
            raise LookupError(f"no class {ast.unparse(node.args[0])} in the wheel")
        return dict(self.fields(owner))

    def fields(self, owner: ast.ClassDef) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each field's name and what its option takes; fields of bases first."""
        for base in owner.bases:
            found = self.sources.class_of(ast.unparse(base))
            if found is not None:
                yield from self.fields(found)
        for node in owner.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id, self.option_of(node.target.id, self.hints(node.annotation))

    def hints(self, node: ast.expr) -> set[Hint]:
        """The types a field may have, unions and aliases opened."""
        if isinstance(node, ast.Constant):
            return {("none",)} if node.value is None else self.hints(expression(str(node.value)))
        if isinstance(node, ast.BinOp):
            return self.hints(node.left) | self.hints(node.right)
        if isinstance(node, ast.Subscript):
            return self._generic(ast.unparse(node.value).rpartition(".")[2], node)
        name = ast.unparse(node)
        if name in ("bool", "int", "float", "str", "dict", "list", "set", "tuple"):
            return {(name,)}
        found = self.sources.names.get(name)
        if isinstance(found, ast.ClassDef):
            decorators = {
                ast.unparse(item).partition("(")[0].rpartition(".")[2] for item in found.decorator_list
            }
            if decorators & {"config", "dataclass"}:
                return {("dataclass",)}
            return {("dict",)} if "dict" in map(ast.unparse, found.bases) else {("other", name)}
        if isinstance(found, ast.expr):
            return self.hints(found)
        return {("other", name)}

    def _generic(self, name: str, node: ast.Subscript) -> set[Hint]:
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Literal":
            values = self.value(node)
            return {("other", ast.unparse(node))} if values is UNKNOWN else {("literal", *values)}
        if name in ("Annotated", "SkipValidation"):
            return self.hints(inner[0])
        if name in ("Union", "Optional"):
            return {hint for item in inner for hint in self.hints(item)} | (
                {("none",)} if name == "Optional" else set()
            )
        if name in ("list", "set", "tuple"):
            fixed = name == "tuple" and ast.unparse(inner[-1]) != "..."
            return {(name, frozenset(self.hints(inner[0])), len(inner) if fixed else "+")}
        return {("dict",)} if name == "dict" else {("other", name)}

    def option_of(self, name: str, hints: set[Hint]) -> dict[str, Any]:
        """As vllm.engine.arg_utils._compute_kwargs decides, in its order."""
        kinds = {hint[0]: hint for hint in hints}
        if "dataclass" in kinds:
            given: dict[str, Any] = {"type": TypeOf("json")}
        elif set(kinds) == {"bool", "str", "none"}:
            given = {"type": TypeOf("text"), "nargs": "?"}
        elif "bool" in kinds:
            return {"action": argparse.BooleanOptionalAction}
        elif "literal" in kinds:
            given = self._literal(kinds["literal"], closed="str" not in kinds)
        elif kinds.keys() & {"tuple", "list", "set"}:
            given = self._collection(next(kinds[kind] for kind in ("tuple", "list", "set") if kind in kinds))
        elif "int" in kinds:
            words = ("auto",) if name == "max_model_len" else ()
            given = {"type": TypeOf("int", words=words, suffixes=name in HUMAN_READABLE)}
        elif "float" in kinds:
            given = {"type": TypeOf("float")}
        elif "dict" in kinds:
            given = {"type": TypeOf("json")}
        else:
            given = {"type": TypeOf("text")}
        if "none" in kinds:
            given["type"] = given["type"].optional()
        return given

    def _literal(self, hint: Hint, closed: bool) -> dict[str, Any]:
        values = sorted(hint[1:])
        kind = "int" if all(isinstance(value, int) for value in values) else "text"
        return {"type": TypeOf(kind), **({"choices": values} if closed else {})}

    def _collection(self, hint: Hint) -> dict[str, Any]:
        if len(hint) == 1:
            return {"type": TypeOf("text"), "nargs": "+"}
        inner = self.option_of("", set(hint[1]) - {("none",)})
        plain = inner.get("type", TypeOf("text"))
        if len(hint[1]) > 1:
            plain = TypeOf("text")
        choices = {"choices": inner["choices"]} if "choices" in inner else {}
        return {"type": plain, "nargs": hint[2], **choices}


def vllm_parser(sources: Sources) -> argparse.ArgumentParser:
    """AsyncEngineArgs.add_cli_args: the options of every configuration class, then its own."""
    parser, reader = new_parser(), VllmReader(sources)
    for owner in ("EngineArgs", "AsyncEngineArgs"):
        for statement in sources.function("add_cli_args", sources.class_of(owner)).body:
            if isinstance(statement, ast.Assign):
                _assign(reader, statement)
            for call in calls([statement]):
                if is_add_argument(call):
                    reader.add(parser, call)
    return parser


def _assign(reader: Reader, statement: ast.Assign) -> None:
    """`x_kwargs = get_kwargs(X)`, and changes such as `x_kwargs["type"] = ...`."""
    target, value = statement.targets[0], reader.value(statement.value)
    if isinstance(target, ast.Name):
        reader.locals[target.id] = value
    elif isinstance(target, ast.Subscript):
        owner = reader.value(target.value)
        if isinstance(owner, dict):
            owner[reader.value(target.slice)] = value
