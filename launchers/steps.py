"""Processes on the nodes of an allocation: each is a step of the job, and its `srun` is a child of ours.

Taken from: `allocated`, which makes the command lines. Gives what `supervise` gives.
Never does: ending a step by a signal to its srun. Slurm then kills the tasks at once, and no handler of theirs runs;
a signal goes through `scancel` to the step.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence

from launchers.child import Command
from launchers.supervise import KILL_DEADLINE_S, Child, Supervisor, Tell

PAUSE_S = 0.1
HOLD_S = 10.0
"""Longest time between the end of a step and the news that the job is being ended."""
ASK_S = 20.0
"""A controller that is restarted answers after a while."""


class StepSupervisor(Supervisor):
    """A supervisor whose processes are steps of the job with that id, named after their commands."""

    def __init__(self, tell: Tell, job: str) -> None:
        super().__init__(tell)
        self._job = job
        self._ending = asyncio.Event()

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        code = await process.wait()
        if not self._ending.is_set() and not await self._is_running():
            # Slurm is ending the job, and its signal to us is on the way: nothing has died by itself.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD_S):
                    await self._ending.wait()
        # srun says 128 more than the signal that ended its task, as shells do.
        return 128 - code if code > 128 else code

    async def _end(
        self, groups: Mapping[int, int], marker: str, grace_s: float, children: Sequence[Child]
    ) -> None:
        if any(not child.gone.done() for child in children):
            self._ending.set()
        now = time.monotonic()
        told: set[tuple[str, str]] = set()
        while alive := [child for child in children if not child.gone.done()]:
            left_s = now + grace_s - time.monotonic()
            if left_s < -KILL_DEADLINE_S:
                break
            steps = await self._steps()
            for signal, names in _by_signal((child.command for child in alive), left_s <= 0).items():
                ids = {steps[name] for name in names if name in steps}
                new = sorted(one for one in ids if (signal, one) not in told)
                told |= {(signal, one) for one in new}
                if new:
                    await _ask("scancel", f"--signal={signal}", *new)
            wait_s = PAUSE_S if left_s <= 0 else min(PAUSE_S, left_s)
            await asyncio.wait([child.gone for child in alive], timeout=wait_s)
        # What is left now are sruns that Slurm has forgotten.
        await super()._end(groups, marker, 0, children)
        if self._stopping is None:
            # Only a client was ended.
            self._ending.clear()

    async def _is_running(self) -> bool:
        """Whether Slurm lets the job go on; true as well when it does not say."""
        state = await _ask("squeue", "--noheader", "--states=all", f"--jobs={self._job}", "--format=%T")
        return state.strip() in ("", "CONFIGURING", "RUNNING", "SUSPENDED")

    async def _steps(self) -> dict[str, str]:
        """Name -> id of every step that runs."""
        said = await _ask("squeue", "--steps", "--noheader", f"--jobs={self._job}", "--format=%i|%j")
        return {name: number for number, _, name in (line.partition("|") for line in said.splitlines())}


def _by_signal(commands: Iterable[Command], late: bool) -> dict[str, list[str]]:
    """Signal -> names of the steps that get it."""
    found: dict[str, list[str]] = {}
    for command in commands:
        found.setdefault("KILL" if late else command.stop.signal.removeprefix("SIG"), []).append(command.name)
    return found


async def _ask(*words: str) -> str:
    """Standard output of a command of Slurm; empty when it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(ASK_S):
            out, _ = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return ""
    return out.decode(errors="replace")
