"""What `between=[A,B]` names: a point of the command, or a result in the store or anywhere else.

Takes a digest, the path of a `result.json`, or a folder that holds one; gives a side to compare.
Never does: comparing (`between` does); writing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.compose import Composer
from compiler.digest import hashed, hashed_workload, short
from compiler.errors import Problem, error
from compiler.origin import Origins
from compiler.plan import Plan, Point
from compiler.plan_json import deployment_to_json
from launchers.results.result import Result
from launchers.store import RESULT, Store, read_result

_DIGEST = re.compile(r"(?:v\d+-)?(?P<digits>[0-9a-f]{4,64})\Z")
HINT = "name a digest (four digits or more of it), a result.json, or a point's folder"
PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class Side:
    """One of two points."""

    name: str
    digest: str
    deployment: str
    """Digest of its deployment."""
    place: str
    """Where it is known from: "this command", or the path of a result."""
    config: Mapping[str, Any]
    origin: Callable[[str], str]
    """Key -> where its value came from; "" where that is not known."""
    stack: Mapping[str, Any] | None
    """What of the deployment is hashed; null: its plan is not there."""
    workload: Mapping[str, Any] | None
    """What of the workload is hashed; null: a result does not hold it."""


def side(text: str, composer: Composer, plan: Plan, store: Store) -> Side | Problem:
    """The point that `text` names, or why none does."""
    match = _DIGEST.match(text)
    if match is not None:
        found = list(_of_command(match["digits"], composer, plan))
        found = found or [made for path in _stored(match["digits"], store) if (made := _of_file(path))]
        if len({each.digest for each in found}) > 1:
            told = ", ".join(f"{short(each.digest)} ({each.name})" for each in found[:5])
            return error("between", "between", text, f"several points begin so: {told}", "give more digits")
        if found:
            return found[0]
    for path in (Path(text), store.root / text):
        try:
            result = read_result(path / RESULT if path.is_dir() else path)
        except OSError as problem:
            result = f"cannot be read: {(problem.strerror or str(problem)).lower()}"
        if isinstance(result, Result):
            return _side_of(result, path / RESULT if path.is_dir() else path)
        if result is not None:
            return error("between", "between", text, result, HINT)
    return error("between", "between", text, "no point, file or folder is called so", HINT)


def _of_command(digits: str, composer: Composer, plan: Plan) -> Iterator[Side]:
    seen = set()
    for point in plan.points:
        if point.digest is None or point.deployment is None or point.digest in seen:
            continue
        if point.digest.partition("-")[2].startswith(digits):
            seen.add(point.digest)
            yield _of_point(point, composer, plan)


def _of_point(point: Point, composer: Composer, plan: Plan) -> Side:
    return Side(
        name=point.name,
        digest=str(point.digest),
        deployment=str(point.deployment),
        place="this command",
        config=point.config,
        origin=Origins(composer, point.overrides).of,
        stack=hashed(deployment_to_json(plan.deployment(str(point.deployment)))),
        workload=hashed_workload(point.workload) if point.workload else None,
    )


def _stored(digits: str, store: Store) -> Iterator[Path]:
    """Results whose folder carries the digest."""
    for path in sorted(store.root.glob(f"store/*/*-{digits[:10]}*/{RESULT}")):
        result = read_result(path)
        if isinstance(result, Result) and result.point_digest.partition("-")[2].startswith(digits):
            yield path


def _of_file(path: Path) -> Side | None:
    result = read_result(path)
    return _side_of(result, path) if isinstance(result, Result) else None


def _side_of(result: Result, path: Path) -> Side:
    typed = {text.partition("=")[0].lstrip("+~"): text for text in result.overrides}

    def origin(key: str) -> str:
        parts = key.split(".")
        paths = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
        return next((f"override '{typed[each]}'" for each in paths if each in typed), "")

    return Side(
        name=result.point_name,
        digest=result.point_digest,
        deployment=result.deployment_digest,
        place=str(path),
        config=result.config,
        origin=origin,
        stack=_stack(path, result.deployment_digest),
        workload=None,
    )


def _stack(path: Path, digest: str) -> Mapping[str, Any] | None:
    """The plan that lies above a result, whichever release wrote it."""
    for folder in list(path.absolute().parents)[:4]:
        try:
            data = json.loads((folder / PLAN).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(data, dict) and data.get("digest") == digest:
            return hashed(data)
    return None
