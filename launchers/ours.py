"""What of the store is of servix: told by what is in a folder, for anybody may give it such a name.

Takes paths; gives yes or no. Never does: taking a name alone for a proof.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from compiler.digest import short
from launchers.folders import Found, numbered_in
from launchers.store import RESULT

DIGEST_AT_END = re.compile(r".-([0-9a-f]{10})\Z")
"""Names of folders of deployments and points."""
_WRITTEN_DIGEST = re.compile(r'"(?:servix\.dev/)?digest": ?"(v[0-9]+-[0-9a-f]{10,})"')
"""As a job's work, and the annotations of an object, say which deployment they are of."""
_START = re.compile(r"/runs/[0-9]+\Z")


def is_deployment(folder: Path, points: list[Path]) -> bool:
    """True where its plan, a result in it, or what a plan would submit is of the digest at the end of its name."""
    files = [(folder / "plan.json", "digest")]
    files += [(result, "deployment_digest") for point in points for result in _results(point)]
    return any(_is_of(folder, path, key) is True for path, key in files) or _is_planned(folder)


def _is_planned(folder: Path) -> bool:
    """True where `action=plan` wrote a job's work or a cluster's objects for this digest, and nothing ran since."""
    for path in (folder / "job.json", folder / "manifests" / "stack.yaml"):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        if any(short(digest) == short_of(folder) for digest in _WRITTEN_DIGEST.findall(text)):
            return True
    return False


def is_point(path: Path) -> bool:
    """True where a result in it is of the digest at the end of its name, or may be, or an attempt was begun there."""
    if any(_is_of(path, result, "point_digest") is not False for result in _results(path)):
        return True
    return any(_START.search(target_of(attempt)) for attempt in numbered_in(path / "attempts", Found()))


def _results(point: Path) -> Iterator[Path]:
    yield point / RESULT
    for attempt in numbered_in(point / "attempts", Found()):
        yield attempt / RESULT


def _is_of(folder: Path, path: Path, key: str) -> bool | None:
    """Whether the digest in a file is that of the folder; null where the file is there and cannot be read."""
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return False
    except OSError:
        return None
    digest = data.get(key) if isinstance(data, dict) else None
    return isinstance(digest, str) and short(digest) == short_of(folder)


def target_of(attempt: Path) -> str:
    """The start of the stack that an attempt was begun on, as it is written down; empty when it is not."""
    try:
        return str((attempt / "deployment").readlink())
    except OSError:
        return ""


def short_of(folder: Path) -> str:
    return folder.name.rpartition("-")[2]
