"""The note that a deployment is in a cluster, or was when it was last seen.

    <deployment>/deployed.json    from before the first object is applied until the last is gone

Taken from: `kubernetes.turn`, which writes it, `kubernetes.status`, which asks the cluster, and `store`, for which a
command that left its work in a cluster is at it.
Never does: asking a cluster.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launchers.atomic import as_json, write_atomically

NAME = "deployed.json"
SCHEMA = "servix.deployed/1"


def write(folder: Path, namespace: str, name: str, points: Sequence[str], state: str = "applied") -> None:
    """Raises StoreError."""
    known = read(folder) or {}
    place = {"namespace": namespace, "name": name, "since": known.get("since", time.time()), "state": state}
    write_atomically(folder / NAME, as_json({"schema": SCHEMA, **place, "points": list(points)}))


def remove(folder: Path) -> None:
    """Nothing is left in the cluster."""
    with contextlib.suppress(FileNotFoundError):
        (folder / NAME).unlink()


def read(folder: Path) -> dict[str, Any] | None:
    """What was last known; null where nothing is, or it cannot be read."""
    try:
        data = json.loads((folder / NAME).read_bytes())
    except (OSError, ValueError):
        return None
    known = isinstance(data, dict) and data.get("schema") == SCHEMA
    return data if known and {"namespace", "name", "since", "points"} <= data.keys() else None


def holder(folder: Path) -> Mapping[str, Any] | None:
    """The deployment in a cluster as who works on it, like the note of a lock; null where there is none."""
    found = read(folder)
    if found is None:
        return None
    job = f"{found['namespace']}/{found['name']}"
    return {
        "job": job,
        "state": found.get("state", ""),
        "since": found["since"],
        "points": found["points"],
        "cluster": True,
    }
