"""Arguments in snake_case -> the words of a command line, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([_-][A-Za-z0-9]+)*\Z")
_FLAG = re.compile(r"(?:--(?P<long>[A-Za-z][^=\s]*)|(?P<short>-[A-Za-z]))(?:=(?P<value>.*))?\Z", re.DOTALL)


def is_flag_name(name: str) -> bool:
    """True for names that make a flag: letters and digits, joined by `_` or `-`."""
    return bool(_NAME.match(name))


def canonical(name: str) -> str:
    """Dashes and underscores are two spellings of one flag.

    >>> canonical("max-model-len")
    'max_model_len'
    """
    return name.replace("-", "_")


def words(arguments: Mapping[str, Any]) -> list[str]:
    """Command-line words: true is a bare flag, null and false are not passed, a mapping is JSON.

    >>> words({"streaming": True, "request_count": 20, "goodput": None, "extra_inputs": {"ignore_eos": True}})
    ['--streaming', '--request-count', '20', '--extra-inputs', '{"ignore_eos": true}']
    """
    result: list[str] = []
    for name, value in arguments.items():
        if value is None or value is False:
            continue
        result.append("--" + name.replace("_", "-"))
        if value is not True:
            result += [text(item) for item in (value if isinstance(value, list) else [value])]
    return result


def read(given: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Flags of a command line with the words that follow each; words before the first flag are left out.

    Long flags come in canonical spelling, short ones with their dash.

    >>> read(["run", "--url", "http://a", "--streaming", "-m=x", "-1"])
    [('url', ['http://a']), ('streaming', []), ('-m', ['x', '-1'])]
    """
    result: list[tuple[str, list[str]]] = []
    for word in given:
        match = _FLAG.match(word)
        if match is not None:
            name = canonical(match["long"]) if match["long"] else match["short"]
            result.append((name, [] if match["value"] is None else [match["value"]]))
        elif result:
            result[-1][1].append(word)
    return result


def text(value: Any) -> str:
    """One value as one word."""
    if isinstance(value, Mapping | list):
        return json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
