"""What the kubelet knows of a pod, and the status that it writes of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import kinds
from .conditions import condition, with_conditions
from .logs import Log
from .network import Holder
from .objects import Objects
from .running import Running
from .serving import Endpoint
from .store import Object, now

SERVED = ("DynamoGraphDeployment", "Deployment")


@dataclass
class Settings:
    """How long things take, and which images cannot be had."""

    pull_s: float = 0.0
    ready_s: float = 0.05  # of a simulated pod, from its start
    token_s: float = 0.0  # between two tokens of a simulated frontend
    missing_images: dict[str, str] = field(default_factory=dict)  # part of its name -> why
    back_off_s: float = 0.3  # before a container is started again
    unready: set[str] = field(default_factory=set)  # parts of names of pods that do not become ready
    extra_env: dict[str, str] = field(default_factory=dict)


@dataclass
class Pod:
    """What the kubelet knows of a pod beside the object."""

    name: str
    namespace: str
    folder: Path
    ip: str
    logs: dict[str, Log]
    began_s: float
    state: str = "waiting"  # waiting, running, over
    running: dict[str, Running] = field(default_factory=dict)
    left: list[dict[str, Any]] = field(default_factory=list)  # init containers that are still to run
    endpoint: Endpoint | None = None
    holder: Holder | None = None
    started_s: float = 0.0
    stop_s: float | None = None  # monotonic; when it is killed that was asked to stop
    reasons: dict[str, str] = field(default_factory=dict)  # container -> OOMKilled and the like
    started_at: str = ""
    ended_at: str = ""
    restarts: int = 0
    served: bool = False
    again: dict[str, float] = field(default_factory=dict)  # container -> when it is started again
    last: dict[str, dict[str, Any]] = field(default_factory=dict)  # container -> how it ended the last time


def is_served(pod: Object) -> bool:
    owners = pod["metadata"].get("ownerReferences") or []
    return any(one["kind"] in SERVED for one in owners)


def is_ready(pod: Object) -> bool:
    return any(
        one["type"] == "Ready" and one["status"] == "True"
        for one in pod.get("status", {}).get("conditions", [])
    )


def tell(objects: Objects, own: Pod, pod: Object, phase: str, ready: bool, **more: str) -> None:
    """Writes the status of a pod that has started."""
    statuses = [
        container_status(own, one, state(own, one["name"]), ready) for one in pod["spec"]["containers"]
    ]
    why = (
        "" if ready else {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "ContainersNotReady")
    )
    told = [
        condition("Initialized", True),
        condition("Ready", ready, why),
        condition("ContainersReady", ready, why),
    ]
    status = {"phase": phase, "podIP": own.ip, "podIPs": [{"ip": own.ip}], "hostIP": "127.0.0.1"}
    status |= {"startTime": pod.get("status", {}).get("startTime", now()), **more}
    status |= {"containerStatuses": statuses, "conditions": with_conditions(pod, *told)}
    objects.set_status(kinds.POD, pod, **status)


def state(own: Pod, name: str) -> dict[str, Any]:
    running = own.running.get(name)
    if running is None or not running.ended:
        over = own.state == "over"
        return (
            {"terminated": ended(own, 0, "Completed")} if over else {"running": {"startedAt": own.started_at}}
        )
    reason = own.reasons.get(name) or ("Completed" if running.code == 0 else "Error")
    return {"terminated": ended(own, running.code, reason, running.message())}


def container_status(
    own: Pod, container: dict[str, Any], state: dict[str, Any], ready: bool = False
) -> Object:
    name, started = container["name"], "running" in state
    held = {"name": name, "image": container["image"], "imageID": "", "restartCount": own.restarts}
    last = own.last.get(name, {})
    return {**held, "ready": ready and started, "started": started, "state": state, "lastState": last}


def ended(own: Pod, code: int, reason: str, message: str = "") -> dict[str, Any]:
    times = {"startedAt": own.started_at or now(), "finishedAt": own.ended_at or now()}
    return {"exitCode": code, "reason": reason, **times, **({"message": message} if message else {})}
