"""Plan data -> digests. What can change a number is hashed; where, when and by whom it runs is not.

The canonical form is JSON with sorted keys and no spaces. Changing it, or what is left out, means a new
DIGEST_VERSION: results recorded under the old one are then measured again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from compiler.plan import Deployment, Process, Workload

DIGEST_VERSION = 1
SHORT = 10
"""Hexadecimal digits of a short digest, for folders and tables."""

_DEPLOYMENT_OUT = (
    "digest",
    "name",
    "system",
    "nodes",
    "idle_gpus",
    "ready",
    "metrics_urls",
    "storage_cache_dir",
    "ready_timeout_s",
    "max_restarts",
    "repeatable",
    # What was done before a point is in its result, as it is for the first on a stack, whose caches are fresh.
    "reset",
    "gpu_log",
    # The image is part of every process.
    "container",
)
_ENV_OUT = ("HF_HOME",)
"""Where a cache lies; what is in it is told by the model and its revision."""
_PROCESS_OUT = ("workdir", "after", "ready", "stop")
_HOOK_OUT = ("timeout_s",)
_WORKLOAD_OUT = ("between_timeout_s", "needs", "needs_hint", "isolation")
_PHASE_OUT = ("timeout_s", "artifact_dir", "random_seed")
_ACCURACY_OUT = ("name", "timeout_s", "artifact_dir")


def deployment_digest(deployment: Deployment, identity: Mapping[str, Any]) -> str:
    """Digest of a deployment; `identity` adds what the plan does not hold, such as the model's revision."""
    data = _fields(deployment, (*_DEPLOYMENT_OUT, "hooks"))
    data["processes"] = [_process(process) for process in deployment.processes]
    # Left out where there are none: deployments without keep their digests.
    if deployment.hooks:
        data["hooks"] = [_kept(_fields(hook), _HOOK_OUT) for hook in deployment.hooks]
    if deployment.lmcache is not None:
        data["storage_cache_dir"] = deployment.storage_cache_dir
    return digest({"kind": "deployment", **data, "identity": dict(identity)})


def point_digest(deployment: str, workload: Workload) -> str:
    """Digest of a point: its deployment's digest and its workload."""
    return digest({"kind": "point", "deployment": deployment, **_workload(workload)})


def hashed_workload(workload: Workload) -> dict[str, Any]:
    """What of a workload its point's digest depends on."""
    data: dict[str, Any] = json.loads(_canonical(_workload(workload)))
    return data


def _workload(workload: Workload) -> dict[str, Any]:
    data = _fields(workload, (*_WORKLOAD_OUT, "accuracy"))
    data["phases"] = [_fields(phase, _PHASE_OUT) for phase in workload.phases]
    if workload.isolation != "shared":
        data["isolation"] = workload.isolation
    # Left out where there is none: points without one keep their digests.
    if workload.accuracy is not None:
        data["accuracy"] = _fields(workload.accuracy, _ACCURACY_OUT)
    return data


def hashed(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """What of a deployment in its JSON form its digest depends on; processes by name.

    Form and names may be those of another release: what is not there, or not as it should be, is left out.
    """
    kept = {name: value for name, value in deployment.items() if name not in ("schema", *_DEPLOYMENT_OUT)}
    if kept.get("lmcache") is not None:
        kept["storage_cache_dir"] = deployment.get("storage_cache_dir")
    processes = kept.get("processes")
    entries = processes if isinstance(processes, list | tuple) else []
    kept["processes"] = {
        str(each.get("name")): _kept_process(each) for each in entries if isinstance(each, Mapping)
    }
    hooks = kept.pop("hooks", None)
    if isinstance(hooks, list | tuple) and hooks:
        kept["hooks"] = {
            str(each.get("name")): _kept(each, _HOOK_OUT) for each in hooks if isinstance(each, Mapping)
        }
    return kept


def _kept_process(process: Mapping[str, Any]) -> dict[str, Any]:
    data = _kept(process, _PROCESS_OUT)
    startup = data.pop("startup", None)
    if not data.get("sees_all_gpus"):
        data.pop("sees_all_gpus", None)
    if isinstance(startup, Mapping):
        data["startup"] = {name: value for name, value in startup.items() if name not in _HOOK_OUT}
    return data


def _kept(item: Mapping[str, Any], out: tuple[str, ...]) -> dict[str, Any]:
    data = {name: value for name, value in item.items() if name not in out}
    if isinstance(data.get("env"), Mapping):
        data["env"] = {name: value for name, value in data["env"].items() if name not in _ENV_OUT}
    return data


def digest(data: Mapping[str, Any]) -> str:
    """`v<version>-<64 hexadecimal digits>` of data made of JSON types and of plan data."""
    return f"v{DIGEST_VERSION}-{hashlib.sha256(_canonical(data).encode()).hexdigest()}"


def _canonical(data: Mapping[str, Any]) -> str:
    # Plan data is mostly what the encoder knows itself, and it is faster than anything that walks it before.
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=_fields
    )


def short(digest_text: str) -> str:
    """The first digits of a digest, enough to tell folders apart.

    >>> short("v1-0123456789abcdef")
    '0123456789'
    """
    return digest_text.partition("-")[2][:SHORT]


def _fields(value: Any, out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Fields of plan data or entries of a mapping, one level deep, without the fields `out`."""
    if isinstance(value, Mapping):
        return dict(value)
    kind: Any = type(value)
    return {name: getattr(value, name) for name in _names(kind) if name not in out}


def _process(process: Process) -> dict[str, Any]:
    data = _fields(process, (*_PROCESS_OUT, "startup", "sees_all_gpus"))
    # Left out where they are as they always were: what does not use them keeps its digest.
    if process.sees_all_gpus:
        data["sees_all_gpus"] = True
    if process.startup is not None:
        data["startup"] = _fields(process.startup, _HOOK_OUT)
    data["env"] = {name: value for name, value in data["env"].items() if name not in _ENV_OUT}
    return data


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind))
