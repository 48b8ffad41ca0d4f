"""`action=fetch`: raw results of points, from the results volume into their attempts' folders here.

Takes a plan and what the store holds of it; gives an exit code: 0 all there is came, 3 something is missing there.
Never does: measuring; fetching a file twice. What was begun by a fetch that was cut short is gone on with.

A small pod reads the volume and says the files in its log, in lines that are checked. What is lost on the way is
asked for again, of another pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.digest import short
from compiler.errors import error
from compiler.manifests import Settings, benchmark, settings_of
from compiler.manifests.benchmark import CONTAINER, RESULTS_DIR
from compiler.manifests.names import MANAGED_BY, ROLE, name_of
from compiler.plan import Deployment, Plan, Point
from launchers.kubernetes import verdict
from launchers.kubernetes.api import Cluster, Object, Refused, Silent
from launchers.kubernetes.collect import KEY
from launchers.kubernetes.context import CODE, context_of
from launchers.kubernetes.frames import Reader
from launchers.kubernetes.parts import Parts
from launchers.kubernetes.reader import WANTED
from launchers.listening import listening
from launchers.refusal import Trouble, Unfit, refuse
from launchers.store import Store

if TYPE_CHECKING:
    from rich.progress import Progress

OK, INCOMPLETE, INTERRUPTED = 0, 3, 130
SCHEMA = "servix.fetch/1"
READER = "launchers.kubernetes.reader"
ROLE_NAME = "reader"
MOST_IDLE = 3
"""Pods in a row that may end without having brought anything."""
MOST_ASKED = 100_000
"""Characters of what one pod is asked for."""
READY_S = 300.0
"""A reader pod runs after so long, or never."""
NOT_OF_READERS = ("affinity", "initContainers")
"""What the benchmark's pod has and a reader has not: the volumes of those that prepare a measurement are left out."""
ALIVE_S = 6 * 3600
"""The cluster ends a reader whose asker is gone."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One attempt whose files are asked for."""

    point: Point
    deployment: Deployment
    place: Mapping[str, Any]
    """What its result says of where it was measured."""
    parts: Parts

    def asked(self) -> dict[str, Any]:
        """For the reader."""
        return {
            "root": f"{RESULTS_DIR}/{self.place.get('name') or name_of(self.deployment)}",
            "deployment": short(self.deployment.digest),
            "point": short(str(self.point.digest)),
            "attempt": self.place["attempt"],
            "have": self.parts.have(),
        }


def fetch(plan: Plan, output_dir: Path, form: str) -> int:
    """Fetches what there is of every point that was measured; gives the exit code."""
    store, bar = Store(output_dir), Bar(form)
    wanted, without = _wanted(plan, store, bar)
    for point in without:
        print(f"warning: {point.name}: nothing of it was measured on a cluster", file=sys.stderr)
    try:
        if wanted:
            config = wanted[0].point.config
            context = context_of(config["system"])
            print(f"servix: {context}", file=sys.stderr, flush=True)
            with listening() as stop, bar:
                stop.run(_fetched(context, settings_of(config), wanted, bar))
    except Unfit as unfit:
        return refuse(unfit.problems)
    except KeyboardInterrupt:
        print("interrupted: what has come is kept, the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    except (Refused, Silent) as trouble:
        return refuse([error(CODE, "system.context", context.name, str(trouble))])
    return _told(wanted, without, form)


def _wanted(plan: Plan, store: Store, bar: Bar) -> tuple[list[Wanted], list[Point]]:
    """Attempts to fetch, each once, and points that have none."""
    found: list[Wanted] = []
    without: list[Point] = []
    for point in {point.digest: point for point in plan.points if point.digest is not None}.values():
        deployment = plan.deployment(str(point.deployment))
        result = store.recorded(deployment, point).result
        place = result.ran.get(KEY) if result is not None else None
        if result is None or not isinstance(place, Mapping) or "attempt" not in place:
            without.append(point)
            continue
        folder = store.point_dir(deployment, point) / "attempts" / str(result.attempt)
        found.append(Wanted(point, deployment, place, Parts(folder, bar.came)))
    return found, without


async def _fetched(context: Any, settings: Settings, wanted: Sequence[Wanted], bar: Bar) -> None:
    async with Cluster(context.connect, bar.say) as cluster:
        await _swept(cluster)
        idle = 0
        while (
            left := [one for one in wanted if not one.parts.told or one.parts.missing]
        ) and idle < MOST_IDLE:
            before = sum(sum(one.parts.have().values()) for one in left)
            known = sum(one.parts.told for one in left)
            bar.begin()
            await _one_pod(cluster, settings, _some(left), bar)
            after = sum(sum(one.parts.have().values()) for one in left)
            came = after > before or sum(one.parts.told for one in left) > known
            idle = 0 if came else idle + 1


def _some(wanted: Sequence[Wanted]) -> list[Wanted]:
    """As many as a pod can be told of: the kernel bounds the length of a variable."""
    taken, length = list[Wanted](), 0
    for one in wanted:
        length += len(json.dumps(one.asked())) + 2
        if taken and length > MOST_ASKED:
            break
        taken.append(one)
    return taken


async def _one_pod(cluster: Cluster, settings: Settings, wanted: Sequence[Wanted], bar: Bar) -> None:
    """Whatever one reader says. Raises Unfit for a pod that never runs."""
    made = pod(wanted[0].deployment, settings, [one.asked() for one in wanted])
    name = str(made["metadata"]["name"])
    try:
        await cluster.create(made)
        await _running(cluster, name, bar)
        with contextlib.suppress(Refused, Silent):
            reader = Reader()
            async with contextlib.aclosing(cluster.log(name, CONTAINER)) as lines:
                async for line in lines:
                    message = reader.take(line)
                    if message is not None and _take(message.kind, message.data, wanted, bar):
                        return
    finally:
        await asyncio.shield(_gone(cluster, name))


async def _gone(cluster: Cluster, name: str) -> None:
    with contextlib.suppress(Trouble):
        await cluster.delete("v1", "Pod", name)


async def _swept(cluster: Cluster) -> None:
    """Readers of commands that were killed."""
    for one in await cluster.find("v1", "Pod", {MANAGED_BY: "servix", ROLE: ROLE_NAME}):
        if (one.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            await _gone(cluster, str(one["metadata"]["name"]))


async def _running(cluster: Cluster, name: str, bar: Bar) -> None:
    deadline, told = time.monotonic() + READY_S, ""
    while True:
        found = await cluster.get("v1", "Pod", name)
        if found is None:
            raise Unfit([error(CODE, "system.namespace", cluster.namespace, f"pod {name} was deleted")])
        if (found.get("status") or {}).get("phase") in ("Running", "Succeeded", "Failed"):
            return
        wrong = verdict.findings([found])
        if wrong and str(wrong[0]) != told:
            told = str(wrong[0])
            bar.say(told)
        if time.monotonic() > deadline or any(one.hopeless and one.patience_s <= 20 for one in wrong):
            reason = told or f"pod {name} does not run within {READY_S:g} s"
            raise Unfit([error(CODE, "system.kubernetes.bench.image", None, reason)])
        await asyncio.sleep(0.3)


def _take(kind: str, data: Any, wanted: Sequence[Wanted], bar: Bar) -> bool:
    """One message of a reader; true for the last."""
    with contextlib.suppress(KeyError, TypeError, IndexError, ValueError):
        if kind == "over":
            return True
        one = wanted[int(data["attempt"])]
        if kind == "files":
            one.parts.tell([(str(n), int(size), str(checksum)) for n, size, checksum in data["files"]])
            bar.known(one.parts.size)
        elif kind == "chunk":
            one.parts.take(str(data["path"]), int(data["at"]), data["data"].encode("latin-1"))
    return False


def pod(deployment: Deployment, settings: Settings, wanted: Sequence[Mapping[str, Any]]) -> Object:
    """A pod that reads the results volume: the benchmark's, with little to do."""
    _, job = benchmark(deployment, (), settings, 1)
    spec = job["spec"]["template"]["spec"]
    container = dict(spec["containers"][0])
    mounts = [one for one in container.pop("volumeMounts") if one["name"] == "results"]
    small = {**container["resources"], "requests": {"cpu": "100m", "memory": "128Mi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"servix-reader-{secrets.token_hex(5)}",
            "labels": {**settings.own.labels, MANAGED_BY: "servix", ROLE: ROLE_NAME},
            "annotations": dict(settings.own.annotations),
        },
        "spec": {
            **{key: value for key, value in spec.items() if key not in NOT_OF_READERS},
            "activeDeadlineSeconds": ALIVE_S,
            "containers": [
                {
                    **container,
                    "command": ["python", "-m", READER],
                    "args": [],
                    "env": [
                        {"name": "PYTHONUNBUFFERED", "value": "1"},
                        {"name": WANTED, "value": json.dumps(wanted)},
                    ],
                    "volumeMounts": [{**one, "readOnly": True} for one in mounts],
                    "resources": small,
                }
            ],
            "volumes": [one for one in spec["volumes"] if one["name"] == "results"],
        },
    }


def _told(wanted: Sequence[Wanted], without: Sequence[Point], form: str) -> int:
    entries = list(map(_entry, wanted))
    if form == "json":
        print(json.dumps({"schema": SCHEMA, "points": entries}, indent=2))
    else:
        for entry in entries:
            print(f"{entry['name']}: {entry['status']}: {entry['files']} files, {_bytes(entry['bytes'])}")
            print(f"  {entry['folder']}")
    whole = all(entry["status"] == "complete" for entry in entries)
    return OK if whole and entries and not without else INCOMPLETE


def _entry(one: Wanted) -> dict[str, Any]:
    parts = one.parts
    if not parts.told:
        status = "no reader has told of it"
    elif not parts.wanted:
        status = "nothing of it is on the volume"
    else:
        status = "incomplete" if parts.missing else "complete"
    return {
        "name": one.point.name,
        "digest": one.point.digest,
        "status": status,
        "files": len(parts.wanted) - len(parts.missing),
        "bytes": parts.size,
        "missing": parts.missing,
        "folder": str(parts.folder),
    }


class Bar:
    """Shows on a terminal how far it is."""

    def __init__(self, form: str) -> None:
        self._progress: Progress | None = None
        self._shows = form != "json" and sys.stderr.isatty()
        self._task: Any = None
        self._total = 0

    def __enter__(self) -> Bar:
        if self._shows:
            from rich.console import Console
            from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

            columns = [*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn()]
            self._progress = Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr))
            self._progress.start()
            self._task = self._progress.add_task("fetching", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def begin(self) -> None:
        """A reader begins: it says once more what there is."""
        self._total = 0
        if self._progress is not None:
            self._progress.reset(self._task, total=None)

    def known(self, size: int) -> None:
        """So many bytes more there are."""
        self._total += size
        if self._progress is not None:
            self._progress.update(self._task, total=self._total)

    def came(self, number: int) -> None:
        """So many bytes more are here."""
        if self._progress is not None:
            self._progress.advance(self._task, number)

    def say(self, text: str) -> None:
        """One line for a person."""
        if self._progress is not None:
            self._progress.console.print(f"servix: {text}", markup=False, highlight=False)
        else:
            print(f"servix: {text}", file=sys.stderr, flush=True)


def _bytes(number: int) -> str:
    """A size for people.

    >>> _bytes(999), _bytes(12_300_000)
    ('999 B', '12.3 MB')
    """
    for unit, size in _units():
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"


def _units() -> Iterator[tuple[str, int]]:
    yield from (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
