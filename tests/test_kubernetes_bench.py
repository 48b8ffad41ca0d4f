"""The program of a benchmark Job, against servers that it did not start: what it leaves, and what it says."""

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compiling import ROOT

from compiler.manifests.work import Work, files_of
from compiler.plan import Deployment, Point, Probe
from launchers.kubernetes.frames import Message, Reader
from launchers.results.result import Result
from launchers.store import Store
from tests.fakes.processes import FOLDER
from tests.sessions import PORT, URL, deployment, phase
from tests.sessions import point as planned

HOST = "127.44.0.10"
CONFIG = {"launch": {"parallel": 1, "detach": False}, "system": {"max_nodes": None}}


def point(*arguments: Any, **more: Any) -> Point:
    return replace(planned(*arguments, **more), config=CONFIG)


def work(folder: Path, stack: Deployment, *points: Point, known: Sequence[Result] = ()) -> Path:
    """A folder as it is mounted into the Job's pod."""
    place = folder / "work"
    place.mkdir(exist_ok=True)
    names = {"frontend_node": HOST, "frontend_ip": HOST, "node:0": HOST, "storage_cache_dir": "/cache"}
    made = files_of(Work(stack, points, 1, names, str(folder / "volume")))
    for name, text in made.get("data", {}).items():
        (place / name).write_text(text)
    if known:
        (place / "known.json.z").write_bytes(zlib.compress(json.dumps([r.to_json() for r in known]).encode()))
    return place


@contextmanager
def served(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, str(FOLDER / "server.py"), "--name", "served", "--host", HOST]
    words += ["--port", str(PORT), "--instances", "backend=1", *options]
    process = subprocess.Popen(words)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ran(place: Path, timeout_s: float = 60) -> tuple[int, list[Message], str]:
    """Exit code, what was said, and the rest of the log."""
    words = [sys.executable, "-m", "launchers.kubernetes.bench", str(place)]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False, env=dict(os.environ)
    )
    reader = Reader()
    found = [message for line in done.stdout.splitlines() if (message := reader.take(line))]
    return done.returncode, found, done.stderr


def of_kind(messages: list[Message], kind: str) -> list[Any]:
    return [message.data for message in messages if message.kind == kind]


def results(messages: list[Message]) -> dict[str, Result]:
    """The last that was said of each point."""
    said = [Result.from_json(data["result"]) for data in of_kind(messages, "result")]
    return {result.point_name: result for result in said}


def test_points_are_measured_on_what_is_served_elsewhere(tmp_path: Path) -> None:
    stack = deployment()
    place = work(tmp_path, stack, point(1), point(2, phase("a"), phase("b")))
    with served() as server:
        code, said, log = ran(place)
        assert server.poll() is None
    assert code == 0, log
    found = results(said)
    assert {name: result.verdict.status for name, result in found.items()} == {
        "point-1": "valid",
        "point-2": "valid",
    }
    assert [entry["event"] for entry in of_kind(said, "event")].count("measurement") == 2
    [over] = of_kind(said, "over")
    assert over == {"code": 0, "attempt": 1, "results": {"p1-0000000101234567": 1, "p1-0000000201234567": 1}}
    # What it says is what lies on the volume.
    store = Store(tmp_path / "volume")
    for one in (point(1), point(2)):
        assert store.result(stack, one) == replace(found[one.name], config={**CONFIG, "baseline": None})
    assert found["point-1"].ran["gpus"]["count"] == stack.gpus
    assert "phase a: load starts" in log


def test_a_second_pod_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    stack = deployment()
    with served():
        assert ran(work(tmp_path, stack, point(1)))[0] == 0
        code, said, _ = ran(work(tmp_path, stack, point(1), point(2)))
    assert code == 0
    assert [e["point"] for e in of_kind(said, "event") if e["event"] == "point_start"] == ["point-2"]
    # What was there already is said as well: who asks has not heard it.
    assert results(said).keys() == {"point-1", "point-2"}


def test_a_point_that_wants_a_stack_of_its_own_is_left_to_the_next(tmp_path: Path) -> None:
    alone = point(2, isolation="restart")
    with served():
        code, said, _ = ran(work(tmp_path, deployment(), point(1), alone))
    assert code == 75
    assert [*results(said)] == ["point-1"]
    assert of_kind(said, "over")[0]["code"] == 75


def test_a_model_that_is_never_served_fails_every_point(tmp_path: Path) -> None:
    stack = deployment(ready_timeout_s=0.5)
    code, said, _ = ran(work(tmp_path, stack, point(1), point(2)))
    assert code == 0
    for result in results(said).values():
        assert result.verdict.status == "failed"
        assert result.verdict.reasons[0] == "the stack did not become ready"
        assert "launch.ready_timeout_s = 0.5 s" in result.verdict.reasons[1]


def test_a_search_goes_on_from_what_is_known(tmp_path: Path) -> None:
    stack = deployment()
    with served():
        _, said, _ = ran(work(tmp_path, stack, point(1)))
        known = [*results(said).values()]
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        code, again, _ = ran(work(elsewhere, stack, point(1), point(2), known=known))
    assert code == 0
    assert [e["point"] for e in of_kind(again, "event") if e["event"] == "point_start"] == ["point-2"]


WRONG = [
    ("job.json", '{"schema": "servix.job/9"}', "is not of the form servix.kubernetes-job/1"),
    ("job.json", "{", "error: "),
    ("job.json.z", "x", "cannot be unpacked"),
    ("else", "", "neither job.json nor job.json.z"),
    ("job.json", '{"schema": "servix.kubernetes-job/1"}', "error: "),
]


@pytest.mark.parametrize(("name", "text", "told"), WRONG)
def test_work_that_cannot_be_read(name: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    code, said, log = ran(tmp_path)
    assert (code, [message.kind for message in said]) == (1, ["fault"])
    assert told in log
    assert "Traceback" not in log


def test_probes_are_asked_where_the_frontend_is(tmp_path: Path) -> None:
    ready = (Probe("http", f"{URL}/health"), Probe("model", f"{URL}/v1/models", model="m"))
    stack = deployment(ready=ready)
    with served():
        code, said, log = ran(work(tmp_path, stack, point(1)))
    assert (code, results(said)["point-1"].verdict.status) == (0, "valid"), log
