"""Values as text that a shell or a YAML reader takes back unchanged.

Taken from: any text or plain data. Given to: the template environments of `emit`.
Never does: templates; expanding anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from compiler import late

# What needs no quotes wherever a word may stand. No `=` and no `%`: as a command those would not be words.
_BARE = re.compile(r"(?:-{0,2}[A-Za-z]|[/:]|\./)[A-Za-z0-9_./:,+@-]*\Z|[0-9][0-9_./:,-]*\Z")
_RESERVED = re.compile(
    r"(?:case|coproc|do|done|elif|else|esac|fi|for|function|if|in|select|then|time|until|while)\Z"
)
_YAML_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_YAML_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
_YAML_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
CONTINUED = " \\\n    "
MOST_KEPT = 10_000
"""Keys that are remembered: the objects of a cluster have few, and each many times."""
LONGEST_YAML_KEY = 1024
"""In characters: YAML's limit for a key written as `key: value`; a longer one is written as `? key`."""


def shell(text: str) -> str:
    """One word of POSIX shell for exactly `text`. Raises ValueError for what no process can be given.

    >>> print(shell("it's $HOME"), shell("--port"), shell(""))
    'it'"'"'s $HOME' --port ''
    """
    _check_text(text)
    if _BARE.match(text) and not _RESERVED.match(text):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


def late_shell(text: str) -> str:
    """One word of shell for plan text: late-bound words become variables, expanded once and never split.

    >>> print(late_shell("http://{node:0}:8000/x y"))
    http://"$NODE_0"':8000/x y'
    """
    parts = [f'"${variable(piece)}"' if bound else shell(piece) for piece, bound in late.pieces(text)]
    return "".join(parts) or "''"


def late_bash(text: str) -> str:
    """The same for plan text that `bash -c` reads: there, too, what is filled in is one word, whatever it holds.

    >>> print(late_bash("cp {results_dir}/a b"))
    'cp '"${RESULTS_DIR@Q}"'/a b'
    """
    parts = [f'"${{{variable(piece)}@Q}}"' if bound else shell(piece) for piece, bound in late.pieces(text)]
    return "".join(parts) or "''"


def words(texts: Iterable[str]) -> str:
    """Plan texts as words of shell on continued lines, one long flag with its values a line."""
    lines: list[str] = []
    for text in texts:
        if lines and not text.startswith("--"):
            lines[-1] += " " + late_shell(text)
        else:
            lines.append(late_shell(text))
    return CONTINUED.join(lines)


def assignments(env: Mapping[str, str]) -> str:
    """Words `NAME=value` for the command `env`, one a line, sorted by name; the values are plan text."""
    return CONTINUED.join(f"{name}={late_shell(text)}" for name, text in sorted(env.items()))


def late_yaml(text: str) -> str:
    """YAML with late-bound words inside its double quotes, as one word of shell.

    The shell escapes what it fills in by its function `in_yaml`, which the template defines.
    """
    parts = [
        f'"$(in_yaml "${variable(piece)}")"' if bound else shell(piece) for piece, bound in late.pieces(text)
    ]
    return "".join(parts) or "''"


def variable(word: str) -> str:
    """Name of the shell variable of a late-bound word: `node:0` is `NODE_0`."""
    return word.replace(":", "_").upper()


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError(f"a process cannot be given a NUL character: {text!r}")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(f"not valid text (half a surrogate pair): {text!r}")


def comment(text: str) -> str:
    """Text for a comment of one line: whatever could end the line is written as an escape.

    >>> print(comment("one\\ntwo"))
    one\\ntwo
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def yaml_scalar(value: Any) -> str:
    """A scalar on one line that YAML 1.1 and 1.2 both read back as `value`, with its type.

    Text is always in double quotes and ASCII: no reader can take `off`, `12:30:00` or `1e3` for another type.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if value.isascii() and value.isprintable():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return '"' + _YAML_UNSAFE.sub(_yaml_escape, value) + '"'
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _yaml_float(value)
    raise TypeError(f"no YAML scalar: {value!r}")


def _yaml_escape(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    if 0xD800 <= code <= 0xDFFF:
        raise ValueError("not valid text (half a surrogate pair)")
    if char in '"\\':
        return "\\" + char
    # JSON would write a pair of \u escapes beyond the first plane; YAML reads those as two characters.
    return {"\n": "\\n", "\t": "\\t"}.get(char) or (f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")


def _yaml_float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    # YAML 1.1 takes 1e+20 for text: its floats need a dot.
    return text if "." in text else text.replace("e", ".0e")


def yaml_block(data: Mapping[str, Any]) -> str:
    """A nested mapping as YAML in block style, keys sorted, without a line end at its end."""
    return "\n".join(_yaml_lines(data)) if data else "{}"


def _yaml_lines(data: Any) -> list[str]:
    """Lines of a mapping or list that is not empty."""
    lines: list[str] = []
    if not isinstance(data, Mapping):
        for value in data:
            flow = _yaml_flow(value)
            first, *rest = _yaml_lines(value) if flow is None else [flow]
            lines.append(f"- {first}")
            lines += ["  " + line for line in rest]
        return lines
    for name, value in sorted(data.items()):
        head = f"{_yaml_key(name)}:"
        if len(head) > LONGEST_YAML_KEY:
            lines.append(f"? {head[:-1]}")
            head = ":"
        flow = _yaml_flow(value)
        lines.append(head if flow is None else f"{head} {flow}")
        if flow is None:
            lines += ["  " + line for line in _yaml_lines(value)]
    return lines


def _yaml_flow(value: Any) -> str | None:
    """A value that fits beside its key: a scalar, an empty collection, a list of scalars; else null."""
    if isinstance(value, str):
        return yaml_scalar(value)
    if isinstance(value, Mapping):
        return None if value else "{}"
    if not isinstance(value, Sequence) or isinstance(value, str):
        return yaml_scalar(value)
    if any(not isinstance(item, str) and isinstance(item, Mapping | Sequence) for item in value):
        return None
    return "[" + ", ".join(yaml_scalar(item) for item in value) + "]"


@lru_cache(MOST_KEPT)
def _yaml_key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key must be text, not {key!r}")
    return key if _YAML_KEY.match(key) and key.lower() not in _YAML_WORDS else yaml_scalar(key)
