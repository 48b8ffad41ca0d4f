"""Probes against a real server that is slow, flaps, or says the wrong thing."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from compiler.plan import Probe
from launchers import probe
from launchers.probe import NotReady, Seen, look, until
from tests.fakes.processes import FOLDER, wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(*options: str, wait: bool = True) -> Iterator[str]:
    port = free_port()
    words = [sys.executable, str(FOLDER / "server.py"), "--port", str(port), *options]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            if wait:
                health = Probe("http", f"{url}/health")
                assert wait_until(lambda: "nothing" not in asyncio.run(look(health, 1)).what)
            yield url
        finally:
            process.kill()


HOLDS = [
    (Probe("http", "/health"), True, "HTTP 200"),
    (Probe("http", "/nowhere"), False, "HTTP 404"),
    (
        Probe("instances", "/health", counts={"prefill": 2, "backend": 2}),
        False,
        "prefill 1 of 2, backend 2 of 2",
    ),
    (
        Probe("instances", "/health", counts={"prefill": 1, "backend": 2}),
        True,
        "prefill 1 of 1, backend 2 of 2",
    ),
    (Probe("instances", "/health", counts={"backend": 1}), False, "backend 2 of 1"),
    (Probe("model", "/v1/models", model="servix/tiny"), True, "servix/tiny"),
    (Probe("model", "/v1/models", model="other"), False, "models servix/tiny"),
    (Probe("completion", "/v1/chat/completions", model="servix/tiny"), True, "1 choices"),
    (Probe("completion", "/nowhere", model="servix/tiny"), False, "HTTP 404"),
    (Probe("model", "/v1/chat/completions", model="m"), False, "cannot be read"),
]


def test_what_a_probe_sees() -> None:
    with serving("--instances", "prefill=1,backend=2", "--model", "servix/tiny") as url:
        for probe, holds, what in HOLDS:
            seen = asyncio.run(look(Probe(probe.kind, url + probe.url, probe.model, probe.counts), 2))
            assert (seen.holds, what in seen.what) == (holds, True), (probe, seen)


def test_a_model_that_is_not_routable_yet_does_not_hold() -> None:
    with serving("--model", "") as url:
        assert not asyncio.run(look(Probe("model", f"{url}/v1/models", "m"), 2)).holds
        assert not asyncio.run(look(Probe("completion", f"{url}/v1/chat/completions", "m"), 2)).holds


def test_until_waits_for_a_slow_server_and_returns_promptly() -> None:
    with serving("--slow", "0.6", wait=False) as url:
        started = time.monotonic()
        asyncio.run(until(Probe("http", f"{url}/health"), 10))
        assert 0.6 <= time.monotonic() - started < 3


def test_until_outlives_a_server_that_flaps() -> None:
    heard: list[str] = []
    with serving("--flap") as url:
        asyncio.run(until(Probe("http", f"{url}/health"), 10, heard.append))
        asyncio.run(until(Probe("http", f"{url}/health"), 10, heard.append))
    assert heard.count("HTTP 503") >= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--instances", "backend=2"), "prefill 0 of 2, backend 2 of 2"),
        (("--slow", "60"), "nothing listens there"),
    ],
    ids=["too few instances", "no listener"],
)
def test_the_deadline_says_what_was_last_seen(options: tuple[str, ...], said: str) -> None:
    with serving(*options, wait="--slow" not in options) as url:
        probe = Probe("instances", f"{url}/health", counts={"prefill": 2, "backend": 2})
        with pytest.raises(NotReady) as caught:
            asyncio.run(until(probe, 0.5))
    assert (
        str(caught.value) == f"probe 'instances' at {url}/health: not ready within 0.5 s; last seen: {said}"
    )


@pytest.mark.parametrize(
    "garbage",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"HTTP/1.1 x\r\n\r\n"],
)
def test_an_answer_that_is_no_answer_does_not_hold(garbage: bytes) -> None:
    async def main() -> bool:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(garbage)
            writer.close()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return (await look(Probe("http", f"http://127.0.0.1:{port}/health"), 2)).holds

    assert asyncio.run(main()) is False


def test_a_server_that_never_answers_takes_its_time_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/health"
        started = time.monotonic()
        assert "no answer" in asyncio.run(look(Probe("http", url), 0.3)).what
        assert time.monotonic() - started < 1


def test_what_was_seen_is_not_forgotten_for_want_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last look may begin when hardly any time is left."""
    left: list[float] = []

    async def look_(_: Probe, timeout_s: float) -> Seen:
        left.append(timeout_s)
        await asyncio.sleep(0.05)
        return Seen(False, "backend 0 of 1") if len(left) == 1 else Seen(False, "no answer", late=True)

    monkeypatch.setattr(probe, "look", look_)
    with pytest.raises(NotReady, match="last seen: backend 0 of 1"):
        asyncio.run(until(Probe("instances", "http://127.0.0.1:1/health", counts={"backend": 1}), 0.2))
    assert len(left) > 1
