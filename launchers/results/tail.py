"""The end of a log, fit to be quoted in a verdict. Never does: raising, or reading more than the end."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

MOST_BYTES = 65_536
LONGEST_LINE = 400

# Colours, and the frames that rich draws around errors: noise in a quote.
_NOISE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\u2500-\u257f]")
_TROUBLE = re.compile(r"\b(?:ERROR|WARN|WARNING|CRITICAL|FATAL|Traceback|panicked)\b")
# What is wrong follows such a line: a stack and the exception, the message of a panic.
_OPENING = re.compile(r"\b(?:Traceback|panicked)\b")


def tail(path: Path, lines: int = 6) -> str:
    """The last `lines` lines that say something, without colours and frames; "" when there are none.

    Where none of them tells of trouble and some before them do, the last of those: a server that dies may go on to
    say which of its parts stop.
    """
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - MOST_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    cleaned = [_NOISE.sub("", line).rstrip() for line in text.replace("\r", "\n").split("\n")]
    said = [line for line in cleaned if line.strip()]
    return "\n".join(line.strip()[:LONGEST_LINE] for line in _telling(said, lines))


def _telling(said: Sequence[str], lines: int) -> Sequence[str]:
    last = [index for index, line in enumerate(said) if _TROUBLE.search(line)][-lines:]
    if not last or last[-1] >= len(said) - lines:
        return said[-lines:]
    begin = last[-1]
    if not _OPENING.search(said[begin]):
        return [said[index] for index in last]
    # A traceback is indented up to its exception.
    end = begin + 1
    while end < len(said) - 1 and said[end].startswith(" "):
        end += 1
    return said[begin : end + 1][-lines:]
