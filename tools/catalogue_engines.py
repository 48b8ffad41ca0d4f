"""Command lines of engines that are not installed, out of their wheels' source (`catalogue_static`).

Each reader gives an `argparse.ArgumentParser` whose options have the names, kinds and choices of the real
one (no help, no defaults), so that installed and static tools end in the same function of `catalogue_flags`.
Rules that turn a field's type into an option are those of vllm.engine.arg_utils and sglang's arg_utils.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from typing import Any

from catalogue_static import (
    TYPES,
    UNKNOWN,
    Reader,
    Sources,
    TypeOf,
    calls,
    defined,
    is_add_argument,
    new_parser,
)

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
