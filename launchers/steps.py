"""Processes on the nodes of an allocation: each is a step of the job, and its `srun` is a child of ours.

Taken from: `allocated`, which makes the command lines. Gives what `supervise` gives.
Never does: ending a step by a signal to its srun while Slurm answers. Slurm then kills the tasks at once, and no
handler of theirs runs; a signal goes through `scancel` to the step.

A job has several lives when it is requeued. Where the node of the session is the one that Slurm has lost, nobody ends
the life before: it ends itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from launchers import guard
from launchers.child import Command, Died, Exit
from launchers.supervise import KILL_DEADLINE_S, Child, GivenUp, Supervisor, Tell

PAUSE_S = 0.1
HOLD_S = 10.0
"""Longest time between the end of a step and the news that the job is being ended."""
ASK_S = 20.0
"""A controller that is restarted answers after a while."""
NOT_STARTED = 117
"""Exit code of an srun that Slurm gave no step; what it started ends with codes of its own."""
YOUNG_S = 60.0
"""A controller that started so recently may not know all nodes yet, and refuses steps."""
AGAIN_S = 2.0
PATIENCE_S = 300.0
"""A step that Slurm does not start for so long is given up."""
HEAD = 8192
"""So much of a log may be srun's before its task writes anything."""
_FAILURE = re.compile(rb"Application launch failed: (.*)")
_UNREACHED = re.compile("Communication|Message|Socket|Zero Bytes")
"""How Slurm says that a slurmd is dead, or does not answer."""
LOOKS = 5
"""So often the processes of a step are looked for; it may be on another node."""
SRUN_GRACE_S = 3.0
ALIVE = ("CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING")
"""States of a job whose life is not over."""
TASK = "SERVIX_STEP"
"""Variable of every task that says whose it is."""


def owner(job: str, node: str) -> str:
    """The value of TASK for tasks of this life of the job on a node."""
    return f"{job}.{_restarts()}@{node}"


class StepSupervisor(Supervisor):
    """A supervisor whose processes are steps of the job with that id, named after their commands."""

    def __init__(self, tell: Tell, job: str, tmp_dir: str | None = None) -> None:
        super().__init__(tell, tmp_dir)
        self._job = job
        self._ending = asyncio.Event()
        self._over = False
        """Slurm has ended this life of the job, and nobody told us to stop."""

    async def run(self, command: Command, timeout_s: float, given_up: GivenUp | None = None) -> Exit:
        """The same; raises Died for a step that Slurm does not start as well. Nobody looks into one on another node."""
        look = None if given_up is None else partial(self._looking, command.name, given_up)
        exit_ = await super().run(command, timeout_s, look)
        if exit_.code == NOT_STARTED:
            raise Died(command.name, None, command.log, _untaken(command))
        return exit_

    async def _looking(self, name: str, given_up: GivenUp, _: int) -> str:
        """The same of the step's first process, which is no child of ours."""
        for _ in range(LOOKS):
            if (pid := await self._first_process(name)) is not None:
                return await given_up(pid)
            await asyncio.sleep(AGAIN_S)
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def _first_process(self, name: str) -> int | None:
        """Null for a step that does not run, or not on this node."""
        step = (await self._steps() or {}).get(name)
        said = await _ask("scontrol", "listpids", step) if step is not None else None
        # PID JOBID STEPID LOCALID GLOBALID; those that a task has started have no LOCALID.
        rows = [line.split() for line in (said or "").splitlines()]
        found = [row[0] for row in rows if len(row) == 5 and row[3] == "0" and row[0].isdecimal()]
        return int(found[0]) if found else None

    async def _ended(self, child: Child) -> int:
        code, begun = await child.process.wait(), 0
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and await self._is_asked_again(child.command, code, begun):
            self._tell("step_again", process=child.command.name)
            await asyncio.sleep(AGAIN_S)
            if self._ending.is_set():
                break
            self._forget(child.pid)
            begun = _size(child.command.log)
            child.process = await self._launch(child.command)
            code = await child.process.wait()
        if _launch_failure(child.command, code, begun):
            code = NOT_STARTED
        if not self._ending.is_set() and await self._life_is_over():
            # Slurm is ending the job, and its signal to us is on the way: nothing has died by itself.
            await self._held()
        # srun says 128 more than the signal that ended its task, as shells do; 255 is a task's own code.
        return 128 - code if 128 < code <= 128 + signal.SIGRTMAX else code

    async def _is_asked_again(self, command: Command, code: int, begun: int) -> bool:
        """Whether a step may start later that Slurm has not started, and nobody has ended the job meanwhile."""
        why = _launch_failure(command, code, begun)
        if code == NOT_STARTED or not why:
            return code == NOT_STARTED and await self._is_restarted()
        return bool(_UNREACHED.match(why)) and not self._ending.is_set() and not await self._life_is_over()

    def _how(self, child: Child, code: int) -> str:
        return _untaken(child.command) if code == NOT_STARTED else ""

    async def _held(self) -> None:
        """Returns once we are stopping, or are told to stop and still are not."""
        if not await _within(self._ending.wait(), HOLD_S) and not self._over:
            self._over = True
            self._tell("job_over", job=self._job)
            os.kill(os.getpid(), signal.SIGTERM)
            await _within(self._ending.wait(), HOLD_S)

    async def _end(
        self, groups: Mapping[int, int], marker: str, grace_s: float, children: Sequence[Child]
    ) -> None:
        if any(not child.gone.done() for child in children):
            self._ending.set()
        answers = not self._over and await self._through_steps(grace_s, children)
        # What is left now are sruns that Slurm has forgotten, or whose step we could not reach: TERM to one of those
        # kills its tasks, which is all that can be done.
        terms = dict.fromkeys(groups, int(signal.SIGTERM))
        await super()._end(terms, marker, 0 if answers else SRUN_GRACE_S, children)
        if not answers:
            await self._end_here()
        if self._stopping is None:
            # Only a client was ended.
            self._ending.clear()

    async def _through_steps(self, grace_s: float, children: Sequence[Child]) -> bool:
        """Ends steps by signals to them; gives whether Slurm answered at last."""
        now, answers = time.monotonic(), True
        told: set[tuple[str, str]] = set()
        last: set[tuple[str, str]] = set()
        while alive := [child for child in children if not child.gone.done()]:
            left_s = now + grace_s - time.monotonic()
            if left_s < -KILL_DEADLINE_S:
                break
            steps = await self._steps()
            answers = steps is not None
            # scancel fails where one of several steps has ended already, so its word is not taken.
            told = told | last if answers else told
            last = set()
            for name, names in _by_signal((child.command for child in alive), left_s <= 0).items():
                ids = {steps[step] for step in names if step in steps} if steps else set()
                new = sorted(one for one in ids if (name, one) not in told)
                last |= {(name, one) for one in new}
                if new:
                    await _ask("scancel", f"--signal={name}", *new)
            wait_s = PAUSE_S if left_s <= 0 else min(PAUSE_S, left_s)
            await asyncio.wait([child.gone for child in alive], timeout=wait_s)
        return answers

    async def _end_here(self) -> None:
        """Ends the tasks of this node, which nobody else ends."""
        node = os.environ.get("SLURMD_NODENAME")
        if node is None:
            return
        ending = guard.Ending(owner(self._job, node), {}, guard.GRACE_S, TASK)
        deadline = time.monotonic() + guard.DEADLINE_S
        while ending.step() and time.monotonic() < deadline:
            await asyncio.sleep(guard.PAUSE_S)

    async def _life_is_over(self) -> bool:
        """Whether Slurm has ended the job, or begun it anew; false as well when it does not say."""
        words = ("--noheader", "--states=all", f"--jobs={self._job}", "--Format=State:32,RestartCnt:32")
        state, _, restarts = (await _ask("squeue", *words) or "").strip().partition(" ")
        if state not in ("", *ALIVE):
            return True
        return restarts.strip() not in ("", _restarts())

    async def _is_restarted(self) -> bool:
        """Whether the controller is away, or was a short time ago."""
        said = await _ask("scontrol", "show", "config")
        if said is None:
            return True
        for line in said.splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "BOOT_TIME":
                with contextlib.suppress(ValueError):
                    age_s = datetime.now() - datetime.fromisoformat(value.strip())
                    return age_s.total_seconds() < YOUNG_S
        return False

    async def _steps(self) -> dict[str, str] | None:
        """Name -> id of every step that runs; null when Slurm does not say."""
        said = await _ask("squeue", "--steps", "--noheader", f"--jobs={self._job}", "--format=%i|%j")
        if said is None:
            return None
        return {name: number for number, _, name in (line.partition("|") for line in said.splitlines())}


def _launch_failure(command: Command, code: int, begun: int) -> str:
    """Why a step that was given was never launched on its node, in Slurm's words; empty where it was.

    `begun`: where its part of the log starts.

    srun ends with the rest of an error number then, which a task could end with as well: srun's own words tell.
    """
    lines: list[bytes] = []
    with contextlib.suppress(OSError), command.log.open("rb") as log:
        log.seek(begun)
        lines = log.read(HEAD).splitlines() if code != 0 else []
    if not all(line.startswith(b"srun: ") for line in lines):
        return ""
    found = [match[1] for line in lines if (match := _FAILURE.search(line))]
    return found[-1].decode(errors="replace") if found else ""


def _size(log: Path) -> int:
    with contextlib.suppress(OSError):
        return log.stat().st_size
    return 0


def _untaken(command: Command) -> str:
    return f"Slurm did not start {command.name}"


def _restarts() -> str:
    return os.environ.get("SLURM_RESTART_COUNT", "0")


async def _within(waiting: Coroutine[Any, Any, object], seconds: float) -> bool:
    """Whether it came in time."""
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return False
    return True


def _by_signal(commands: Iterable[Command], late: bool) -> dict[str, list[str]]:
    """Signal -> names of the steps that get it."""
    found: dict[str, list[str]] = {}
    for command in commands:
        found.setdefault("KILL" if late else command.stop.signal.removeprefix("SIG"), []).append(command.name)
    return found


async def _ask(*words: str) -> str | None:
    """Standard output of a command of Slurm; null when it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(ASK_S):
            out, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return out.decode(errors="replace") if process.returncode == 0 else None
