"""What all tests share."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from commanding import RUN, Command
from slurm_cluster import Cluster, running, slurm, wait_until

LATIN_1 = "latin-1:"
"""Start of a file's text that is to be written as Latin-1, so that it is no UTF-8."""


# A shell that starts the tests in the background makes them, and all they start, ignore Ctrl-C; some test it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that lacks what it needs is a failure: `.ci/run` installs all of it."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None:
        return
    reasons = {str(report.longrepr[2]) for report in reporter.stats.get("skipped", [])}
    if lacking := sorted(reason for reason in reasons if "needs " in reason):
        reporter.write_line(f"skipped in CI: {'; '.join(lacking)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    commands: list[Command] = []

    def begin(*overrides: str, output_dir: Path = tmp_path / "outputs", argv: Sequence[str] = RUN) -> Command:
        commands.append(Command(output_dir, *overrides, argv=argv))
        return commands[-1]

    yield begin
    for command in commands:
        if command.process.poll() is None:
            command.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.process.communicate(timeout=20)
                continue
            command.process.kill()


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A Slurm of the module's own, with the knobs in its `CLUSTER`; commands find it through the environment."""
    with running(getattr(request.module, "CLUSTER", {})) as found:
        yield found


@pytest.fixture
def queue(cluster: Cluster) -> Iterator[None]:
    """Nothing of one test is in the queue of the next."""
    yield
    slurm("scancel", "--user=root")
    # After a controller was restarted, jobs are told to be completing for a minute.
    wait_until(lambda: not slurm("squeue", "--noheader", "--states=PENDING,CONFIGURING,RUNNING,SUSPENDED"))
