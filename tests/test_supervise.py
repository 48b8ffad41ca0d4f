"""The supervisor against real processes that are slow, die, are deaf to TERM, run away or hide."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from launchers import guard
from launchers.events import EventLog
from launchers.supervise import Command, Died, Supervisor
from tests.fakes.processes import alive, client, server, wait_until


async def at_once(_: Command) -> None:
    pass


def ready_after(seconds: float) -> Callable[[Command], Awaitable[None]]:
    async def ready(_: Command) -> None:
        await asyncio.sleep(seconds)

    return ready


def hello(tmp_path: Path, *names: str) -> bool:
    return all((tmp_path / "logs" / f"{name}.log").read_text().count("hello") for name in names)


async def said_hello(tmp_path: Path, *names: str) -> None:
    while not hello(tmp_path, *names):
        await asyncio.sleep(0.01)


def test_starts_in_dependency_order_and_in_parallel(tmp_path: Path) -> None:
    events: list[tuple[str, Any]] = []
    commands = [
        server(tmp_path, "frontend", after=("etcd",)),
        server(tmp_path, "worker", after=("etcd", "nats")),
        server(tmp_path, "etcd"),
        server(tmp_path, "nats"),
    ]

    async def main() -> None:
        async with Supervisor(
            lambda event, **fields: events.append((event, fields["process"]))
        ) as supervisor:
            await supervisor.start(commands, ready_after(0.1))

    asyncio.run(main())
    order = [f"{event} {name}" for event, name in events if event in ("process_start", "process_ready")]
    assert set(order[:2]) == {"process_start etcd", "process_start nats"}
    assert order.index("process_start worker") > max(
        map(order.index, ("process_ready etcd", "process_ready nats"))
    )
    assert order.index("process_start frontend") > order.index("process_ready etcd")
    assert set(order[-2:]) == {"process_ready frontend", "process_ready worker"}
    assert not alive(str(tmp_path))


@pytest.mark.parametrize(
    ("code", "how"), [("0", "exited with code 0"), ("3", "exited with code 3")], ids=["zero", "three"]
)
def test_an_exit_while_starting_is_named_at_once(tmp_path: Path, code: str, how: str) -> None:
    async def main() -> None:
        async with Supervisor() as supervisor:
            commands = [
                server(tmp_path, "slow"),
                server(tmp_path, "short", "--die-after", "0.1", "--code", code),
            ]
            await supervisor.start(commands, ready_after(60))

    started = time.monotonic()
    with pytest.raises(Died) as caught:
        asyncio.run(main())
    assert time.monotonic() - started < 5
    assert str(caught.value) == f"short {how}"
    assert caught.value.tail.endswith("last words")
    assert not alive(str(tmp_path))


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = Command("frontend", ("no-such-program",), {"PATH": "/nowhere"}, tmp_path, tmp_path / "f.log")

    async def main() -> None:
        async with Supervisor() as supervisor:
            await supervisor.start([server(tmp_path, "other"), missing], at_once)

    with pytest.raises(Died, match="frontend cannot be started: 'no-such-program' is not in its PATH"):
        asyncio.run(main())
    assert not alive(str(tmp_path))


def test_what_only_looks_on_may_end_and_is_ended_with_the_rest(tmp_path: Path) -> None:
    missing = Command("smi", ("no-such-program",), {"PATH": "/nowhere"}, tmp_path, tmp_path / "smi.log")
    endless = client(tmp_path, "log-1", "--takes", "60", "--touch", f"{tmp_path}/half-way")

    async def main() -> None:
        async with Supervisor() as supervisor:
            await supervisor.start([server(tmp_path, "decode-0")], at_once)
            for command in (client(tmp_path, "log-0"), endless, missing):
                await supervisor.attach(command)
            exit_ = await supervisor.run(client(tmp_path, "load"), 20)
            assert (exit_.code, supervisor.died) == (0, None)

    asyncio.run(main())
    assert not alive(str(tmp_path))


def test_run_ends_at_once_when_a_server_dies(tmp_path: Path) -> None:
    pids: dict[str, int] = {}

    def tell(event: str, **fields: Any) -> None:
        if event == "process_start":
            pids[fields["process"]] = fields["pid"]

    async def main() -> float:
        async with Supervisor(tell) as supervisor:
            await supervisor.start([server(tmp_path, "decode-0")], at_once)
            await said_hello(tmp_path, "decode-0")
            asyncio.get_running_loop().call_later(0.2, os.kill, pids["decode-0"], signal.SIGKILL)
            started = time.monotonic()
            with pytest.raises(Died, match="decode-0 was killed by SIGKILL"):
                await supervisor.run(client(tmp_path, "load", "--takes", "60"), 60)
            assert supervisor.died is not None
            return time.monotonic() - started

    assert asyncio.run(main()) < 1
    assert not alive(str(tmp_path))


def test_a_listener_that_fails_hides_no_death(tmp_path: Path) -> None:
    pids: list[int] = []

    def tell(event: str, **fields: Any) -> None:
        if event == "process_start":
            pids.append(fields["pid"])
        if event == "process_exit":
            raise BrokenPipeError("whoever listened has gone")

    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        async with Supervisor(tell) as supervisor:
            await supervisor.start([server(tmp_path, "decode-0")], at_once)
            loop.call_later(0.2, lambda: os.kill(pids[0], signal.SIGKILL))
            started = time.monotonic()
            with pytest.raises(Died, match="decode-0 was killed by SIGKILL"):
                await supervisor.run(client(tmp_path, "load", "--takes", "60"), 60)
            return time.monotonic() - started

    assert asyncio.run(main()) < 2
    assert not alive(str(tmp_path))


def test_events_outlive_their_file_and_their_listeners(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []
    tried: list[str] = []

    def gone(event: Mapping[str, Any]) -> None:
        tried.append(event["event"])
        raise OSError(errno.EIO, "terminal closed")

    with EventLog(Path("/dev/full"), (gone, lambda event: heard.append(event["event"]))) as tell:
        tell("one")
        tell("two")
    assert (tried, heard) == (["one"], ["one", "two"])
    assert capsys.readouterr().err == "warning: /dev/full: no more events: No space left on device\n"


def test_run_gives_the_exit_code_and_the_timeout_kills(tmp_path: Path) -> None:
    async def main() -> tuple[int | None, int | None, float]:
        async with Supervisor() as supervisor:
            await supervisor.start([server(tmp_path, "s")], at_once)
            first = await supervisor.run(client(tmp_path, "load", "--code", "7"), 10)
            second = await supervisor.run(client(tmp_path, "load", "--takes", "60"), 0.3)
            return first.code, second.code, second.duration_s

    first, second, duration_s = asyncio.run(main())
    assert (first, second) == (7, None)
    assert 0.3 <= duration_s < 1.5


def test_stop_is_parallel_and_kills_what_is_deaf_at_the_deadline(tmp_path: Path) -> None:
    names = [f"deaf-{number}" for number in range(3)]

    async def main() -> float:
        supervisor = Supervisor()
        async with supervisor:
            commands = [server(tmp_path, name, "--ignore-term", grace_s=0.5) for name in names]
            await supervisor.start([*commands, server(tmp_path, "polite", grace_s=0.5)], at_once)
            await said_hello(tmp_path, *names)
            started = time.monotonic()
            await asyncio.gather(supervisor.stop(), supervisor.stop())
            took_s = time.monotonic() - started
        await supervisor.stop()
        return took_s

    assert 0.5 <= asyncio.run(main()) < 1.5
    assert not alive(str(tmp_path))


@pytest.mark.parametrize("hide", [[], ["--title"]], ids=["marked", "environment overwritten"])
def test_a_grandchild_in_its_own_session_is_gone(tmp_path: Path, hide: list[str]) -> None:
    async def main() -> None:
        async with Supervisor() as supervisor:
            command = server(tmp_path, "parent", "--run-away", *hide, grace_s=0.3)
            await supervisor.start([command], lambda _: said_hello(tmp_path, "parent"))
            assert wait_until(lambda: alive(f"child of {tmp_path}"))

    asyncio.run(main())
    assert not alive(str(tmp_path))


def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    async def serve() -> None:
        async with Supervisor() as supervisor:
            await supervisor.start([server(tmp_path, "s", "--run-away", grace_s=0.2)], ready_after(60))

    async def main() -> None:
        task = asyncio.create_task(serve())
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.sleep(0.05)
        task.cancel()  # a second one does not cut the stop short
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert not alive(str(tmp_path))


SERVIX = """
import asyncio, sys
from pathlib import Path
from launchers.supervise import Supervisor
from tests.fakes.processes import server

async def main(folder):
    async def ready(command):
        await asyncio.sleep({ready_s})
    async with Supervisor() as supervisor:
        options = ["--run-away", "--ignore-term", "--title"]
        await supervisor.start([server(folder, "a", *options), server(folder, "b", after=("a",))], ready)
        await asyncio.sleep(60)

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("ready_s", [0, 60], ids=["running", "starting"])
def test_nothing_is_left_when_servix_is_killed(tmp_path: Path, ready_s: int) -> None:
    words = [sys.executable, "-c", SERVIX.format(ready_s=ready_s), str(tmp_path)]
    bystander = subprocess.Popen(["sleep", "60"], env={guard.MARKER: "0123456789abcdef.other"})
    with subprocess.Popen(words, cwd=Path(__file__).parents[1]) as servix:
        expected = 2 if ready_s else 3
        assert wait_until(lambda: len(alive(f"{tmp_path}/")) == expected)
        servix.kill()
    try:
        assert wait_until(lambda: not alive(str(tmp_path)), guard.DEADLINE_S)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


HEARD = {
    "in pieces": ([b"+1", b"2\n+7\n-1", b"2\n+9\n"], {7, 9}, False),
    "being started": ([b"?\n+7\n!\n?", b"\n"], {7}, True),
    "one of two is started": ([b"?\n?\n+7\n!\n"], {7}, True),
    "not started after all": ([b"+7\n?\n!\n"], {7}, False),
}


@pytest.mark.parametrize(("said", "groups", "starting"), HEARD.values(), ids=list(HEARD))
def test_what_the_guard_hears(said: list[bytes], groups: set[int], starting: bool) -> None:
    chunks = iter([*said, b""])
    assert guard.watch(lambda _: next(chunks)) == (groups, starting)


def test_what_servix_was_starting_when_it_was_killed_is_ended() -> None:
    """Until it runs its program nothing tells that such a process is ours, and all others may be gone by then."""
    words = [sys.executable, guard.__file__, "0123456789abcdef."]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as guardian:
        assert guardian.stdin is not None
        guardian.stdin.write(b"?\n")
        guardian.stdin.close()
        time.sleep(0.5)
        late = subprocess.Popen(["sleep", "60"], env={guard.MARKER: "0123456789abcdef.late"})
        try:
            assert late.wait(guard.FLIGHT_S) == -signal.SIGTERM
        finally:
            late.kill()
            late.wait()
        assert guardian.wait(guard.DEADLINE_S) == 0


def test_no_guard_stays_behind(tmp_path: Path) -> None:
    supervisor = Supervisor()

    async def main() -> None:
        async with supervisor:
            assert wait_until(lambda: alive(f"{supervisor.session}."))

    asyncio.run(main())
    assert not alive(f"{supervisor.session}.")
