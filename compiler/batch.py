"""Deployments, their points and an allocation -> `job.sbatch`, and `job.json` that it reads.

Taken from: the plan and the launcher's settings. Given to: the store, and to sbatch as it is.
Never does: deciding how many nodes or GPUs, or how long; writing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from compiler import plan_json, quote
from compiler.allocation import Allocation
from compiler.emit import Raw, render
from compiler.plan import Deployment, Plan, Point
from compiler.prefetch import SCRIPT as PREFETCH
from compiler.prefetch import WORK as PREFETCH_WORK
from compiler.prefetch import Downloads, to_json

SCRIPT, WORK = "job.sbatch", "job.json"
SCHEMA = "servix.job/1"
SAME_FOR_ALL = frozenset(
    {
        *("job-name", "nodes", "ntasks-per-node", "gpus-per-node", "exclusive"),
        *("signal", "requeue", "open-mode", "output"),
    }
)
"""Options of sbatch that no setting of the launcher says; but `exclusive` may be left out."""
WARNING_S = 20
"""Seconds beside the longest grace of a process: what it takes to stop, and to write down what is there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job finds things, on a file system that all nodes share."""

    folder: str
    """The job's own, below `output_dir`: that of its deployment, or of an allocation for several."""
    servix_dir: str
    """The checkout."""
    python: str
    cwd: str
    """Where the command was typed: relative paths in the configuration start there."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a job has."""

    minutes: int
    """After so many Slurm ends it."""
    number: int = 1
    """Which of the jobs that share the folder; each has files of its own."""


def names(number: int) -> tuple[str, str]:
    """Names of the script and of the work of a folder's nth job.

    >>> names(1), names(2)
    (('job.sbatch', 'job.json'), ('job-2.sbatch', 'job-2.json'))
    """
    infix = f"-{number}" if number > 1 else ""
    return f"job{infix}.sbatch", f"job{infix}.json"


def batch(
    deployments: Sequence[Deployment],
    points: Sequence[Point],
    asked: Allocation,
    place: Place,
    size: Size,
    images: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Both files of a job: one for all points that share the deployment, or that are on one of several.

    `images`: image -> the squash file that it is imported into.
    """
    held = {deployment.digest for deployment in deployments}
    mine = tuple(p for p in points if p.deployment in held and p.workload is not None and p.valid)
    script, work = names(size.number)
    todo = {
        "schema": SCHEMA,
        "srun_args": list(asked.srun_args),
        "images": dict(images),
        "plan": plan_json.to_json(Plan(mine, tuple(deployments))),
    }
    return {
        script: render(
            "job.sbatch.j2",
            deployments=deployments,
            script=script,
            work=work if size.number > 1 else None,
            options=[f"--{option}" for option in options(deployments, asked, place, size)],
            setup=Raw("".join(f"{line}\n" for line in asked.setup)),
            place=place,
        ),
        work: json.dumps(todo, sort_keys=True, indent=2, allow_nan=False) + "\n",
    }


def options(deployments: Sequence[Deployment], asked: Allocation, place: Place, size: Size) -> Iterator[str]:
    """Options of sbatch in the order they are written, without dashes in front: `nodes=2`, `exclusive`."""
    yield from _words(_planned(deployments, asked, place, size), asked.additional_parameters)


def _words(planned: Mapping[str, Any], more: Mapping[str, Any]) -> Iterator[str]:
    added = {name.replace("_", "-"): value for name, value in more.items()}
    for name, value in {**planned, **added}.items():
        if value is True:
            yield name
        elif value is not None and value is not False:
            yield f"{name}={quote.shell(str(value))}"


def nodes_of(deployments: Sequence[Deployment]) -> tuple[int, list[str]]:
    """Nodes of a job for deployments that come one after the other, and the names that have to be among them."""
    named = dict.fromkeys(node.name for one in deployments for node in one.nodes if node.name is not None)
    return max(len(named), *(one.num_nodes for one in deployments)), list(named)


def _planned(
    deployments: Sequence[Deployment], asked: Allocation, place: Place, size: Size
) -> Mapping[str, Any]:
    number, named = nodes_of(deployments)
    processes = [process for one in deployments for process in one.processes]
    grace_s = max((process.stop.grace_s for process in processes), default=0.0)
    return {
        "job-name": f"servix-{name_of(deployments)}",
        "nodes": number,
        "ntasks-per-node": 1,
        "gpus-per-node": max(one.gpus_per_node if one.gpus else 0 for one in deployments) or None,
        "exclusive": True,
        "cpus-per-task": asked.cpus_per_task,
        "mem": None if asked.mem_gb is None else f"{asked.mem_gb}G",
        "time": size.minutes,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "reservation": asked.reservation,
        "constraint": asked.constraint,
        "nodelist": ",".join(named) if named else asked.nodelist,
        "exclude": asked.exclude,
        # Slurm warns up to a minute early, so a point may be given up that would just have been done.
        "signal": f"B:USR1@{math.ceil(grace_s) + WARNING_S}",
        "requeue": True,
        "open-mode": "append",
        "output": f"{place.folder.replace('%', '%%')}/jobs/%j.log",
        "comment": asked.comment,
    }


def prefetch(downloads: Downloads, asked: Allocation, place: Place) -> dict[str, str]:
    """Both files of the job that downloads what others wait for: it has no GPU."""
    return {
        PREFETCH: render(
            "prefetch.sbatch.j2",
            downloads=downloads,
            options=[f"--{option}" for option in prefetch_options(asked, place)],
            setup=Raw("".join(f"{line}\n" for line in asked.setup)),
            place=place,
        ),
        PREFETCH_WORK: json.dumps(to_json(downloads), sort_keys=True, indent=2) + "\n",
    }


def prefetch_options(asked: Allocation, place: Place) -> Iterator[str]:
    """Options of sbatch for that job, without dashes in front."""
    planned = {
        "job-name": "servix-prefetch",
        "nodes": 1,
        "ntasks": 1,
        "time": asked.prefetch_timeout_min,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "reservation": asked.reservation,
        "requeue": True,
        "open-mode": "append",
        "output": f"{place.folder.replace('%', '%%')}/jobs/%j.log",
    }
    yield from _words(planned, asked.prefetch_parameters)


def name_of(deployments: Sequence[Deployment]) -> str:
    """What a job is called after."""
    return deployments[0].name if len(deployments) == 1 else f"{len(deployments)}-deployments"
