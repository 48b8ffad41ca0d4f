"""What looks at a deployment come to, one after the other, with times that nobody waits for."""

from typing import Any

import pytest

from launchers.kubernetes.served import Look
from launchers.kubernetes.start import Start
from launchers.kubernetes.verdict import Progress

UP, SHORT = Progress(True, "decode 1/1"), Progress(False, "decode 0/1")
FAILED = Progress(False, "decode 0/1", "cannot reconcile")


def pod(name: str = "decode", **container: Any) -> Any:
    statuses = [{"image": "img", **container}] if container else []
    return {"metadata": {"name": name}, "status": {"phase": "Running", "containerStatuses": statuses}}


def waits(reason: str, message: str = "") -> Any:
    return pod(state={"waiting": {"reason": reason, "message": message}})


def killed(at: str) -> Any:
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": at}
    return pod(lastState={"terminated": ended}, state={"running": {}})


def look(progress: Progress, *serving: Any, measuring: tuple[Any, ...] = ()) -> Look:
    return Look({"metadata": {"name": "d"}}, progress, serving, None, measuring)


BAD = waits("ImagePullBackOff", "not found")
OOM = ("pod decode: its container ran out of memory and was killed (OOMKilled)",)
EARLY, LATE = "2026-01-01T00:00:10Z", "2026-01-01T00:00:20Z"
STORIES: list[tuple[str, list[tuple[float, Look]], tuple[str, ...], bool]] = [
    ("ready", [(0, look(SHORT)), (5, look(UP))], (), True),
    (
        "never ready",
        [(0, look(SHORT)), (99, look(SHORT)), (101, look(SHORT))],
        ("not ready within launch.ready_timeout_s = 100 s; last seen: decode 0/1",),
        False,
    ),
    (
        "failed and recovers",
        [(0, look(FAILED)), (29, look(FAILED)), (40, look(SHORT)), (60, look(UP))],
        (),
        True,
    ),
    (
        "failed and stays",
        [(0, look(FAILED)), (31, look(FAILED))],
        ("the operator says it failed: cannot reconcile",),
        False,
    ),
    (
        "failed anew",
        [(0, look(FAILED)), (20, look(SHORT)), (40, look(FAILED)), (69, look(FAILED))],
        (),
        False,
    ),
    (
        "image",
        [(0, look(SHORT, BAD)), (10, look(SHORT, BAD)), (20, look(SHORT, BAD))],
        ("pod decode: image img cannot be pulled",),
        False,
    ),
    (
        "image comes back",
        [(0, look(SHORT, BAD)), (19, look(SHORT, pod())), (21, look(SHORT, BAD))],
        (),
        False,
    ),
    ("killed before it was ready", [(0, look(SHORT, killed(EARLY))), (5, look(UP, killed(EARLY)))], (), True),
    ("killed after", [(0, look(UP, killed(EARLY))), (5, look(UP, killed(LATE)))], OOM, True),
    (
        "flaps",
        [(0, look(UP)), (5, look(SHORT)), (24, look(SHORT)), (26, look(UP)), (30, look(SHORT))],
        (),
        True,
    ),
    (
        "short of a pod",
        [(0, look(UP, pod())), (5, look(SHORT)), (26, look(SHORT))],
        ("not every pod is ready any more: decode 0/1",),
        True,
    ),
    (
        "a pod in the place of another",
        [(0, look(UP, pod("a"))), (5, look(UP, pod("b")))],
        ("pod b came in the place of another",),
        True,
    ),
    ("probes are late", [(0, look(UP, pod())), (5, look(SHORT, pod())), (99, look(SHORT, pod()))], (), True),
    (
        "the Job's image",
        [(0, look(UP)), (1, look(UP, measuring=(BAD,))), (30, look(UP, measuring=(BAD,)))],
        ("pod decode: image img cannot be pulled",),
        True,
    ),
]


@pytest.mark.parametrize(
    ("looks", "lost", "ready"), [row[1:] for row in STORIES], ids=[row[0] for row in STORIES]
)
def test_a_start(looks: list[tuple[float, Look]], lost: tuple[str, ...], ready: bool) -> None:
    said: list[str] = []
    start = Start(100, said.append, now=0)
    found = [start.judge(one, now) for now, one in looks]
    assert not any(found[:-1])
    assert (found[-1], start.ready) == (lost, ready)
    assert len(said) == len(set(said)), "each line once"
    assert start.fatal == (ready and "image" in "".join(lost))


def test_a_start_that_is_late_says_why_pods_are_missing() -> None:
    start = Start(100, lambda _: None, now=0)
    assert start.judge(look(SHORT), 99, "exceeded quota") == ()
    assert start.judge(look(SHORT), 101, "exceeded quota")[-1] == "not every pod is made: exceeded quota"
