"""Writes catalogues/*.json: the flags of every tool servix starts, and LMCache's settings, by name and kind.

A tool that is installed is asked for its own parser (`catalogue_installed`); the engines, which are not, are
read from their wheels as source (`catalogue_engines`) and never imported. `catalogues/notes.json` is written
by hand: what to do now instead of a removed or deprecated flag. Help texts are not copied.

    python tools/catalogue.py                       all of them; wheels are downloaded into --wheels
    python tools/catalogue.py --check aiperf ...    writes nothing, exits 1 where a file would change
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import requires, version
from pathlib import Path

from catalogue_engines import genai_perf_parser, sglang_parser, vllm_parser
from catalogue_flags import Entry, Flags, from_argparse
from catalogue_installed import aiperf, dynamo_sglang, dynamo_vllm, frontend, lmcache, mocker
from catalogue_static import Sources
from recorded import ROOT, Made, record, wheel

FOLDER = ROOT / "catalogues"
SCHEMA = "servix.catalogue/1"


@dataclass(frozen=True)
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


def generate(name: str, wheels: Path, offline: bool) -> Made:
    """One catalogue.

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
    made = text(head, flags)
    told = f"{len(flags)} flags, {len(made) // 1024} KiB"
    return Made(f"{name}-{number}.json", made, told, tuple(unknown))


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


if __name__ == "__main__":
    sys.exit(record(__doc__ or "", TOOLS, FOLDER, generate))
