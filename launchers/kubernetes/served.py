"""The objects of one deployment in a cluster: applied, looked at, measured by a Job, deleted.

Takes what `compiler.manifests` makes, unchanged but for who owns it; gives how things are.
Never does: deciding what is done about that (`turn` does); leaving behind what its owner should have taken with it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.manifests import Manifests, Settings, benchmark, manifests
from compiler.manifests.names import DEPLOYMENT, ROLE, labels_of
from compiler.plan import Deployment, Point
from launchers.kubernetes import verdict
from launchers.kubernetes.api import Cluster, Exists, Object, Refused
from launchers.kubernetes.verdict import Progress
from launchers.results.result import Result

BENCH = "benchmark"
"""Role of the pods that measure."""
KNOWN, BASELINE = "known.json.z", "baseline.json"
"""Files for a search, beside the work (`bench`)."""
BY = "servix.dev/by"
"""Annotation of the owner: the process that applied it."""
ORDINARY = ("Deployment", "StatefulSet")
GONE_S = 180.0
"""What is deleted is gone after so long; a pod may take its grace, and volumes their time."""
OWNED = (
    ("batch/v1", "Job"),
    ("apps/v1", "Deployment"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
)
"""What may belong to a deployment beside its owner."""


@dataclass(frozen=True, slots=True)
class Look:
    """How things are."""

    owner: Object | None
    """Null: it is not there."""
    progress: Progress
    serving: tuple[Object, ...]
    """Pods of the deployment."""
    job: Object | None
    """The Job that was asked for."""
    measuring: tuple[Object, ...]
    """Its pods."""

    @property
    def going(self) -> bool:
        """Whether it is being deleted, or has been."""
        return self.owner is None or bool(self.owner["metadata"].get("deletionTimestamp"))


class Served:
    """One deployment in a namespace."""

    def __init__(self, cluster: Cluster, deployment: Deployment, settings: Settings) -> None:
        self.cluster, self._deployment, self._settings = cluster, deployment, settings
        self.made: Manifests = manifests(deployment, (), settings)
        self.labels = labels_of(deployment)
        self._reference: Object = {}

    @property
    def name(self) -> str:
        """The owner's."""
        return self.made.name

    @property
    def kind(self) -> tuple[str, str]:
        """The owner's version and kind."""
        return str(self.made.owner["apiVersion"]), str(self.made.owner["kind"])

    def __str__(self) -> str:
        return f"{self.kind[1]} {self.name} in namespace {self.cluster.namespace}"

    async def found(self) -> Object | None:
        """The owner, where it is there. Raises Refused, Silent."""
        owner = await self.cluster.get(*self.kind, self.name)
        if owner is not None:
            self._own(owner)
        return owner

    async def apply(self) -> Object:
        """Applies everything; gives the owner. Raises Refused, Silent."""
        claim = self.made.claim
        if (
            claim is not None
            and await self.cluster.get("v1", claim["kind"], claim["metadata"]["name"]) is None
        ):
            await self.cluster.apply(claim)
        # Until there is an answer, whatever is there of this name may be ours.
        self._reference = {}
        owner = await self.cluster.apply(_noted(self.made.owner))
        self._own(owner)
        for one in self.made.stack[1:]:
            await self.cluster.apply(self._owned(one))
        return owner

    async def measure(
        self, points: Sequence[Point], attempt: int, more: Mapping[str, bytes] | None = None
    ) -> str:
        """Makes the Job of an attempt, or finds that it is there; gives its name. Raises Refused, Silent.

        `more` are files beside its work.
        """
        config_map, job = benchmark(self._deployment, points, self._settings, attempt)
        if more:
            coded = {name: base64.b64encode(data).decode() for name, data in more.items()}
            config_map = {**config_map, "binaryData": {**config_map.get("binaryData", {}), **coded}}
        for one in (config_map, job):
            try:
                await self.cluster.create(self._owned(one))
            except Exists:
                # Another command was faster, or our own request was answered after we had given it up.
                continue
        return str(job["metadata"]["name"])

    async def look(self, job: str | None) -> Look:
        """How things are. Raises Refused, Silent."""
        owner, pods = await asyncio.gather(
            self.cluster.get(*self.kind, self.name), self.cluster.find("v1", "Pod", self._selector)
        )
        found = None if job is None else await self.cluster.get("batch/v1", "Job", job)
        serving = [pod for pod in pods if _label(pod, ROLE) != BENCH]
        measuring = [pod for pod in pods if _label(pod, ROLE) == BENCH and job in (None, job_of(pod))]
        return Look(owner, await self._progress(owner), tuple(serving), found, tuple(measuring))

    async def jobs(self) -> list[Object]:
        """All Jobs of the deployment, the last attempt at the end. Raises Refused, Silent."""
        found = await self.cluster.find("batch/v1", "Job", self._selector)
        return sorted(found, key=attempt_of)

    async def refusal(self, job: str | None = None) -> str:
        """Why the cluster makes no pod of a Job, or (null) of the deployment, in its own words; empty where it says
        nothing. Raises Silent."""
        about = {"involvedObject.kind": "Job", "involvedObject.name": job} if job else {"type": "Warning"}
        try:
            events = await self.cluster.find("v1", "Event", fields=about)
        except Refused:
            # Who may not read events hears nothing.
            return ""
        return verdict.refusal(events, self.name, of_job=job is not None)

    @property
    def pods(self) -> int:
        """How many a deployment that is whole has."""
        return sum(one.worker is not None or one.role == "frontend" for one in self._deployment.processes)

    async def pods_of(self, job: str) -> list[Object]:
        """Pods of a Job, the newest at the end. Raises Refused, Silent."""
        pods = await self.cluster.find("v1", "Pod", self._selector)
        own = [pod for pod in pods if job_of(pod) == job]
        return sorted(own, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))

    async def down(self) -> list[str]:
        """Deletes everything and waits until it is gone; gives what is not gone in time. Raises Refused, Silent.

        What another command has applied anew meanwhile is left to that.
        """
        owner, ours = await self.cluster.get(*self.kind, self.name), self._reference.get("uid")
        if owner is not None and ours not in (None, owner["metadata"].get("uid")):
            return []
        await self.cluster.delete(*self.kind, self.name)
        ours = None if owner is None else owner["metadata"].get("uid")
        left = [] if await self.cluster.gone(*self.kind, self.name, GONE_S, ours) else [str(self)]
        now = await self.cluster.get(*self.kind, self.name)
        if now is not None and now["metadata"].get("uid") != ours:
            return left
        for version, kind in OWNED:
            try:
                rest = await self.cluster.find(version, kind, self._selector)
            except Refused:
                # A kind that we may not list is none that we have made.
                continue
            for one in rest:
                name = str(one["metadata"]["name"])
                if kind != "Pod":
                    await self.cluster.delete(version, kind, name)
                if not await self.cluster.gone(version, kind, name, GONE_S):
                    left.append(f"{kind} {name}")
        return left

    @property
    def _selector(self) -> Mapping[str, str]:
        return {DEPLOYMENT: self.labels[DEPLOYMENT]}

    async def _progress(self, owner: Object | None) -> Progress:
        if owner is None:
            return Progress(False, "not there")
        if self.kind[1] != "ConfigMap":
            return verdict.graph(owner)
        kinds = [one for one in self.made.stack if one["kind"] in ORDINARY]
        found = [await self.cluster.get(o["apiVersion"], o["kind"], o["metadata"]["name"]) for o in kinds]
        progress = verdict.deployments([one for one in found if one is not None])
        return Progress(progress.ready and None not in found, progress.what, progress.failed)

    def _own(self, owner: Object) -> None:
        version, kind = self.kind
        self._reference = {
            "apiVersion": version,
            "kind": kind,
            "name": self.name,
            "uid": owner["metadata"].get("uid"),
            "blockOwnerDeletion": True,
        }

    def _owned(self, one: Object) -> Object:
        return {**one, "metadata": {**one["metadata"], "ownerReferences": [self._reference]}}


def of_search(known: Sequence[Result], baseline: str | None) -> dict[str, bytes]:
    """Files from which a search goes on: what is known of its points, and what its gates compare with."""
    packed = zlib.compress(json.dumps([result.to_json() for result in known]).encode())
    return {KNOWN: packed, **({BASELINE: Path(baseline).read_bytes()} if baseline is not None else {})}


def _noted(owner: Object) -> Object:
    metadata = owner["metadata"]
    annotations = {**metadata.get("annotations", {}), BY: f"{socket.gethostname()} {os.getpid()}"}
    return {**owner, "metadata": {**metadata, "annotations": annotations}}


def made_by(owner: Object) -> str | None:
    """Who applied an owner, where that is a process that may live still: not this one, and not a dead one."""
    host, _, pid = str((owner["metadata"].get("annotations") or {}).get(BY) or "").partition(" ")
    if not pid.isdecimal() or (host == socket.gethostname() and not _lives(int(pid))):
        return None
    return f"process {pid} on {host}"


def _lives(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def job_of(pod: Object) -> str | None:
    """Name of the Job that a pod is of."""
    for name in ("batch.kubernetes.io/job-name", "job-name"):
        if found := _label(pod, name):
            return found
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((str(one["name"]) for one in owners if one.get("kind") == "Job"), None)


def attempt_of(job: Object) -> int:
    """The number at the end of a Job's name; 0 for a name of another kind."""
    number = str(job["metadata"]["name"]).rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def is_over(job: Object) -> bool:
    """Whether a Job has ended, one way or the other."""
    return verdict.job_end(job, ()) is not None


def _label(found: Any, name: str) -> str | None:
    value = (found["metadata"].get("labels") or {}).get(name)
    return None if value is None else str(value)
