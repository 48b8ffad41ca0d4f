"""Writes or checks recorded files, one per tool, and has the wheels of tools that are not installed.

Given to: `catalogue` and `metrics`, which know what stands in the files.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Made:
    """A file as it should be, what is said of it, and what could not be found out."""

    file: str
    text: str
    told: str
    missing: tuple[str, ...] = ()


def wheel(package: str, number: str, folder: Path, offline: bool) -> Path:
    """The wheel of a release, downloaded without dependencies unless it is there."""
    pattern = f"{package.replace('-', '_')}-{number}-*.whl"
    there = sorted(folder.glob(pattern))
    if not there and not offline:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, f"{package}=={number}", "-d", str(folder)], check=True)
        there = sorted(folder.glob(pattern))
    if not there:
        raise FileNotFoundError(f"no {pattern} in {folder}")
    return there[-1]


def record(about: str, tools: Collection[str], folder: Path, make: Callable[[str, Path, bool], Made]) -> int:
    """Runs the command line of a script that records; gives its exit code.

    `make` takes a tool, the folder of wheels and whether to stay offline. It raises OSError,
    subprocess.CalledProcessError, PackageNotFoundError or LookupError where there is no such tool.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("tools", nargs="*", help=f"of {', '.join(tools)}; all by default")
    parser.add_argument("--wheels", type=Path, default=Path("/tmp/servix-wheels"))
    parser.add_argument("--offline", action="store_true", help="do not download wheels")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 where a file would change"
    )
    given = parser.parse_args()
    unknown = [name for name in given.tools if name not in tools]
    if unknown:
        parser.error(f"no such tool: {', '.join(unknown)}")
    wrong = 0
    for name in given.tools or tools:
        try:
            made = make(name, given.wheels, given.offline or given.check)
        except (OSError, subprocess.CalledProcessError, PackageNotFoundError, LookupError) as exception:
            print(f"{name}: not made: {exception}")
            wrong += 1
            continue
        path = folder / made.file
        if not given.check:
            path.write_text(made.text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != made.text:
            print(f"{path.relative_to(ROOT)} differs; accept with: python {parser.prog} {name}")
            wrong += 1
        print(f"{made.file}: {made.told}")
        for line in made.missing:
            print(f"  could not find {line}")
    return 1 if wrong else 0
