"""Empties the prefix caches of Dynamo's workers: a program of its own, which may run inside an engine's image.

Takes how many instances of the endpoint `clear_kv_blocks` each component must have, and asks every one of them. Gives
a line of JSON per instance on standard output and at last one of words on standard error; exit code 0 when all have
said success. Where the workers are, Dynamo's own variables say (DYN_*), as the workers have them.
Never does: needing anything but the standard library and Dynamo; asking some while others are missing.

Workers of vLLM and SGLang serve that endpoint in Dynamo 1.6. Its frontend has no route to it, and the mocker has none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

PAUSE_S = 0.1
AGAIN_AFTER_S = 1.0
"""An engine refuses while requests are still on their way out."""

Answer = dict[str, Any]
"""What came of one instance: `component`, `instance` (null: nobody was asked), `status`, `message`, `tries`."""


def main() -> int:
    """The exit code: 0 when every cache was cleared, else 1."""
    parser = argparse.ArgumentParser(description="Empties the prefix caches of Dynamo's workers.")
    parser.add_argument("--timeout-s", type=float, required=True, help="seconds for everything together")
    parser.add_argument("--tries", type=int, required=True, help="how often an instance is asked at most")
    parser.add_argument("instances", type=_counts, help="component=count,...")
    options = parser.parse_args()
    # Dynamo tells every request; who wants that has set the variable.
    os.environ.setdefault("DYN_LOG", "error")
    answers = asyncio.run(_all(options.instances, options.timeout_s, options.tries))
    for answer in answers:
        print(json.dumps(answer), flush=True)
    wrong = [answer for answer in answers if answer["status"] != "success"]
    print(_words(answers, wrong), file=sys.stderr, flush=True)
    return 1 if wrong else 0


def _counts(text: str) -> dict[str, int]:
    """Component -> how many instances of it there must be."""
    pairs = [part.rpartition("=") for part in text.split(",")]
    if not all(name and count.isdecimal() and int(count) for name, _, count in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not like backend=2,prefill=1")
    return {name: int(count) for name, _, count in pairs}


def _words(answers: list[Answer], wrong: list[Answer]) -> str:
    if not wrong:
        return f"caches cleared: {len(answers)} of {len(answers)} instances"
    said = [f"{one['component']} {one['instance'] or ''}".strip() + f": {one['message']}" for one in wrong]
    return "caches not cleared: " + "; ".join(said)


async def _all(counts: Mapping[str, int], timeout_s: float, tries: int) -> list[Answer]:
    """What came of every instance; all are asked at the same time, none while another is missing."""
    # Wrong words are told without Dynamo.
    from dynamo.runtime import DistributedRuntime

    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    discovery, requests = (_variable("DISCOVERY_BACKEND", "etcd"), _variable("REQUEST_PLANE", "tcp"))
    runtime = DistributedRuntime(loop, discovery, requests)
    clients = {
        name: await runtime.endpoint(f"{_namespace()}.{name}.clear_kv_blocks").client() for name in counts
    }
    if missing := await _missing(clients, counts, deadline):
        return missing
    work = [
        _cleared(client, name, instance, deadline, tries)
        for name, client in clients.items()
        for instance in sorted(client.instance_ids())
    ]
    return list(await asyncio.gather(*work))


def _variable(name: str, otherwise: str) -> str:
    """One of Dynamo's variables; `otherwise` is what Dynamo takes without it."""
    return os.environ.get(f"DYN_{name}", otherwise)


def _namespace() -> str:
    """Where workers register: the rule of `dynamo.common.utils.namespace`."""
    suffix = _variable("NAMESPACE_WORKER_SUFFIX", "")
    return _variable("NAMESPACE", "dynamo") + (f"-{suffix}" if suffix else "")


async def _missing(clients: Mapping[str, Any], counts: Mapping[str, int], deadline: float) -> list[Answer]:
    """One answer per component that does not have its number of instances before the deadline."""
    while True:
        seen = {name: len(client.instance_ids()) for name, client in clients.items()}
        if seen == counts:
            return []
        if asyncio.get_running_loop().time() > deadline:
            wrong = [(name, f"{seen[name]} of {counts[name]} instances") for name in counts]
            return [
                _answer(name, None, "error", f"{said} serve clear_kv_blocks", 0)
                for name, said in wrong
                if seen[name] != counts[name]
            ]
        await asyncio.sleep(PAUSE_S)


async def _cleared(client: Any, component: str, instance: int, deadline: float, tries: int) -> Answer:
    """What came of one instance, which is asked again when it refuses."""
    tried = 0
    while True:
        tried += 1
        status, message = await _asked(client, instance, deadline)
        late = asyncio.get_running_loop().time() + AGAIN_AFTER_S > deadline
        if status == "success" or tried >= tries or late:
            return _answer(component, instance, status, message, tried)
        await asyncio.sleep(AGAIN_AFTER_S)


async def _asked(client: Any, instance: int, deadline: float) -> tuple[str, str]:
    """Status and message of one answer; `error` and the reason where there is none."""
    last = None
    try:
        async with asyncio.timeout_at(deadline):
            async for part in await client.direct({}, instance, annotated=False):
                last = part
    except TimeoutError:
        return "error", "no answer in time"
    except Exception as problem:  # Dynamo raises plain exceptions for all that can go wrong on the way.
        return "error", str(problem) or repr(problem)
    if not isinstance(last, dict) or "status" not in last:
        return "error", f"unexpected answer {last!r}"
    return str(last["status"]), str(last.get("message", ""))


def _answer(component: str, instance: int | None, status: str, message: str, tries: int) -> Answer:
    return {
        "component": component,
        "instance": instance,
        "status": status,
        "message": message,
        "tries": tries,
    }


if __name__ == "__main__":
    sys.exit(main())
