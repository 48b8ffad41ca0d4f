"""What Hydra, OmegaConf and YAML complain about, as problems in our words with a place.

Takes an exception and the configuration files there are; reads them again to find what the library did not say.
Never does: importing those libraries. It knows them by the words and the data of their exceptions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from compiler.errors import NOTHING, Problem, did_you_mean, error, nearest
from compiler.renamed import PACKAGE_HINT

_YAML_HINTS: tuple[tuple[str, str], ...] = (
    ("'\\t'", "indent with spaces, not tabs"),
    (r"that cannot start any token", "put quotes around a value that starts with this character"),
    ("duplicate key", "name each key once"),
    (
        "mapping values are not allowed",
        "write one 'key: value' per line, below its neighbours; quote a value that holds ': '",
    ),
    ("expected ',' or", "close the bracket, and put commas between the items"),
    ("unexpected end of stream", "close the quotation mark that opens here"),
    ("escape character", "use single quotes, in which a backslash is itself"),
    ("undefined alias", "put quotes around a value that starts with '*', or define its anchor '&'"),
    ("alphabetic or numeric", "put quotes around a value that starts with '&' or '*'"),
    (
        "constructor for the tag",
        "leave out the tag: values are plain here; quotes around one that starts with '!'",
    ),
    ("special characters", "take out the control character"),
    ("another document", "write one document per file, without '---'"),
    ("unhashable key", "use a plain word as key"),
    ("<document start>", "start the keys of one mapping in the same column"),
    ("expected <block end>, but found '<block", "start the keys of one mapping in the same column"),
    ("expected <block end>, but found '<scalar>'", "put quotes around the whole value"),
    (
        "expected <block end>, but found '?'",
        "keep list items and keys apart: a mapping has no lines with '-'",
    ),
)
"""Part of what PyYAML says -> what to do; the first that fits counts."""
_NOT_IN = re.compile(r"Key '([^']+)' not in '\w+'")
_OVERRIDDEN = re.compile(r"In '([^']+)': Could not override '([^'@]+)@")


def problem_of(exception: BaseException, files: Iterable[Path] = ()) -> Problem:
    """A failure to compose, with the file and line where one of `files` shows it."""
    chain = [exception]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 20:
        chain.append(cause)
    files = list(files)
    for told in reversed(chain):
        for known in (
            _yaml,
            _not_utf8,
            _without_end,
            _single_value,
            _missing_option,
            _boolean_option,
            _no_package,
            _unknown_setting,
        ):
            if (problem := known(told, files)) is not None:
                return problem
    worded = next((link for link in reversed(chain) if str(link).strip()), exception)
    return error("compose", "", NOTHING, sentence(worded))


def sentence(exception: BaseException) -> str:
    """The first informative line of a library's message."""
    lines = [line.strip() for line in str(exception).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(exception).__name__


def _yaml(exception: BaseException, _: list[Path]) -> Problem | None:
    if not isinstance(exception, yaml.YAMLError):
        return None
    marks = [getattr(exception, name, None) for name in ("problem_mark", "context_mark")]
    reason = (getattr(exception, "problem", None) or sentence(exception)).removeprefix("but ")
    if "end of stream" in reason:
        marks.reverse()  # where the quotation opens, not where the file ends
    hint = next(
        (hint for part, hint in _YAML_HINTS if part in reason), "write key: value, indented with spaces"
    )
    problem = error("yaml", "", NOTHING, f"is not YAML: {reason}", hint)
    mark = marks[0] or marks[1]
    if mark is not None:
        return problem.at(f"{shown(Path(mark.name))}:{mark.line + 1}")
    name = getattr(exception, "name", None)
    return problem.at(shown(Path(name))) if isinstance(name, str) else problem


def _not_utf8(exception: BaseException, files: list[Path]) -> Problem | None:
    if not isinstance(exception, UnicodeDecodeError):
        return None
    problem = error("yaml", "", NOTHING, f"is not UTF-8 text (byte {exception.start})", "save it as UTF-8")
    return next((problem.at(shown(path)) for path in files if not _is_utf8(path)), problem)


def _without_end(exception: BaseException, _: list[Path]) -> Problem | None:
    if not isinstance(exception, RecursionError):
        return None
    reason = "files name each other in their defaults, or a value is nested too deep"
    return error("yaml", "", NOTHING, reason, "mend the file of the option")


def _single_value(exception: BaseException, files: list[Path]) -> Problem | None:
    """A file such as `3`, which OmegaConf reports as trouble with the disk."""
    if "Invalid loaded object type" not in str(exception):
        return None
    problem = error("yaml", "", NOTHING, "holds a single value, and no keys", "write key: value")
    place = _place(files, lambda path, node: not path and not node.tag.endswith((":str", ":null")))
    return problem.at(place)


def _missing_option(exception: BaseException, files: list[Path]) -> Problem | None:
    missing = getattr(exception, "missing_cfg_file", None)
    if not isinstance(missing, str):
        return None
    group, _, option = missing.rpartition("/")
    options = [str(name) for name in getattr(exception, "options", None) or []]
    # Hydra does not list what there is where a file's defaults name it.
    options = options or sorted({path.stem for path in files if path.parent.name == group})
    reason = "no such option" + (f"; known: {', '.join(options)}" if options else "")
    hint = did_you_mean(option, options) if nearest(option, options) else ""
    place = _place(files, lambda path, node: node.value == option and "defaults" in path)
    return error("unknown-option", group, option, reason, hint).at(place)


def _boolean_option(exception: BaseException, files: list[Path]) -> Problem | None:
    if "in defaults : bool" not in str(exception):
        return None
    place = _place(files, lambda path, node: node.tag.endswith(":bool") and "defaults" in path)
    hint = "YAML reads on, off, yes and no as booleans; quote the word"
    return error("yaml", "defaults", NOTHING, "an option's name was read as a boolean", hint).at(place)


def _no_package(exception: BaseException, files: list[Path]) -> Problem | None:
    """Overrides in a defaults list are relative to the file's package, which a comment in the first line sets."""
    match = _OVERRIDDEN.search(str(exception))
    if match is None:
        return None
    config, group = match.groups()
    place = next((shown(path) for path in files if str(path).endswith(f"/{config}.yaml")), config)
    return error("compose", group, NOTHING, "cannot be overridden from there", PACKAGE_HINT).at(place)


def _unknown_setting(exception: BaseException, files: list[Path]) -> Problem | None:
    """A key that a launcher or sweeper of Hydra does not have, in a file."""
    match = _NOT_IN.match(str(exception))
    if match is None:
        return None
    name, key = match[1], str(getattr(exception, "full_key", None) or match[1])
    place = _place(files, lambda path, _: name in path and "hydra" in path)
    return error("unknown-key", key, NOTHING, "unknown key", setting_hint(exception, name)).at(place)


def setting_hint(exception: BaseException, name: str) -> str:
    """The names there are in place of `name`, where the exception knows the structure that lacks it."""
    structure = getattr(exception, "object_type", None)
    names = [field.name for field in fields(structure)] if is_dataclass(structure) else []
    return did_you_mean(name, [known for known in names if not known.startswith("_")])


def _place(files: list[Path], matches: Callable[[list[str], yaml.ScalarNode], bool]) -> str:
    """`file:line` of the first scalar that matches, or ""."""
    for file in files:
        try:
            root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            continue
        for path, node in _scalars(root, []):
            if matches(path, node):
                return f"{shown(file)}:{node.start_mark.line + 1}"
    return ""


def _scalars(node: Any, path: list[str]) -> Iterator[tuple[list[str], yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield path, node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item, path)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(value, [*path, str(key.value)])


def _is_utf8(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    except OSError:
        return True
    return True


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
