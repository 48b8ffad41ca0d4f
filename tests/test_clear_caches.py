"""The program that empties caches, against workers of a real Dynamo runtime that have no engine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from compiling import ROOT

PROGRAM = ROOT / "launchers" / "clear_caches.py"
WORKER = ROOT / "tests" / "fakes" / "engine.py"


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": str(folder / "kv"),
        "DYN_REQUEST_PLANE": "tcp",
        "DYN_EVENT_PLANE": "zmq",
        "DYN_EVENT_PLANE_HOST": "127.0.0.1",
        "DYN_TCP_RPC_HOST": "127.0.0.1",
        **more,
    }


@contextmanager
def workers(folder: Path, *each: str) -> Iterator[None]:
    """Workers that are all registered; each is told its options in one text."""
    with ExitStack() as stack:
        for options in each:
            words = [sys.executable, str(WORKER), "--asked", str(folder / "asked"), *options.split()]
            log = stack.enter_context((folder / "workers.log").open("ab"))
            one = subprocess.Popen(words, env=environment(folder), cwd=folder, stdout=log, stderr=log)
            stack.enter_context(one)
            stack.callback(one.kill)
        deadline = time.monotonic() + 30
        while len([path for path in folder.glob("kv/**/*clear*") if path.is_file()]) < len(each):
            assert time.monotonic() < deadline, (folder / "workers.log").read_text()
            time.sleep(0.05)
        yield


def clear(
    folder: Path, instances: str, timeout_s: float = 20, **more: str
) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, one answer per line, and the last line in words."""
    # Not our environment's modules: it must need Dynamo and nothing else.
    ran = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), "--timeout-s", str(timeout_s), "--tries", "2", instances],
        env=environment(folder, **more),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return (
        ran.returncode,
        [json.loads(line) for line in ran.stdout.splitlines()],
        ran.stderr.splitlines()[-1],
    )


def asked(folder: Path) -> list[str]:
    return sorted((folder / "asked").read_text().split()) if (folder / "asked").exists() else []


@pytest.mark.parametrize(
    ("each", "instances"),
    [
        (("--component backend",), "backend=1"),
        (("--component backend", "--component backend"), "backend=2"),
        (("--component prefill", "--component backend", "--component backend"), "prefill=1,backend=2"),
    ],
    ids=["one", "two", "two roles"],
)
def test_every_instance_is_cleared_once(tmp_path: Path, each: tuple[str, ...], instances: str) -> None:
    with workers(tmp_path, *each):
        code, answers, words = clear(tmp_path, instances)
    assert (code, words) == (0, f"caches cleared: {len(each)} of {len(each)} instances")
    assert {answer["status"] for answer in answers} == {"success"}
    assert len({answer["instance"] for answer in answers}) == len(each)
    assert asked(tmp_path) == sorted(options.split()[1] for options in each)


def test_one_that_refuses_is_asked_again(tmp_path: Path) -> None:
    with workers(tmp_path, "--refuse 1", ""):
        code, answers, _ = clear(tmp_path, "backend=2")
    assert code == 0
    assert sorted(answer["tries"] for answer in answers) == [1, 2]


REFUSED = [
    ("refuses", "--refuse 9", 20, "Cannot clear KV cache while requests are active", 2),
    ("hangs", "--hang", 1.5, "no answer in time", 1),
    ("says nothing", "--mute", 20, "unexpected answer None", 2),
]


@pytest.mark.parametrize(
    ("options", "timeout_s", "said", "tries"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_one_that_does_not_clear_is_named(
    tmp_path: Path, options: str, timeout_s: float, said: str, tries: int
) -> None:
    with workers(tmp_path, "", options):
        code, answers, words = clear(tmp_path, "backend=2", timeout_s)
    wrong = [answer for answer in answers if answer["status"] == "error"]
    assert (code, len(answers), len(wrong)) == (1, 2, 1)
    assert (wrong[0]["message"], wrong[0]["tries"]) == (said, tries)
    assert words == f"caches not cleared: backend {wrong[0]['instance']}: {said}"


@pytest.mark.parametrize(
    ("each", "instances", "more", "said"),
    [
        ((), "backend=1", {}, "backend: 0 of 1 instances serve clear_kv_blocks"),
        (("",), "backend=2", {}, "backend: 1 of 2 instances serve clear_kv_blocks"),
        (("", ""), "backend=1", {}, "backend: 2 of 1 instances serve clear_kv_blocks"),
        (("",), "prefill=1,backend=1", {}, "prefill: 0 of 1 instances serve clear_kv_blocks"),
        (("",), "backend=1", {"DYN_NAMESPACE": "other"}, "backend: 0 of 1 instances serve clear_kv_blocks"),
    ],
    ids=["none", "too few", "too many", "a role", "another namespace"],
)
def test_nobody_is_asked_while_one_is_missing(
    tmp_path: Path, each: tuple[str, ...], instances: str, more: dict[str, str], said: str
) -> None:
    with workers(tmp_path, *each):
        begun = time.monotonic()
        code, answers, words = clear(tmp_path, instances, timeout_s=1, **more)
    assert 1 <= time.monotonic() - begun < 10
    assert (code, words) == (1, f"caches not cleared: {said}")
    assert [answer["instance"] for answer in answers] == [None]
    assert asked(tmp_path) == []


def test_one_that_died_is_named(tmp_path: Path) -> None:
    with workers(tmp_path, ""):
        pass
    code, answers, words = clear(tmp_path, "backend=1", timeout_s=5)
    assert (code, answers[0]["status"]) == (1, "error")
    assert "failed" in words


@pytest.mark.parametrize("instances", ["backend", "backend=0", "backend=x", "=1", ""])
def test_words_that_cannot_be_read_are_refused(tmp_path: Path, instances: str) -> None:
    code, _, words = clear(tmp_path, instances)
    assert code == 2
    assert "is not like backend=2,prefill=1" in words
