"""Why Hydra cannot read an override, in words of what was typed: its parser speaks of tokens and alternatives.

Takes the text of an override that was refused; gives the reason and what to do. Never does: repeating a value, which
may be a secret.
"""

from __future__ import annotations

import re

_CLOSES = {"]": "[", "}": "{", ")": "("}
_EMPTY_ITEM = re.compile(r"(?:^|[,\[{(])\s*,|,\s*\Z")
_FOREIGN = re.compile(r"token recognition error at: '(.)")
QUOTE = "quote what the shell or Hydra would read: 'key=\"a, b\"'"


def why_unreadable(text: str, message: str) -> tuple[str, str]:
    """The reason, and the way out, for an override that Hydra's parser refused with `message`.

    >>> why_unreadable("phases=[1,2", "")[0]
    "'[' is never closed"
    """
    _, equals, value = text.partition("=")
    if not equals:
        return "it has no '='", "write key=value, without blanks around '='"
    left = _left_open(value)
    if left in ("'", '"'):
        return f"the quotation mark {left} is never closed", f"close it; {QUOTE}"
    if left in _CLOSES:
        return f"'{left}' closes nothing", f"open it before; {QUOTE}"
    if left:
        return f"'{left}' is never closed", f"close it; {QUOTE}"
    if _EMPTY_ITEM.search(value):
        return "a comma has no value beside it", f"write key=1,2,4; {QUOTE}"
    if value.startswith("="):
        return "it has two '='", QUOTE
    if foreign := _FOREIGN.search(message):
        return f"'{foreign[1]}' means something to Hydra", QUOTE
    return "its value is no word, number, list or mapping", QUOTE


def _left_open(value: str) -> str:
    """The quotation mark or bracket that has no partner, the first one to be closed first; "" where all have."""
    quote, opened = "", list[str]()
    for before, char in zip(" " + value, value, strict=False):
        if quote:
            quote = "" if char == quote and before != "\\" else quote
        elif char in "'\"":
            quote = char
        elif char in _CLOSES.values():
            opened.append(char)
        elif char in _CLOSES and (not opened or opened.pop() != _CLOSES[char]):
            return char
    return quote or (opened[-1] if opened else "")
