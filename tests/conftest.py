"""What all tests share."""

import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

LATIN_1 = "latin-1:"
"""Start of a file's text that is to be written as Latin-1, so that it is no UTF-8."""


# A shell that starts the tests in the background makes them, and all they start, ignore Ctrl-C; some test it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """Writes `path -> text` into a fresh folder, as a user's own --config-dir."""

    def write(files: Mapping[str, str]) -> Path:
        root = tmp_path / "own config"
        for name, text in files.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            latin = text.startswith(LATIN_1)
            file.write_bytes(text.removeprefix(LATIN_1).encode("latin-1" if latin else "utf-8"))
        return root

    return write
