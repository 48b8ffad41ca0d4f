"""Quoting through a real shell and real YAML readers: what goes in comes out, whatever it holds."""

import io
import json
import math
import subprocess
import sys
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compiler import late, quote

FRAGMENTS = [
    "$(id)",
    "`id`",
    "${HOME}",
    "$HOME",
    "'",
    '"',
    "\\",
    "\n",
    "\r\n",
    "\t",
    ";",
    "&",
    "|",
    ">",
    "<",
    "#",
    "!",
]
FRAGMENTS += [
    "*",
    "~",
    "{a,b}",
    " ",
    "--",
    "=",
    "%1",
    "é",
    "\u2028",
    "\x85",
    "\x7f",
    "\x1b",
    "😀",
    "\ufeff",
    "a",
    "{{",
    "}}",
]
LATE = [
    "{results_dir}",
    "{{results_dir}}",
    "{node:0}",
    "{{{node:0}",
    "{frontend_node}}}",
    "{",
    "}",
    "{other}",
]
VALUES = {
    "results_dir": '/tmp/it\'s "a" $(dir)\n\\x',
    "node:0": "`host`",
    "frontend_node": "$HOME; {results_dir}",
}

texts = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
    st.lists(st.sampled_from(FRAGMENTS + LATE)).map("".join),
)
DUMP = "import json, sys; print(json.dumps(sys.argv[1:]))"


def shell_words(words: list[str], before: str = "") -> list[str]:
    """What a process gets for these words of shell."""
    script = f"set -euo pipefail\n{before}\n{quote.shell(sys.executable)} -c {quote.shell(DUMP)} " + " ".join(
        words
    )
    result = subprocess.run(["bash", "-s"], input=script.encode(), capture_output=True, check=True)
    words_seen: list[str] = json.loads(result.stdout)
    return words_seen


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=40))
@example(["", "-", "--", "-n", "if", "a=b", "2", "%1", "~", "*", "\n", "it's", "!!", "\\"])
def test_shell_gives_back_every_text(values: list[str]) -> None:
    assert shell_words([quote.shell(value) for value in values]) == values


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=40))
@example(LATE)
def test_late_shell_is_bind(values: list[str]) -> None:
    variables = "\n".join(f"{quote.variable(word)}={quote.shell(text)}" for word, text in VALUES.items())
    seen = shell_words([quote.late_shell(value) for value in values], variables)
    assert seen == [late.bind(value, VALUES) for value in values]


@pytest.mark.parametrize("text", ["if", "time", "a=b", "%1", "", "a b", "~", "-", "*"])
def test_a_word_that_shell_reads_otherwise_is_quoted(text: str) -> None:
    assert quote.shell(text) == f"'{text}'"


@pytest.mark.parametrize(
    "text", ["python", "--port", "8000", "/a/b.c", "127.0.0.1:80", "a_b,c@d+e", "-m", "0,1"]
)
def test_a_plain_word_stays_readable(text: str) -> None:
    assert quote.shell(text) == text


@pytest.mark.parametrize("text", ["a\0b", "\ud83d"], ids=["NUL", "surrogate"])
def test_shell_refuses_what_no_process_can_be_given(text: str) -> None:
    with pytest.raises(ValueError, match=r"NUL|surrogate"):
        quote.shell(text)


@given(texts)
def test_a_comment_stays_on_its_line(text: str) -> None:
    made = quote.comment(text)
    assert len((made + "x").splitlines()) == 1
    assert yaml.safe_load(f"# {made}\na: 1") == {"a": 1}


# --- YAML ---

WORDS = [
    "y",
    "n",
    "Yes",
    "no",
    "on",
    "off",
    "true",
    "null",
    "~",
    "",
    "0x1f",
    "0o17",
    "017",
    "1e3",
    "1_000",
    "12:30:00",
]
WORDS += [
    "=",
    "<<",
    ".inf",
    ".nan",
    "2020-01-01",
    " lead",
    "trail ",
    "- a",
    "a: b",
    "a #b",
    "*a",
    "&a",
    "!t",
    "%",
    "@",
    "`",
]
WORDS += [
    "|",
    ">",
    "---",
    "...",
    "{a}",
    "[a]",
    "?",
    "\u2028",
    "\x85",
    "\x00",
    "\x7f",
    "\ufeff",
    "😀",
    "\\u0041",
    "a\nb",
    '"',
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(),
    texts,
    st.sampled_from(WORDS),
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.one_of(texts, st.sampled_from(WORDS)), inner, max_size=5),
    ),
    max_leaves=20,
)


def readers(text: str) -> dict[str, Any]:
    """The same text read as YAML 1.1 and, where a reader is installed, as YAML 1.2."""
    seen = {"1.1": yaml.safe_load(text)}
    try:
        from ruamel.yaml import YAML
    except ImportError:
        return seen
    return seen | {"1.2": YAML(typ="safe", pure=True).load(io.StringIO(text))}


def same(left: Any, right: Any) -> bool:
    """Equal, with types: 1, 1.0 and True differ."""
    return left == right and repr(left) == repr(right)


@pytest.mark.parametrize("text", WORDS, ids=ascii)
def test_yaml_text_stays_text(text: str) -> None:
    made = quote.yaml_scalar(text)
    assert made.isascii()
    for version, seen in readers(f"key: {made}\n").items():
        assert seen == {"key": text}, version


@settings(max_examples=200, deadline=None)
@given(scalars)
@example(1e20)
@example(1e-7)
@example(math.inf)
@example(-math.inf)
def test_yaml_1_1_gives_back_every_scalar(value: Any) -> None:
    assert same(yaml.safe_load(quote.yaml_scalar(value)), value)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.one_of(texts, st.sampled_from(WORDS)), trees, max_size=6))
@example({"k" * 1100: 1, "a" * 1100: {"\u2028" * 300: [{}, {"a": 1}]}})
@example({"a": [[1, [2]], {"b": []}, {}], "c": {"d": [{"e": 1, "f": [1, "x"]}]}})
def test_yaml_block_gives_back_every_tree(tree: dict[str, Any]) -> None:
    for version, seen in readers(quote.yaml_block(tree) + "\n").items():
        assert same(sorted_keys(seen), sorted_keys(tree)), version


def sorted_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value)}
    return [sorted_keys(item) for item in value] if isinstance(value, list) else value


def test_yaml_not_a_number() -> None:
    assert math.isnan(yaml.safe_load(quote.yaml_scalar(math.nan)))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({1: 2}, TypeError),
        ({"a": object()}, TypeError),
        ({"a": "\ud83d"}, ValueError),
    ],
    ids=["key of a number", "object", "surrogate"],
)
def test_yaml_refuses_what_it_cannot_say(data: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        quote.yaml_block(data)
