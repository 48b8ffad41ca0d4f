"""Late-bound names: the closed set of placeholders a plan may hold, and how they are written and filled.

A host name or a results folder is unknown until the allocation exists, so plans hold `{frontend_node}` instead.
Text that a user means literally may look the same; `literal` protects it and `bind` gives it back unchanged:
`bind(literal(text), anything) == text` for every text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache

WORDS: Mapping[str, str] = {
    "frontend_node": "host name of the node that runs the frontend",
    "frontend_ip": "address of that node",
    "results_dir": "folder of this attempt, on the machine where the process runs",
    "storage_cache_dir": "system.storage_cache_dir, else a folder of this attempt",
    "servix_dir": "folder of the servix checkout",
}
"""Word -> meaning. `{node:N}`, the host of node N, belongs to the set too."""

MODEL_WORDS = ("servix_dir", "storage_cache_dir")
"""Placeholders allowed in model.path and model.tokenizer."""
SETTING_WORDS = (*WORDS, "node:N")
"""Placeholders allowed in every other templated setting."""

NODE_WORD = re.compile(r"(?<!\{)\{node:(0|[1-9][0-9]*)\}(?!\})")
"""A node's placeholder in a templated setting; group 1 is the index."""
_WORD = "|".join(WORDS) + r"|node:(?:0|[1-9][0-9]*)"
_LATE = re.compile(rf"(\{{+)({_WORD})(\}}+)")
_FIELD = r"\{(?P<word>[A-Za-z_][\w.]*(?::[0-9]+)?)\}"
_DOUBLED = re.compile(rf"(?:[^{{}}]|\{{\{{|\}}\}}|{_FIELD})*\Z")
_TOKEN = re.compile(rf"\{{\{{|\}}\}}|{_FIELD}")
_TOKEN_AMONG_BRACES = re.compile(r"\{\{[A-Za-z_][\w.]*(?::[0-9]+)?\}\}|" + _FIELD)


def literal(text: str) -> str:
    """Text that `bind` gives back unchanged: what looks like a placeholder gets one more brace on each side."""
    return _LATE.sub(lambda match: "{" + match[0] + "}", text)


def bind(text: str, values: Mapping[str, str]) -> str:
    """Text with its placeholders filled. Raises KeyError for a word of the set that has no value."""
    return "".join(values[piece] if bound else piece for piece, bound in pieces(text))


def pieces(text: str) -> list[tuple[str, bool]]:
    """Plan text in order: (literal text, False), protection removed, or (late-bound word, True).

    >>> pieces("http://{node:0}:8000")
    [('http://', False), ('node:0', True), (':8000', False)]
    """
    result, position = [], 0
    for match in _LATE.finditer(text):
        opened, word, closed = match.groups()
        before, position = text[position : match.start()], match.end()
        if min(len(opened), len(closed)) > 1:
            result += [(f"{before}{opened[1:]}{word}{closed[1:]}", False)]
        else:
            result += [(before + opened[1:], False), (word, True), (closed[1:], False)]
    result.append((text[position:], False))
    return [(piece, bound) for piece, bound in result if piece]


def words_of(text: str) -> list[str]:
    """Placeholders in plan text, in order."""
    return [m[2] for m in _LATE.finditer(text) if min(len(m[1]), len(m[3])) == 1]


class TemplateError(ValueError):
    """A templated setting that cannot be read; the message is fit for a user."""


def template(text: str, fields: Mapping[str, str] | None = None, known: Collection[str] = ()) -> str:
    """A templated setting as plan text.

    `{word}` of `fields` is filled now, with plan text; `{word}` of `known` stays for `bind` ("node:N" stands for
    every node). A literal brace is doubled; in text such as JSON, whose braces are around no word, single braces
    are literal too. Raises TemplateError for any other brace word.

    >>> template("{frontend_node}:{port} {{x}}", {"port": "8300"}, ["frontend_node"])
    '{frontend_node}:8300 {x}'
    >>> template('{"pull": {port}}', {"port": "8300"})
    '{"pull": 8300}'
    """
    if "{" not in text and "}" not in text:
        return text
    fields = fields or {}
    result, (words, end) = "", _read(text)
    for plain, word in words:
        result = _beside(_beside(result, plain, text), _filled(word, fields, known), text)
    return _beside(result, end, text)


# Points of a sweep have the same settings, and rules read them as well as what makes the plan.
@lru_cache(maxsize=4_096)
def _read(text: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """Each brace word of a templated setting with the plan text before it, and the plan text after the last."""
    pattern = _TOKEN if _DOUBLED.match(text) else _TOKEN_AMONG_BRACES
    words, plain, position = [], "", 0
    for match in pattern.finditer(text):
        plain += text[position : match.start()]
        position = match.end()
        if match["word"] is None:
            # Either a doubled brace, or a word in doubled braces: one layer goes.
            plain += match[0][0] if len(match[0]) == 2 else match[0][1:-1]
            continue
        words.append((literal(plain), match["word"]))
        plain = ""
    return tuple(words), literal(plain + text[position:])


def _filled(word: str, fields: Mapping[str, str], known: Collection[str]) -> str:
    if word in fields:
        return fields[word]
    if word in known or ("node:N" in known and re.fullmatch(r"node:(?:0|[1-9][0-9]*)", word)):
        return "{" + word + "}"
    names = ", ".join("{" + name + "}" for name in [*fields, *known])
    raise TemplateError(
        f"unknown placeholder {{{word}}}; known: {names}; a literal brace is doubled: {{{{x}}}}"
    )


def _beside(left: str, right: str, text: str) -> str:
    """Two pieces of plan text joined; braces that meet could not be told from a protected placeholder."""
    if left and right and left[-1] == right[0] and right[0] in "{}":
        raise TemplateError(f"a brace beside a placeholder in {text!r}; put something between them")
    return left + right
