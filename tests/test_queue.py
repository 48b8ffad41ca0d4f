"""What is told of jobs, and how long Slurm is waited for."""

from __future__ import annotations

import pytest

from launchers import queue
from launchers.queue import Ended, InQueue, asked, reason

SHOWN = [
    (InQueue("RUNNING", "None", "2026-01-01T00:00:00", "n[1-2]"), "running"),
    (InQueue("PENDING", "None", "N/A"), "pending"),
    (InQueue("PENDING", "Resources", "N/A"), "pending (Resources)"),
    (
        InQueue("PENDING", "Priority", "2026-01-01T00:00:00"),
        "pending (Priority, expected to start 2026-01-01T00:00:00)",
    ),
    (
        InQueue("PENDING", "JobHeldUser", "N/A"),
        "pending (JobHeldUser: it waits until somebody releases it (scontrol release))",
    ),
]


@pytest.mark.parametrize(("state", "words"), SHOWN, ids=[row[1] for row in SHOWN])
def test_a_job_in_the_queue(state: InQueue, words: str) -> None:
    assert str(state) == words


ENDED = [
    (Ended("CANCELLED by 1000", 0, 15), "was cancelled by user 1000"),
    (Ended("TIMEOUT", 0, 1), "reached its time limit"),
    (Ended("COMPLETED", 75), "reached its time limit"),
    (Ended("NODE_FAIL", 0), "lost a node"),
    (Ended("FAILED", 3), "failed with exit code 3"),
    (Ended("FAILED", 143), "was stopped by signal 15"),
    (Ended("FAILED", 0, 9), "was ended by signal 9"),
    (Ended("UNKNOWN"), "Slurm has forgotten how"),
]


@pytest.mark.parametrize(("end", "words"), ENDED, ids=[row[1] for row in ENDED])
def test_how_a_job_ended(end: Ended, words: str) -> None:
    assert words in reason("7", end)


def test_a_command_of_slurm_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ASK_S", 0.2)
    assert asked(["sleep", "5"]) == (127, "", "sleep did not answer within 0.2 s")


def test_a_silent_controller_is_not_asked_by_every_point(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def silent(jobs: list[str]) -> dict[str, InQueue]:
        calls.append(jobs)
        raise queue.Silent("no word")

    monkeypatch.setattr(queue, "in_queue", silent)
    known = queue.Queue()
    for job in ("1", "2", "1"):
        with pytest.raises(queue.Silent):
            known.look(job)
    assert len(calls) == 1
