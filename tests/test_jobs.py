"""What is told of jobs: how they ended, why they wait; and notes of jobs that cannot be read or asked about."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from launchers import litter, queue, submitted
from launchers.queue import Ended, InQueue, Silent, reason
from launchers.submitted import Submitted

ENDED = [
    (Ended("COMPLETED", 0), "job 7 ended without this result"),
    (Ended("CANCELLED by 1000", 0, 15), "job 7 was cancelled by user 1000"),
    (Ended("CANCELLED"), "job 7 was cancelled"),
    (Ended("TIMEOUT", 0, 1), "job 7 reached its time limit (hydra.launcher.timeout_min)"),
    (Ended("FAILED", 75), "job 7 reached its time limit (hydra.launcher.timeout_min)"),
    (Ended("FAILED", 1), "job 7 failed with exit code 1 (Slurm: FAILED)"),
    (Ended("FAILED", 143), "job 7 was stopped by signal 15 (Slurm: FAILED)"),
    (Ended("FAILED", 0, 9), "job 7 was ended by signal 9 (Slurm: FAILED)"),
    (Ended("NODE_FAIL"), "job 7 lost a node"),
    (Ended("OUT_OF_MEMORY", 0, 125), "job 7 ran out of memory"),
    (Ended("PREEMPTED"), "job 7 was preempted"),
    (Ended("UNKNOWN"), "job 7 is gone, and Slurm has forgotten how"),
]


@pytest.mark.parametrize(("end", "words"), ENDED, ids=[f"{end.state} {end.exit_code}" for end, _ in ENDED])
def test_the_reason_of_an_early_end(end: Ended, words: str) -> None:
    assert reason("7", end) == words


WAITING = [
    (InQueue("RUNNING", "None", "2026-01-01T00:00:00"), "running"),
    (InQueue("PENDING", "None", "N/A"), "pending"),
    (InQueue("PENDING", "Resources", "N/A"), "pending (Resources)"),
    (
        InQueue("PENDING", "Priority", "2026-01-01T08:00"),
        "pending (Priority, expected to start 2026-01-01T08:00)",
    ),
]


@pytest.mark.parametrize(("job", "words"), WAITING, ids=[words for _, words in WAITING])
def test_the_state_in_the_queue(job: InQueue, words: str) -> None:
    assert str(job) == words


def fake(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(submitted, "_QUEUE", queue.Queue())
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return folder


def test_a_controller_that_does_not_answer_ends_no_job(bin_dir: Path, tmp_path: Path) -> None:
    fake(bin_dir, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    submitted.write(tmp_path, Submitted("7", 1.0, ("a",)))
    with pytest.raises(Silent, match="Unable to contact"):
        queue.in_queue(["7"])
    holder = submitted.holder(tmp_path)
    assert holder is not None
    assert (holder["job"], holder["points"]) == ("7", ["a"])


def test_a_job_that_slurm_has_forgotten_holds_nothing(bin_dir: Path, tmp_path: Path) -> None:
    fake(bin_dir, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    submitted.write(tmp_path, Submitted("7", 1.0, ("a",)))
    assert submitted.holder(tmp_path) is None
    assert queue.in_queue(["7", "8"]) == {}


def test_without_accounting_the_controller_is_asked(bin_dir: Path) -> None:
    fake(bin_dir, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    fake(bin_dir, "scontrol", "echo 'JobId=7 JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0'")
    assert queue.ended("7") == Ended("FAILED", 3)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{", json.dumps({"job": 7}), json.dumps({"job": 7, "since": "x", "points": []})],
)
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / submitted.NAME).write_text(text)
    assert submitted.read(tmp_path) is None


def test_what_a_job_in_the_queue_is_to_measure_on_is_no_litter(
    bin_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(bin_dir, "squeue", "echo '7|PENDING|Resources|N/A|'")
    submitted.write(tmp_path, Submitted("7", 1.0, ("a",)))
    assert litter.holder_of(tmp_path) == "job 7 (pending (Resources)) is to measure on it"
    fake(bin_dir, "squeue", "true")
    monkeypatch.setattr(submitted, "_QUEUE", queue.Queue())
    assert litter.holder_of(tmp_path) is None
