"""Deployments of fake servers and a load generator that leaves recorded reports, for tests of a session."""

import asyncio
import json
import os
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path
from typing import Any

from compiler.plan import Deployment, Node, Phase, Point, Port, Probe, Process, Stop, Workload
from launchers import session
from launchers.events import EventLog
from launchers.host import claimed
from launchers.results.result import Result
from launchers.store import Store
from launchers.turns import Wishes
from tests.fakes.processes import FOLDER, alive

REPORT = "{servix_dir}/tests/data/aiperf_healthy"
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PORT = 18090 + 8 * (zlib.crc32(__file__.encode()) % 125) + WORKER % 8
"""Tests that run at the same time, from another checkout too, have one each: some listen on all addresses."""
ALL = Wishes(wanted=lambda _, __: True)
URL = f"http://{{node:0}}:{PORT}"


def process(name: str, node: int, *options: str, **more: Any) -> Process:
    words = ("python", "{servix_dir}/tests/fakes/server.py", "--name", f"{{results_dir}}/{name}")
    defaults: dict[str, Any] = {
        "role": "frontend" if name == "frontend" else "decode",
        "worker": None,
        "gpus": (node,),
        "env": {"MARK": "{node:1} {{node:1}}"},
        "ports": {"http": Port(PORT)},
        "image": None,
        "mounts": (),
        "workdir": "{results_dir}/work",
        "after": (),
        "ready": Probe("http", f"http://{{node:{node}}}:{PORT}/health"),
        "stop": Stop("TERM", 1.0),
    }
    argv = (*words, "--host", f"{{node:{node}}}", "--port", str(PORT), *options)
    return Process(name=name, node=node, argv=argv, **{**defaults, **more})


def deployment(*processes: Process, **more: Any) -> Deployment:
    defaults: dict[str, Any] = {
        "ready": (
            Probe("instances", f"{URL}/health", counts={"backend": 1}),
            Probe("completion", f"{URL}/v1/chat/completions", model="m"),
        ),
        "ready_timeout_s": 10.0,
        "max_restarts": 1,
    }
    return Deployment(
        digest="d1-0123456789abcdef",
        name="fake",
        topology="separate",
        backend="vllm",
        engine="mocker",
        model="m",
        system="local",
        gpu="virtual",
        num_nodes=2,
        gpus_per_node=8,
        nodes=(Node(0, None), Node(1, None)),
        idle_gpus=(),
        processes=processes or (frontend(), process("decode-0", 1)),
        metrics_urls=(),
        lmcache={"path": "{results_dir}/cache"},
        storage_cache_dir=None,
        repeatable=True,
        versions={},
        **{**defaults, **more},
    )


def frontend(*options: str) -> Process:
    return process("frontend", 0, "--instances", "backend=1", *options)


def phase(name: str, *options: str, report: str = REPORT, timeout_s: float = 20) -> Phase:
    words = (
        "python",
        "{servix_dir}/tests/fakes/client.py",
        "--artifact-dir",
        f"{{results_dir}}/artifacts/{name}",
    )
    return Phase(name, (*words, "--report", report, *options), f"artifacts/{name}", 20, 4, 32, timeout_s)


def point(number: int, *phases: Phase, **more: Any) -> Point:
    defaults: dict[str, Any] = {
        "between_command": None,
        "between_timeout_s": 5.0,
        "health_check": True,
        "continue_on_failure": False,
    }
    workload = Workload(
        tool="aiperf",
        version="0.13.0",
        phases=phases or (phase("main"),),
        env={},
        unset_env=("HF_HUB_OFFLINE",),
        needs=(),
        needs_hint=None,
        max_error_rate=0.0,
        output_length_tolerance=0.1,
        trial=1,
        **{**defaults, **more},
    )
    return Point(
        f"point-{number}", (f"n={number}",), f"p1-{number:08x}01234567", "d1-0123456789abcdef", workload, {}
    )


def realise(folder: Path, stack: Deployment, *points: Point) -> tuple[list[Result], list[dict[str, Any]]]:
    """Results and events of one session."""
    store = Store(folder / "outputs")
    path = folder / "events.jsonl"

    async def main() -> list[Result]:
        with EventLog(path) as tell:
            return await session.realise(stack, points, store, partial(claimed, 2), tell)

    results = asyncio.run(main())
    assert not alive(str(folder))
    for given, result in zip(points, results, strict=True):
        assert store.result(stack, given) == result
    return results, [json.loads(line) for line in path.read_text().splitlines()]


def count(events: list[dict[str, Any]], event: str) -> int:
    return sum(entry["event"] == event for entry in events)


SERVIX = """
import sys
from pathlib import Path
from compiler.sweep import Group
from launchers import local
from launchers.store import Store
from launchers.turns import Wishes
from tests.sessions import deployment, phase, point
store = Store(Path(sys.argv[1]))
wishes = Wishes(wanted=lambda stack, one: store.status(stack, one) != "done")
load = phase("main", "--takes", "{takes}")
points = (*[point(2)][:{quick}], point(1, load))
try:
    local.realise([Group(deployment(), points)], store, lambda _: None, wishes)
except KeyboardInterrupt:
    sys.exit(130)
"""


def start_servix(folder: Path, takes: float, quick: int = 0) -> subprocess.Popen[bytes]:
    """A command that measures a point which takes so long, `quick` others before it."""
    words = [sys.executable, "-c", SERVIX.format(takes=takes, quick=quick), str(folder)]
    (folder / "tmp").mkdir(exist_ok=True)
    with (folder / "said").open("ab") as said:
        environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
        return subprocess.Popen(words, cwd=FOLDER.parents[1], stderr=said, env=environment)
