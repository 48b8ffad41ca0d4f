"""What a benchmark Job is to do, as files of its ConfigMap, and back: `servix.kubernetes-job/1`.

Taken from: a deployment and the points that are measured on it, in order. Given to: `benchmark`, and to the program
that runs in the Job. A ConfigMap holds 1 MiB, so what is long is packed.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compiler import plan_json
from compiler.errors import json_value
from compiler.plan import Deployment, Plan, Point

SCHEMA = "servix.kubernetes-job/1"
PLAIN, PACKED = "job.json", "job.json.z"
LONGEST_PLAIN = 200_000
"""Characters that are written as they are: a person may look at them."""
MOST = 1_000_000
"""Bytes that fit in a ConfigMap, with a little to spare for its metadata."""


class TooLong(ValueError):
    """A ConfigMap does not hold the work. It might with `fits` points."""

    def __init__(self, number: int, size: int) -> None:
        super().__init__(f"{number} points are more than a ConfigMap holds")
        self.fits = int(0.9 * number * MOST / size)


@dataclass(frozen=True, slots=True)
class Work:
    """What a Job finds in its folder."""

    deployment: Deployment
    points: tuple[Point, ...]
    """In the order they are measured."""
    attempt: int
    names: Mapping[str, str]
    """Late-bound word -> value, but for folders of an attempt."""
    results: str
    """Folder on the results volume."""


def files_of(work: Work) -> dict[str, dict[str, str]]:
    """`data` or `binaryData` of the ConfigMap. Raises TooLong for more than it holds."""
    common = work.points[0].config if work.points else {}
    points = tuple(replace(point, config=_difference(common, point.config)) for point in work.points)
    content = {
        "schema": SCHEMA,
        "attempt": work.attempt,
        "names": dict(work.names),
        "results": work.results,
        "config": json_value(common),
        "plan": plan_json.to_json(Plan(points, (work.deployment,))),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    if len(text) <= LONGEST_PLAIN:
        return {"data": {PLAIN: text}}
    packed = base64.b64encode(zlib.compress(text.encode(), 6)).decode()
    if len(packed) > MOST:
        raise TooLong(len(work.points), len(packed))
    return {"binaryData": {PACKED: packed}}


def work_of(files: Mapping[str, bytes]) -> Work:
    """The work in the files of a ConfigMap, as they are mounted. Raises ValueError for files of another form."""
    if PLAIN not in files and PACKED not in files:
        raise ValueError(f"neither {PLAIN} nor {PACKED} is there")
    try:
        text = files[PLAIN] if PLAIN in files else zlib.decompress(files[PACKED])
        data: Any = json.loads(text)
    except zlib.error as problem:
        raise ValueError(f"{PACKED} cannot be unpacked: {problem}") from problem
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"the work is not of the form {SCHEMA}")
    plan = plan_json.from_json(data["plan"])
    names = {str(word): str(value) for word, value in data["names"].items()}
    common = data["config"]
    points = tuple(replace(point, config=_together(common, point.config)) for point in plan.points)
    return Work(plan.deployments[0], points, int(data["attempt"]), names, str(data["results"]))


def _difference(common: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration has that the first does not: points on one deployment have most in common."""
    lacks = [name for name in common if name not in config]
    has = {name: value for name, value in config.items() if name not in common or common[name] != value}
    return {"has": has, "lacks": lacks}


def _together(common: Mapping[str, Any], difference: Mapping[str, Any]) -> dict[str, Any]:
    lacks = set(difference["lacks"])
    return {**{name: value for name, value in common.items() if name not in lacks}, **difference["has"]}


def of_deployment(deployment: Deployment, points: Sequence[Point]) -> tuple[Point, ...]:
    """Those of the points that can be measured on it, in their order."""
    return tuple(
        p for p in points if p.deployment == deployment.digest and p.workload is not None and p.valid
    )
