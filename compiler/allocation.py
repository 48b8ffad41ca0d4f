"""What a batch job is asked for beside the plan's nodes: partition, account, time, and what sites add.

Taken from: `hydra.launcher`, whose keys are those of hydra-submitit-launcher. Given to: `batch`, the launcher.
Never does: saying how many nodes or GPUs. The plan says that, for each deployment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from compiler import secret
from compiler.errors import NOTHING, Problem, did_you_mean, error, nearest

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
OWN_OF_STEPS = frozenset(
    {
        *("overlap", "exact", "exclusive", "nodelist", "nodefile", "exclude", "relative", "nodes", "ntasks"),
        *(
            "ntasks-per-node",
            "job-name",
            "jobid",
            "export",
            "export-file",
            "chdir",
            "input",
            "output",
            "error",
        ),
        *("gpus", "gpus-per-node", "gpus-per-task", "gres", "pty", "multi-prog", "kill-on-bad-exit"),
        *("w", "x", "r", "N", "n", "J", "D", "i", "o", "e", "G", "K", "s"),
    }
)
"""Flags of srun that servix itself gives each step, or that say otherwise than the plan."""
OF_THE_STOCK_PLUGIN: Mapping[str, str] = {
    "tasks_per_node": PLANNED["nodes"],
    "name": PLANNED["job_name"],
    "submitit_folder": "jobs are kept beside their deployment: set output_dir",
    "stderr_to_stdout": "a job has one log",
    "signal_delay_s": "a job is warned in time to stop in order",
    "max_num_timeout": "run the same command again: it does what is missing",
    **{
        name: f"write +hydra.launcher.additional_parameters.{name}=..."
        for name in ("mem_per_cpu", "mem_per_gpu", "cpus_per_gpu")
    },
}
"""Keys of hydra-submitit-launcher that there are not here -> what to do instead."""
ABSENT = "Hydra has no such setting here"


@dataclass(frozen=True, slots=True)
class Allocation:
    """Settings of the Slurm launcher, the same for every job of a command."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    constraint: str | None = None
    """Features that nodes must have."""
    comment: str | None = None
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
    """The settings of `hydra.launcher`, in which there are no `problems`; what is null has its default."""
    known = Allocation.__dataclass_fields__
    given = {name: value for name, value in settings.items() if name in known and value is not None}
    if given.get("timeout_min") == AUTO:
        del given["timeout_min"]
    given |= {name: str(given[name]) for name in _TEXTS if name in given}
    return Allocation(**given | {name: tuple(map(str, given.get(name, ()))) for name in _LISTS})


def problems(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the settings of `hydra.launcher`, whatever the plan."""
    for name, value in settings.items():
        key = f"hydra.launcher.{name}"
        if name in _RULES:
            found = list(_RULES[name](key, value)) if value is not None else []
            yield from found or _secrets(key, value)
        elif name != "_target_":
            yield error("hydra", key, value, ABSENT, unknown(name))


def unknown(name: str) -> str:
    """What to do in place of a key that `hydra.launcher` does not have; "" where nobody knows."""
    if name in _RULES:
        return "it is a setting of Slurm's jobs: use system=slurm, or a system that starts from it"
    hint = {**PLANNED, **OF_THE_STOCK_PLUGIN}.get(name)
    return hint or (did_you_mean(name, _RULES) if nearest(name, _RULES) else "")


def _text(key: str, value: Any) -> Iterator[Problem]:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        hint = "several are one text: 'a,b'" if isinstance(value, list) else ""
        yield error("slurm", key, value, "should be text", hint)
    elif not str(value).strip():
        yield error("slurm", key, value, "is empty", "leave it out, or write null")
    elif "\n" in str(value):
        yield error("slurm", key, value, "a parameter is one line")


def _list(key: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, list | tuple) or not all(isinstance(word, str | int | float) for word in value):
        yield error("slurm", key, value, "should be a list of text", f"""write '{key}=["..."]'""")


def _srun_args(key: str, value: Any) -> Iterator[Problem]:
    found = list(_list(key, value))
    yield from found
    for word in () if found else map(str, value):
        name = word[2:].partition("=")[0] if word.startswith("--") else word[1:2]
        if word.startswith("-") and name in OWN_OF_STEPS:
            yield error("slurm", key, word, "servix gives each step its own", "leave it out")


def _parameters(setting: str, key: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield error("slurm", key, value, "should be a mapping", f"write +{key}.NAME=VALUE")
        return
    for name, given in value.items():
        hint = _hint(setting, str(name).replace("-", "_").lower())
        if hint is not None:
            yield error("slurm", f"{key}.{name}", given, "is not left to the user", hint)
        elif isinstance(given, list | tuple | Mapping):
            yield error("slurm", f"{key}.{name}", given, "should be text, a number, true or false")
        elif "\n" in f"{name}{given}":
            yield error("slurm", f"{key}.{name}", given, "a parameter is one line")


def _hint(setting: str, name: str) -> str | None:
    """Why a parameter may not be given; null where it may."""
    if setting == "prefetch_parameters" and name == "time":
        return "set hydra.launcher.prefetch_timeout_min"
    free = setting == "prefetch_parameters" and name not in OWN_OF_PREFETCH
    return None if free else PLANNED.get(name)


def _whole(what: str, least: int, key: str, value: Any) -> Iterator[Problem]:
    if not _is_number(value, least, int):
        yield error("slurm", key, value, f"should be a whole number{what}, at least {least}")


def _limit(key: str, value: Any) -> Iterator[Problem]:
    if value != AUTO and not _is_number(value, 1, int):
        reason = f"should be a whole number of minutes, at least 1, or '{AUTO}'"
        yield error("slurm", key, value, reason)


def _number(least: float, key: str, value: Any) -> Iterator[Problem]:
    if not _is_number(value, least, int | float):
        yield error("slurm", key, value, f"should be a number of at least {least:g}")


def _is_number(value: Any, least: float, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value) and value >= least


def _secrets(key: str, value: Any) -> Iterator[Problem]:
    """All of it is written into the script of a job."""
    entries = value.items() if isinstance(value, Mapping) else [("", value)]
    for name, given in entries:
        words = " ".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
        if (secret.is_name(str(name)) and not secret.holds_nothing(given)) or secret.is_in(words):
            reason = "looks like a secret, and is written into the script of the job"
            hint = "export it in your shell: HF_* variables reach the processes without being written"
            yield error("secret", f"{key}.{name}" if name else key, NOTHING, reason, hint)


_TEXTS = ("partition", "account", "qos", "reservation", "constraint", "comment", "exclude", "nodelist")
_LISTS = ("setup", "srun_args")
_RULES: Mapping[str, Callable[[str, Any], Iterator[Problem]]] = {
    **dict.fromkeys(_TEXTS, _text),
    "timeout_min": _limit,
    "timeout_factor": partial(_number, 1),
    "timeout_spare_min": partial(_number, 0),
    "setup": _list,
    "srun_args": _srun_args,
    "additional_parameters": partial(_parameters, "additional_parameters"),
    "mem_gb": partial(_whole, " of GB", 0),
    "cpus_per_task": partial(_whole, "", 1),
    "array_parallelism": partial(_whole, " of jobs", 1),
    "silence_min": partial(_number, 0),
    "prefetch_timeout_min": partial(_whole, " of minutes", 1),
    "prefetch_parameters": partial(_parameters, "prefetch_parameters"),
}
"""Key -> what is wrong with its value."""
