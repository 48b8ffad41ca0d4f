"""What looks like a secret in a configuration: by its name, as a flag, a header, a setting in a text, or in a URL.

Takes names, texts, overrides and plain data; says whether they hold a secret, and gives them with it masked.
What a shell fills in later (`$HF_TOKEN`) is none. Never does: finding a secret that looks like any other word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

MASK = "***"
MOST_KEPT = 20_000
"""Answers that are remembered: points of a sweep have nearly all words in common."""

_MODEL_S = "".join(f"(?<!{word}[_-])" for word in ("per", "first", "eos", "bos", "pad", "stop", "mask"))
"""Before `token`, words of a model: `kv_bytes_per_token`, `eos_token`."""
_TAIL = (
    rf"(?:{_MODEL_S}token|secret|password|passwd|passphrase|api[_-]?key|credentials?|private[_-]key|access[_-]key)"
    r"(?![A-Za-z0-9_-])"
)
_HEADER = r"(?:(?:proxy-)?authorization|(?:set-)?cookie)"
_NAME = rf"(?<![A-Za-z0-9])(?:[A-Za-z0-9_-]{{0,60}}[_-])?{_TAIL}"
_IS_NAME = re.compile(rf"(?:.*[_-])?{_TAIL}\Z|{_HEADER}\Z", re.IGNORECASE | re.DOTALL)
_BEFORE = "|".join(
    (
        rf"{_NAME}=",
        rf"(?<![A-Za-z0-9_])-{{1,2}}(?:[A-Za-z0-9_-]{{0,60}}[_-])?{_TAIL}[\"']?[\s,]+(?![\"']?-)",
        rf"{_NAME}(?::\s+|[\"']\s*:\s*)",
        rf"[{{,]\s*{_NAME}\s*:\s*",
        # A variable as a pod has it.
        rf"{_NAME}[\"']?\s*,\s*[\"']?value[\"']?\s*:\s*",
        # A scheme is no value: `Bearer $TOKEN` is filled in later.
        rf"{_HEADER}[\"']?\s*:\s*(?:\w+\s+)?+",
        rf"{_HEADER}=(?:\w+\s+)?+",
        r"\b(?-i:Bearer)\s+",
    )
)
"""What stands before a secret in a text."""
_VALUE = r"(?!(?:null|true|false)\b)(?:\"(?![$`\"{])[^\"]*|'(?![$`'{])[^']*|[^\s\"'$`,;&)\]}{][^\"'\]}]*)"
"""To the closing quote, else as far as it may go: rather too much is masked than too little."""
_TEXT = re.compile(
    rf"(?P<before>{_BEFORE}){_VALUE}|(?P<url>://[^/\s:@\"']*:)(?!\$)[^/\s@\"']+(?=@)", re.IGNORECASE
)
_MAYBE = re.compile(r"token|secret|passw|passp|key|credential|authoriz|cookie|bearer|@", re.IGNORECASE)
"""Quickly told of nearly every text: it holds none."""


@lru_cache(MOST_KEPT)
def is_name(name: str) -> bool:
    """True for a name whose value is a secret.

    >>> [is_name(name) for name in ("HF_TOKEN", "api-key", "Authorization", "max_tokens", "tokenizer", "token_count")]
    [True, True, True, False, False, False]
    """
    return _MAYBE.search(name) is not None and _IS_NAME.match(name) is not None


@lru_cache(MOST_KEPT)
def is_in(text: str) -> bool:
    """True for a text, or the words of a command joined by spaces, that holds a secret.

    >>> is_in("--hf-token abc"), is_in("curl -H token=abc"), is_in("redis://:abc@host:1"), is_in("--tokenizer abc")
    (True, True, True, False)
    """
    return _MAYBE.search(text) is not None and _TEXT.search(text) is not None


def masked(text: str) -> str:
    """The text without its secrets.

    >>> masked("curl -H 'X-API-Key: abc' http://me:pw@host")
    "curl -H 'X-API-Key: ***' http://me:***@host"
    """
    if _MAYBE.search(text) is None:
        return text
    return _TEXT.sub(lambda found: f"{found['before'] or found['url']}{MASK}", text)


def masked_override(override: str) -> str:
    """The same of an override: all of its value, where its key says that it is a secret.

    >>> masked_override("+decode.env.HF_TOKEN=a b"), masked_override("decode.extra_args=[--hf-token,abc]")
    ('+decode.env.HF_TOKEN=***', 'decode.extra_args=[--hf-token,***]')
    """
    key, equals, value = override.partition("=")
    name = key.lstrip("+~").partition("@")[0].rpartition(".")[2]
    if equals and is_name(name):
        return override if holds_nothing(value) else f"{key}={MASK}"
    return masked(override)


def masked_data(value: Any, name: str = "") -> Any:
    """Plain data without its secrets; `name` is the key that holds it."""
    if name and is_name(name) and not holds_nothing(value):
        return MASK
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        kept = {key: masked_data(item, str(key)) for key, item in value.items()}
        return {**kept, "value": MASK} if is_variable(value) else kept
    if isinstance(value, list | tuple):
        names = [
            "" if _flag(item) else _flag(before) for before, item in zip(("", *value), value, strict=False)
        ]
        return [masked_data(item, name) for item, name in zip(value, names, strict=True)]
    return value


def is_variable(entry: Mapping[Any, Any]) -> bool:
    """True for a variable as pods have them whose value is a secret.

    >>> is_variable({"name": "HF_TOKEN", "value": "abc"}), is_variable({"name": "HF_TOKEN", "valueFrom": {}})
    (True, False)
    """
    name = entry.get("name")
    return isinstance(name, str) and is_name(name) and not holds_nothing(entry.get("value"))


def holds_nothing(value: Any) -> bool:
    """True for what no secret can be."""
    return value is None or isinstance(value, bool) or value in ("", "null", "''", '""')


def _flag(word: Any) -> str:
    """The name of a flag that takes the word after it as its value."""
    return word.lstrip("-") if isinstance(word, str) and word.startswith("-") else ""
