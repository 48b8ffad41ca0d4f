"""The note that a deployment is in a cluster, or was when it was last seen.

    <deployment>/deployed.json    from before the first object is applied until the last is gone

Taken from: `kubernetes.turn`, which writes it, `kubernetes.status`, which has asked the cluster, and `store`, for
which a command that left its work in a cluster is at it.
Never does: asking a cluster.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compiler.digest import short
from launchers.atomic import as_json, write_atomically

NAME = "deployed.json"
SCHEMA = "servix.deployed/1"
_SEEN: dict[str, Mapping[str, Any] | None] = {}


def write(folder: Path, namespace: str, name: str, points: Sequence[str]) -> None:
    """Raises StoreError."""
    since = (_read(folder) or {}).get("since", time.time())
    data = {"namespace": namespace, "name": name, "since": since, "points": list(points)}
    write_atomically(folder / NAME, as_json({"schema": SCHEMA, **data}))


def remove(folder: Path) -> None:
    """Nothing is left in the cluster."""
    with contextlib.suppress(FileNotFoundError):
        (folder / NAME).unlink()


def saw(digest: str, found: Mapping[str, Any] | None) -> None:
    """What the cluster has said of a deployment counts from now on, whatever a note says."""
    _SEEN[short(digest)] = found


def note(
    namespace: str, name: str, since: float, points: Sequence[str], state: str = ""
) -> Mapping[str, Any] | None:
    """A deployment in a cluster as who works on points; null for no points."""
    if not points:
        return None
    return {"job": f"{namespace}/{name}", "state": state, "since": since, "points": list(points)}


def holder(folder: Path) -> Mapping[str, Any] | None:
    """The deployment in a cluster as who works on it, like the note of a lock; null where there is none."""
    own = folder.name.rpartition("-")[2]
    if own in _SEEN:
        return _SEEN[own]
    found = _read(folder)
    if found is None:
        return None
    state = "as far as is known (action=status asks the cluster)"
    return note(found["namespace"], found["name"], found["since"], found["points"], state)


def _read(folder: Path) -> dict[str, Any] | None:
    """What was last known; null where nothing is, or it cannot be read."""
    try:
        data = json.loads((folder / NAME).read_bytes())
    except (OSError, ValueError):
        return None
    known = isinstance(data, dict) and data.get("schema") == SCHEMA
    keys = {"namespace", "name", "since", "points"}
    return data if known and keys <= data.keys() and isinstance(data["points"], list) else None
