"""The set-up: locks, environment, Makefile, and the files of the tiny model."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ["build", "core", "local", "optuna", "dev"]
TINY = ROOT / "config" / "model" / "files" / "tiny"
PIN = re.compile(r"^([a-z0-9-]+)==(\S+?)(?: ; (python_full_version [<>=]+ '[\d.]+'))? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def lock_lines(name: str) -> list[str]:
    return (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()


def pinned(name: str) -> list[tuple[str, str, str | None]]:
    """(name, version, Python marker) of each pin of a lock."""
    return [match.group(1, 2, 3) for line in lock_lines(name) if (match := PIN.match(line))]


def requirement_name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower().replace("_", "-")


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_pins_and_hashes_and_nothing_else(name: str) -> None:
    strange = [line for line in lock_lines(name) if not PIN.match(line) and not HASH.match(line)]
    assert strange == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_a_hash(name: str) -> None:
    lines = lock_lines(name)
    followers = [after for line, after in zip(lines, [*lines[1:], ""], strict=True) if PIN.match(line)]
    assert followers
    assert all(HASH.match(line) for line in followers)


def test_no_package_is_pinned_twice_for_one_python() -> None:
    pins = [(package, marker) for name in LOCKS for package, _, marker in pinned(name)]
    assert len(pins) == len(set(pins))
    unconditional = {package for package, marker in pins if marker is None}
    assert [package for package, marker in pins if marker and package in unconditional] == []


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("core", PROJECT["dependencies"]),
        ("local", PROJECT["optional-dependencies"]["local"]),
        ("optuna", PROJECT["optional-dependencies"]["optuna"]),
        ("dev", PROJECT["optional-dependencies"]["dev"]),
    ],
    ids=["core", "local", "optuna", "dev"],
)
def test_what_pyproject_asks_for_is_locked_by_then(lock: str, requirements: list[str]) -> None:
    until = LOCKS[: LOCKS.index(lock) + 1]
    assert {requirement_name(one) for one in requirements} <= {
        pin[0] for name in until for pin in pinned(name)
    }


def test_core_has_no_engine_and_no_load_generator() -> None:
    core = {package for package, _, _ in pinned("core")}
    assert core & {"ai-dynamo", "aiperf", "transformers", "pytest"} == set()


def test_no_lock_brings_a_gpu_stack() -> None:
    packages = [package for name in LOCKS for package, _, _ in pinned(name)]
    # nvidia-ml-py only reads the driver; AIPerf asks for it.
    heavy = [one for one in packages if re.match(r"torch|triton|cuda|nvidia-(?!ml-py)", one)]
    assert heavy == []


def test_the_lock_keeps_only_the_python_version_of_a_marker() -> None:
    platforms = (
        "implementation_name == 'cpython' and ((platform_machine == 'aarch64' and sys_platform == 'linux')"
        " or (platform_machine == 'x86_64' and sys_platform == 'linux'))"
    )
    given = f"a==1 ; {platforms} \\\nb==2 ; python_full_version < '3.12' and {platforms} \\\n"
    assert tool("lock").without_platforms(given) == "a==1 \\\nb==2 ; python_full_version < '3.12' \\\n"


def test_this_environment_is_the_locked_one() -> None:
    expected = {
        "ai-dynamo 1.6.1 requires aisimulate, which is not installed.",
        "ai-dynamo 1.6.1 has requirement certifi>=2026.10.19, but you have certifi 2026.10.18.",
        # Its sweeper works with a newer Optuna than it asks for: tests/test_trials.py searches with it.
        "hydra-optuna-sweeper 1.3.0 has requirement optuna<3.0.0,>=2.10.0, but you have optuna 5.0.0.",
    }
    check = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=120
    )
    assert set(check.stdout.splitlines()) - expected == set()


@pytest.mark.parametrize(
    "path", ["outputs/a/plan.json", ".venv/bin/python", "compiler/__pycache__/a.pyc", ".hydra/x"]
)
def test_what_a_run_leaves_behind_is_ignored(path: str) -> None:
    done = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, timeout=30)
    assert done.returncode == 0


@pytest.mark.parametrize("path", ["config/model/files/tiny/tokenizer.json", "requirements/core.lock"])
def test_what_a_run_needs_is_not_ignored(path: str) -> None:
    done = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=ROOT, timeout=30)
    assert done.returncode == 1


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what set-up reads, with a name that a careless recipe would trip over."""
    copy = tmp_path / "a checkout"
    (copy / "requirements").mkdir(parents=True)
    (copy / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in LOCKS:
        (copy / "requirements" / f"{name}.lock").write_text("\n".join(lock_lines(name)) + "\n")
    (copy / ".venv" / "bin").mkdir(parents=True)
    (copy / ".venv" / "bin" / "python").symlink_to(sys.executable)
    return copy


def dry_run(checkout: Path, target: str) -> str:
    command = ["make", "--dry-run", "--no-print-directory", target]
    return subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def finish(checkout: Path, target: str) -> None:
    """Leave the stamps that the recipes of a target would leave."""
    for stamp in re.findall(r"^touch (\S+)", dry_run(checkout, target), re.MULTILINE):
        (checkout / stamp).touch()


def installed(checkout: Path, target: str) -> list[str]:
    """The locks that a target would install now."""
    return re.findall(r"pip install .*-r requirements/(\w+)\.lock", dry_run(checkout, target))


@pytest.mark.parametrize(
    ("target", "locks"),
    [
        ("install-core", ["build", "core"]),
        ("install", ["build", "core", "local"]),
        ("install-optuna", ["build", "core", "local", "optuna"]),
        ("install-dev", LOCKS),
        ("run", ["build", "core", "local"]),
        ("test", LOCKS),
    ],
)
def test_a_target_installs_its_sets_once(checkout: Path, target: str, locks: list[str]) -> None:
    assert installed(checkout, target) == locks
    finish(checkout, target)
    assert installed(checkout, target) == []


def test_a_changed_lock_is_installed_again_with_what_follows(checkout: Path) -> None:
    finish(checkout, "install-dev")
    with (checkout / "requirements" / "local.lock").open("a") as lock:
        lock.write("\n")
    assert installed(checkout, "install-core") == []
    assert installed(checkout, "install-dev") == ["local", "optuna", "dev"]


def test_a_touched_lock_is_not_installed_again(checkout: Path) -> None:
    finish(checkout, "install-dev")
    for name in LOCKS:
        (checkout / "requirements" / f"{name}.lock").touch()
    assert installed(checkout, "install-dev") == []


@pytest.mark.parametrize("broken", ["missing", "dangling"])
def test_a_broken_interpreter_starts_over(checkout: Path, broken: str) -> None:
    finish(checkout, "install")
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    if broken == "dangling":
        python.symlink_to(checkout / "gone")
    assert installed(checkout, "install") == ["build", "core", "local"]


def test_a_failed_installation_leaves_no_stamp(checkout: Path) -> None:
    finish(checkout, "install-core")
    # A pin that no index has: the stamp of the old lock must go, and none may come.
    (checkout / "requirements" / "core.lock").write_text(
        "servix-has-no-such-package==0 \\\n    --hash=sha256:0\n"
    )
    done = subprocess.run(
        ["make", "install-core"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1"},
    )
    assert done.returncode != 0
    assert list((checkout / ".venv").glob("core-*.stamp")) == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'servix: python is too old' >&2; exit 1", "python is too old"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "apt install python3-venv"),
    ],
    ids=["too old", "no ensurepip"],
)
def test_an_unfit_python_is_told_in_one_line(checkout: Path, script: str, message: str) -> None:
    fake = checkout.parent / "fakepython"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    command = ["make", "install-core", f"PYTHON={fake}"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert message in done.stderr
    assert (checkout / ".venv" / "bin" / "python").exists(), "the old environment must survive a refusal"


def test_the_tiny_model_is_what_its_generator_writes() -> None:
    files = tool("make_tiny_model").model_files()
    assert {path.name for path in TINY.iterdir()} == set(files)
    different = [name for name, text in files.items() if (TINY / name).read_bytes() != text.encode()]
    assert different == [], "accept with: python3 tools/make_tiny_model.py"


def test_the_tiny_tokenizer_gives_back_any_text() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(TINY / "tokenizer.json"))
    text = "Shall I compare thee to a summer's day? 12345 ünïcode ☃\n\tend"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_most_tiny_tokens_are_printable_text() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(TINY / "tokenizer.json"))
    texts = [tokenizer.decode([number]) for number in range(tokenizer.get_vocab_size())]
    printable = [text for text in texts if text.isascii() and text.isprintable()]
    assert len(printable) > 0.9 * len(texts)


def test_the_tiny_config_agrees_with_the_model_group() -> None:
    import yaml

    group = yaml.safe_load((ROOT / "config" / "model" / "tiny.yaml").read_text())
    config = json.loads((TINY / "config.json").read_text())
    facts = {key: value for key, value in group.items() if key in config}
    assert len(facts) >= 7
    assert facts == {key: config[key] for key in facts}


def test_the_command_tells_its_version() -> None:
    said = subprocess.run(
        [sys.executable, "run.py", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert said.startswith(f"servix {PROJECT['version']} (Hydra 1.3.")
