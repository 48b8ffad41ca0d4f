"""What the API gives of a deployment and its pods, and what is told of it."""

from typing import Any

import pytest

from launchers.kubernetes.verdict import (
    Finding,
    JobEnd,
    Progress,
    deployments,
    findings,
    graph,
    job_end,
    killed,
    refusal,
)


def dgd(state: str, ready: str, observed: int | None = 2, message: str = "", **parts: tuple[int, int]) -> Any:
    components = {
        name: {"readyReplicas": have, "replicas": want, "kind": "PodClique"}
        for name, (have, want) in parts.items()
    }
    status = {
        "state": state,
        "conditions": [{"type": "Ready", "status": ready, "message": message}],
        "components": components,
        **({} if observed is None else {"observedGeneration": observed}),
    }
    return {"metadata": {"name": "d", "generation": 2}, "status": status}


GRAPHS = [
    ("just made", {"metadata": {"generation": 1}}, Progress(False, "not seen by the operator yet")),
    (
        "pending",
        dgd("pending", "False", frontend=(1, 1), decode=(0, 2)),
        Progress(False, "decode 0/2, frontend 1/1"),
    ),
    ("ready", dgd("successful", "True", frontend=(1, 1)), Progress(True, "frontend 1/1")),
    ("ready of before", dgd("successful", "True", 1, frontend=(1, 1)), Progress(False, "frontend 1/1")),
    ("no generation said", dgd("successful", "True", None, frontend=(1, 1)), Progress(True, "frontend 1/1")),
    ("a replica too few", dgd("successful", "True", decode=(1, 2)), Progress(False, "decode 1/2")),
    (
        "failed",
        dgd("failed", "False", message="failed to\nreconcile", decode=(0, 1)),
        Progress(False, "decode 0/1", "failed to reconcile"),
    ),
    ("nothing to show", dgd("initializing", "False"), Progress(False, "initializing")),
]


@pytest.mark.parametrize(("found", "progress"), [row[1:] for row in GRAPHS], ids=[row[0] for row in GRAPHS])
def test_a_graph(found: Any, progress: Progress) -> None:
    assert graph(found) == progress


def test_the_older_form_of_a_graph() -> None:
    found = dgd("successful", "True", decode=(1, 1))
    found["status"]["services"] = found["status"].pop("components")
    assert graph(found) == Progress(True, "decode 1/1")


def ordinary(name: str, ready: int, observed: int = 1, **condition: Any) -> Any:
    status = {"readyReplicas": ready, "observedGeneration": observed, "conditions": [condition]}
    return {"metadata": {"name": name, "generation": 1}, "spec": {"replicas": 2}, "status": status}


ORDINARY = [
    ("none", [], Progress(False, "")),
    ("ready", [ordinary("a", 2), ordinary("b", 2)], Progress(True, "a 2/2, b 2/2")),
    ("one waits", [ordinary("a", 2), ordinary("b", 1)], Progress(False, "a 2/2, b 1/2")),
    ("not seen yet", [ordinary("a", 2, 0)], Progress(False, "a 2/2")),
    (
        "quota",
        [ordinary("a", 0, type="ReplicaFailure", status="True", message="exceeded quota: gpus")],
        Progress(False, "a 0/2", "exceeded quota: gpus"),
    ),
]


@pytest.mark.parametrize(("found", "progress"), [r[1:] for r in ORDINARY], ids=[r[0] for r in ORDINARY])
def test_ordinary_deployments(found: Any, progress: Progress) -> None:
    assert deployments(found) == progress


def pod(name: str = "p", **status: Any) -> Any:
    return {"metadata": {"name": name}, "status": status}


def container(**more: Any) -> list[Any]:
    return [{"name": "main", "image": "img:1", **more}]


def waits(reason: str, message: str = "", **more: Any) -> Any:
    state = {"waiting": {"reason": reason, "message": message}}
    return pod(containerStatuses=container(state=state, **more))


def ended(code: int, reason: str = "Error", at: str = "2026-01-01T00:00:10Z") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": at}}


FULL = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
FINDINGS = [
    ("fine", pod(containerStatuses=container(state={"running": {}})), []),
    ("being made", waits("ContainerCreating"), []),
    (
        "no GPU",
        pod(
            conditions=[
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": FULL}
            ]
        ),
        [Finding("p", f"no node takes it: {FULL}")],
    ),
    (
        "image not there",
        waits("ErrImagePull", "manifest unknown"),
        [Finding("p", "image img:1 cannot be pulled: manifest unknown", True, 20.0)],
    ),
    (
        "registry away",
        waits("ImagePullBackOff", "Back-off pulling image"),
        [Finding("p", "image img:1 cannot be pulled", True, 120.0)],
    ),
    (
        "bad name",
        waits("InvalidImageName"),
        [Finding("p", "image img:1 cannot be used (InvalidImageName)", True)],
    ),
    (
        "no secret",
        waits("CreateContainerConfigError", 'secret "hf" not found'),
        [Finding("p", 'its container cannot be started: secret "hf" not found', True, 30.0)],
    ),
    (
        "crashes",
        waits("CrashLoopBackOff", "back-off", restartCount=1, lastState=ended(1)),
        [Finding("p", "its container ended with exit code 1, 1 time")],
    ),
    (
        "crashes on",
        waits("CrashLoopBackOff", "back-off", restartCount=3, lastState=ended(137, "OOMKilled")),
        [Finding("p", "its container ran out of memory and was killed (OOMKilled), 3 times", True)],
    ),
    (
        "evicted",
        pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
        [Finding("p", "was evicted (Evicted): The node was low on resource: memory.")],
    ),
]


@pytest.mark.parametrize(("found", "wrong"), [row[1:] for row in FINDINGS], ids=[row[0] for row in FINDINGS])
def test_what_is_wrong_with_a_pod(found: Any, wrong: list[Finding]) -> None:
    assert findings([found]) == wrong
    # Eight workers with the same trouble have it once.
    assert len(findings([found, found])) == len(wrong)


def test_containers_that_were_killed() -> None:
    pods = [
        pod("b", containerStatuses=container(lastState=ended(137, "OOMKilled", "2026-01-01T00:00:20Z"))),
        pod("a", containerStatuses=container(state=ended(143))),
        pod("c", containerStatuses=container(state={"running": {}})),
    ]
    assert [str(one) for one in killed(pods)] == [
        "pod a: its container was ended by signal 15",
        "pod b: its container ran out of memory and was killed (OOMKilled)",
    ]
    assert [one.at for one in killed(pods)] == [1767225610.0, 1767225620.0]


def job(kind: str = "", reason: str = "", message: str = "") -> Any:
    conditions = [{"type": kind, "status": "True", "reason": reason, "message": message}] if kind else []
    return {"metadata": {"name": "j"}, "status": {"conditions": conditions}}


DISRUPTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "EvictionByEvictionAPI",
    "message": "Eviction API: evicting",
}
JOBS = [
    ("goes on", job(), [], None),
    ("complete", job("Complete"), [], JobEnd(True, "")),
    (
        "exit code",
        job("Failed", "BackoffLimitExceeded"),
        [pod(phase="Failed", containerStatuses=container(state=ended(1)))],
        JobEnd(False, "the benchmark Job failed: its container ended with exit code 1"),
    ),
    (
        "too long",
        job("Failed", "DeadlineExceeded", "Job was active longer than specified deadline"),
        [],
        JobEnd(False, "the benchmark Job took longer than it may (activeDeadlineSeconds)", late=True),
    ),
    (
        "evicted",
        job("Failed", "BackoffLimitExceeded"),
        [pod(phase="Failed", reason="Evicted")],
        JobEnd(False, "was evicted (Evicted)", True),
    ),
    (
        "drained",
        job("Failed", "BackoffLimitExceeded"),
        [pod(phase="Failed", conditions=[DISRUPTED], containerStatuses=container(state=ended(143)))],
        JobEnd(False, "was evicted (EvictionByEvictionAPI): Eviction API: evicting", True),
    ),
    (
        "a pod is being deleted",
        job("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"),
        [
            {
                "metadata": {"name": "p", "deletionTimestamp": "2026-11-30T00:00:00Z"},
                "status": {"phase": "Running"},
            }
        ],
        JobEnd(False, "was stopped from outside: its pod was deleted", again=True),
    ),
    (
        "pods are gone",
        job("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"),
        [],
        JobEnd(False, "was stopped from outside: its pod was deleted", again=True),
    ),
]


@pytest.mark.parametrize(("found", "pods", "end"), [row[1:] for row in JOBS], ids=[row[0] for row in JOBS])
def test_the_end_of_a_job(found: Any, pods: list[Any], end: JobEnd | None) -> None:
    assert job_end(found, pods) == end


@pytest.mark.parametrize("read", [graph, lambda o: findings([o]), lambda o: killed([o])])
@pytest.mark.parametrize("found", [{}, {"status": None}, {"status": {}}, {"status": {"conditions": None}}])
def test_objects_without_a_status(read: Any, found: Any) -> None:
    read(found)


def event(kind: str, name: str, reason: str, message: str) -> dict[str, Any]:
    return {"involvedObject": {"kind": kind, "name": name}, "reason": reason, "message": message}


QUOTA = "forbidden: exceeded quota: limits"
EVENTS = [
    event(
        "ReplicaSet", "d-decode-5b8", "FailedCreate", f'Error creating: pods "d-decode-5b8-x7k2p" is {QUOTA}'
    ),
    event(
        "PodClique",
        "d-0-decode",
        "PodCreateFailed",
        f'Error creating pod d-0-decode-a1: pods "d-0-a1" is {QUOTA}',
    ),
    event("Job", "d-bench-1", "FailedCreate", f'Error creating: pods "d-bench-1-zz" is {QUOTA}'),
    event("Pod", "d-decode-0", "FailedCreatePodSandBox", "no network"),
    event("ReplicaSet", "dd-decode", "FailedCreate", "of another deployment"),
    event("ReplicaSet", "d-decode-5b8", "SuccessfulCreate", "Created pod: x"),
]


@pytest.mark.parametrize(
    ("events", "of_job", "said"),
    [
        (EVENTS[:1], False, f"Error creating: pods is {QUOTA}"),
        (EVENTS, False, f"Error creating pod: pods is {QUOTA}"),
        (EVENTS, True, f"Error creating: pods is {QUOTA}"),
        (EVENTS[3:], False, ""),
        ([{}], False, ""),
    ],
    ids=["a Deployment", "Grove", "a Job", "others", "nothing"],
)
def test_why_a_pod_is_not_made(events: list[dict[str, Any]], of_job: bool, said: str) -> None:
    assert refusal(events, "d", of_job) == said
