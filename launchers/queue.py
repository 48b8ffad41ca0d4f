"""What Slurm says of jobs: whether they are in the queue, why they wait, how they ended.

Takes job ids; gives states and words. `squeue` says what is alive; `sacct` lags, and is asked about what has ended.
Never does: calling anything a success (only a result is).
"""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FRESH_S = 1.0
"""Answers are good for so long: many deployments ask together."""
SILENT_S = 5.0
"""A controller that did not answer is left alone for so long: each question may take as long again."""
ASK_S = 20.0
UNKNOWN_ID = "Invalid job id"
TIME_IS_UP = 75
"""Exit code of a job that stopped because Slurm told it that its time is nearly up."""
_LIMIT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):\d+")
OVER = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    }
)


@dataclass(frozen=True, slots=True)
class InQueue:
    """A job that is in the queue."""

    state: str
    """`PENDING`, `RUNNING`, ..."""
    reason: str
    """Why it waits; what Slurm calls None otherwise."""
    start: str
    """When it is expected to start, as Slurm writes it; `N/A` when nobody knows."""
    nodes: str = ""
    """Where it runs, as Slurm writes it; empty while it waits."""

    def __str__(self) -> str:
        if self.state != "PENDING":
            return self.state.lower()
        why = self.reason if self.reason != "None" else ""
        if "held" in why.lower():
            why = f"{why}: it waits until somebody releases it (scontrol release)"
        start = f"expected to start {self.start}" if self.start not in ("", "N/A", "Unknown") else ""
        told = ", ".join(filter(None, [why, start]))
        return f"pending ({told})" if told else "pending"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job came to its end."""

    state: str
    """`COMPLETED`, `CANCELLED by 1000`, ...; `UNKNOWN` when Slurm has forgotten it."""
    exit_code: int | None = None
    number: int = 0
    """The signal that ended it; 0: none."""
    nodes: str = ""
    """Where it ran, as Slurm writes it."""

    @property
    def word(self) -> str:
        """The state without what Slurm adds to it."""
        return self.state.split()[0] if self.state else "UNKNOWN"

    @property
    def is_failure(self) -> bool:
        """Whether it is over and was no success."""
        return self.word in OVER and self.word != "COMPLETED"

    @property
    def is_time_up(self) -> bool:
        """Whether Slurm ended it, or it stopped in time, because it was at its time limit."""
        return self.exit_code == TIME_IS_UP or self.word == "TIMEOUT"


class Silent(Exception):
    """The controller does not answer: nothing is known."""


class Queue:
    """The jobs that this process has asked about, as they were a moment ago."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._known: dict[str, InQueue] = {}
        self._asked_at = -FRESH_S
        self._silent: Silent | None = None
        self._silent_at = -SILENT_S

    def look(self, job: str) -> InQueue | None:
        """The job while it is in the queue; null once it is not. Raises Silent."""
        if self._silent is not None and time.monotonic() - self._silent_at < SILENT_S:
            raise self._silent
        try:
            return self._look(job)
        except Silent as silent:
            self._silent, self._silent_at = silent, time.monotonic()
            raise

    def _look(self, job: str) -> InQueue | None:
        if job not in self._ids or time.monotonic() - self._asked_at > FRESH_S:
            # Some jobs of an array of ids may be forgotten already: one answer for all that are known.
            self._ids.add(job)
            self._known = in_queue(sorted(self._ids))
            self._asked_at = time.monotonic()
        return self._known.get(job)

    def forget(self, job: str) -> None:
        """The job is over."""
        self._ids.discard(job)


def in_queue(jobs: Sequence[str]) -> dict[str, InQueue]:
    """Those of the jobs that are in the queue. Raises Silent."""
    words = ["squeue", "--noheader", f"--jobs={','.join(jobs)}", "--format=%i|%T|%r|%S|%N"]
    code, out, err = asked(words)
    if code != 0 and UNKNOWN_ID in err:
        # Slurm says so of one; of several it leaves out those it does not know.
        return {} if len(jobs) == 1 else {k: v for job in jobs for k, v in in_queue([job]).items()}
    if code != 0:
        raise Silent(err.strip())
    rows = [line.split("|") for line in out.splitlines() if line.count("|") == 4]
    return {job: InQueue(*told) for job, *told in rows if told[0] not in OVER}


def longest_min(partition: str | None) -> int | None:
    """Minutes that a job may take in a partition, or in the one that is taken without a word; null: no limit is known.

    Of several partitions (`a,b`) the least, as Slurm may take any of them.
    """
    code, out, _ = asked(["sinfo", "--noheader", "--format=%P|%l"])
    found = [line.split("|") for line in out.splitlines() if line.count("|") == 1] if code == 0 else []
    named = partition.split(",") if partition else None
    limits = [
        _minutes(limit) for name, limit in found if (name.rstrip("*") in named if named else "*" in name)
    ]
    return min((limit for limit in limits if limit is not None), default=None)


def shared_machine() -> str | None:
    """The host name that several nodes have, which are one machine then; null where each has its own."""
    code, out, _ = asked(["sinfo", "--noheader", "--Node", "--format=%N|%n"])
    rows = (
        {tuple(line.split("|")) for line in out.splitlines() if line.count("|") == 1} if code == 0 else set()
    )
    hosts = Counter(host for _, host in rows)
    return next((host for host, count in hosts.items() if count > 1), None)


def _minutes(text: str) -> int | None:
    """Whole minutes of `2-12:00:00`, `1:30:00`, `30:00`; null for a limit that is none.

    >>> [_minutes(text) for text in ("2-12:00:00", "1:30:00", "30:00", "infinite")]
    [3600, 90, 30, None]
    """
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        return None
    days, hours, minutes = (int(part or 0) for part in match.groups())
    return 60 * (24 * days + hours) + minutes


def ended(job: str) -> Ended:
    """How a job that is not in the queue any more came to its end."""
    return _of_accounting(job) or _of_controller(job) or Ended("UNKNOWN")


def reason(job: str, end: Ended) -> str:
    """Why a job did not come to its end, for a user."""
    told = f"job {job}"
    if end.is_time_up:
        return f"{told} reached its time limit (hydra.launcher.timeout_min)"
    if end.word == "CANCELLED":
        by = end.state.removeprefix("CANCELLED").strip()
        return f"{told} was cancelled" + (f" {by.replace('by', 'by user', 1)}" if by else "")
    known = {
        "COMPLETED": "ended without this result",
        "NODE_FAIL": f"lost {_lost(end.nodes) or 'a node'}",
        "OUT_OF_MEMORY": "ran out of memory",
        "PREEMPTED": "was preempted",
        "UNKNOWN": "is gone, and Slurm has forgotten how",
    }
    if end.word in known:
        return f"{told} {known[end.word]}"
    if end.number:
        return f"{told} was ended by signal {end.number} (Slurm: {end.state})"
    if end.exit_code is not None and end.exit_code > 128:
        return f"{told} was stopped by signal {end.exit_code - 128} (Slurm: {end.state})"
    return f"{told} failed with exit code {end.exit_code} (Slurm: {end.state})"


def why_again(job: str, nodes: str) -> str:
    """Why a job that ran on `nodes` is in the queue again, as the end of a sentence about it."""
    if lost := _lost(nodes):
        return f"lost {lost}"
    words = ["sacct", "--noheader", "--parsable2", "--allocations", "--duplicates", f"--jobs={job}"]
    states = asked([*words, "--format=State"])[1].split("\n")
    known = {"PREEMPTED": "was preempted", "NODE_FAIL": f"lost a node of {nodes}"}
    return next((known[state] for state in reversed(states) if state in known), "was requeued")


def _lost(nodes: str) -> str:
    """Those of the nodes that Slurm takes for dead, and why, for a user; empty when there is none."""
    if not nodes:
        return ""
    code, out, _ = asked(["sinfo", "--noheader", "--Node", f"--nodes={nodes}", "--format=%N|%T|%E"])
    rows = [line.split("|", 2) for line in out.splitlines() if line.count("|") > 1] if code == 0 else []
    dead = {node: why for node, state, why in rows if state.startswith(("down", "fail")) or "*" in state}
    return ", ".join(f"{node} ({why.lower()})" if why != "none" else node for node, why in dead.items())


def _of_accounting(job: str) -> Ended | None:
    words = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}"]
    code, out, _ = asked([*words, "--format=State,ExitCode,NodeList"])
    rows = [line.split("|") for line in out.splitlines() if line.count("|") == 2]
    if code != 0 or not rows:
        return None
    state, codes, nodes = rows[-1]
    found = Ended(state, *_codes(codes), nodes)
    return found if found.word in OVER else None


def _of_controller(job: str) -> Ended | None:
    code, out, _ = asked(["scontrol", "--oneliner", "show", "job", job])
    found: Mapping[str, str] = dict(re.findall(r"\b(JobState|ExitCode|NodeList)=(\S+)", out))
    if code != 0 or "JobState" not in found:
        return None
    return Ended(found["JobState"], *_codes(found.get("ExitCode", "")), found.get("NodeList", ""))


def _codes(text: str) -> tuple[int | None, int]:
    """Exit code and signal of `3:0`."""
    code, _, number = text.partition(":")
    return int(code) if code.isdecimal() else None, int(number) if number.isdecimal() else 0


def asked(words: Sequence[str], text: str | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command of Slurm; 127 where it cannot be run."""
    try:
        ran = subprocess.run(
            words,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=ASK_S,
            start_new_session=True,
        )
    except FileNotFoundError:
        return 127, "", f"{words[0]} is not installed"
    except subprocess.TimeoutExpired:
        return 127, "", f"{words[0]} did not answer within {ASK_S:g} s"
    except OSError as problem:
        return 127, "", str(problem)
    return ran.returncode, ran.stdout, ran.stderr
