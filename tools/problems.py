"""Writes docs/problems.md from the table of codes: `python tools/problems.py`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.codes import PAGES, Page  # noqa: E402

HEAD = """# Problems

<!-- written by tools/problems.py from compiler/codes.py -->

Every problem names its place, the key, the value, the rule and the way out. `action=plan format=json` gives the
same with a code. An error forbids to run; a warning does not, unless `strict=true` (`idle-gpus` never does).
"""


def text() -> str:
    """The page."""
    return HEAD + "".join(f"\n{_page(page)}" for page in PAGES)


def _page(page: Page) -> str:
    command = shlex.join(["python", "run.py", "action=plan", *page.example])
    lines = [f"## {page.code}", "", f"Rule: {page.rule}.", "", f"Way out: {page.cure}.", ""]
    for name, content in page.files.items():
        lines += [
            f"With `{name}` in a folder named by `--config-dir`:",
            "",
            "```yaml",
            content.rstrip(),
            "```",
            "",
        ]
    return "\n".join([*lines, "```console", f"$ {command}", "```", ""])


if __name__ == "__main__":
    (ROOT / "docs" / "problems.md").write_text(text(), encoding="utf-8")
