"""Every code has a page, every page an example that brings the problem about."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

from compiler.check import RULES
from compiler.codes import PAGES, Page

ROOT = Path(__file__).resolve().parent.parent
CODE = re.compile(r"""(?:error|warning|_refused)\(\s*["']([a-z0-9-]+)["']""")


def written() -> str:
    spec = importlib.util.spec_from_file_location("problems_tool", ROOT / "tools" / "problems.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.text())


def test_docs_are_what_the_table_says() -> None:
    assert (ROOT / "docs" / "problems.md").read_text() == written(), "accept with: python tools/problems.py"


def test_no_code_has_two_pages() -> None:
    codes = [page.code for page in PAGES]
    assert len(codes) == len(set(codes))


def test_every_code_of_the_compiler_has_a_page() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "compiler").rglob("*.py"))
    codes = {rule.code for rule in RULES} | set(CODE.findall(sources))
    codes |= {
        str(row["code"]) for row in yaml.safe_load((ROOT / "tests" / "problems.yaml").read_text())["refused"]
    }
    assert codes - {page.code for page in PAGES} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.code)
def test_the_example_of_a_page_triggers_it(page: Page, tmp_path: Path) -> None:
    import subprocess
    import sys

    for name, text in page.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [
        sys.executable,
        "run.py",
        f"--config-dir={tmp_path}",
        "action=plan",
        "format=json",
        *page.example,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    found = {
        problem["code"]: problem
        for point in json.loads(done.stdout)["points"]
        for problem in point["problems"]
    }
    assert page.code in found, f"{sorted(found)}\n{done.stderr}"
    assert found[page.code]["origin"] or page.code in ("duplicate-point", "idle"), found[page.code]
    assert "Traceback" not in done.stderr
