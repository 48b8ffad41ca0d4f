"""Writes catalogues/*.json: the flags of every tool servix starts, and LMCache's settings, by name and kind.

A tool that is installed is asked for its own parser; the engines, which are not, are read from their
wheels as source (`catalogue_static`) and never imported. `catalogues/notes.json` is written by hand: what
to do now instead of a removed or deprecated flag. Help texts are not copied.

    python tools/catalogue.py                       all of them; wheels are downloaded into --wheels
    python tools/catalogue.py --check aiperf ...    writes nothing, exits 1 where a file would change
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any
from unittest import mock

from catalogue_static import Sources, TypeOf, genai_perf_parser, sglang_parser, vllm_parser

FOLDER = Path(__file__).resolve().parent.parent / "catalogues"
SCHEMA = "servix.catalogue/1"
Entry = dict[str, Any]
Flags = dict[str, Entry]

KIND_OF_PARSER = {
    "int": TypeOf("int"),
    "float": TypeOf("float"),
    "nullable_int": TypeOf("int", words=("None",)),
    "nullable_float": TypeOf("float", words=("None",)),
    "_parse_structural_tag": TypeOf("json"),
    "_conditional_disagg_config_arg": TypeOf("json"),
}
"""Name of an argparse `type` -> what it reads; anything else reads text."""


def key(option: str) -> str:
    """`--max-model-len` -> `max_model_len`."""
    return option.lstrip("-").replace("-", "_")


def entry(kind: str, **facts: Any) -> Entry:
    """An entry without the facts that say nothing."""
    return {"kind": kind, **{name: fact for name, fact in facts.items() if fact}}


def in_order(choices: Iterable[Any]) -> list[Any]:
    """Numbers by size, then words: some tools keep their choices in sets."""
    return sorted(choices, key=lambda choice: (isinstance(choice, str), choice))


# --- argparse ------------------------------------------------------------------------------------------------


def from_argparse(actions: Iterable[argparse.Action]) -> Flags:
    """Every option of a parser: one entry per flag, and one per negative form."""
    found: Flags = {}
    for action in actions:
        if not isinstance(action, argparse._HelpAction | argparse._VersionAction):
            found.update(from_action(action))
    return found


def from_action(action: argparse.Action) -> Flags:
    """The entries of one option; a long alias that only survives for old commands is told as deprecated."""
    options = action.option_strings
    negative = [name for name in options if name.startswith("--no-") and "--" + name[5:] in options]
    long = [name for name in options if name.startswith("--") and name not in negative]
    if not long:
        return {}
    short = [key(name) for name in options if not name.startswith("--")]
    help_text = "" if action.help in (None, argparse.SUPPRESS) else str(action.help)
    old = [name for name in long[1:] if f"deprecating flag: {name}" in help_text or name.startswith("--aic-")]
    aliases = [key(name) for name in long[1:] if name not in old]
    facts = value_of(action) | {"deprecated": deprecation(action, help_text)}
    found = {key(long[0]): entry(**facts, aliases=aliases, short=short)}
    for name in old:
        now = f"the old spelling of {key(long[0])}"
        found[key(name)] = entry(**{**facts, "deprecated": facts["deprecated"] or now})
    for name in negative:
        told = f"the old spelling of no_{key(long[0])}" if "--" + name[5:] in old else facts["deprecated"]
        found[key(name)] = entry("flag", deprecated=told)
    return found


def deprecation(action: argparse.Action, help_text: str) -> str:
    """What Dynamo's own machinery says of a deprecated option, in one form ("" for the others)."""
    said = re.match(r"\S+ is deprecated and will be removed in (.+?); use (.+?)\.(\s|$)", help_text)
    if said:
        return f"goes away in {said[1]}: use {said[2]}"
    return "deprecated by the tool" if type(action).__name__ == "DeprecatedAction" else ""


def value_of(action: argparse.Action) -> Entry:
    """Kind of the value, and what else is accepted as one."""
    if action.nargs == 0:
        return {"kind": "flag"}
    reads = action.type if isinstance(action.type, TypeOf) else named_type(action.type)
    facts: Entry = {
        "choices": in_order(choice for choice in action.choices or () if choice is not None),
        "words": list(reads.words),
        "suffixes": reads.suffixes,
        "loose": reads.loose,
        "bare": action.nargs in ("?", "*"),
    }
    appended = isinstance(action, argparse._AppendAction)
    if appended or isinstance(action.nargs, int) or action.nargs in ("+", "*"):
        return {"kind": "list", "items": reads.kind, "several": not appended, **facts}
    return {"kind": reads.kind, **facts}


def named_type(parser: object) -> TypeOf:
    """What a plain callable reads, by its name."""
    return KIND_OF_PARSER.get(getattr(parser, "__name__", ""), TypeOf("text"))


# --- the installed tools -------------------------------------------------------------------------------------


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


# --- LMCache, which reads a file and no flags -----------------------------------------------------------------

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


# --- the table -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Tool:
    """How one catalogue is made: `package` gives the version, `read` the flags.

    A tool that is not installed has its `pinned` version taken from a wheel, and only the folders
    `inside` are read.
    """

    package: str
    how: str
    read: Callable[..., Flags]
    inside: tuple[str, ...] = ()
    pinned: Callable[[], str] | None = None


def pinned_by_dynamo(engine: str) -> Callable[[], str]:
    """The engine's version that the installed ai-dynamo asks for, which its images hold."""

    def pinned() -> str:
        for line in requires("ai-dynamo") or ():
            match = re.match(rf"{engine}(\[.*?\])?==([^;\s]+)", line)
            if match:
                return match[2]
        raise LookupError(f"ai-dynamo names no version of {engine}")

    return pinned


OWN = "the parser of the installed package"
STATIC = "the source in the wheel, read with ast and never imported"
TOOLS = {
    "aiperf": Tool("aiperf", "the command-line model (cyclopts) of the installed package", aiperf),
    "dynamo.frontend": Tool("ai-dynamo", OWN, frontend),
    "dynamo.mocker": Tool("ai-dynamo", OWN, mocker),
    "dynamo.vllm": Tool("ai-dynamo", OWN + ", without the engine's own flags", dynamo_vllm),
    "dynamo.sglang": Tool("ai-dynamo", OWN + ", without the engine's own flags", dynamo_sglang),
    "vllm": Tool(
        "vllm",
        STATIC,
        lambda sources: from_argparse(vllm_parser(sources)._actions),
        ("vllm/config/", "vllm/engine/arg_utils.py"),
        pinned_by_dynamo("vllm"),
    ),
    "sglang": Tool(
        "sglang",
        STATIC,
        lambda sources: from_argparse(sglang_parser(sources)._actions),
        (
            *("sglang/srt/server_args.py", "sglang/srt/arg_groups/", "sglang/srt/utils/common.py"),
            *("sglang/srt/parser/reasoning_parser_names.py", "sglang/srt/function_call/parser_names.py"),
            *("sglang/kernels/ops/kv_canary/consts.py", "sglang/srt/model_executor/cuda_graph_config.py"),
            "sglang/srt/lora/",
        ),
        pinned_by_dynamo("sglang"),
    ),
    "genai_perf": Tool(
        "genai-perf",
        STATIC,
        lambda sources: from_argparse(genai_perf_parser(sources)._actions),
        (
            "genai_perf/parser.py",
            "genai_perf/inputs/input_constants.py",
            "genai_perf/config/endpoint_config.py",
        ),
        lambda: "0.0.16",
    ),
    "lmcache": Tool("lmcache", STATIC, lmcache, ("lmcache/v1/config.py",), lambda: "0.5.6"),
}


def wheel(package: str, number: str, folder: Path, offline: bool) -> Path:
    """The wheel of a release, downloaded without dependencies unless it is there."""
    pattern = f"{package.replace('-', '_')}-{number}-*.whl"
    there = sorted(folder.glob(pattern))
    if not there and not offline:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, f"{package}=={number}", "-d", str(folder)], check=True)
        there = sorted(folder.glob(pattern))
    if not there:
        raise FileNotFoundError(f"no {pattern} in {folder}")
    return there[-1]


def generate(name: str, wheels: Path, offline: bool) -> tuple[str, str, list[str]]:
    """File name, text, and what could not be found out of one catalogue.

    Raises OSError, subprocess.CalledProcessError, PackageNotFoundError or LookupError without the tool.
    """
    tool, unknown = TOOLS[name], list[str]()
    if tool.pinned is None:
        number, flags = version(tool.package), tool.read()
    else:
        number = tool.pinned()
        sources = Sources(wheel(tool.package, number, wheels, offline), tool.inside)
        flags, unknown = tool.read(sources), sources.unknown
    flags = with_notes(flags, json.loads((FOLDER / "notes.json").read_text(encoding="utf-8")).get(name, {}))
    source = f"{tool.package} {number}: {tool.how}"
    head = {"schema": SCHEMA, "tool": name, "version": number, "source": source}
    return f"{name}-{number}.json", text(head, flags), unknown


def with_notes(flags: Flags, notes: Mapping[str, Entry]) -> Flags:
    """The flags with what a person wrote about them. A removed flag needs no kind.

    Raises ValueError for a note that calls a flag removed which the tool still has, unless it says `refused`.
    """
    result = dict(flags)
    for name, note in notes.items():
        note = dict(note)
        if "removed" in note and name in flags and not note.pop("refused", False):
            raise ValueError(f"notes.json: {name} is not removed, the tool has it")
        result[name] = {**result.get(name, {"kind": "flag"}), **note}
    return result


def text(head: Mapping[str, str], flags: Flags) -> str:
    """One line per flag, sorted."""
    lines = [f'    "{name}": {json.dumps(flags[name], sort_keys=True)}' for name in sorted(flags)]
    top = [f'  "{name}": {json.dumps(value)},' for name, value in head.items()]
    return "\n".join(["{", *top, '  "flags": {', ",\n".join(lines), "  }", "}", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tools", nargs="*", help=f"of {', '.join(TOOLS)}; all by default")
    parser.add_argument("--wheels", type=Path, default=Path("/tmp/servix-wheels"))
    parser.add_argument("--offline", action="store_true", help="do not download wheels")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 where a file would change"
    )
    given = parser.parse_args()
    unknown = [name for name in given.tools if name not in TOOLS]
    if unknown:
        parser.error(f"no such tool: {', '.join(unknown)}")
    wrong = 0
    for name in given.tools or TOOLS:
        try:
            file, made, missing = generate(name, given.wheels, given.offline or given.check)
        except (OSError, subprocess.CalledProcessError, PackageNotFoundError, LookupError) as exception:
            print(f"{name}: not made: {exception}")
            wrong += 1
            continue
        path = FOLDER / file
        same = path.exists() and path.read_text(encoding="utf-8") == made
        if not given.check:
            path.write_text(made, encoding="utf-8")
        elif not same:
            print(f"catalogues/{file} differs; accept with: python tools/catalogue.py {name}")
            wrong += 1
        print(f"{file}: {len(json.loads(made)['flags'])} flags, {len(made) // 1024} KiB")
        for line in missing:
            print(f"  could not find {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
