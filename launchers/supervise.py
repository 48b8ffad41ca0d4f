"""A graph of operating-system processes: started in order, watched all the time, ended all together.

Takes commands (argv lists, whole environments, log files); gives exits, or `Died` when a process it watches ends.
Never does: starting a shell, reading a log to decide something, or leaving a process behind: `guard.py` ends what a
killed servix can no longer end.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from launchers import guard
from launchers.child import Command, Died, Exit, signal_number, words
from launchers.exits import ended
from launchers.guardian import Guardian, Tell
from launchers.refusal import Trouble

__all__ = ["Command", "Died", "Exit", "Left", "Supervisor", "Tell"]

T = TypeVar("T")
GivenUp = Callable[[int], Coroutine[Any, Any, str]]
"""Takes the id of a client's process; returns why it is to be ended, if it ever is."""
KILL_DEADLINE_S = 8.0
CLIENT_GRACE_S = 2.0


def _untold(event: str, **fields: Any) -> None:
    pass


class Left(Trouble):
    """Processes are still alive after KILL and the deadline: the kernel does not let them go."""


@dataclass(slots=True)
class Child:
    command: Command
    process: asyncio.subprocess.Process
    gone: asyncio.Task[int] = field(init=False)

    @property
    def pid(self) -> int:
        return self.process.pid


class Supervisor:
    """An asynchronous context manager; leaving it ends every process, however it is left.

    Servers (`start`) are watched from their start on: an exit of any of them, with any code, ends every wait.
    """

    def __init__(self, tell: Tell = _untold, tmp_dir: str | None = None) -> None:
        """`tmp_dir` is removed should servix be killed; else who made it does that."""
        self.session = secrets.token_hex(8)
        self._tell = tell
        self._children: dict[str, Child] = {}
        self._groups: dict[int, int] = {}
        self._death: asyncio.Future[Died] | None = None
        self._guardian = Guardian(self.session, tmp_dir, tell)
        self._stopping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Supervisor:
        self._death = asyncio.get_running_loop().create_future()
        self._guardian.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def died(self) -> Died | None:
        """The first server that ended by itself."""
        return self._death.result() if self._death is not None and self._death.done() else None

    async def start(self, commands: Sequence[Command], ready: Callable[[Command], Awaitable[None]]) -> None:
        """Starts servers, each as soon as what it waits for is ready; returns when all are.

        `ready(command)` returns when a started process is ready. Raises Died, or what `ready` raises.
        """
        is_ready = {command.name: asyncio.Event() for command in commands}

        async def one(command: Command) -> None:
            for name in command.after:
                await is_ready[name].wait()
            await self._spawn(command, self._server_gone)
            await ready(command)
            is_ready[command.name].set()
            self._tell("process_ready", process=command.name)

        await self.watch(_together([one(command) for command in commands]))

    async def watch(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns. A server that ends cancels it at once and is raised as Died."""
        if self._death is None:
            raise RuntimeError("the supervisor is not entered")
        task = asyncio.ensure_future(work)
        try:
            both: set[asyncio.Future[Any]] = {task, self._death}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._death.done():
                raise self._death.result()
            return await task
        finally:
            await _cancelled(task)

    async def run(
        self,
        command: Command,
        timeout_s: float,
        given_up: GivenUp | None = None,
    ) -> Exit:
        """Runs a client to its end while the servers are watched.

        A server that ends, the timeout and a cancellation kill the client and all it has started, at once; so does
        `given_up(pid)` by returning why it is to be ended.
        Raises Died for a server that ended, and for a client that cannot be started.
        """
        started = time.monotonic()
        child = await self.watch(self._spawn(command, self._client_gone))
        code: int | None = None
        why = ""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    code, why = await self.watch(_exit_code(child, given_up))
        finally:
            # After a natural end, helpers such as Python's resource tracker may finish what they do.
            grace_s = 0 if code is None else CLIENT_GRACE_S
            await self._end({child.pid: signal.SIGTERM}, f"{self.session}.{command.name}", grace_s, [child])
        return Exit(code, time.monotonic() - started, why)

    async def attach(self, command: Command) -> None:
        """Starts what only looks on: it may end, or not start at all, and is ended with everything else."""
        with contextlib.suppress(Died):
            await self._spawn(command, self._client_gone)

    async def stop(self) -> None:
        """Ends everything at once: each process its signal, after the longest grace KILL. Raises Left.

        May be called any number of times, by a cancelled task too: it returns when all is gone.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await _shielded(self._stopping)

    async def _stop(self) -> None:
        children = list(self._children.values())
        grace_s = max((child.command.stop.grace_s for child in children), default=0)
        signals = {child.pid: signal_number(child.command.stop.signal) for child in children}
        await self._end({**self._groups, **signals}, f"{self.session}.", grace_s, children)
        # Nothing is left to guard. After a failure above it stays, and tries again when servix ends.
        self._guardian.end()

    async def _spawn(self, command: Command, gone: Callable[[Child, int], None]) -> Child:
        child = Child(command, await self._launch(command))
        child.gone = asyncio.create_task(self._ended(child))
        child.gone.add_done_callback(lambda task: None if task.cancelled() else gone(child, task.result()))
        self._children[command.name] = child
        self._tell("process_start", process=command.name, pid=child.pid)
        return child

    async def _launch(self, command: Command) -> asyncio.subprocess.Process:
        """A new process. Raises Died where there can be none."""
        argv = words(command)
        environment = {**command.env, guard.MARKER: f"{self.session}.{command.name}"}
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("ab") as log, self._guardian.starting():
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd=command.workdir,
                    start_new_session=True,
                )
            except OSError as problem:
                how = f"{command.name} cannot be started: {problem.strerror}: {problem.filename}"
                raise Died(command.name, None, command.log, how) from problem
            self._remember(process.pid)
        return process

    async def _ended(self, child: Child) -> int:
        """The exit code once it is there, negative for a signal."""
        return await child.process.wait()

    def _server_gone(self, child: Child, code: int) -> None:
        # First the watch, then the news: a listener that fails must not hide a death.
        if self._stopping is None and self._death is not None and not self._death.done():
            command = child.command
            how = self._how(child, code) or ended(command.title or command.name, code)
            self._death.set_result(Died(command.name, code, command.log, how))
        self._client_gone(child, code)

    def _how(self, child: Child, code: int) -> str:  # noqa: ARG002
        """How a server ended, where its exit code does not say it."""
        return ""

    def _client_gone(self, child: Child, code: int) -> None:
        self._tell("process_exit", process=child.command.name, pid=child.pid, code=code)

    async def _end(
        self, groups: Mapping[int, int], marker: str, grace_s: float, children: Sequence[Child]
    ) -> None:
        ending = guard.Ending(marker, groups, grace_s)
        give_up_at = time.monotonic() + grace_s + KILL_DEADLINE_S
        pause = 0.005
        while ending.step():
            if time.monotonic() > give_up_at:
                raise Left(f"processes of session {self.session} survive KILL")
            waiting = [child.gone for child in children if not child.gone.done()]
            await (asyncio.wait(waiting, timeout=pause) if waiting else asyncio.sleep(pause))
            pause = min(2 * pause, 0.05)
        # Dead, but not yet reaped.
        await asyncio.gather(*(child.gone for child in children))
        for child in children:
            self._children.pop(child.command.name, None)
        for pid in groups:
            self._forget(pid)

    def _remember(self, pid: int) -> None:
        self._groups[pid] = signal.SIGTERM
        self._guardian.remember(pid)

    def _forget(self, pid: int) -> None:
        self._groups.pop(pid, None)
        self._guardian.forget(pid)


async def _exit_code(child: Child, given_up: GivenUp | None) -> tuple[int | None, str]:
    """The exit code, or null and why the client is given up."""
    if given_up is None:
        return await asyncio.shield(child.gone), ""
    watch = asyncio.ensure_future(given_up(child.pid))
    try:
        await asyncio.wait({child.gone, watch}, return_when=asyncio.FIRST_COMPLETED)
        return (child.gone.result(), "") if child.gone.done() else (None, watch.result())
    finally:
        await _cancelled(watch)


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Everything at the same time; the first that fails cancels the rest and is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _cancelled(task: asyncio.Future[Any]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    elif not task.cancelled():
        task.exception()  # asked for, so that asyncio does not complain about it


async def _shielded(task: asyncio.Task[None]) -> None:
    """Waits for `task` to its end, whatever happens to the waiting task meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as problem:
            if task.cancelled():
                raise
            cancelled = problem
    if cancelled is not None:
        raise cancelled
    task.result()
