"""The rules of the house, read from the import statements: who may import whom, and what stays out of start-up."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from compiling import ROOT, plan
from results_data import stored

from launchers.store import Store

DATA = {
    *("model", "plan", "errors", "late", "flags", "hostlist", "quote", "plan_json", "image", "catalogue"),
    *(
        "allocation",
        "complaint",
        "facts",
        "renamed",
        "placement",
        "kinds",
        "metrics",
        "estimate",
        "difference",
        "keys",
        "once",
        "served",
        "settings",
        "secret",
        "prefetch",
    ),
}
"""Modules of compiler/ that hold data or say one pure thing about it; any pass may import them."""
ALSO = {
    "check": {"rules"},  # the table of rules
    "rules": {"rules"},
    "lower": {"lowering"},  # its parts
    "lowering": {"lowering"},
    "compose": {"compose"},
    "origin": {"compose"},  # the files that were composed
    "json_schema": {"schema"},
    "batch": {"emit"},  # its templates
    "manifests": {
        "manifests",
        "digest",
        "schema",
    },  # short digests, and the cluster's part of a configuration
}
"""Pass -> what else it imports: the types another pass gives, and what a rule must share with it."""
EVERYTHING = {"pipeline"}

HEAVY = (
    "pandas",
    "submitit",
    "rich",
    "matplotlib",
    "kubernetes",
    "lightkube",
    "httpx2",
    "aiperf",
    "numpy",
    "torch",
    "plotly",
    "asyncio",
)
IMPURE = {
    "socket",
    "subprocess",
    "time",
    "datetime",
    "random",
    "urllib",
    "http",
    "requests",
    "tempfile",
    "shutil",
}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Dotted name of everything a file imports, and whether it does when it is itself imported."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    late = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_for_types(node)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from ((f"{node.module}.{alias.name}", node not in late) for alias in node.names)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_the_compiler_imports_no_launcher() -> None:
    wrong = [(file.name, name) for file in modules("compiler") for name, _ in imports(file)]
    assert not [pair for pair in wrong if pair[1].split(".")[0] in ("launchers", "run", "tests", "templates")]


def test_only_run_imports_the_command() -> None:
    wrong = [
        (str(file), name)
        for file in [*modules("launchers"), *modules("compiler")]
        for name, _ in imports(file)
        if name.split(".")[0] == "run" or name.startswith("launchers.main")
    ]
    assert not wrong
    assert {name.split(".")[0] for name, _ in imports(ROOT / "run.py")} <= {
        "gc",
        "os",
        "sys",
        "pathlib",
        "launchers",
    }


def room(file: Path) -> str:
    """The module's name, or that of the folder of modules it belongs to."""
    return file.parent.name if file.parent.name != "compiler" else file.stem


def passes() -> list[Path]:
    return [file for file in modules("compiler") if file.stem not in EVERYTHING and file.stem != "__init__"]


@pytest.mark.parametrize("file", passes(), ids=lambda file: str(file.relative_to(ROOT / "compiler")))
def test_a_pass_imports_data_modules_only(file: Path) -> None:
    mine = room(file)
    taken = {name.split(".")[1] for name, _ in imports(file) if name.startswith("compiler.")}
    assert taken <= DATA | ALSO.get(mine, set()), f"{mine} imports another pass"


def test_the_compiler_is_pure() -> None:
    """No clock, no network, no environment, no processes. `os` is used for paths of messages only."""
    for file in modules("compiler"):
        names = {name.split(".")[0] for name, _ in imports(file)}
        assert not names & IMPURE, file
        source = ast.parse(file.read_text(encoding="utf-8"))
        used = {node.attr for node in ast.walk(source) if isinstance(node, ast.Attribute)}
        assert not used & {"environ", "getenv", "putenv", "write_text", "write_bytes", "mkdir", "unlink"}, (
            file
        )
        calls = [node.func for node in ast.walk(source) if isinstance(node, ast.Call)]
        called = {function.id for function in calls if isinstance(function, ast.Name)}
        assert not called & {"open", "print", "input", "exec", "eval"}, file


ONLY = [
    ("hydra", {"compose"}),
    ("omegaconf", {"compose"}),
    ("jinja2", {"emit"}),
    ("pydantic", {"kinds", "model", "schema", "settings"}),
]


@pytest.mark.parametrize(("library", "rooms"), ONLY, ids=[row[0] for row in ONLY])
def test_a_library_is_known_to_one_room_of_the_compiler(library: str, rooms: set[str]) -> None:
    found = {
        room(file)
        for file in modules("compiler")
        for name, _ in imports(file)
        if name.split(".")[0] == library
    }
    assert found <= rooms


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    wrong = [
        (file.name, name)
        for file in [*modules("launchers"), *modules("compiler"), ROOT / "run.py"]
        for name, at_once in imports(file)
        if at_once
        and name.split(".")[0] in HEAVY
        and name.split(".")[0] != "asyncio"
        and "results" not in file.parts
    ]
    assert not wrong


START = "import launchers.main, launchers.command"
COMMAND = (
    "from pathlib import Path\n"
    "from launchers.main import main\n"
    "import io, contextlib\n"
    "with contextlib.redirect_stdout(io.StringIO()):\n"
    "    assert main(Path('config'), {arguments}) == 0"
)


def loaded(code: str) -> set[str]:
    """Libraries that are there after the code has run."""
    script = f"import sys\nsys.path.append('launchers')\n{code}\nprint(sorted(m.split('.')[0] for m in sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return set(ast.literal_eval(ran.stdout))


PLAN = COMMAND.format(arguments=["action=plan", "output_dir=/nonexistent/x"])


@pytest.mark.parametrize("code", [START, PLAN], ids=["start-up", "plan"])
def test_heavy_libraries_are_not_loaded(code: str) -> None:
    assert not loaded(code) & {*HEAVY, "jinja2"}


def test_a_finished_sweep_loads_nothing_that_measures(tmp_path: Path) -> None:
    asked = ["trial=1,2", f"output_dir={tmp_path}"]
    made = plan(*asked)
    for point in made.points:
        stored(Store(tmp_path), made, point)
    assert not loaded(COMMAND.format(arguments=asked)) & set(HEAVY)
