"""Flags of the tools that are installed, asked of their own parsers, and LMCache's settings out of its wheel.

Given to: `catalogue`, with each tool's own packages imported only when it is asked for.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any
from unittest import mock

from catalogue_flags import Entry, Flags, entry, from_argparse, in_order, key
from catalogue_static import Sources


def aiperf() -> Flags:
    """AIPerf's own cyclopts model of `aiperf profile`."""
    from aiperf.cli_commands.profile import app
    from aiperf.config.flags import CLIConfig

    found: Flags = {}
    for argument in app.assemble_argument_collection(parse_docstring=False)[1:]:
        field = CLIConfig.model_fields[argument.field_info.name]
        parsers = {getattr(getattr(item, "func", None), "__name__", "") for item in field.metadata}
        positive = argument.parameter.name or ()
        long = [name for name in positive if name.startswith("--")]
        facts = cyclopts_value(argument, parsers)
        short = [key(name) for name in positive if not name.startswith("--")]
        found[key(long[0])] = entry(**facts, aliases=[key(name) for name in long[1:]], short=short)
        for name in [name for name in argument.names if name not in positive and name.startswith("--")]:
            found[key(name)] = entry("flag")
    return found


LISTS_OF = {"parse_int_or_int_list": "int", "parse_float_or_float_list": "float"}
"""Fields whose text AIPerf itself splits at commas, and what it splits them into."""


def cyclopts_value(argument: Any, parsers: set[str]) -> Entry:
    """Kind of one cyclopts argument; its enumerations ignore case, `-` and `_`."""
    tokens, is_list = argument.token_count()
    if tokens == 0:
        return {"kind": "flag"}
    split = LISTS_OF.keys() & parsers
    if split:
        return {"kind": "list", "items": LISTS_OF[split.pop()], "split": ","}
    if "parse_str_as_numeric_dict" in parsers:
        return {"kind": "text"}
    facts: Entry = {}
    if is_list:
        pairs = "parse_str_or_dict_as_tuple_list" in parsers
        numbers = "parse_str_or_list_of_positive_values" in parsers
        facts = {"items": "json" if pairs else "float" if numbers else "text"}
        facts["split"] = "," if parsers & {"parse_str_or_list"} or pairs or numbers else ""
        facts["several"] = argument.parameter.consume_multiple is not None
        facts["bare"] = facts["several"]
    hint = argument.hint
    kind = {int: "int", float: "float"}.get(hint, "text")
    choices = [] if "Union" in str(hint) else list(argument.get_choices() or ())
    if choices and all(choice.isdigit() for choice in choices):
        kind, choices = "int", [int(choice) for choice in choices]
    return {
        "kind": "list" if is_list else kind,
        **facts,
        "choices": in_order(choices),
        "loose": bool(choices),
    }


def frontend() -> Flags:
    """The parser of `python -m dynamo.frontend`."""
    from dynamo.frontend.frontend_args import FrontendArgGroup

    parser = argparse.ArgumentParser()
    FrontendArgGroup().add_arguments(parser)
    return from_argparse(parser._actions)


class _Caught(Exception):
    """Carries the parser out of a function that builds and uses it."""


def mocker() -> Flags:
    """The parser that `python -m dynamo.mocker` builds."""
    from dynamo.mocker import args

    caught: list[argparse.ArgumentParser] = []

    def catch(parser: argparse.ArgumentParser, *_: Any) -> None:
        caught.append(parser)
        raise _Caught

    with mock.patch.object(argparse.ArgumentParser, "parse_args", catch), contextlib.suppress(_Caught):
        args.parse_args([])
    return from_argparse(caught[0]._actions)


def wrapper(group: type) -> Flags:
    """What `dynamo.vllm` or `dynamo.sglang` parses itself, before the engine's parser sees the rest."""
    from dynamo.common.configuration.groups.router_args import add_worker_router_arguments
    from dynamo.common.configuration.groups.runtime_args import DynamoRuntimeArgGroup

    parser = argparse.ArgumentParser()
    DynamoRuntimeArgGroup().add_arguments(parser)
    group().add_arguments(parser)
    add_worker_router_arguments(parser)
    return from_argparse(parser._actions)


def dynamo_vllm() -> Flags:
    from dynamo.vllm.backend_args import DynamoVllmArgGroup

    return wrapper(DynamoVllmArgGroup)


def dynamo_sglang() -> Flags:
    from dynamo.sglang.backend_args import DynamoSGLangArgGroup

    found = wrapper(DynamoSGLangArgGroup)
    # dynamo.sglang._compat: a spelling SGLang itself has dropped, translated by the wrapper.
    now = "dropped by SGLang: use cuda_graph_backend_prefill: disabled"
    return found | {"disable_piecewise_cuda_graph": entry("flag", deprecated=now)}


LMCACHE_KINDS: Mapping[str, Entry] = {
    "int": {"kind": "int"},
    "float": {"kind": "float"},
    "bool": {"kind": "flag"},
    "str": {"kind": "text"},
    "dict": {"kind": "json"},
    "list[int]": {"kind": "list", "items": "int", "several": True},
    "list[float]": {"kind": "list", "items": "float", "several": True},
    "list[str]": {"kind": "list", "items": "text", "several": True},
}
"""Type of a setting as LMCache writes it -> kind. `bare` is one that may be null."""


def lmcache(sources: Sources) -> Flags:
    """Settings of `LMCacheEngineConfig`; those it reads under another name now, or not at all, are removed."""
    settings = sources.names["_CONFIG_DEFINITIONS"]
    aliases = ast.literal_eval(ast.unparse(sources.names["_CONFIG_ALIASES"]))
    outdated = ast.literal_eval(ast.unparse(sources.names["_DEPRECATED_CONFIGS"]))
    if not isinstance(settings, ast.Dict):
        raise LookupError("LMCache's settings are no mapping")
    found: Flags = {}
    for name, setting in zip(settings.keys, settings.values, strict=True):
        facts = {ast.literal_eval(key): value for key, value in _items(setting)}
        hint = ast.unparse(facts["type"])
        null = hint.startswith("Optional[") or ast.unparse(facts["default"]) == "None"
        kind = LMCACHE_KINDS[
            hint.removeprefix("Optional[").removesuffix("]" if hint.startswith("Opt") else "")
        ]
        found[ast.literal_eval(name)] = entry(**kind, bare=null)
    for old, new in aliases.items():
        if old in outdated:
            found[old] = {**found[new], "deprecated": f"use {new}"}
        elif old not in found:
            # Only a deprecated name is translated in a file; the other aliases are dropped with a line in the log.
            found[old] = entry("flag", removed=f"LMCache leaves it out: use {new}")
    for old in outdated.keys() - aliases.keys():
        found[old] = entry("flag", removed="LMCache does nothing with it: leave it out")
    return found


def _items(node: ast.AST) -> Iterable[tuple[Any, Any]]:
    if not isinstance(node, ast.Dict):
        raise LookupError("a setting of LMCache is no mapping")
    return zip(node.keys, node.values, strict=True)
