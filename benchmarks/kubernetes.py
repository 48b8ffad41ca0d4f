"""From the moment a deployment is ready in a cluster to the load on it, on the tests' fake cluster, with real AIPerf.

Pods of the deployment are simulated there; the Job's program is the real one, in an image that is present.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from figure import Figure, Line
from measure import ROOT, Failed, fresh_folder, median, servix, took
from pair import LOAD

TIMEOUT_S = 150.0
START_S = 30.0
OURS = (
    "system=kubernetes",
    "system.engine=mocker",
    "model=tiny",
    f"system.image=engine@sha256:{'0' * 64}",
    "system.kubernetes.bench.image=bench:1",
    f"system.kubernetes.bench.servix_dir={ROOT}",
    "system.kubernetes.results.size_gb=1",
)


def measure(repeat: int) -> list[Line]:
    """Ready to the Job's first completion, and to the start of the load generator."""
    runs = [_run() for _ in range(repeat)]
    return [
        Line("Kubernetes: ready to first completion", median([run[0] for run in runs]), "s", limit=2.0),
        Line("Kubernetes: ready to the load generator", median([run[1] for run in runs]), "s"),
    ]


def _run() -> tuple[float, float]:
    with fresh_folder() as folder, _cluster(folder / "cluster") as kubeconfig:
        words = servix(*OURS, *LOAD, f"output_dir={folder}/outputs")
        took(words, folder, TIMEOUT_S, {"KUBECONFIG": kubeconfig})
        (outside,) = folder.glob("outputs/store/*/events.jsonl")
        (inside,) = folder.glob("cluster/claims/*/*/*/store/*/events.jsonl")
        ready_s = _when(outside, lambda event: "every pod is ready" in str(event.get("what")))
        return tuple(  # type: ignore[return-value]
            _when(inside, lambda event, name=name: event["event"] == name) - ready_s
            for name in ("deployment_ready", "phase_start")
        )


def _when(log: Path, is_it: Any) -> float:
    """When the first such event was, seconds since 1970."""
    for text in log.read_text(encoding="utf-8").splitlines():
        event = json.loads(text)
        if is_it(event):
            return datetime.fromisoformat(event["time"]).timestamp()
    raise Failed(f"{log.name} lacks an event")


@contextlib.contextmanager
def _cluster(folder: Path) -> Iterator[str]:
    """A fake cluster while the context lasts; gives the path of its kubeconfig. Raises Failed."""
    argv = [sys.executable, "-m", "tests.fakes.kubernetes", str(folder)]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        yield _said(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        name, _, value = process.stdout.readline().strip().partition("=")
        if name == "export KUBECONFIG":
            return value
    raise Failed("there is no fake cluster")


FIGURE = Figure(
    "kubernetes", "a deployment on the fake cluster (root or user namespaces)", 3, measure, by_default=False
)
