"""Configuration files read with libyaml are what Hydra makes of them, words of what is wrong included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from compiling import CONFIG
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from omegaconf import OmegaConf

from compiler.compose.files import MOST_LEVELS, Files

OURS = sorted(str(path.relative_to(CONFIG).with_suffix("")) for path in CONFIG.rglob("*.yaml"))

TEXTS = {
    "numbers": "a: 1e3\nb: 1_000\nc: 0o17\nd: 017\ne: .5\nf: 1:30\ng: .inf\nh: 0x1f\ni: -0\nj: 1.",
    "dates-are-text": "a: 2026-11-21\nb: 2026-11-21T10:00:00Z",
    "words": "a: yes\nb: off\nc: ~\nd: null\ne: 'on'\nf: \"x\\ty\"\ng: é\nh: 😀",
    "merge-and-alias": "a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: 2",
    "blocks": "a: |\n  one\n   two\nb: >-\n  one\n  two\n",
    "interpolations": "a: ${b}\nb: ???\nc: '${oc.env:X,1}'",
    "package": "# @package _global_\n\na: 1",
    "package-of-three-words": "# @package a b\na: 1",
    "keys": "1: a\n2.5: b\ntrue: c\n? d\n: e",
    "byte-order-mark": "\ufeffa: 1",
    "windows": "a: 1\r\nb: 2\r\n",
    "empty": "",
    "comment": "# nothing",
    "word": "word",
    "list": "- 1\n- 2",
    "number": "5",
    "duplicate-key": "a: 1\na: 2",
    "duplicate-below": "x:\n  a: 1\n  a: 2",
    "two-documents": "a: 1\n---\nb: 2",
    "tab": "a:\n\tb: 1",
    "open-bracket": "a: [1, 2",
    "open-quote": "a: 'x",
    "tag": "a: !!python/object:os.system x",
    "path": "a: !!python/object/apply:pathlib.Path [a, b]",
    "half-a-pair": 'a: "\\ud800"',
    "control-character": "a: \x01",
    "deep": "a: " + "[" * 30_000 + "]" * 30_000,
    "deep-rows": "- " * 30_000 + "a",
}


def given(source: FileConfigSource, name: str) -> Any:
    """The file's content with its types, or the name and the words of what is raised."""
    try:
        found = source.load_config(name)
    except RecursionError:
        return RecursionError
    except Exception as exception:
        return type(exception), str(exception)
    plain = OmegaConf.to_container(found.config, resolve=False)
    return repr(plain), type(found.config), found.header, found.path, found.provider


@pytest.mark.parametrize("name", OURS)
def test_a_file_of_ours_is_what_hydra_makes_of_it(name: str) -> None:
    assert given(Files("main", str(CONFIG)), name) == given(FileConfigSource("main", str(CONFIG)), name)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_any_file_is_what_hydra_makes_of_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8", newline="")
    ours, hydras = Files("user", str(tmp_path)), FileConfigSource("user", str(tmp_path))
    assert given(ours, "mine") == given(hydras, "mine")


@pytest.mark.parametrize(
    "content", [b"a: \xff\xfe", b"\xff\xfea\x00:\x00 \x001\x00"], ids=["latin", "utf-16"]
)
def test_a_file_that_is_no_utf_8_is_told_by_hydra(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    ours, hydras = Files("user", str(tmp_path)), FileConfigSource("user", str(tmp_path))
    assert given(ours, "mine") == given(hydras, "mine")
    assert given(ours, "absent") == given(hydras, "absent")


def test_no_file_of_ours_is_left_to_the_slow_parser() -> None:
    large = [name for name in OURS if (CONFIG / f"{name}.yaml").read_text().count("\n") > MOST_LEVELS]
    assert not large
