"""Writes requirements/*.lock from pyproject.toml: versions, markers and hashes, nothing else.

The whole set is resolved first and each part is held to its versions; a lock then lists only what the
ones before it do not. So no package is in two locks, and no two locks can disagree.
The resolver lives in a throw-away environment: the project's own never contains it.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
RESOLVER = "uv==0.13.9"

# In the order of installation: each set contains the ones before it.
SETS = {
    "build": ["requirements/build.in"],
    "core": ["requirements/build.in", "pyproject.toml"],
    "local": ["requirements/build.in", "pyproject.toml", "--extra=local"],
    "optuna": ["requirements/build.in", "pyproject.toml", "--extra=local", "--extra=optuna"],
    "dev": ["requirements/build.in", "pyproject.toml", "--extra=local", "--extra=optuna", "--extra=dev"],
}
OPTIONS = [
    *("--universal", "--python-version=3.11", "--no-python-downloads", "--quiet", "--generate-hashes"),
    *("--no-header", "--no-annotate", "--no-emit-index-url"),
    *("--override=requirements/overrides.txt", "--excludes=requirements/excludes.txt"),
]
# The resolver repeats the two platforms of pyproject.toml on every line. A marker that is false makes
# pip skip the package in silence; without it, pip says which one has no file for this machine.
PLATFORMS = re.compile(r"(?: and |(?<= ; ))implementation_name == 'cpython' and \(\(.*\)\)")


def without_platforms(text: str) -> str:
    """The lock text with only the Python version left in its markers."""
    return re.sub(r" ; (?= \\$)", "", PLATFORMS.sub("", text), flags=re.MULTILINE)


def pins_of(text: str) -> list[str]:
    """The pins of a lock, each with the lines of its hashes."""
    return re.findall(r"^\S+==.*\\\n(?:    --hash=.*\n)+", text, re.MULTILINE)


def resolve(uv: Path, inputs: list[str], output: Path, extra: list[str]) -> list[str]:
    """The pins of one set, near those that output already holds; CalledProcessError when there are none."""
    command = [str(uv), "pip", "compile", *OPTIONS, *inputs, *extra, f"--output-file={output}"]
    subprocess.run(command, cwd=ROOT, check=True)
    return pins_of(without_platforms(output.read_text()))


def resolve_all(scratch: Path, upgrade: bool) -> dict[str, list[str]]:
    """The pins of every set, all of one resolution."""
    venv.create(scratch, with_pip=True)
    subprocess.run([scratch / "bin" / "pip", "install", "--quiet", RESOLVER], check=True)
    uv, whole = scratch / "bin" / "uv", scratch / "whole.txt"
    locked = sorted(LOCKS.glob("*.lock"))
    whole.write_text("" if upgrade else "".join(path.read_text() for path in locked))
    pins = resolve(uv, SETS["dev"], whole, [])
    whole.write_text("".join(pins))
    held = [f"--constraint={whole}"]
    parts = {name: resolve(uv, SETS[name], scratch / f"{name}.txt", held) for name in SETS if name != "dev"}
    return {**parts, "dev": pins}


def write(sets: dict[str, list[str]]) -> None:
    """One lock per set, less what the sets before it hold."""
    seen: set[str] = set()
    for name in SETS:
        new = [pin for pin in sets[name] if pin not in seen]
        seen.update(new)
        (LOCKS / f"{name}.lock").write_text("".join(new))
        print(f"requirements/{name}.lock: {len(new)} pins")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="move every pin to the newest version allowed")
    upgrade = parser.parse_args().upgrade
    with tempfile.TemporaryDirectory() as scratch:
        write(resolve_all(Path(scratch), upgrade))
    return 0


if __name__ == "__main__":
    sys.exit(main())
