"""Is it there yet? Polls an endpoint over HTTP until a probe of the plan holds.

Takes probes whose addresses are bound; gives back when they hold, or `NotReady` that says what was last seen.
Never does: matching log lines; believing a status code where Dynamo's says nothing (its /health is 200 without any
worker, and /v1/models lists a model as soon as a part of the workers can serve it).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from compiler.plan import Probe

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.25
POLL_TIMEOUT_S = 3.0
COMPLETION_TIMEOUT_S = 60.0
"""The first token of a real engine may take that long; asked again after it, the engine is warm."""
SILENCE = "nothing listens there"
MOST_BYTES = 64 * 2**20


class NotReady(Exception):
    """A probe did not hold in time. The message names it and what was last seen."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at an endpoint gave."""

    holds: bool
    what: str
    """In words, for a person who waits."""
    late: bool = False
    """There was no answer in the time that was left for it."""


async def until(
    probe: Probe, timeout_s: float, on_change: Callable[[str], None] | None = None, limit: str = ""
) -> None:
    """Returns as soon as the probe holds. Raises NotReady after `timeout_s` seconds.

    `on_change` hears what is seen, each time it changes; at first, that nothing listens is no news. `limit` is what
    the message says of the time: the setting it comes from, of which a part may be spent before.
    """
    deadline = time.monotonic() + timeout_s
    pause, last = FIRST_PAUSE_S, SILENCE
    while (left := deadline - time.monotonic()) > 0:
        longest_s = COMPLETION_TIMEOUT_S if probe.kind == "completion" else POLL_TIMEOUT_S
        seen = await look(probe, min(longest_s, left))
        if seen.holds:
            return
        # The last look may have had hardly any time: what was seen before it says more.
        hardly = seen.late and left < min(longest_s, POLL_TIMEOUT_S)
        if seen.what != last and not (hardly and last != SILENCE):
            last = seen.what
            if on_change is not None:
                on_change(last)
        await asyncio.sleep(min(pause, max(0, deadline - time.monotonic())))
        pause = min(1.2 * pause, LONGEST_PAUSE_S)
    raise NotReady(f"{_name(probe)}: not ready within {limit or f'{timeout_s:g} s'}; last seen: {last}")


async def look(probe: Probe, timeout_s: float) -> Seen:
    """One look. A refused connection, a timeout and an answer that cannot be read do not hold."""
    try:
        async with asyncio.timeout(timeout_s):
            asked = _completion(probe) if probe.kind == "completion" else None
            status, body = await _request(probe.url, asked)
    except TimeoutError:
        return Seen(False, f"no answer within {timeout_s:.1f} s", late=True)
    except ConnectionRefusedError:
        return Seen(False, SILENCE)
    except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        return Seen(False, f"no answer ({reason or type(problem).__name__})")
    if status != 200:
        return Seen(False, f"HTTP {status}")
    try:
        return _JUDGES[probe.kind](probe, body)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Seen(False, f"an answer that cannot be read: {body[:80]!r}")


def _http(_: Probe, body: bytes) -> Seen:
    return Seen(True, f"HTTP 200, {len(body)} bytes")


def _instances(probe: Probe, body: bytes) -> Seen:
    """Dynamo's /health lists one entry per endpoint; a worker can serve when its `generate` is among them."""
    entries = json.loads(body).get("instances", [])
    found = Counter(entry["component"] for entry in entries if entry["endpoint"] == "generate")
    what = ", ".join(f"{name} {found[name]} of {count}" for name, count in probe.counts.items())
    return Seen(all(found[name] == count for name, count in probe.counts.items()), what)


def _model(probe: Probe, body: bytes) -> Seen:
    names = [str(entry["id"]) for entry in json.loads(body)["data"]]
    return Seen(probe.model in names, f"models {', '.join(names)}" if names else "no model")


def _choice(_: Probe, body: bytes) -> Seen:
    choices = json.loads(body)["choices"]
    return Seen(bool(choices), f"{len(choices)} choices")


_JUDGES: Mapping[str, Callable[[Probe, bytes], Seen]] = {
    "http": _http,
    "instances": _instances,
    "model": _model,
    "completion": _choice,
}


def _name(probe: Probe) -> str:
    wanted = f" of model '{probe.model}'" if probe.model else ""
    return f"probe '{probe.kind}'{wanted} at {probe.url}"


def _completion(probe: Probe) -> bytes:
    message = {"role": "user", "content": "Hello"}
    wanted: dict[str, Any] = {"model": probe.model, "messages": [message], "max_tokens": 1, "stream": False}
    return json.dumps(wanted).encode()


async def _request(url: str, body: bytes | None) -> tuple[int, bytes]:
    """Status and body of a GET, or of a POST when there is a body.

    HTTP/1.0, so that the answer comes whole and ends with the connection: no client library is needed, and a
    cancelled wait leaves no thread behind.
    """
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port or 80)
    try:
        path = (address.path or "/") + (f"?{address.query}" if address.query else "")
        method = "GET" if body is None else "POST"
        lines = [f"{method} {path} HTTP/1.0", f"Host: {address.netloc}", "Accept: */*"]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        writer.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(maxsplit=2)[1])
        return status, await _body(reader, head)
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    fields = dict(line.lower().partition(b":")[::2] for line in head.split(b"\r\n"))
    if length := fields.get(b"content-length"):
        return await reader.readexactly(min(int(length), MOST_BYTES))
    parts, size = [], 0
    while size < MOST_BYTES and (part := await reader.read(65_536)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
