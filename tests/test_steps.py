"""Steps that Slurm does not start, with sruns and a queue that are scripts."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from launchers import steps
from launchers.child import Command, Died
from launchers.steps import StepSupervisor

UNTAKEN = """srun: error: Task launch for StepId=7.3 failed on node n1: Communication connection failure
srun: error: Application launch failed: Communication connection failure
srun: Job step aborted"""
"""What srun says, and then ends with 233, where the slurmd of a node is dead."""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs; `state` is what Slurm says of job 7."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(steps, "AGAIN_S", 0)
    monkeypatch.setattr(steps, "HOLD_S", 0.1)
    (tmp_path / "state").write_text("RUNNING 0")
    program(tmp_path / "squeue", f"case $* in *states=all*) cat {tmp_path}/state;; esac")
    program(tmp_path / "scontrol", "exit 1")
    return tmp_path


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def ran(folder: Path, srun: str) -> tuple[int | None, list[str]]:
    """How a load generator came out whose step is such a script, and what was told."""
    told: list[str] = []

    def tell(event: str, **_: Any) -> None:
        told.append(event)

    async def main() -> int | None:
        command = Command("load", ("sh", "-c", srun), dict(os.environ), folder, folder / "load.log")
        async with StepSupervisor(tell, "7") as supervisor:
            return (await supervisor.run(command, 20)).code

    return asyncio.run(main()), told


def untaken(folder: Path, times: int, then: str = "exit 0") -> str:
    """An srun whose step is not taken so many times."""
    count = f"[ $(cat {folder}/tries 2>/dev/null | wc -l) -ge {times} ]"
    return f"{count} && {then}; echo >>{folder}/tries; echo '{UNTAKEN}' >&2; exit 233"


def test_a_step_that_no_slurmd_took_is_asked_for_again(job: Path) -> None:
    code, told = ran(job, untaken(job, 2))
    assert (code, told.count("step_again")) == (0, 2)


def test_what_a_step_does_after_that_is_its_own(job: Path) -> None:
    assert ran(job, untaken(job, 1, "exit 3")) == (3, ["process_start", "step_again", "process_exit"])


def test_a_step_that_no_slurmd_takes_is_not_what_the_program_did(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "PATIENCE_S", 0)
    with pytest.raises(Died, match="Slurm did not start load"):
        ran(job, untaken(job, 9))


def test_a_launch_that_fails_for_good_is_not_tried_again(job: Path) -> None:
    with pytest.raises(Died, match="Slurm did not start load"):
        ran(job, "echo srun: error: Application launch failed: User not found on host >&2; exit 20")


def test_nothing_is_asked_for_in_a_life_of_the_job_that_is_over(job: Path) -> None:
    (job / "state").write_text("RUNNING 1")
    stopped: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "kill", lambda pid, _: stopped.append(pid) if pid == os.getpid() else None)
        with pytest.raises(Died, match="Slurm did not start load"):
            ran(job, untaken(job, 9))
    assert stopped == [os.getpid()]


@pytest.mark.parametrize(
    "said",
    [f"{UNTAKEN}\nhello", "srun: error: n1: task 0: Exited with exit code 233", ""],
    ids=["its own words", "no launch that failed", "nothing"],
)
def test_a_program_that_ends_with_such_a_code_has_ended(job: Path, said: str) -> None:
    code, told = ran(job, f"echo '{said}'; exit 233")
    assert (code, told.count("step_again")) == (233, 0)
