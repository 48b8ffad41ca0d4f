"""Whether everything can be written that a command is going to: better told now than after a measurement.

Takes the store and what is to be measured; raises StoreError for the first place where something is in the way.
Never does: leaving anything behind but the root itself.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from compiler.errors import Problem, error
from compiler.plan import Deployment, Point
from launchers.atomic import guarded
from launchers.store import OWN_FILES, RESULT, Store, StoreError

NEEDED_BYTES = 2**20
"""What has to fit on the disk before anything is started: about what one small measurement leaves behind."""


def check(store: Store, work: Iterable[tuple[Deployment, Point]]) -> None:
    """Raises StoreError when a result of the points, or what goes with it, cannot be written."""
    work = list(work)
    with guarded(store.root):
        store.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store.root) as file:
            file.write(os.urandom(NEEDED_BYTES))  # zeros would fit on a full disk that compresses
            file.flush()
    for folder in dict.fromkeys(_folders(store, work)):
        with guarded(folder):
            _check_folder(folder)
    for path in dict.fromkeys(_files(store, work)):
        with guarded(path):
            _check_file(path)


def problem(store: Store, exception: StoreError) -> Problem:
    """What is wrong with `output_dir`, in the words of what could not be written."""
    path = exception.path
    below = "" if path == store.root or not os.path.lexists(path) else f"{path}: "
    reason = f"cannot be written: {below}{exception.reason}"
    return error("output-dir", "output_dir", str(store.root), reason, exception.hint)


def _folders(store: Store, work: Iterable[tuple[Deployment, Point]]) -> Iterator[Path]:
    yield store.root / "sweeps"
    for deployment, point in work:
        folder, lock = store.deployment_dir(deployment), store.lock_path(deployment)
        yield from (folder.parent, lock.parent, folder, folder / "runs")
        yield from (store.point_dir(deployment, point), store.point_dir(deployment, point) / "attempts")


def _files(store: Store, work: Iterable[tuple[Deployment, Point]]) -> Iterator[Path]:
    for deployment, point in work:
        yield store.lock_path(deployment)
        yield from (store.deployment_dir(deployment) / name for name in sorted(OWN_FILES))
        yield store.point_dir(deployment, point) / RESULT


def _check_folder(path: Path) -> None:
    """Raises the OSError that writing into the folder would; nothing where it is not there."""
    mode = _mode(path)
    if mode is not None and not stat.S_ISDIR(mode):
        raise _error(errno.ENOTDIR, path)
    if mode is not None and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise _error(errno.EACCES, path)


def _check_file(path: Path) -> None:
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise _error(errno.EISDIR, path)
    # What is replaced as a whole may be read-only; these two are written where they are.
    in_place = path.name == "events.jsonl" or path.parent.name == ".locks"
    if mode is not None and in_place and not os.access(path, os.R_OK | os.W_OK):
        raise _error(errno.EACCES, path)


def _mode(path: Path) -> int | None:
    """Null where nothing is. Raises OSError, also for a link to nothing: no folder can be made there."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise
        return None


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
