"""The pages for people: every key and default they name is the real one, every command does what they say."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml
from compiling import CONFIG, ROOT, point, run

from compiler import late
from compiler.model import Config

CONFIGURATION = ROOT / "docs" / "configuration.md"
MAIN_PAGES = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in [
            "concepts",
            "configuration",
            "extending",
            "kubernetes",
            "results",
            "slurm",
            "sweeps",
            "development",
        ]
    ),
)
PAGES = tuple(
    sorted({*MAIN_PAGES, "CHANGELOG.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))})
)
ROLES = ("prefill", "decode", "aggregated")
# Mappings of structures -> what stands for their keys on the page.
NAMED = {"backend.engines": "<engine>", "backend.ports": "<port>", "system.containers": "<name>"}
# Settings whose keys are a tool's own: the page lists those that the files have.
OPEN = ("aiperf", "genai_perf", "lmcache")
# Keys that are set by choosing an option; the table of groups has them.
GROUPS = {"serving", "topology"}
# Options of the groups that only another option brings.
EVERYTHING = ("lmcache=on", "accuracy=mmlu")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a page: its headings and the cells of its rows."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, heading: str) -> list[str]:
        return [row[self.headings.index(heading)] for row in self.rows]


def tables(text: str) -> Iterator[Table]:
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        lines = [
            tuple(cell.strip() for cell in line.strip().strip("|").split("|")) for line in block.splitlines()
        ]
        yield Table(lines[0], tuple(lines[2:]))


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def documented() -> list[str]:
    return [name for table in tables(text_of("docs/configuration.md")) if table.headings[0] == "key"
            for cell in table.column("key") for name in code(cell)]  # fmt: skip


def said(key: str) -> str:
    """A dotted key as the page writes it."""
    role, dot, rest = key.partition(".")
    if role in ROLES:
        return f"<role>{dot}{rest}"
    for place, stands in NAMED.items():
        if key.startswith(f"{place}."):
            return re.sub(rf"^{re.escape(place)}\.[^.]+", f"{place}.{stands}", key)
    return key


def keys_of_the_model(kind: Any, place: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        key, options = f"{place}{name}", [hint, *get_args(hint)]
        structures = [option for option in options if dataclasses.is_dataclass(option)]
        if get_origin(hint) is dict and structures:
            yield from keys_of_the_model(structures[0], f"{key}.{NAMED[key]}.")
        elif structures:
            yield from keys_of_the_model(structures[0], f"{key}.")
        elif name not in OPEN:
            yield said(key)


def keys_of_a_file(path: Path) -> Iterator[str]:
    """Every key of a YAML file of `config/`, below its package, down to the ends."""
    text = path.read_text(encoding="utf-8")
    at_the_top = path.parent == CONFIG or "# @package _global_" in text
    yield from ends(yaml.safe_load(text), "" if at_the_top else f"{path.parent.name}.")


def ends(value: Any, place: str) -> Iterator[str]:
    for name, item in value.items():
        if name == "defaults" or (not place and name == "hydra"):
            continue
        yield f"{place}{name}"
        if isinstance(item, Mapping):
            yield from ends(item, f"{place}{name}.")


FILES = sorted(path for path in CONFIG.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(CONFIG)) for path in FILES])
def test_every_key_of_a_file_is_documented(path: Path) -> None:
    listed = set(documented())
    # A key is also documented by one it is below of (an open mapping) or by those below it.
    missing = [
        key
        for key in map(said, keys_of_a_file(path))
        if not any(key == name or name.startswith(f"{key}.") or key.startswith(f"{name}.") for name in listed)
        and key not in GROUPS
    ]
    assert missing == []


def test_every_key_of_the_model_is_documented() -> None:
    assert sorted(set(keys_of_the_model(Config)) - GROUPS - set(documented())) == []


def test_no_key_is_documented_that_does_not_exist() -> None:
    from hydra_plugins import servix

    ours = {field.name for field in dataclasses.fields(servix.SlurmConf)} - {"_target_"}
    existing = set(keys_of_the_model(Config)) | {f"hydra.launcher.{name}" for name in ours}
    existing |= {key for path in FILES for key in keys_of_a_file(path) if key.partition(".")[0] in OPEN}
    listed = documented()
    assert sorted(set(listed) - existing) == []
    assert sorted(name for name in listed if listed.count(name) > 1) == []
    assert {name for name in listed if name.startswith("hydra.launcher.")} == {
        f"hydra.launcher.{name}" for name in ours
    }


@cache
def composed(*arguments: str) -> Mapping[str, Any]:
    return point(*arguments).config


def value_at(key: str, *arguments: str) -> Any:
    value: Any = composed(*arguments)
    for name in key.split("."):
        value = value[name]
    return value


def test_every_default_is_the_real_one() -> None:
    wrong = []
    for table in tables(text_of("docs/configuration.md")):
        if table.headings[:3] != ("key", "type", "default"):
            continue
        for row in table.rows:
            (key,), shown = code(row[0]), code(row[2])
            if not shown:
                assert row[2] in ("of the system", "see file"), f"no default of {key}"
                continue
            tool = ("bench=genai_perf",) if key.startswith("genai_perf.") else ()
            for real in [key.replace("<role>", role) for role in ROLES] if "<role>" in key else [key]:
                value = value_at(real, *EVERYTHING, *tool)
                if yaml.safe_load(shown[0]) != value:
                    wrong.append(f"{real}: the page says {shown[0]}, it is {value!r}")
    assert wrong == []


@pytest.mark.parametrize("system", ["local", "slurm", "kubernetes"])
def test_every_default_of_a_system_is_the_real_one(system: str) -> None:
    found = [table for table in tables(text_of("docs/configuration.md")) if system in table.headings]
    assert found
    wrong = []
    for key_cell, shown in [
        pair for table in found for pair in zip(table.column("key"), table.column(system), strict=True)
    ]:
        (key,) = code(key_cell)
        if code(shown) and yaml.safe_load(code(shown)[0]) != value_at(key, f"system={system}"):
            wrong.append(key)
    assert wrong == []


def test_groups_and_options_are_the_real_ones() -> None:
    (table,) = [table for table in tables(text_of("docs/configuration.md")) if table.headings[0] == "group"]
    listed = {code(row[0])[0]: set(code(row[1])) for row in table.rows}
    real = {
        folder.name: {path.stem for path in folder.glob("*.yaml")}
        for folder in CONFIG.iterdir()
        if any(folder.glob("*.yaml"))
    }
    assert {"experiment": set(), **real} == {"experiment": set(), **listed}


def test_every_placeholder_is_documented() -> None:
    (table,) = [table for table in tables(text_of("docs/configuration.md")) if table.headings[0] == "word"]
    assert {code(cell)[0] for cell in table.column("word")} == {
        *(f"{{{word}}}" for word in late.WORDS),
        "{node:N}",
        "{host}",
    }


@dataclasses.dataclass(frozen=True)
class Shown:
    """A command on a page, and what the page shows of its output."""

    page: str
    line: int
    words: tuple[str, ...]
    output: tuple[str, ...]


def shown_commands() -> Iterator[Shown]:
    for page in MAIN_PAGES:
        lines = text_of(page).splitlines()
        fence = False
        for index, text in enumerate(lines):
            if text.startswith("```"):
                fence = not fence
            command = re.fullmatch(r"(?:\$ |    )?(python run\.py .*)", text)
            if command and (fence or text.startswith("    ")):
                yield Shown(page, index + 1, tuple(shlex.split(command[1])[2:]), tuple(output(lines, index)))


def output(lines: list[str], index: int) -> Iterator[str]:
    """What follows a command that stands behind a `$`, up to the end of the fence or the next one."""
    if lines[index].startswith("$ "):
        for text in lines[index + 1 :]:
            if text.startswith(("```", "$ ")):
                return
            yield text


def user_files(folder: Path) -> Path:
    """The YAML files that the pages show, as a user would write them."""
    for page in MAIN_PAGES:
        for name, text in re.findall(r"`mine/(\S+)`:\n\n```yaml\n(.*?)```", text_of(page), re.DOTALL):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return folder


COMMANDS = [shown for shown in shown_commands() if not {"--help", "--cfg"} & set(shown.words)]


@pytest.mark.parametrize("shown", COMMANDS, ids=[f"{shown.page}:{shown.line}" for shown in COMMANDS])
def test_every_command_compiles_and_shows_what_the_page_says(shown: Shown, tmp_path: Path) -> None:
    """Commands that would run something are planned in place of it: real runs are the main job's tests."""
    words = list(shown.words)
    if "mine" in words:
        words[words.index("mine")] = str(user_files(tmp_path / "mine"))
    planned = "action=plan" in words
    refused = any(line.startswith("error: ") for line in shown.output)
    ran = run([*words, f"output_dir={tmp_path / 'outputs'}", *([] if planned else ["action=plan"])])
    assert ran.code == (2 if refused else 0), ran.out + ran.err
    real = list(map(lasting, (ran.out + ran.err).splitlines()))
    if planned:
        assert [part for part in unbroken(shown.output) if not stands_in(part, real)] == [], "\n".join(real)
    told = [line for line in shown.output if line.startswith(("error: ", "warning: "))]
    assert [line for line in told if lasting(line) not in real] == []


def unbroken(lines: Sequence[str]) -> list[list[str]]:
    """The parts of an output between lines of dots, which stand for what the page leaves out."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if line == "...":
            parts.append([])
        else:
            parts[-1].append(lasting(line))
    return parts


def stands_in(part: Sequence[str], lines: Sequence[str]) -> bool:
    return any(list(part) == list(lines[start : start + len(part)]) for start in range(len(lines) + 1))


def lasting(line: str) -> str:
    """A line of output without what may change any day: digests, and lines of the configuration's files."""
    return re.sub(r"\b[0-9a-f]{10}\b", "<digest>", re.sub(r"\.yaml:\d+", ".yaml", line)).rstrip()


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower().replace("`", "")).replace(" ", "-")


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text_of(page))):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        if not path.exists():
            broken.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", prose(path.read_text(encoding="utf-8")), re.MULTILINE)
            broken += [] if anchor in map(slug, headings) else [target]
    assert broken == []


FOREIGN = re.compile(
    r"(?:^|[\s`'\"(=])/(?:work|root|tmp|home|Users)/|\bissues?\b|DESIGN\.md|STYLE\.md|\bfacts/|\bseeds/"
)
"""Paths of one machine, and papers that a reader does not have."""


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_nothing_that_a_reader_does_not_have(page: str) -> None:
    lines = text_of(page).splitlines()
    assert [line for line in lines if FOREIGN.search(line)] == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[a-z]+\.md|CHANGELOG\.md)\)", text_of("README.md")))
    assert set(MAIN_PAGES[1:]) <= linked
