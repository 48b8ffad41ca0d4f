"""`action=gc`: what no recorded sweep refers to, never a valid result unasked, never what is not ours."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from compiling import plan as compiled
from compiling import run
from results_data import stored

from compiler.emit import emit
from compiler.plan import Plan
from launchers import gc
from launchers.ending import Telling
from launchers.folders import Found
from launchers.gc import clean
from launchers.litter import deployments
from launchers.report import report
from launchers.results import Verdict
from launchers.store import RESULT, Store

KILLED = Verdict("failed", ("decode-0 was killed",))
SWEEP = ("aiperf.concurrency=2,4",)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")


def written(store: Store, *arguments: str, recorded: bool = False, **fields: Any) -> tuple[Plan, list[Path]]:
    """A plan whose points are measured, and their folders; `recorded` in a sweep."""
    plan = compiled(*arguments)
    for deployment in plan.deployments:
        store.write_deployment(deployment, emit(deployment, plan.points))
    folders = [stored(store, plan, point, **fields) for point in plan.points]
    if recorded:
        report(plan, store.root, Telling("text", []))
    return plan, folders


def found(store: Store, yes: bool = False, days: float = 14, valid: bool = False) -> list[tuple[str, str]]:
    """Kind and path of what is listed, or removed."""
    cleaned = clean(store.root, days, valid, yes)
    assert cleaned.failed == []
    items = cleaned.removed if yes else cleaned.found.items
    return [(item.kind, str(item.path.relative_to(store.root / "store"))) for item in items]


def below(store: Store, path: Path) -> str:
    return str(path.relative_to(store.root / "store"))


def left(store: Store) -> dict[str, str]:
    entries = clean(store.root, 14, False, False).found.left
    return {str(entry.path.relative_to(store.root)): entry.why for entry in entries}


def aged(path: Path, days: float) -> None:
    then = time.time() - days * 86400
    for each in (path, *path.rglob("*")):
        os.utime(each, (then, then), follow_symlinks=False)


def snapshot(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_listing_removes_nothing(store: Store) -> None:
    written(store, *SWEEP, verdict=KILLED)
    before = snapshot(store.root)
    assert [kind for kind, _ in found(store)] == ["deployment"]
    assert snapshot(store.root) == before


def test_nothing_there_is_nothing_to_remove(store: Store) -> None:
    assert found(store, yes=True) == []
    assert not store.root.exists()


@pytest.mark.parametrize("verdict", [KILLED, None], ids=["failed", "valid"])
def test_what_a_sweep_refers_to_stays(verdict: Verdict | None, store: Store) -> None:
    written(store, *SWEEP, recorded=True, **({"verdict": verdict} if verdict else {}))
    assert found(store, yes=True, days=0, valid=True) == []


def test_valid_results_go_only_when_asked(store: Store) -> None:
    plan, folders = written(store, *SWEEP)
    (folders[0] / RESULT).unlink()  # the attempt's own is still there
    assert found(store, yes=True) == []
    assert found(store, valid=True) == [("deployment", below(store, folders[0].parent))]
    assert found(store, yes=True, valid=True) == [("deployment", below(store, folders[0].parent))]
    assert not folders[0].parent.exists()
    assert store.status(plan.deployments[0], plan.points[0]) == "new"


def test_of_a_deployment_only_the_points_that_nothing_needs(store: Store) -> None:
    _, (valid,) = written(store, "aiperf.concurrency=2")
    _, (failed,) = written(store, "aiperf.concurrency=4", verdict=KILLED)
    _, (recorded,) = written(store, "aiperf.concurrency=8", verdict=KILLED, recorded=True)
    assert found(store, yes=True) == [("point", below(store, failed))]
    assert [path.exists() for path in (valid, failed, recorded)] == [True, False, True]


def test_old_failed_attempts_go_but_not_the_last(store: Store) -> None:
    _, (folder,) = written(store, recorded=True, verdict=KILLED)
    written(store)
    (folder / "attempts" / "3").mkdir()
    written(store, verdict=KILLED)
    written(store, verdict=KILLED)
    aged(folder, 20)
    aged(folder / "attempts" / "4", 1)
    listed = [("attempt", below(store, folder / "attempts" / number)) for number in ("1", "3")]
    assert found(store, days=30) == []
    assert found(store) == listed
    assert found(store, yes=True) == listed
    assert sorted(path.name for path in (folder / "attempts").iterdir()) == ["2", "4", "5"]


def test_starts_without_attempts_go(store: Store) -> None:
    _, (folder,) = written(store, recorded=True)
    for number in ("1", "2"):
        (folder.parent / "runs" / number / "logs").mkdir(parents=True)
    link = folder / "attempts" / "1" / "deployment"
    link.symlink_to(os.path.relpath(folder.parent / "runs" / "2", link.parent))
    assert found(store, yes=True) == [("start", below(store, folder.parent / "runs" / "1"))]
    assert link.resolve().is_dir()


def test_drafts_go_unless_somebody_writes_them(store: Store) -> None:
    _, (folder,) = written(store, recorded=True)
    (sweep,) = (store.root / "sweeps").iterdir()
    dead = 2**22 + 1
    for parent in (folder, folder.parent, folder / "attempts" / "1", sweep):
        (parent / f".{RESULT}.{dead}-0a1b2c3d.tmp").write_text("{")
    (folder / f".{RESULT}.{os.getpid()}-0a1b2c3d.tmp").write_text("{")
    cleaned = clean(store.root, 14, False, True)
    assert [item.kind for item in cleaned.removed] == ["draft"] * 4
    assert [path.name for path in store.root.rglob("*.tmp")] == [f".{RESULT}.{os.getpid()}-0a1b2c3d.tmp"]


def test_what_a_session_works_on_is_told_and_stays(store: Store) -> None:
    plan, folders = written(store, *SWEEP, verdict=KILLED)
    with store.lock(plan.deployments[0], plan.points):
        assert found(store, yes=True) == []
        (why,) = left(store).values()
    assert f"process {os.getpid()} on " in why
    assert all(folder.exists() for folder in folders)


def test_what_is_not_ours_stays_and_is_told(store: Store, tmp_path: Path) -> None:
    _, (folder, _) = written(store, *SWEEP, verdict=KILLED)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("x")
    top, deployment = store.root / "store", folder.parent
    for path in (top / "notes.txt", deployment / "notes.txt", folder / "notes.txt"):
        path.write_text("mine")
    (folder / "attempts" / "keep").mkdir()
    (top / "backup-0123456789").mkdir()
    (top / "backup-0123456789" / "file").write_text("mine")
    (deployment / "linked-0123456789").symlink_to(mine)
    foreign = [path for path in left(store) if "notes" in path or "linked" in path or "keep" in path]
    assert len(foreign) == 5
    assert found(store, yes=True) == [("deployment", below(store, deployment))]
    kept = sorted(path.name for path in store.root.rglob("*") if ".locks" not in str(path))
    inside = [folder.name, "notes.txt", "attempts", "keep"]
    outside = ["store", "notes.txt", "backup-0123456789", "file", deployment.name, "linked-0123456789"]
    assert kept == sorted([*outside, "notes.txt", *inside])
    assert (mine / "precious").exists()


def test_what_jobs_have_left_goes_with_their_deployment(store: Store) -> None:
    _, (folder, *_) = written(store, *SWEEP, verdict=KILLED)
    names = ("12.log", "12_submission.sh", ".submission_file_0a1b.sh")
    (folder.parent / "jobs").mkdir()
    for name in ("job.sbatch", "job.json", "job-2.sbatch", "job-2.json", *(f"jobs/{name}" for name in names)):
        (folder.parent / name).write_text("x")
    mine = folder.parent / "jobs" / "notes.log"
    mine.write_text("mine")
    assert left(store) == {str(mine.relative_to(store.root)): "is not of servix"}
    mine.unlink()
    assert left(store) == {}
    assert found(store, yes=True) == [("deployment", below(store, folder.parent))]
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    "system",
    [
        ("system=slurm",),
        ("system=kubernetes", "system.kubernetes.bench.image=r/b:1", "system.kubernetes.results.claim=r"),
    ],
    ids=["slurm", "kubernetes"],
)
def test_what_was_only_planned_is_ours(system: tuple[str, ...], store: Store) -> None:
    assert run([*system, "action=plan", f"output_dir={store.root}"]).code == 0
    (folder,) = [path for path in (store.root / "store").iterdir() if path.is_dir()]
    assert found(store) == [("deployment", below(store, folder))]
    assert left(store) == {}
    folder.rename(renamed := folder.with_name("vllm-0123456789"))
    assert left(store) == {str(renamed.relative_to(store.root)): "is not of servix"}


FOREIGN = (
    "store/.mine.tmp",
    "store/.mine.123-abc.tmp",
    "store/notes-2026112119/today.txt",
    "store/backup-abcdefabcd/runs/1/precious",
    "store/backup-abcdefabcd/plan.json",
    "store/backup-abcdefabcd/point-0123456789/result.json",
    "store/backup-abcdefabcd/point-0123456789/attempts/1/log",
    "sweeps/.notes.tmp",
)


def test_names_like_ours_do_not_make_it_ours(store: Store) -> None:
    _, (folder, _) = written(store, *SWEEP, verdict=KILLED)
    inside = f"{folder.parent.relative_to(store.root)}/backup-0123456789/attempts/1/precious"
    for name in (*FOREIGN, inside):
        path = store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"digest": "v1-0123456789", "point_digest": 3}')
    for name in ("store/empty-0123456789", f"{folder.parent.relative_to(store.root)}/empty-0123456789"):
        (store.root / name).mkdir()
    assert found(store, yes=True) == [("deployment", below(store, folder.parent))]
    assert not folder.exists()
    assert [name for name in (*FOREIGN, inside) if not (store.root / name).exists()] == []
    assert (store.root / "store" / "empty-0123456789").exists()
    assert (folder.parent / "empty-0123456789").exists()


def test_a_deployment_is_known_without_its_plan(store: Store) -> None:
    _, (folder,) = written(store, verdict=KILLED)
    (folder.parent / "plan.json").write_text("{")
    (folder / RESULT).write_text("{")
    assert found(store, yes=True) == [("deployment", below(store, folder.parent))]
    assert not folder.parent.exists()


def test_an_attempt_that_was_only_begun_is_known(store: Store) -> None:
    plan, (folder,) = written(store, verdict=KILLED)
    shutil.rmtree(folder)
    attempt = store.new_attempt(plan.deployments[0], plan.points[0]).folder
    (attempt / "deployment").symlink_to("../../../runs/1")
    assert found(store, yes=True) == [("deployment", below(store, folder.parent))]
    assert not folder.parent.exists()


def test_a_sweep_that_is_recorded_meanwhile_keeps_its_points(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folders = written(store, *SWEEP, verdict=KILLED)

    def listed(root: Path, beside: Found) -> Iterator[Path]:
        yield from deployments(root, beside)
        report(plan, store.root, Telling("text", []))

    monkeypatch.setattr(gc, "deployments", listed)
    assert found(store, yes=True) == []
    assert all(folder.exists() for folder in folders)


def test_a_record_that_cannot_be_read_keeps_what_it_may_refer_to(store: Store) -> None:
    written(store, *SWEEP, verdict=KILLED, recorded=True)
    (record,) = store.root.glob("sweeps/*/sweep.json")
    record.write_text("{")
    assert found(store, yes=True) == []
    assert "it may refer to any" in left(store)[str(record.relative_to(store.root))]


NO_RECORD = {
    "null": "null",
    "list": "[]",
    "no-points": "{}",
    "points": '{"points": [1]}',
    "digest": '{"points": [{"digest": "v1-a", "deployment": 2}]}',
}


@pytest.mark.parametrize("text", NO_RECORD.values(), ids=NO_RECORD)
def test_what_is_no_record_keeps_what_it_may_refer_to(text: str, store: Store) -> None:
    written(store, *SWEEP, verdict=KILLED, recorded=True)
    (record,) = store.root.glob("sweeps/*/sweep.json")
    record.write_text(text)
    assert found(store, yes=True) == []
    assert "it may refer to any" in left(store)[str(record.relative_to(store.root))]


def as_file(sweeps: Path) -> None:
    shutil.rmtree(sweeps)
    sweeps.write_text("x")


def as_dead_link(path: Path) -> None:
    path.rename(path.with_name("away"))
    path.symlink_to("/nowhere/at/all")
    shutil.rmtree(path.with_name("away"))


def inside(change: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda sweeps: change(next(sweeps.iterdir()))


def as_record_folder(sweep: Path) -> None:
    (sweep / "sweep.json").unlink()
    (sweep / "sweep.json").mkdir()


UNREADABLE = {
    "file": as_file,
    "link-to-nothing": as_dead_link,
    "sweep-is-a-link-to-nothing": inside(as_dead_link),
    "record-is-a-folder": inside(as_record_folder),
}


@pytest.mark.parametrize("change", UNREADABLE.values(), ids=UNREADABLE)
def test_sweeps_that_cannot_be_read_keep_everything(change: Callable[[Path], None], store: Store) -> None:
    written(store, *SWEEP, verdict=KILLED, recorded=True)
    change(store.root / "sweeps")
    assert found(store, yes=True) == []
    assert any("every point and deployment stays" in why for why in left(store).values())


def test_a_sweep_behind_a_link_is_read(store: Store, tmp_path: Path) -> None:
    written(store, *SWEEP, verdict=KILLED, recorded=True)
    shutil.move(store.root / "sweeps", tmp_path / "sweeps")
    (store.root / "sweeps").mkdir()
    (sweep,) = (tmp_path / "sweeps").iterdir()
    (store.root / "sweeps" / sweep.name).symlink_to(sweep)
    assert found(store, yes=True) == []


def test_attempts_that_cannot_be_listed_keep_their_point_and_its_starts(store: Store) -> None:
    _, (folder,) = written(store, verdict=KILLED)
    (folder.parent / "runs" / "1").mkdir(parents=True)
    shutil.rmtree(folder / "attempts")
    (folder / "attempts").write_text("x")
    assert found(store, yes=True) == []
    assert below(store, folder / "attempts") in {path.removeprefix("store/") for path in left(store)}


@pytest.mark.parametrize(
    "garbage", [b"", b"\xff", b"[]", b'{"points": 3}', b'{"points": [1, {"digest": 2}]}']
)
def test_garbage_is_no_traceback(garbage: bytes, store: Store) -> None:
    _, (folder,) = written(store, recorded=True, verdict=KILLED)
    for path in (
        folder / RESULT,
        folder / "attempts" / "1" / RESULT,
        *store.root.glob("sweeps/*/sweep.json"),
    ):
        path.write_bytes(garbage)
    ran = run(["action=gc", "yes=true", f"output_dir={store.root}"])
    assert ran.code == 0
    assert "Traceback" not in ran.err


def test_a_folder_that_cannot_be_removed_is_told_and_1(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (folder,) = written(store, verdict=KILLED)
    real = os.rmdir

    def refused(path: Any, **more: Any) -> None:
        if Path(path).name == "attempts":
            raise PermissionError(13, "Permission denied", path)
        real(path, **more)

    monkeypatch.setattr(os, "rmdir", refused)
    ran = run(["action=gc", "yes=true", f"output_dir={store.root}"])
    assert ran.code == 1
    assert "attempts: permission denied; make its folder writable" in ran.out
    assert folder.exists()


def test_the_command_lists_sizes_and_removes_with_yes(store: Store) -> None:
    _, (folder,) = written(store, verdict=KILLED)
    (folder / "attempts" / "1" / "log").write_bytes(b"x" * 2_500_000)
    command = ["action=gc", f"output_dir={store.root}"]
    listed = run(command)
    assert listed.code == 0
    assert "gc: 1 deployment in " in listed.out
    assert "2.5 MB" in listed.out
    assert "nothing was removed; yes=true removes what is listed" in listed.out
    document = json.loads(run([*command, "format=json", "yes=true"]).out)
    assert document["schema"] == "servix.gc/1"
    assert document["bytes"] > 2_500_000
    assert [(item["kind"], item["removed"]) for item in document["items"]] == [("deployment", True)]
    assert "gc: nothing was removed in " in run([*command, "yes=true"]).out


def test_points_that_cannot_run_do_not_hinder(store: Store) -> None:
    written(store, verdict=KILLED)
    ran = run(["action=gc", "yes=true", "decode.tensor_parallel_size=16", f"output_dir={store.root}"])
    assert ran.code == 0
    assert "gc: removed 1 deployment" in ran.out


REFUSED = [
    ("output_dri=x", "unknown key; did you mean 'output_dir'?"),
    ("gc.older_than_days=soon", "should be a number"),
    ("gc.valid=true,false", "cannot be swept"),
    ("yes=true,false", "cannot be swept"),
    ("topology=sharde", "no such option"),
]


@pytest.mark.parametrize(("argument", "said"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_command_that_cannot_be_read_removes_nothing(argument: str, said: str, store: Store) -> None:
    written(store, verdict=KILLED)
    before = snapshot(store.root)
    ran = run(["action=gc", "yes=true", argument, f"output_dir={store.root}"])
    assert ran.code == 2
    assert said in ran.err
    assert snapshot(store.root) == before


def test_a_store_moved_elsewhere_is_cleaned_as_well(store: Store, tmp_path: Path) -> None:
    _, (folder,) = written(store, recorded=True)
    (folder.parent / "runs" / "1").mkdir(parents=True)
    link = folder / "attempts" / "1" / "deployment"
    link.symlink_to(os.path.relpath(folder.parent / "runs" / "1", link.parent))
    moved = Store(tmp_path / "elsewhere")
    shutil.move(store.root, moved.root)
    assert found(moved, yes=True) == []
