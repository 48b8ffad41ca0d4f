"""The end of a log, fit to be quoted in a verdict. Never does: raising, or reading more than the end."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOST_BYTES = 16_384
LONGEST_LINE = 200

# Colours, and the frames that rich draws around errors: noise in a quote.
_NOISE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\u2500-\u257f]")


def tail(path: Path, lines: int = 6) -> str:
    """The last `lines` lines that say something, without colours and frames; "" when there are none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - MOST_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    said = [_NOISE.sub("", line).strip() for line in text.replace("\r", "\n").split("\n")]
    return "\n".join(line[:LONGEST_LINE] for line in [line for line in said if line][-lines:])
