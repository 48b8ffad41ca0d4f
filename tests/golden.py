"""Recorded text as a test: `check` compares with `tests/golden/`, and says how to accept a difference."""

import difflib
import os
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent / "golden"


def check(path: str, text: str) -> None:
    """Fails with a unified diff when `text` is not what `tests/golden/<path>` holds.

    With SERVIX_ACCEPT=1 in the environment it records the text instead.
    """
    file = GOLDEN / path
    if os.environ.get("SERVIX_ACCEPT") == "1":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
        return
    recorded = file.read_bytes().decode() if file.exists() else ""
    if text == recorded:
        return
    lines = difflib.unified_diff(
        recorded.splitlines(), text.splitlines(), f"recorded {path}", "emitted now", lineterm=""
    )
    test = os.environ.get("PYTEST_CURRENT_TEST", "tests").partition("::")[0]
    how = f"to accept: SERVIX_ACCEPT=1 .venv/bin/python -m pytest {test}"
    difference = "\n".join(lines) or "line ends differ"
    raise AssertionError(f"{path} is not what was recorded\n\n{difference}\n\n{how}")
