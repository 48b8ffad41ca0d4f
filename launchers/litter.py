"""What lies in the store and no recorded sweep refers to.

Takes an `output_dir`; gives what may be removed, and what is left alone and why. `gc` shows and removes it.
Never does: removing; following links; calling anything litter that it does not know as our own.

A folder of a deployment or a point ends in a short digest, and what is in it was written for that digest. In it,
files and folders are known by their names: `runs/<n>`, `attempts/<n>`, results, those in OWN_FILES, and those of jobs.
Whatever else there is belongs to somebody else.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from launchers import submitted
from launchers.folders import (
    FOREIGN,
    Found,
    Item,
    Kind,
    Left,
    data_of,
    draft_or_foreign,
    entries_of,
    is_draft,
    is_folder,
    numbered_in,
    reason_of,
    size_of,
)
from launchers.lock import Lock
from launchers.ours import DIGEST_AT_END, is_deployment, is_point, short_of, target_of
from launchers.references import Wanted
from launchers.store import OWN_FILES, RESULT

UNREFERRED = "no sweep refers to it"
MANIFESTS, JOBS = "manifests", "jobs"
OWN_FOLDERS = frozenset({"runs", MANIFESTS, JOBS})
_OF_JOBS = re.compile(r"job(-[0-9]+)?\.(sbatch|json)")
"""Scripts and work of jobs (`compiler.batch.names`)."""
_OF_A_JOB = re.compile(r"[0-9]+(\.log|_submission\.sh)|\.submission_file_.+\.sh")
"""What is in the folder `jobs`: logs, and what was submitted."""


def deployments(root: Path, found: Found) -> Iterator[Path]:
    """Folders of deployments. Adds to `found` what lies beside them."""
    for path in entries_of(root / "store", found):
        if path.name == ".locks":
            continue
        if is_folder(path) and DIGEST_AT_END.search(path.name):
            yield path
        else:
            draft_or_foreign(path, found)


def lock_of(folder: Path) -> Path:
    """The lock of a deployment's folder."""
    return folder.parent / ".locks" / short_of(folder)


def holder_of(folder: Path) -> str | None:
    """Who works on the deployment, in words; null when nobody does."""
    if (job := submitted.holder(folder)) is not None:
        return f"job {job['job']} ({job['state']}) is to measure on it"
    holder = Lock(lock_of(folder)).holder()
    if holder is None:
        return None
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')} works on it"


def look(folder: Path, wanted: Wanted, found: Found) -> None:
    """Adds what of one deployment's folder may be removed, and what is left."""
    own, points, foreign = _sorted(folder, found)
    if not is_deployment(folder, points):
        found.left.append(Left(folder, FOREIGN))
        return
    found.left += [Left(path, FOREIGN) for path in foreign]
    kept = [path for path in points if _is_kept(path, wanted, found)]
    if wanted.all_known and not kept and short_of(folder) not in wanted.referred:
        parts = [part for path in own for part in _parts_of_own(path, found)]
        parts += [part for path in points for part in _parts_of_point(path, found)]
        whole = not foreign and parts == [*own, *points]
        found.items.append(_item("deployment", folder, UNREFERRED, () if whole else tuple(parts)))
        return
    for path in points:
        if path in kept:
            _attempts(path, wanted, found)
        else:
            parts = _parts_of_point(path, found)
            found.items.append(_item("point", path, UNREFERRED, () if parts == [path] else tuple(parts)))
    gone = {item.path for item in found.items}
    _starts(folder, kept, gone, found)
    for path in own:
        if is_draft(path):
            draft_or_foreign(path, found)


def _sorted(folder: Path, found: Found) -> tuple[list[Path], list[Path], list[Path]]:
    """What is in a deployment's folder: our own, the points, and what is neither."""
    own: list[Path] = []
    points: list[Path] = []
    foreign: list[Path] = []
    for path in entries_of(folder, found):
        if is_folder(path):
            known = DIGEST_AT_END.search(path.name) and is_point(path)
            (own if path.name in OWN_FOLDERS else points if known else foreign).append(path)
        else:
            (own if _is_own_file(path) else foreign).append(path)
    return own, points, foreign


def _is_own_file(path: Path) -> bool:
    known = path.name in OWN_FILES or path.name == submitted.NAME
    return known or _OF_JOBS.fullmatch(path.name) is not None or is_draft(path)


def _is_kept(path: Path, wanted: Wanted, found: Found) -> bool:
    """True for a point that a sweep may refer to, or that holds a result to be kept."""
    if not wanted.all_known or short_of(path) in wanted.referred:
        return True
    attempts = _attempts_of(path, found)
    if attempts is None:
        return True
    results = [path / RESULT, *(attempt / RESULT for attempt in attempts)]
    for result in results:
        try:
            result.lstat()
            verdict = _verdict(result)
        except FileNotFoundError:
            continue
        except OSError as problem:
            found.left.append(Left(result, reason_of(problem)))
            return True
        if verdict == "valid" and not wanted.valid:
            return True
    return False


def _attempts_of(point: Path, found: Found) -> list[Path] | None:
    """Null, and told, where they cannot be listed: they may be valid, and measured on any start."""
    here = Found()
    attempts = numbered_in(point / "attempts", here)
    found.left += [left for left in here.left if left not in found.left]
    return None if here.left else attempts


def _parts_of_point(path: Path, found: Found) -> list[Path]:
    """What of a point's folder is ours: the folder itself, when all of it is."""
    parts: list[Path] = []
    entries = entries_of(path, found)
    for entry in entries:
        if entry.name == "attempts" and is_folder(entry):
            parts += _parts_of_own(entry, found)
        elif _is_ours(entry):
            parts.append(entry)
        else:
            found.left.append(Left(entry, FOREIGN))
    return [path] if parts == entries else parts


def _parts_of_own(path: Path, found: Found) -> list[Path]:
    """The same of `attempts`, `runs` and `jobs`, where whatever has no number is not ours. A file is its own part."""
    if not is_folder(path):
        return [path]
    entries, numbered = entries_of(path, found), numbered_in(path, found)
    if path.name == MANIFESTS:
        numbered = [entry for entry in entries if entry.suffix == ".yaml" and not is_folder(entry)]
    if path.name == JOBS:
        numbered = [entry for entry in entries if _OF_A_JOB.fullmatch(entry.name) and not is_folder(entry)]
    found.left += [Left(entry, FOREIGN) for entry in entries if entry not in numbered]
    return [path] if len(numbered) == len(entries) else numbered


def _is_ours(path: Path) -> bool:
    return path.name in (RESULT, "attempts") or is_draft(path)


def _attempts(point: Path, wanted: Wanted, found: Found) -> None:
    """Old failed attempts at a point that stays, but for the last one and the one its result is of."""
    for path in entries_of(point, found):
        if not _is_ours(path):
            found.left.append(Left(path, FOREIGN))
        elif is_draft(path):
            draft_or_foreign(path, found)
    numbered = numbered_in(point / "attempts", found)
    result = data_of(point / RESULT)
    current = result.get("attempt") if isinstance(result, dict) else None
    for path in numbered:
        for draft in (entry for entry in entries_of(path, found) if is_draft(entry)):
            draft_or_foreign(draft, found)
        if path is numbered[-1] or path.name == str(current):
            continue
        try:
            age_s, verdict = _age_s(path), _verdict(path / RESULT)
        except OSError as problem:
            found.left.append(Left(path, reason_of(problem)))
            continue
        if verdict != "valid" and age_s > wanted.older_than_s:
            what = f"{verdict or 'never finished'}, {age_s / 86400:.0f} days old"
            found.items.append(_item("attempt", path, what))


def _starts(folder: Path, points: list[Path], gone: set[Path], found: Found) -> None:
    """Starts of the stack on which no attempt that stays was measured."""
    used: set[Path] = set()
    for point in points:
        attempts = _attempts_of(point, found)
        if attempts is None:
            return
        for attempt in attempts:
            if attempt not in gone:
                used.add(Path(os.path.normpath(attempt / target_of(attempt))))
    for path in numbered_in(folder / "runs", found):
        if Path(os.path.normpath(path)) not in used and path.resolve() not in used:
            found.items.append(_item("start", path, "no attempt was measured on it"))


def _item(kind: Kind, path: Path, why: str, parts: tuple[Path, ...] = ()) -> Item:
    return Item(kind, path, why, sum(map(size_of, parts or (path,))), parts)


def _age_s(attempt: Path) -> float:
    try:
        changed = (attempt / RESULT).lstat().st_mtime
    except FileNotFoundError:
        changed = attempt.lstat().st_mtime
    return time.time() - changed


def _verdict(path: Path) -> str | None:
    """The verdict in a result of whatever version; null where there is none. Raises OSError."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return "unreadable"
    verdict = data.get("verdict") if isinstance(data, dict) else None
    status = verdict.get("status") if isinstance(verdict, dict) else None
    return status if isinstance(status, str) else "unreadable"
