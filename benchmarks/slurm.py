"""The same small benchmark on a real Slurm on this machine and without one; and how fast jobs are submitted.

Allocation and end of a job are what the controller's log says, to the millisecond.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from figure import Figure, Line
from measure import ROOT, Failed, fresh_folder, interleaved, median, servix, took
from pair import LOAD

TIMEOUT_S = 150.0
JOBS = 50
SHAPE = ("topology=aggregated", "backend=vllm")


@dataclass(frozen=True, slots=True)
class Timed:
    """One run, seconds."""

    to_completion_s: float
    """From the allocation of the job, or the start of the command, to the first completion."""
    response_to_end_s: float
    """From the last response to the end of the job, or of the command."""
    load_to_end_s: float
    """The same from the end of the load generator."""


def measure(repeat: int) -> list[Line]:
    """Start and end of a job against a local run; submitting many deployments."""
    with _cluster("bm") as folder:
        slurm, local = interleaved(repeat, lambda: _in_a_job(folder), _here)
    with _cluster("bs", NET="none", NODES="64", ACCT="none"):
        submitting = [_submit() for _ in range(repeat)]

    def line(what: str, stage: str, limit: float | None, compare: str) -> Line:
        values = [median([getattr(one, stage) for one in runs]) for runs in (slurm, local)]
        return Line(what, values[0], "s", values[1], "local", compare, limit)  # type: ignore[arg-type]

    return [
        line("Slurm: allocation to first completion", "to_completion_s", 2.0, "difference"),
        Line(
            "Slurm: last response to end of the job",
            median([one.response_to_end_s for one in slurm]),
            "s",
            limit=3.0,
        ),
        line("Slurm: end of load to end of the job", "load_to_end_s", None, "difference"),
        Line(f"Slurm: submitting {JOBS} deployments", median(submitting), "s", limit=10.0),
    ]


def _here() -> Timed:
    with fresh_folder() as folder:
        whole = took(servix(*SHAPE, *LOAD, f"output_dir={folder}/outputs"), folder, TIMEOUT_S)
        return _timed(folder, whole.begun_s, whole.begun_s + whole.wall_s)


def _in_a_job(cluster: Path) -> Timed:
    with fresh_folder() as folder:
        words = servix("system=mini", *SHAPE, *LOAD, f"output_dir={folder}/outputs")
        whole = took(words, folder, TIMEOUT_S)
        said = re.search(r"job (\d+) is submitted", whole.output)
        if said is None:
            raise Failed("no job was submitted")
        log = (cluster / "log" / "slurmctld.log").read_text(encoding="utf-8", errors="replace")
        return _timed(
            folder,
            # By the main scheduler, or by the backfilling one.
            _logged(log, rf"(Allocate|Started) JobId={said[1]} "),
            _logged(log, rf"JobId={said[1]} done"),
        )


def _timed(folder: Path, begin_s: float, end_s: float) -> Timed:
    (path,) = folder.glob("outputs/store/*/events.jsonl")
    events = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    at = {event["event"]: datetime.fromisoformat(event["time"]).timestamp() for event in events}
    (records,) = folder.glob("outputs/store/*/*/attempts/1/**/profile_export.jsonl")
    lines = records.read_text(encoding="utf-8").splitlines()
    last_s = max(json.loads(text)["metadata"]["request_end_ns"] for text in lines) / 1e9
    return Timed(at["deployment_ready"] - begin_s, end_s - last_s, end_s - at["phase_end"])


def _logged(log: str, pattern: str) -> float:
    """When the controller said so, seconds since 1970."""
    found = [text for text in log.splitlines() if re.search(pattern, text)]
    if not found:
        raise Failed(f"the controller's log does not say '{pattern.strip()}'")
    return datetime.fromisoformat(found[-1].partition("]")[0].lstrip("[")).timestamp()


def _submit() -> float:
    """Wall time of a command that submits many jobs and leaves them."""
    with fresh_folder() as folder:
        # Nodes that are not up would make nothing of a job.
        on_hold = "+hydra.launcher.additional_parameters.hold=true"
        sizes = ",".join(map(str, range(1, JOBS + 1)))
        shapes = ("system=mini", "system.max_nodes=64", *SHAPE, f"aggregated.num_nodes={sizes}")
        words = servix(*shapes, on_hold, "launch.detach=true", f"output_dir={folder}/outputs")
        try:
            return took(words, folder, TIMEOUT_S).wall_s
        finally:
            subprocess.run(["scancel", "--user=root"], check=False, timeout=60)


@contextlib.contextmanager
def _cluster(prefix: str, **more: str) -> Iterator[Path]:
    """A Slurm of our own, while the context lasts; gives its folder. Raises Failed."""
    with fresh_folder() as folder:
        # munge wants every folder above its socket to be open to others.
        folder.chmod(0o755)
        own = {"DIR": f"{folder}/slurm", "PORT": "19800", "SUBNET": "10.76.0", "PREFIX": prefix, **more}
        env = {**os.environ, **{f"MINI_SLURM_{name}": value for name, value in own.items()}}
        script = str(ROOT / "tools" / "mini_slurm.sh")
        started = subprocess.run(
            [script, "start"], env=env, capture_output=True, text=True, timeout=180, check=False
        )
        if started.returncode != 0:
            raise Failed(f"there is no Slurm: {started.stderr[-500:]}")
        os.environ["SLURM_CONF"] = f"{folder}/slurm/etc/slurm.conf"
        try:
            yield folder / "slurm"
        finally:
            del os.environ["SLURM_CONF"]
            subprocess.run([script, "stop"], env=env, capture_output=True, timeout=120, check=False)


FIGURE = Figure("slurm", "jobs on a small Slurm (root; takes two minutes)", 3, measure, by_default=False)
