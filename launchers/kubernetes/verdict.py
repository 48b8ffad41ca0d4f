"""What a cluster says of a deployment and its pods -> what that means, in one line for a person.

Takes objects as the API gives them (`DynamoGraphDeployment`, `Deployment`, `Pod`, `Job`); gives whether they are
ready, what is wrong, and whether waiting is of use.
Never does: asking the API; deciding how long to wait.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Object = Mapping[str, Any]

MOST_CRASHES = 3
"""Times that a container may end before it is ready, and be started again, until nothing better is expected."""
LONGEST = 300
"""Characters of what the cluster says that are shown."""
KILL = 128
_NAME = re.compile(r"""\b(pods?) ("[^"]*"|[^\s":]+(?=:))""")
"""Of a pod that was refused."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a deployment is."""

    ready: bool
    what: str
    """In words: `frontend 1/1, decode 0/2`."""
    failed: str = ""
    """Why the operator calls it failed, which it may take back; empty: it does not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a pod."""

    pod: str
    what: str
    """One line."""
    hopeless: bool = False
    """Waiting changes nothing."""
    patience_s: float = 0.0
    """With `hopeless`: it may still be taken back for so long."""

    def __str__(self) -> str:
        return f"pod {self.pod}: {self.what}"


@dataclass(frozen=True, slots=True)
class Killed:
    """A container that ended although it should serve."""

    pod: str
    how: str
    at: float
    """Seconds since 1970; 0: not said."""

    def __str__(self) -> str:
        return f"pod {self.pod}: {self.how}"


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a Job came to its end."""

    complete: bool
    reason: str
    """Why it is not complete; empty when it is."""
    again: bool = False
    """It was not its own fault: another may do what it did not."""
    late: bool = False
    """It took longer than it may."""


def graph(found: Object) -> Progress:
    """Progress of a DynamoGraphDeployment of either version."""
    status = found.get("status") or {}
    parts = status.get("components") or status.get("services") or {}
    what = ", ".join(f"{name} {_count(part)}" for name, part in sorted(_named(parts).items()))
    current = status.get("observedGeneration") in (None, _generation(found))
    condition = _condition(status, "Ready")
    if status.get("observedGeneration") is None:
        # Older operators do not say it; then their condition does, where it says of which generation it is.
        current = condition.get("observedGeneration") in (None, _generation(found))
    short = [name for name, part in _named(parts).items() if not _is_full(part)]
    ready = condition.get("status") == "True" and current and not short
    state, message = status.get("state"), _line(condition.get("message") or condition.get("reason") or "")
    failed = message or "no reason given"
    return Progress(
        ready,
        what or _line(str(state or "not seen by the operator yet")),
        failed if state == "failed" else "",
    )


def deployments(found: Sequence[Object]) -> Progress:
    """Progress of ordinary Deployments and StatefulSets together."""
    ready, words, failed = bool(found), [], []
    for one in found:
        status, wanted = one.get("status") or {}, (one.get("spec") or {}).get("replicas", 1)
        is_current = status.get("observedGeneration") == _generation(one)
        count = status.get("readyReplicas") or 0
        ready &= is_current and count >= wanted
        words.append(f"{_name(one)} {count}/{wanted}")
        late = _condition(status, "Progressing")
        if late.get("status") == "False":
            failed.append(_line(late.get("message") or late.get("reason") or ""))
        if (refused := _condition(status, "ReplicaFailure")).get("status") == "True":
            failed.append(_line(refused.get("message") or refused.get("reason") or ""))
    return Progress(ready, ", ".join(words), "; ".join(failed))


def findings(pods: Iterable[Object]) -> list[Finding]:
    """What is wrong with pods, the same trouble of several pods once."""
    found: dict[str, Finding] = {}
    for pod in pods:
        for finding in _of_pod(pod):
            known = found.get(finding.what)
            if known is None or (finding.hopeless and not known.hopeless):
                found[finding.what] = finding
    return list(found.values())


def killed(pods: Iterable[Object]) -> list[Killed]:
    """Containers of pods that ended by themselves, oldest first."""
    ends = [end for pod in pods for end in _ends(pod)]
    return sorted(ends, key=lambda end: end.at)


def job_end(job: Object, pods: Sequence[Object]) -> JobEnd | None:
    """How a Job ended, and why; null while it goes on."""
    status = job.get("status") or {}
    if _condition(status, "Complete").get("status") == "True":
        return JobEnd(True, "")
    failed = _condition(status, "Failed")
    if failed.get("status") != "True":
        return None
    own = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Failed"] or list(pods)
    why = next((reason for pod in own if (reason := _disrupted(pod))), "")
    if why:
        return JobEnd(False, why, again=True)
    if failed.get("reason") == "DeadlineExceeded":
        return JobEnd(False, "the benchmark Job took longer than it may (activeDeadlineSeconds)", late=True)
    deleted = all(pod["metadata"].get("deletionTimestamp") for pod in pods)
    if deleted and failed.get("reason") == "BackoffLimitExceeded":
        # A pod that fails by itself stays for as long as its Job does.
        return JobEnd(False, "was stopped from outside: its pod was deleted", again=True)
    codes = [end.how for end in killed(own)]
    said = codes[-1] if codes else _line(failed.get("message") or failed.get("reason") or "no reason given")
    return JobEnd(False, f"the benchmark Job failed: {said}")


def refusal(events: Iterable[Object], name: str, of_job: bool) -> str:
    """Why a pod of that deployment, or of a Job of it, was not made, in the cluster's words; empty: nothing is said.

    Every controller has words of its own for it: `FailedCreate` of a Job or a ReplicaSet, `PodCreateFailed` of Grove.
    """
    said = ""
    for one in events:
        about, reason = one.get("involvedObject") or {}, str(one.get("reason"))
        if str(about.get("name")).startswith(f"{name}-") and (about.get("kind") == "Job") == of_job:
            is_refusal = about.get("kind") != "Pod" and "Creat" in reason and "Fail" in reason
            # Each try has a name of its own, and is told once.
            said = _line(_NAME.sub(r"\1", str(one.get("message") or reason))) if is_refusal else said
    return said


def _of_pod(pod: Object) -> Iterator[Finding]:
    name, status = _name(pod), pod.get("status") or {}
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") in ("Unschedulable", "SchedulingGated"):
        # Others may give back what they hold, and clusters may grow.
        yield Finding(
            name, f"no node takes it: {_line(scheduled.get('message') or scheduled.get('reason') or '')}"
        )
    if why := _disrupted(pod):
        yield Finding(name, why)
    for container in _containers(status):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting:
            yield from _waiting(name, container, waiting)


def _waiting(name: str, container: Object, waiting: Object) -> Iterator[Finding]:
    reason, message = str(waiting.get("reason") or ""), _line(waiting.get("message") or "")
    image = container.get("image") or "its image"
    if reason in ("InvalidImageName", "ErrImageNeverPull"):
        yield Finding(name, f"image {image} cannot be used ({reason})", True)
    elif reason in ("ImagePullBackOff", "ErrImagePull", "ImageInspectError", "RegistryUnavailable"):
        final = re.search(r"not found|manifest unknown|denied|unauthorized|no such|forbidden", message, re.I)
        why = f": {message}" if message and reason != "ImagePullBackOff" else ""
        # A registry that is only away may come back; one that says no has said it.
        patience_s = 20.0 if final else 120.0
        yield Finding(name, f"image {image} cannot be pulled{why}", True, patience_s)
    elif reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        yield Finding(name, f"its container cannot be started: {message or reason}", True, 30.0)
    elif reason == "CrashLoopBackOff":
        last = (container.get("lastState") or {}).get("terminated") or {}
        count = int(container.get("restartCount") or 0)
        how = _how(last) if last else "ended"
        yield Finding(
            name, f"its container {how}, {count} time{'s' if count != 1 else ''}", count >= MOST_CRASHES
        )


def _ends(pod: Object) -> Iterator[Killed]:
    status = pod.get("status") or {}
    if why := _disrupted(pod):
        yield Killed(_name(pod), why, _time(_condition(status, "DisruptionTarget").get("lastTransitionTime")))
    for container in _containers(status):
        for state in ("lastState", "state"):
            ended = (container.get(state) or {}).get("terminated") or {}
            if ended:
                yield Killed(_name(pod), f"its container {_how(ended)}", _time(ended.get("finishedAt")))


def _how(ended: Object) -> str:
    """How a container ended."""
    reason, code = ended.get("reason"), ended.get("exitCode")
    if reason == "OOMKilled":
        return "ran out of memory and was killed (OOMKilled)"
    if isinstance(code, int) and code > KILL:
        return f"was ended by signal {code - KILL}"
    said = _line(ended.get("message") or "")
    why = f": {said}" if said else f" ({reason})" if reason not in (None, "Error", "Completed") else ""
    return f"ended with exit code {code}{why}"


def _disrupted(pod: Object) -> str:
    """What the cluster did to a pod that did nothing wrong; empty when it did nothing."""
    status = pod.get("status") or {}
    message = _line(status.get("message") or "")
    if status.get("reason") in (
        "Evicted",
        "Preempting",
        "Shutdown",
        "NodeShutdown",
        "Terminated",
        "NodeLost",
    ):
        return f"was evicted ({status['reason']})" + (f": {message}" if message else "")
    condition = _condition(status, "DisruptionTarget")
    if condition.get("status") == "True":
        return f"was evicted ({condition.get('reason')}): {_line(condition.get('message') or '')}".rstrip(
            ": "
        )
    return ""


def _containers(status: Object) -> Iterator[Object]:
    for key in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(key) or ()


def _condition(status: Object, kind: str) -> Object:
    return next((one for one in status.get("conditions") or () if one.get("type") == kind), {})


def _named(parts: Any) -> dict[str, Object]:
    """Component -> its status, whether the API has it as a mapping or as a list."""
    if isinstance(parts, Mapping):
        return {str(name): part for name, part in parts.items() if isinstance(part, Mapping)}
    return {str(part.get("name")): part for part in parts if isinstance(part, Mapping)}


def _count(part: Object) -> str:
    ready = part.get("readyReplicas", part.get("availableReplicas", 0)) or 0
    return f"{ready}/{part.get('replicas', '?')}"


def _is_full(part: Object) -> bool:
    wanted, ready = part.get("replicas"), part.get("readyReplicas", part.get("availableReplicas"))
    return wanted is None or ready is None or ready >= wanted


def _generation(found: Object) -> Any:
    return (found.get("metadata") or {}).get("generation")


def _name(found: Object) -> str:
    return str((found.get("metadata") or {}).get("name"))


def _line(text: str) -> str:
    plain = " ".join(str(text).split())
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 3]}..."


def _time(text: Any) -> float:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
