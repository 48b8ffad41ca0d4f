"""What a batch job is asked for beside the plan's nodes: partition, account, time, and what sites add.

Taken from: `hydra.launcher`, whose keys are those of hydra-submitit-launcher. Given to: `batch`, the launcher.
Never does: saying how many nodes or GPUs. The plan says that, for each deployment.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compiler.errors import Problem, error

PLANNED: Mapping[str, str] = {
    **dict.fromkeys(
        ("nodes", "ntasks", "ntasks_per_node"), "nodes are those of the plan: set num_nodes or a role's"
    ),
    **dict.fromkeys(
        ("gpus", "gpus_per_node", "gpus_per_task", "gres"),
        "GPUs are those of the plan: set system.gpus_per_node or the sizes of a role",
    ),
    **dict.fromkeys(("output", "error", "open_mode", "chdir"), "servix needs its own"),
    **dict.fromkeys(("array", "dependency", "signal", "wait", "wrap", "parsable"), "servix needs its own"),
    "time": "set hydra.launcher.timeout_min",
    "job_name": "jobs are named after their deployment",
    **dict.fromkeys(
        ("partition", "account", "qos", "reservation", "exclude", "nodelist"),
        "it has a key of its own in hydra.launcher",
    ),
}
"""Parameters that nobody may add -> what to do instead."""
OWN_OF_PREFETCH = frozenset(
    {"output", "error", "open_mode", "chdir", "array", "dependency", "wait", "wrap", "parsable", "job_name"}
)
"""Parameters that servix itself gives the job that downloads."""
AUTO = "auto"
"""As a time limit: from the estimate of the plan."""
OWN_OF_STEPS = (
    "overlap",
    "nodelist",
    "ntasks",
    "nodes",
    "job-name",
    "jobid",
    "export",
    "chdir",
    "output",
    "error",
)
"""Flags of srun that servix itself gives each step."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """Settings of the Slurm launcher, the same for every job of a command."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    timeout_min: int | None = None
    """Minutes after which Slurm ends the job; null: from the estimate of its plan (`limit`)."""
    timeout_factor: float = 1.5
    """How much longer than estimated a job without `timeout_min` may take."""
    timeout_spare_min: float = 5
    """Minutes that such a job has beside that, and beside the longest start of a deployment."""
    setup: tuple[str, ...] = ()
    """Lines of shell that the job runs before anything else."""
    srun_args: tuple[str, ...] = ()
    """Words for the srun of every step."""
    additional_parameters: Mapping[str, Any] = field(default_factory=dict)
    """More parameters of sbatch; true is a flag without a value, false and null leave one out."""
    exclude: str | None = None
    nodelist: str | None = None
    mem_gb: int | None = None
    """Memory per node in GB; null: what the site gives."""
    cpus_per_task: int | None = None
    array_parallelism: int = 256
    """Jobs of one command at the same time."""
    silence_min: float = 60
    """Minutes that Slurm may be silent, or take no job, until a command gives up waiting."""
    prefetch_timeout_min: int = 240
    """Minutes after which Slurm ends the job that downloads for the others."""
    prefetch_parameters: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of sbatch for that job, in place of those of the others: it needs no GPU."""


def allocation(settings: Mapping[str, Any]) -> Allocation:
    """The settings of `hydra.launcher` as plain data; what is null has its default."""
    known = Allocation.__dataclass_fields__
    given = {name: value for name, value in settings.items() if name in known and value is not None}
    if given.get("timeout_min") == AUTO:
        del given["timeout_min"]
    for name in ("setup", "srun_args"):
        given[name] = tuple(str(word) for word in given.get(name, ()))
    return Allocation(**given)


def problems(asked: Allocation) -> Iterator[Problem]:
    """What is wrong with the settings, whatever the plan."""
    given = {
        "additional_parameters": asked.additional_parameters,
        "prefetch_parameters": asked.prefetch_parameters,
    }
    for setting, parameters in given.items():
        for name, value in parameters.items():
            key = f"hydra.launcher.{setting}.{name}"
            hint = _hint(setting, name.replace("-", "_").lower())
            if hint is not None:
                yield error("slurm", key, value, "is not left to the user", hint)
            elif "\n" in f"{name}{value}":
                yield error("slurm", key, value, "a parameter is one line")
    yield from _steps(asked.srun_args)
    yield from _times(asked)
    if asked.array_parallelism < 1:
        key = "hydra.launcher.array_parallelism"
        yield error(
            "slurm", key, asked.array_parallelism, "no job could ever be submitted", "give at least 1"
        )


def _hint(setting: str, name: str) -> str | None:
    """Why a parameter may not be given; null where it may."""
    if setting == "prefetch_parameters" and name == "time":
        return "set hydra.launcher.prefetch_timeout_min"
    free = setting == "prefetch_parameters" and name not in OWN_OF_PREFETCH
    return None if free else PLANNED.get(name)


def _times(asked: Allocation) -> Iterator[Problem]:
    limit = asked.timeout_min
    if limit is not None and not _is_number(limit, 1, int):
        reason = f"should be a whole number of minutes, at least 1, or '{AUTO}'"
        yield error("slurm", "hydra.launcher.timeout_min", limit, reason)
    if not _is_number(asked.prefetch_timeout_min, 1, int):
        reason = "should be a whole number of minutes, at least 1"
        yield error("slurm", "hydra.launcher.prefetch_timeout_min", asked.prefetch_timeout_min, reason)
    for name, least in (("timeout_factor", 1), ("timeout_spare_min", 0), ("silence_min", 0)):
        value = getattr(asked, name)
        if not _is_number(value, least, (int, float)):
            yield error("slurm", f"hydra.launcher.{name}", value, f"should be a number of at least {least}")


def _is_number(value: object, least: float, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value) and value >= least  # type: ignore[arg-type,operator]


def _steps(words: Sequence[str]) -> Iterator[Problem]:
    for word in words:
        if word.startswith("--") and word[2:].partition("=")[0] in OWN_OF_STEPS:
            reason = "servix gives each step its own"
            yield error("slurm", "hydra.launcher.srun_args", word, reason, "leave it out")
