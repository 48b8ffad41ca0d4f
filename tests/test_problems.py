"""Bad inputs and near-misses of `problems.yaml`: each is refused with its place and words, or accepted."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from compiling import ROOT, own_plan, plan, problems, run, told

from compiler.errors import Problem, format_problem
from launchers.main import main

TABLE = yaml.safe_load((Path(__file__).parent / "problems.yaml").read_text(encoding="utf-8"))
REFUSED: list[dict[str, Any]] = TABLE["refused"]
WARNED: list[dict[str, Any]] = TABLE["warned"]
ACCEPTED: list[dict[str, Any]] = TABLE["accepted"]
WHOLE = [row for row in REFUSED if "files" in row or row.get("command")]
INSIDE = [row for row in REFUSED if row not in WHOLE]

INTERNALS = (
    *("Traceback", "<function", "object at 0x", "pydantic", "omegaconf", "OmegaConf", "NoneType"),
    *("Error merging override", "Could not override", "constrained-", "ConfigValueError"),
)
"""Words of the libraries below, which mean nothing to a user."""
Folder = Callable[[Mapping[str, str]], Path]


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def as_problem(data: Mapping[str, Any]) -> Problem:
    return Problem(**data)


def check(row: Mapping[str, Any], found: list[Problem]) -> None:
    """The errors of a row: as many as expected, each one line with its place, none in a library's words."""
    lines = [format_problem(problem) for problem in found]
    shown = "\n".join(f"{problem.code}: {line}" for problem, line in zip(found, lines, strict=True))
    expected = [problem for problem in found if problem.code not in row.get("also", ())]
    assert len(expected) == row.get("count", 1), f"expected {row.get('count', 1)} problem\n{shown}"
    at = row.get("at", f"override '{row['args'][0]}'")
    assert any(row["code"] in problem.code and at in problem.masked().origin for problem in expected), shown
    for problem, line in zip(found, lines, strict=True):
        assert "\n" not in line
        assert problem.key or problem.code in ("yaml", "override-syntax"), shown
        assert problem.origin, shown
        assert not any(word in line for word in INTERNALS), shown
    missing = [word for word in row["words"] if not any(word in line for line in lines)]
    assert not missing, f"{missing} not in\n{shown}"


def test_the_tables_are_long_enough_and_their_ids_unique() -> None:
    assert len(REFUSED) >= 150
    assert len(ACCEPTED) >= 50
    names = ids(REFUSED) + ids(ACCEPTED)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", INSIDE, ids=ids(INSIDE))
def test_the_compiler_refuses(row: dict[str, Any]) -> None:
    made = plan(*row["args"])
    assert not made.valid
    assert not [point for point in made.points if not point.valid and point.digest]
    check(row, problems(made))


@pytest.mark.parametrize("row", WHOLE, ids=ids(WHOLE))
def test_the_command_refuses(row: dict[str, Any], folder: Folder, tmp_path: Path) -> None:
    """`files` and Hydra's own settings: one JSON document, exit code 2, nothing written."""
    own = [f"--config-dir={folder(row['files'])}"] if "files" in row else []
    output = tmp_path / "outputs"
    ran = run([*row["args"], *own, "action=plan", "format=json", f"output_dir={output}"])
    assert ran.code == 2, ran.err
    document = json.loads(ran.out)
    assert document["deployments"] == []
    found = [as_problem(one) for point in document["points"] for one in point["problems"]]
    check(row, [problem for problem in found if problem.level == "error"])
    assert not output.exists()


@pytest.mark.parametrize("row", ACCEPTED, ids=ids(ACCEPTED))
def test_near_misses_are_accepted(row: dict[str, Any], folder: Folder) -> None:
    made = own_plan(folder(row["files"]), *row["args"]) if "files" in row else plan(*row["args"])
    assert made.valid, told(made)
    assert made.deployments


@pytest.mark.parametrize("row", WARNED, ids=ids(WARNED))
def test_a_warning_is_told_and_forbids_only_when_strict(row: dict[str, Any], folder: Folder) -> None:
    using = partial(own_plan, folder(row["files"])) if "files" in row else plan
    made = using(*row["args"])
    assert made.valid, told(made)
    found = [problem for problem in problems(made, "warning") if problem.code == row["code"]]
    assert len(found) == 1, told(made)
    assert all(word in format_problem(found[0]) for word in row["words"]), told(made)
    strict = using(*row["args"], "strict=true")
    assert not strict.valid
    assert [problem for problem in problems(strict) if problem.code == row["code"]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config-name", "mine"), ("--config-name = 'mine'", "--config-dir names a folder")),
        (("--config-path=mine",), ("--config-path = 'mine'", "--config-dir names a folder")),
        (("--cfg", "job", "--config-name", "mine"), ("--config-name = 'mine'",)),
        (("--resolve",), ("--resolve: goes with --cfg only",)),
        (("--package", "model"), ("--package: goes with --cfg only",)),
        (("--concurrency", "2"), ("usage: python run.py", "without dashes", "--concurrency")),
    ],
    ids=["config-name", "config-path", "of-cfg", "resolve", "package", "dashes"],
)
def test_options_that_do_nothing_here_are_refused(
    arguments: tuple[str, ...], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(ROOT / "config", arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    told = capsys.readouterr().err
    assert code == 2
    assert all(word in told for word in words), told


def test_a_python_without_what_servix_needs_is_told_which_one_has_it() -> None:
    """`-S` leaves out what is installed, as the system's Python does before .venv is activated."""
    ran = subprocess.run(
        [sys.executable, "-S", "run.py", "action=plan"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert "has no module hydra" in ran.stderr
    assert ".venv/bin/activate, then the same command" in ran.stderr


FROM_A_SHELL = ("key-top", "option-typo", "tp-zero", "worker-larger-than-node", "port-of-a-worker")
FROM_A_SHELL += ("interpolation-missing", "hydra-mode", "yaml-syntax")


@pytest.mark.parametrize("name", FROM_A_SHELL)
def test_the_real_command_says_so_and_starts_nothing(name: str, folder: Folder, tmp_path: Path) -> None:
    """Exit code 2, one line per problem, no traceback, no output folder."""
    (row,) = (row for row in REFUSED if row["id"] == name)
    own = [f"--config-dir={folder(row['files'])}"] if "files" in row else []
    output = tmp_path / "outputs"
    ran = subprocess.run(
        [sys.executable, "run.py", *row["args"], *own, f"output_dir={output}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr
    assert ran.stdout == ""
    lines = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert all(word in lines[0] for word in row["words"]), ran.stderr
    assert "Traceback" not in ran.stderr
    assert "nothing was started" in ran.stderr
    assert not output.exists()
