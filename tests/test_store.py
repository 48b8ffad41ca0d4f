"""The store: what counts as done, and that nothing else ever does."""

import errno
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_data import deployment, digest, measured, point, result

from launchers.atomic import guarded
from launchers.results import Verdict
from launchers.store import RESULT, Busy, Store, StoreError, as_json, slug, write_atomically

DEPLOYMENT, POINT = deployment(), point()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")


def written(store: Store, *reasons: str, status: str = "valid", **fields: object) -> Path:
    attempt = store.new_attempt(DEPLOYMENT, POINT)
    verdict = Verdict(status, reasons)  # type: ignore[arg-type]
    return store.write_result(DEPLOYMENT, POINT, result(verdict=verdict, attempt=attempt.number, **fields))


def alone(path: Path) -> Path:
    """A point's result of which no attempt keeps a copy."""
    for own in path.parent.glob(f"attempts/*/{RESULT}"):
        own.unlink()
    return path


def test_nothing_is_created_by_looking(store: Store) -> None:
    assert store.status(DEPLOYMENT, POINT) == "new"
    assert store.result(DEPLOYMENT, POINT) is None
    assert store.results() == []
    assert not store.root.exists()


def test_folders_carry_a_slug_and_a_short_digest(store: Store) -> None:
    folder = store.point_dir(DEPLOYMENT, POINT).relative_to(store.root)
    assert str(folder) == "store/separate-vllm-dddddddddd/aiperf.concurrency=2-aaaaaaaaaa"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aiperf.concurrency=2", "aiperf.concurrency=2"),
        ("a b; $(rm -rf /)\n'\"", "a-b-rm-rf"),
        ("../../etc", "etc"),
        ("", "point"),
        ("...", "point"),
        ("ünïcode", "n-code"),
        ("x" * 300, "x" * 64),
    ],
    ids=["plain", "hostile", "parent", "empty", "dots", "unicode", "long"],
)
def test_slug(name: str, expected: str) -> None:
    assert slug(name) == expected


@given(st.text())
def test_a_slug_is_one_plain_path_component(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_=][A-Za-z0-9._=-]{0,63}", slug(name))


@pytest.mark.parametrize(
    ("status", "expected"), [("valid", "done"), ("invalid", "invalid"), ("failed", "failed")]
)
def test_status_of_a_result(store: Store, status: str, expected: str) -> None:
    reasons = () if status == "valid" else ("2 of 20 requests failed",)
    path = written(store, *reasons, status=status)
    standing = store.look(DEPLOYMENT, POINT)
    assert (standing.status, standing.reasons) == (expected, reasons)
    assert path == store.point_dir(DEPLOYMENT, POINT) / RESULT
    assert (path.parent / "attempts" / "1" / RESULT).read_text() == path.read_text()


def test_the_same_point_is_found_under_another_name(store: Store) -> None:
    written(store)
    other = replace(POINT, name="the default", overrides=())
    renamed = replace(DEPLOYMENT, name="another-name")
    assert store.status(renamed, other) == "done"
    assert store.point_dir(renamed, other) == store.point_dir(DEPLOYMENT, POINT)
    found = store.result(renamed, other)
    assert found is not None
    assert (found.point_name, found.overrides) == ("the default", ())


def test_a_result_of_another_point_is_not_done(store: Store) -> None:
    path = alone(written(store))
    path.write_text(as_json(result(point_digest=digest("b")).to_json()))
    standing = store.look(DEPLOYMENT, POINT)
    assert standing.status == "failed"
    assert "of another point" in standing.reasons[0]
    with pytest.raises(ValueError, match="given for"):
        store.write_result(DEPLOYMENT, POINT, result(point_digest=digest("b")))


def test_a_result_cut_at_any_byte_is_never_done(store: Store) -> None:
    path = alone(written(store))
    whole = path.read_bytes()
    # Without its last byte, a line break, the file is still whole.
    for size in range(len(whole) - 1):
        path.write_bytes(whole[:size])
        standing = store.look(DEPLOYMENT, POINT)
        assert standing.status == "failed"
        assert "measured again" in standing.reasons[0]
    path.write_bytes(whole)
    assert store.status(DEPLOYMENT, POINT) == "done"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00" * 4096,
        b"\xff\xfe{}",
        b"[" * 100_000,
        b"null",
        b"[]",
        b'"valid"',
        b'{"schema": "servix.result/2"}',
        b'{"schema": "servix.result/1"}',
        b'{"schema": "servix.result/1", "verdict": {"status": "valid", "reasons": []}}',
    ],
    ids=["empty", "zeros", "binary", "deep", "null", "list", "text", "schema", "keys", "verdict-only"],
)
def test_garbage_is_not_done_and_no_traceback(store: Store, text: bytes) -> None:
    path = alone(written(store))
    path.write_bytes(text)
    standing = store.look(DEPLOYMENT, POINT)
    assert (standing.status, standing.result) == ("failed", None)
    assert store.results() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics", {"request_count": "20"}),
        ("metrics", {"request_count": True}),
        ("attempt", 1.5),
        ("overrides", "aiperf.concurrency=2"),
        ("verdict", {"status": "fine", "reasons": []}),
        ("verdict", None),
        ("phases", [{}]),
        ("unknown", 1),
    ],
)
def test_a_wrong_type_is_not_done(store: Store, key: str, value: object) -> None:
    path = alone(written(store))
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    standing = store.look(DEPLOYMENT, POINT)
    assert standing.status == "failed"
    assert key in standing.reasons[0]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_another(path: Path) -> None:
    path.write_text(as_json(result(point_digest=digest("b")).to_json()))


LOST = {"cut": cut, "missing": Path.unlink, "folder": as_folder, "of-another": of_another}


@pytest.mark.parametrize("lose", LOST.values(), ids=LOST)
def test_a_lost_result_is_read_from_the_newest_valid_attempt(
    store: Store, lose: Callable[[Path], None]
) -> None:
    written(store, node_seconds=1.0)
    path = written(store, node_seconds=2.0)
    written(store, "killed", status="failed", node_seconds=3.0)
    cut(written(store, node_seconds=4.0).parent / "attempts" / "4" / RESULT)
    lose(path)
    standing = store.look(DEPLOYMENT, POINT)
    assert standing.status == "done"
    assert standing.result is not None
    assert (standing.result.attempt, standing.result.node_seconds) == (2, 2.0)
    assert "attempt 2 is valid and counts" in standing.note
    assert [each.attempt for each in store.results()] == ([1] if lose is of_another else [2])
    assert path.exists() is (lose is not Path.unlink)


@pytest.mark.parametrize("lose", [cut, Path.unlink, of_another], ids=["cut", "missing", "of-another"])
def test_a_lost_result_is_written_again_with_the_next(store: Store, lose: Callable[[Path], None]) -> None:
    path = written(store, node_seconds=1.0)
    whole = path.read_bytes()
    lose(path)
    written(store, "killed", status="failed", node_seconds=2.0)
    assert path.read_bytes() == whole
    lose(path)
    with store.lock(DEPLOYMENT, (POINT,)):
        store.mend(DEPLOYMENT, POINT)
        assert not path.exists() or path.read_bytes() != whole
    store.mend(DEPLOYMENT, POINT)
    assert path.read_bytes() == whole
    assert store.look(DEPLOYMENT, POINT).note == ""


def test_a_folder_in_place_of_a_result_is_no_trouble_when_it_is_mended(store: Store) -> None:
    path = written(store)
    as_folder(path)
    store.mend(DEPLOYMENT, POINT)
    assert store.status(DEPLOYMENT, POINT) == "done"


def test_a_kill_between_the_two_writes_of_a_result_loses_nothing(store: Store) -> None:
    path = written(store, "killed", status="failed", node_seconds=1.0)
    before = path.read_bytes()
    after = written(store, node_seconds=2.0).read_bytes()
    path.write_bytes(before)
    standing = store.look(DEPLOYMENT, POINT)
    assert standing.status == "done"
    assert standing.note.startswith("result.json is of attempt 1, and servix was killed")
    store.mend(DEPLOYMENT, POINT)
    assert path.read_bytes() == after


def test_an_attempt_of_another_point_does_not_count(store: Store) -> None:
    path = written(store)
    of_another(path.parent / "attempts" / "1" / RESULT)
    cut(path)
    assert store.status(DEPLOYMENT, POINT) == "failed"


def test_an_attempt_without_result_is_failed(store: Store) -> None:
    store.new_attempt(DEPLOYMENT, POINT)
    assert store.look(DEPLOYMENT, POINT).reasons == (
        "attempt 1 was started and never finished: servix was interrupted or killed",
    )


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("valid", "failed", "valid"),
        ("valid", "invalid", "valid"),
        ("valid", "valid", "second"),
        ("invalid", "failed", "second"),
        ("failed", "invalid", "second"),
        ("failed", "valid", "second"),
    ],
)
def test_a_valid_result_is_never_replaced_by_another(
    store: Store, first: str, second: str, kept: str
) -> None:
    written(store, status=first, node_seconds=1.0)
    written(store, status=second, node_seconds=2.0)
    found = store.result(DEPLOYMENT, POINT)
    assert found is not None
    assert found.node_seconds == (2.0 if kept == "second" else 1.0)
    own = store.point_dir(DEPLOYMENT, POINT) / "attempts" / "2" / RESULT
    assert json.loads(own.read_text())["verdict"]["status"] == second


def test_a_write_that_fails_leaves_the_old_result(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written(store, node_seconds=1.0)

    def full_disk(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StoreError, match=r"no space left on device; free some space.*output_dir="):
        written(store, node_seconds=2.0)
    monkeypatch.undo()
    found = store.result(DEPLOYMENT, POINT)
    assert found is not None
    assert found.node_seconds == 1.0
    assert not list(store.root.rglob("*.tmp"))


def test_a_file_in_the_way_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("not a folder")
    store = Store(tmp_path / "outputs")
    assert store.status(DEPLOYMENT, POINT) == "new"
    actions = [
        lambda: store.new_attempt(DEPLOYMENT, POINT),
        lambda: store.new_sweep(),
        lambda: store.write_deployment(DEPLOYMENT, {"plan.json": "{}"}),
        lambda: store.lock(DEPLOYMENT).__enter__(),
    ]
    for act in actions:
        with pytest.raises(StoreError, match=r"outputs.*: (not a directory|file exists); .*output_dir="):
            act()


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EROFS, "/x: read-only file system; choose a folder that you may write to with output_dir=..."),
        (errno.EACCES, "/x: permission denied; choose a folder that you may write to with output_dir=..."),
        (errno.ENOSPC, "/x: no space left on device; free some space, or choose another folder"),
        (errno.ENOLCK, "/x: no locks available; this file system has no locks"),
    ],
    ids=["read-only", "permission", "full", "locks"],
)
def test_store_errors_say_what_to_do(number: int, expected: str) -> None:
    with pytest.raises(StoreError) as caught, guarded(Path("/x")):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(expected)


def test_attempts_are_never_shared(store: Store) -> None:
    found: list[int] = []

    def ask() -> None:
        found.extend(Store(store.root).new_attempt(DEPLOYMENT, POINT).number for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 81))


def test_sweeps_in_one_second_have_folders_of_their_own(store: Store) -> None:
    folders = {store.new_sweep() for _ in range(20)}
    assert len(folders) == 20
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(_\d+)?", folder.name) for folder in folders)


def test_emitted_files(store: Store) -> None:
    files = {"plan.json": "{}\n", "run.sh": "#!/bin/sh\ntrue\n", "conf/lmcache.yaml": "a: b\n"}
    folder = store.write_deployment(DEPLOYMENT, files)
    assert {name: (folder / name).read_text() for name in files} == files
    assert (folder / "run.sh").stat().st_mode & stat.S_IXUSR
    assert not (folder / "plan.json").stat().st_mode & stat.S_IXUSR
    for name in ("../x", "/tmp/x", "a/../../x"):
        with pytest.raises(ValueError, match="leaves"):
            store.write_deployment(DEPLOYMENT, {name: ""})


def test_results_of_all_sweeps_oldest_first(store: Store) -> None:
    other = replace(point("b", "second"), overrides=())
    late = result(point_digest=digest("b"), started_at="2026-11-21T16:00:00Z")
    store.write_result(DEPLOYMENT, other, late)
    written(store)
    assert [each.point_digest for each in store.results()] == [digest("a"), digest("b")]


HOLDER = """
import sys, time
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from results_data import deployment, point
from launchers.store import Store
with Store(Path(sys.argv[1])).lock(deployment(), (point(),)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock for the point."""
    here = Path(__file__).parent
    command = [sys.executable, "-c", HOLDER, str(store.root), str(here), str(here.parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_held_lock_is_running_until_its_holder_dies(store: Store, holder: subprocess.Popen[str]) -> None:
    assert store.status(DEPLOYMENT, POINT) == "running"
    # A point of the same deployment that the holder does not measure is not running.
    assert store.status(DEPLOYMENT, point("b")) == "new"
    with pytest.raises(Busy, match=rf"process {holder.pid} on .* works on this deployment; wait"):
        store.lock(DEPLOYMENT).__enter__()
    holder.kill()
    holder.wait()
    assert store.status(DEPLOYMENT, POINT) == "new"
    with store.lock(DEPLOYMENT, timeout_s=None):
        assert store.status(DEPLOYMENT, POINT) == "running"
    assert store.status(DEPLOYMENT, POINT) == "new"


def test_done_stays_done_while_the_deployment_is_held(store: Store) -> None:
    written(store)
    with store.lock(DEPLOYMENT):
        assert store.status(DEPLOYMENT, POINT) == "done"


def test_looking_never_takes_the_lock_from_a_session(store: Store) -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            store.status(DEPLOYMENT, POINT)

    with store.lock(DEPLOYMENT):
        pass
    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(20):
            with store.lock(DEPLOYMENT):
                pass
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


@given(st.text(), st.text(st.characters(codec="utf-8")))
def test_json_is_written_whatever_the_text(name: str, text: str) -> None:
    data = {name: text, "list": [text, None, 1.5]}
    assert json.loads(as_json(data).encode("utf-8")) == data


def test_a_script_and_its_replacement_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, "one")
    write_atomically(path, "two\n")
    assert path.read_text() == "two\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["b.txt"]


def test_a_result_with_everything_loads_back(store: Store) -> None:
    phases = (measured(name="one"), measured("invalid", "a reason", name="two"))
    full = result(*phases, config={"a": [1, {"b": None}], "ü": "\ud800"})
    store.write_result(DEPLOYMENT, POINT, full)
    assert store.result(DEPLOYMENT, POINT) == full
