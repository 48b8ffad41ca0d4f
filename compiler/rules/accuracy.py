"""Rules on the accuracy run: what is started, what it is told, and where it writes.

Its placeholders are looked at with those of all settings (`placeholders`), JSON that lost its quotes with
that of all commands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from compiler import flags, late
from compiler.catalogue import Catalogue, catalogue
from compiler.errors import Problem, error, warning
from compiler.late import SETTING_WORDS
from compiler.model import Accuracy, Config
from compiler.placement import Placement
from compiler.rules.flags import given, unchecked

FIELDS = ("model", "url", "address", "endpoint", "tokenizer", "artifact_dir", "result_dir")
"""Words in braces of the command, beside those of every setting."""
SCRIPTS = (".py", ".sh")
_FILLED = "\0"
"""Stands for what a placeholder becomes: no text of a configuration can hold it."""


def texts(config: Config) -> Iterable[tuple[str, str, Mapping[str, str]]]:
    """Key, text and own words of its templated settings."""
    said = config.accuracy
    if said is None:
        return
    for key, words in {"entrypoint": said.entrypoint, "cli": said.cli}.items():
        for index, word in enumerate(words):
            yield f"accuracy.{key}.{index}", word, dict.fromkeys(FIELDS, "x")
    if said.setup_command is not None:
        yield "accuracy.setup_command", said.setup_command, {}


def accuracy(config: Config, placement: Placement) -> Iterable[Problem]:
    """The command of the accuracy run."""
    said = config.accuracy
    if said is None:
        return
    yield from _program(said)
    yield from _results(said)
    names = (said.catalogue,) if said.catalogue else ()
    found, told = catalogue(names), _told(said.cli, catalogue(names))
    yield from _required(said, found, told)
    yield from _synthetic(said, found, told)
    if said.catalogue:
        yield from unchecked("accuracy.catalogue", names, dict(told))
        yield from _known(told, found)


def _program(said: Accuracy) -> Iterable[Problem]:
    """It runs in the attempt's folder, in which no script of the user is."""
    key = "accuracy.entrypoint"
    if not said.entrypoint:
        hint = "e.g. accuracy.entrypoint='\"python /path/script.py\"'"
        yield error("accuracy", key, said.entrypoint, "names no program", hint)
    for index, word in enumerate(said.entrypoint):
        path = "/" in word if index == 0 else word.endswith(SCRIPTS)
        if path and not word.startswith(("/", "{", "-")):
            reason = "is a relative path, and the run has a folder of its own"
            yield error(
                "accuracy", f"{key}.{index}", word, reason, "write an absolute path, or {servix_dir}/..."
            )


def _results(said: Accuracy) -> Iterable[Problem]:
    """A file of the artifact folder, of which the command has heard."""
    path = PurePosixPath(said.results)
    if path.is_absolute() or ".." in path.parts or not path.name:
        reason = "is no file of the run's artifact folder"
        yield error("accuracy", "accuracy.results", said.results, reason, "e.g. accuracy_results.csv")
    words = [*said.entrypoint, *said.cli]
    if not any(
        place in word for word in words for place in ("{artifact_dir}", "{result_dir}", "{results_dir}")
    ):
        reason = f"the command is not told where {said.results} is looked for"
        yield warning("accuracy", "accuracy.cli", " ".join(said.cli), reason, "give it {artifact_dir}")


def _told(cli: Sequence[str], found: Catalogue) -> list[tuple[str, list[str]]]:
    """Flags and their words, short spellings replaced by the flag's name where the catalogue knows it."""
    short = {f"-{spelling}": flag.name for flag in found.flags.values() for spelling in flag.short}
    return [(short.get(name, name), words) for name, words in flags.read(cli)]


def _name(spelling: str, found: Catalogue) -> str:
    flag = found.flags.get(flags.canonical(spelling))
    return flag.name if flag is not None else flags.canonical(spelling)


def _required(said: Accuracy, found: Catalogue, told: Sequence[tuple[str, list[str]]]) -> Iterable[Problem]:
    """Without these flags, or with other words, the run would ask somebody else, or leave its CSV elsewhere."""
    held = {_name(name, found): words for name, words in told}
    for name, wanted in said.required.items():
        spelled, words = "--" + name.replace("_", "-"), held.get(_name(name, found))
        if words is None:
            reason = f"lacks {spelled}, which this run needs"
            hint = f"add {spelled} {wanted or '...'}"
            yield error("accuracy", "accuracy.cli", " ".join(said.cli), reason, hint)
        elif wanted is not None and words != [wanted]:
            shown = " ".join([spelled, *words])
            reason = f"{spelled} is decided by the plan, and this would contradict it"
            yield error("accuracy", "accuracy.cli", shown, reason, f"write {spelled} {wanted}")


def _synthetic(said: Accuracy, found: Catalogue, told: Sequence[tuple[str, list[str]]]) -> Iterable[Problem]:
    out = {_name(name, found) for name in said.synthetic}
    for name, words in told:
        if _name(name, found) in out:
            shown = " ".join(["--" + name.replace("_", "-"), *words])
            reason = "the benchmark's data set supplies the prompts and the length of answers"
            yield warning("accuracy", "accuracy.cli", shown, reason, "leave it out")


def _known(told: Sequence[tuple[str, list[str]]], found: Catalogue) -> Iterable[Problem]:
    """Each flag against the catalogue; what is wrong is shown as it stands in the command line."""
    seen: set[str] = set()
    for name, words in told:
        spelled = " ".join([name if name.startswith("-") else "--" + name.replace("_", "-"), *words])
        if not flags.is_flag_name(name):
            yield error("unknown-flag", "accuracy.cli", spelled, f"is no flag of {found.title}")
            continue
        if _name(name, found) in seen:
            yield error("flag", "accuracy.cli", spelled, "is given twice", "keep one of the two")
        seen.add(_name(name, found))
        for problem in given("accuracy.cli", {name: _value(words, name, found)}, found, "", []):
            bare = problem.reason == "takes no value"
            hint = "leave the word out" if bare else problem.hint.split("what is new to servix")[0].rstrip()
            yield replace(problem, key="accuracy.cli", value=spelled, hint=hint)


def _value(words: Sequence[str], name: str, found: Catalogue) -> Any:
    """What the flag is given, as a configuration would say it; null where only the run knows the whole."""
    values = [_filled(word) for word in words]
    if any(_FILLED in value or late.words_of(value) for value in values):
        return None
    flag = found.flags.get(name)
    if flag is not None and "json" in (flag.kind, flag.items) and len(values) == 1:
        return _data(values[0])
    return (values if len(values) > 1 else values[0]) if values else True


def _filled(word: str) -> str:
    try:
        return late.template(word, dict.fromkeys(FIELDS, _FILLED), SETTING_WORDS)
    except late.TemplateError:
        return _FILLED  # a problem of its own


def _data(text: str) -> Any:
    """JSON as data, so that its commas do not split it; other text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text
