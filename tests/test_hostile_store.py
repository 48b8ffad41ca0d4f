"""A store on a full disk, a store nobody may write to, garbage in it, a cut result, a clock that jumps: told, and
nothing valid lost. The real command line, the real Dynamo frontend and mockers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from commanding import FAKE, FIRST, RUN, SECOND, VALID, Command, Start, Sweep, nothing_left, verdicts

AGAIN = [(FIRST, 1, "valid"), (SECOND, 1, "none"), (SECOND, 2, "valid")]


class Disk:
    """A small file system of its own where one can be mounted, else a limit on the size of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
        self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        self.says = "no space left on device" if self.mounted else "file too large"

    @property
    def argv(self) -> tuple[str, ...]:
        """How a command is started on the disk when it is full."""
        return RUN if self.mounted else ("prlimit", "--fsize=0", *RUN)

    def fill(self, command: Command) -> None:
        """For a command under way, and for those started with `argv`."""
        if not self.mounted and command.process.poll() is None:
            subprocess.run(["prlimit", "--pid", str(command.process.pid), "--fsize=0"], check=True)
        if not self.mounted:
            return
        with (self.folder / "full").open("wb", 0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def empty(self) -> None:
        (self.folder / "full").unlink(missing_ok=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "outputs")
    yield disk
    disk.close()


def test_a_disk_that_fills_up_under_a_measurement(tmp_path: Path, disk: Disk, start: Start) -> None:
    sweep = Sweep(tmp_path, start)
    sweep.hold("load-2")
    command = sweep.begin()
    command.until(sweep.held)
    disk.fill(command)
    sweep.release()
    code, out, err = command.ended()
    assert (code, disk.says in err) == (1, True), err
    assert "output_dir=" in err
    # What was kept is shown all the same, then the error.
    assert out.count(" valid ") == 1, out
    assert f"{SECOND}: not measured, the command ended with an error" in out
    assert err.splitlines()[-1].startswith("error: ")
    nothing_left(command)
    assert command.attempts() == [(FIRST, 1, "valid"), (SECOND, 1, "none")]
    assert verdicts(command) == ["valid"]

    code, out, err = sweep.begin(argv=disk.argv).ended()
    assert (code, disk.says in err) == (2, True), err
    assert "nothing was started" in err

    disk.empty()
    command = sweep.begin()
    code, out, err = command.ended()
    assert code == 0, err
    assert command.attempts() == AGAIN
    nothing_left(command)
    disk.fill(command)
    code, out, err = sweep.begin(argv=disk.argv).ended()
    assert (code, out.count(" valid ")) == (0, 2), err
    assert f"the sweep was not recorded: {tmp_path}" in err


def test_a_store_that_may_only_be_read(tmp_path: Path, start: Start) -> None:
    sweep = Sweep(tmp_path, start)
    command = sweep.begin()
    assert command.ended()[0] == 0
    folders = [path for path in (command.output_dir, *command.output_dir.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    # Modes do not bind root, unless it has laid that down.
    drop = "--bounding-set=-dac_override,-dac_read_search"
    argv = RUN if os.getuid() else ("setpriv", drop, *RUN)
    code, out, err = sweep.begin(argv=argv).ended()
    assert (code, out.count(" valid ")) == (0, 2), err
    assert "the sweep was not recorded" in err
    assert "permission denied" in err
    other = start(*FAKE, "aiperf.concurrency=3", argv=argv)
    code, out, err = other.ended()
    assert (code, "permission denied; choose a folder" in err) == (2, True), err
    events = len(command.events())
    for folder in folders[:2]:
        folder.chmod(0o755)
    other = start(*FAKE, "aiperf.request_count=8", argv=argv)
    code, out, err = other.ended()
    assert (code, "permission denied; choose a folder" in err) == (2, True), err
    assert "nothing was started" in err
    assert len(command.events()) == events
    assert command.attempts() == VALID


GARBAGE = {
    "store/notes.txt": b"mine",
    "store/\udcff\n": b"\xff\x00",
    "store/.locks/nobody": b"\xff{",
    "store/zzz-{deployment}": b"no folder",
    "store/empty-of-{deployment}/zzz-{point}/result.json": b"{}",
    "{folder}/plan.json": b"{",
    "{folder}/events.jsonl": b'no event\n{"event": "cut',
    "{folder}/runs/7": b"no folder",
    "{folder}/runs/latest/x": b"",
    "{folder}/zzz-{point}": b"no folder",
    "{folder}/point-without-digest/result.json": b"[]",
    "{folder}/aiperf-x-0123456789/result.json": b"[" * 100_000,
    "{folder}/zzzz-{point}/attempts/x": b"",
    "{measured}/attempts/9": b"no folder",
    "{measured}/attempts/nine/result.json": b"",
    "{measured}/.result.json.1-0a1b2c3d.tmp": b'{"schema"',
    "sweeps/x/sweep.json": b"\x00",
}


def test_garbage_in_the_store_is_left_alone(tmp_path: Path, start: Start) -> None:
    sweep = Sweep(tmp_path, start)
    command = sweep.begin()
    assert command.ended()[0] == 0
    (measured,) = command.output_dir.glob(f"store/*/{FIRST}-*")
    names = {
        "deployment": measured.parent.name.rpartition("-")[2],
        "point": measured.name.rpartition("-")[2],
        "folder": str(measured.parent),
        "measured": str(measured),
    }
    for name, data in GARBAGE.items():
        path = command.output_dir / name.format(**names)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)
    code, out, err = sweep.begin().ended()
    assert (code, out.count(" valid ")) == (0, 2), err
    third = start(*FAKE, "aiperf.concurrency=1,3")
    code, out, err = third.ended()
    assert (code, out.count(" valid ")) == (0, 2), err
    nothing_left(command)


def test_a_result_cut_in_half_is_told_and_read_from_its_attempt_or_measured_again(
    tmp_path: Path, start: Start
) -> None:
    sweep = Sweep(tmp_path, start)
    command = sweep.begin()
    assert command.ended()[0] == 0
    (path,) = command.output_dir.glob(f"store/*/{SECOND}-*/result.json")
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    code, out, err = sweep.begin().ended()
    assert (code, out.count(" valid ")) == (0, 2), err
    assert f"{SECOND}: result.json cannot be read" in err
    assert "attempt 1 is valid and counts" in err
    assert command.attempts() == VALID
    assert path.read_text() == text

    path.write_text(text[: len(text) // 2])
    (path.parent / "attempts" / "1" / "result.json").unlink()
    code, out, err = sweep.begin().ended()
    assert (code, out.count(" valid ")) == (0, 2), err
    assert "result.json cannot be read" in err
    assert "measured again" in err
    assert command.attempts() == [VALID[0], (SECOND, 1, "none"), (SECOND, 2, "valid")]


def test_a_clock_that_jumps_changes_no_duration_and_loses_nothing(tmp_path: Path, start: Start) -> None:
    sweep, jump = Sweep(tmp_path, start), tmp_path / "jump"
    sweep.hold("load-2")
    command = sweep.begin(argv=(sys.executable, "tests/fakes/clock.py", str(jump), "run.py"))
    command.until(sweep.held)
    jump.touch()
    sweep.release()
    code, out, err = command.ended()
    assert (code, out.count(" valid ")) == (0, 2), err
    ahead, across = command.results()
    assert ahead["started_at"] > datetime.now().astimezone().isoformat()
    assert across["finished_at"] < across["started_at"]
    for result in command.results():
        assert all(0 <= seconds < 60 for seconds in result["durations_s"].values())
        assert 0 < result["node_seconds"] < 120
    code, again, err = sweep.begin().ended()
    assert (code, again) == (0, out), err
    assert command.attempts() == VALID
    assert len(list(command.output_dir.glob("sweeps/*/report.html"))) == 2
