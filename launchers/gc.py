"""`action=gc`: lists what no recorded sweep refers to, and removes it with `yes=true`.

Takes the keys of the command; gives an exit code: 0, 1 when something could not be removed, 2 with problems.
Never does: needing points that can run; removing what a session works on, or a valid result unasked.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from compiler.errors import Problem, one_line
from compiler.keys import about
from compiler.plan import Plan
from launchers.atomic import StoreError
from launchers.folders import Found, Item, Left
from launchers.litter import deployments, holder_of, lock_of, look
from launchers.lock import Busy, Lock
from launchers.references import Wanted, wanted
from launchers.refusal import refuse

OK, FAULT = 0, 1
SCHEMA = "servix.gc/1"
MOST_SHOWN = 60
UNREAD = frozenset(
    {
        *("override-syntax", "unknown-key", "unknown-option", "override", "missing", "interpolation"),
        *("yaml", "compose", "hydra", "config-dir", "swept"),
    }
)
"""Codes of what was said and cannot be read. Who mistyped a key may have meant another folder."""


@dataclass(slots=True)
class Cleaned:
    """What was listed, and what became of it."""

    found: Found
    removed: list[Item] = field(default_factory=list)
    failed: list[Left] = field(default_factory=list)


def gc(plan: Plan, output_dir: Path, form: str) -> int:
    """Lists or removes; gives the exit code."""
    config = next((point.config for point in plan.points if point.config), None)
    problems = [problem for point in plan.points for problem in point.problems if _is_of_gc(problem)]
    if problems or config is None:
        return refuse(list(dict.fromkeys(problems)) or [p for q in plan.points for p in q.problems])
    days, valid, yes = config["gc"]["older_than_days"], config["gc"]["valid"], config["yes"]
    cleaned = clean(output_dir, days, valid, yes)
    if form == "json":
        json.dump(_document(cleaned, output_dir, yes), sys.stdout, indent=2)
        print()
    else:
        print("\n".join(lines(cleaned, output_dir, yes)))
    return FAULT if cleaned.failed else OK


def clean(root: Path, older_than_days: float, valid: bool, yes: bool) -> Cleaned:
    """What there is to remove below an `output_dir`; with `yes`, it is removed."""
    found = Found()
    cleaned = Cleaned(found)
    read = partial(wanted, root, older_than_days, valid)
    what = read(found)
    folders = list(deployments(root, found))
    if yes:
        for item in found.items:
            _remove(item, cleaned)
    for folder in folders:
        here = Found()
        look(folder, what, here)
        if here.items and (who := holder_of(folder)) is not None:
            here = Found([], [*here.left, Left(folder, f"{who}, so nothing of it is removed")])
        if yes and here.items:
            here = _clean_deployment(folder, read, cleaned)
        found.items += here.items
        found.left += [left for left in here.left if left not in found.left]
    return cleaned


def _clean_deployment(folder: Path, read: Callable[[Found], Wanted], cleaned: Cleaned) -> Found:
    """Removes with the deployment's lock held, so that no session starts meanwhile."""
    here, beside = Found(), Found()
    try:
        # A point of no digest: the lock keeps sessions away, and shows no point as running.
        with Lock(lock_of(folder), {"points": ["gc"], "deployment": folder.name}):
            # Whoever worked on it until now may have recorded what came of it.
            look(folder, read(beside), here)
            here.left += beside.left
            for item in here.items:
                _remove(item, cleaned)
    except Busy as busy:
        return Found([], [Left(folder, f"{busy.reason}, so nothing of it is removed")])
    except StoreError as problem:
        cleaned.failed.append(Left(problem.path, f"{problem.reason}; {problem.hint}"))
    return here


def _remove(item: Item, cleaned: Cleaned) -> None:
    before = len(cleaned.failed)
    for path in item.parts or (item.path,):
        _remove_path(path, cleaned)
    if item.parts and len(cleaned.failed) == before:
        # What is not ours stays, and its folder with it.
        with contextlib.suppress(OSError):
            item.path.rmdir()
    if len(cleaned.failed) == before:
        cleaned.removed.append(item)


def _remove_path(path: Path, cleaned: Cleaned) -> None:
    def failed(_: Any, name: str, info: Any) -> None:
        reason = (getattr(info[1], "strerror", None) or str(info[1])).lower()
        cleaned.failed.append(Left(Path(name), f"{reason}; make its folder writable, or remove it yourself"))

    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, onerror=failed)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        failed(None, str(path), sys.exc_info())


def lines(cleaned: Cleaned, root: Path, yes: bool) -> Iterator[str]:
    """The text form."""
    found, done = cleaned.found, cleaned.removed if yes else cleaned.found.items
    counts = Counter(item.kind for item in done)
    kinds = ", ".join(f"{count} {kind}{'s' if count != 1 else ''}" for kind, count in counts.items())
    total = human(sum(item.size for item in done))
    if not done:
        yield f"gc: nothing {'was removed' if yes else 'to remove'} in {root}"
    else:
        yield f"gc: {'removed ' if yes else ''}{kinds} in {root}: {total}"
    for item in done[:MOST_SHOWN]:
        yield one_line(f"  {item.kind:<10}  {human(item.size):>8}  {_below(item.path, root)}: {item.why}")
    if len(done) > MOST_SHOWN:
        yield f"  ... and {len(done) - MOST_SHOWN} more (format=json shows all)"
    for heading, entries in (("not removed:", cleaned.failed), ("left alone:", found.left)):
        if entries:
            yield heading
        for left in entries[:MOST_SHOWN]:
            yield one_line(f"  {_below(left.path, root)}: {left.why}")
        if len(entries) > MOST_SHOWN:
            yield f"  ... and {len(entries) - MOST_SHOWN} more (format=json shows all)"
    if done and not yes:
        yield "nothing was removed; yes=true removes what is listed"


def human(size: int) -> str:
    """Bytes as a person would say them.

    >>> human(999), human(1_500_000)
    ('999 B', '1.5 MB')
    """
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def _is_of_gc(problem: Problem) -> bool:
    if problem.level != "error":
        return False
    return problem.code in UNREAD or about(problem.key) == "invocation"


def _below(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _document(cleaned: Cleaned, root: Path, yes: bool) -> Mapping[str, Any]:
    removed = set(cleaned.removed)
    return {
        "schema": SCHEMA,
        "output_dir": str(root),
        "yes": yes,
        "bytes": sum(item.size for item in (cleaned.removed if yes else cleaned.found.items)),
        "items": [
            {
                "kind": item.kind,
                "path": str(item.path),
                "bytes": item.size,
                "why": item.why,
                "removed": item in removed,
            }
            for item in cleaned.found.items
        ],
        "not_removed": _told(cleaned.failed),
        "left": _told(cleaned.found.left),
    }


def _told(entries: Sequence[Left]) -> list[dict[str, str]]:
    return [{"path": str(left.path), "why": left.why} for left in entries]
