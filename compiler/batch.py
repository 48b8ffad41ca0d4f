"""Deployment, its points and an allocation -> `job.sbatch`, and `job.json` that it reads.

Taken from: the plan and the launcher's settings. Given to: the store, and to sbatch as it is.
Never does: deciding how many nodes or GPUs; writing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler import plan_json, quote
from compiler.allocation import Allocation
from compiler.emit import Raw, render
from compiler.plan import Deployment, Plan, Point

SCRIPT, WORK = "job.sbatch", "job.json"
SCHEMA = "servix.job/1"
WARNING_S = 20
"""Seconds beside the longest grace of a process: what it takes to stop, and to write down what is there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job finds things, on a file system that all nodes share."""

    folder: str
    """The deployment's, in the store."""
    servix_dir: str
    """The checkout."""
    python: str
    cwd: str
    """Where the command was typed: relative paths in the configuration start there."""


def batch(deployment: Deployment, points: Sequence[Point], asked: Allocation, place: Place) -> dict[str, str]:
    """Both files of a job: one for all points that share the deployment."""
    mine = tuple(
        p for p in points if p.deployment == deployment.digest and p.workload is not None and p.valid
    )
    work = {
        "schema": SCHEMA,
        "srun_args": list(asked.srun_args),
        "plan": plan_json.to_json(Plan(mine, (deployment,))),
    }
    return {
        SCRIPT: render(
            "job.sbatch.j2",
            deployment=deployment,
            options=[f"--{option}" for option in options(deployment, asked, place)],
            setup=Raw("".join(f"{line}\n" for line in asked.setup)),
            place=place,
        ),
        WORK: json.dumps(work, sort_keys=True, indent=2, allow_nan=False) + "\n",
    }


def options(deployment: Deployment, asked: Allocation, place: Place) -> Iterator[str]:
    """Options of sbatch in the order they are written, without dashes in front: `nodes=2`, `exclusive`."""
    found = _planned(deployment, asked, place)
    more = {name.replace("_", "-"): value for name, value in asked.additional_parameters.items()}
    for name, value in {**found, **more}.items():
        if value is True:
            yield name
        elif value is not None and value is not False:
            yield f"{name}={quote.shell(str(value))}"


def _planned(deployment: Deployment, asked: Allocation, place: Place) -> Mapping[str, Any]:
    named = [node.name for node in deployment.nodes if node.name is not None]
    grace_s = max((process.stop.grace_s for process in deployment.processes), default=0.0)
    return {
        "job-name": f"servix-{deployment.name}",
        "nodes": deployment.num_nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": deployment.gpus_per_node if deployment.gpus else None,
        "exclusive": True,
        "cpus-per-task": asked.cpus_per_task,
        "mem": None if asked.mem_gb is None else f"{asked.mem_gb}G",
        "time": asked.timeout_min,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "reservation": asked.reservation,
        "nodelist": ",".join(named) if named else asked.nodelist,
        "exclude": asked.exclude,
        # Slurm warns up to a minute early, so a point may be given up that would just have been done.
        "signal": f"B:USR1@{math.ceil(grace_s) + WARNING_S}",
        "requeue": True,
        "open-mode": "append",
        "output": f"{place.folder.replace('%', '%%')}/jobs/%j.log",
    }
