"""The controllers of Jobs and Deployments: pods made, counted, made again, and given up."""

import time
from typing import Any

from . import kinds
from .conditions import condition, event, holds, owned_by, owner, with_conditions
from .kinds import Kind
from .objects import Objects, suffix
from .refusals import Refusal
from .store import Object, now


class Workloads:
    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._started: dict[str, float] = {}  # uid of a job -> monotonic_s of its first pod
        self._made: dict[str, set[str]] = {}  # uid of a job -> uids of its pods, also of those that are gone
        self._again: dict[str, float] = {}  # uid of a job -> monotonic_s of its next try
        self.retry_s = 0.2  # ten seconds and doubling in a real cluster

    def step(self) -> None:
        for job in self.objects.store.all(kinds.JOB):
            if not job["metadata"].get("deletionTimestamp"):
                self._job(job)
        for deployment in self.objects.store.all(kinds.DEPLOYMENT):
            if not deployment["metadata"].get("deletionTimestamp"):
                self._deployment(deployment)

    def _job(self, job: Object) -> None:
        uid, spec = job["metadata"]["uid"], job["spec"]
        if holds(job, "Complete") or holds(job, "Failed"):
            return
        pods = self._pods(job)
        failed = [pod for pod in pods if _phase(pod) == "Failed" or _is_deleted(pod)]
        succeeded = [pod for pod in pods if _phase(pod) == "Succeeded" and not _is_deleted(pod)]
        active = [pod for pod in pods if pod not in failed and pod not in succeeded]
        lost = self._lost(job, pods)
        counts = {"active": len(active), "succeeded": len(succeeded), "failed": len(failed) + lost}
        counts["ready"] = sum(holds(pod, "Ready") for pod in active)
        deadline = spec.get("activeDeadlineSeconds")
        if succeeded:
            self._complete(job, counts)
        elif (
            deadline is not None
            and uid in self._started
            and time.monotonic() - self._started[uid] >= deadline
        ):
            self._fail(
                job, counts, active, "DeadlineExceeded", "Job was active longer than specified deadline"
            )
        elif counts["failed"] > spec["backoffLimit"]:
            said = "Job has reached the specified backoff limit"
            self._fail(job, counts, active, "BackoffLimitExceeded", said)
        else:
            self._go_on(job, counts, active)

    def _lost(self, job: Object, pods: list[Object]) -> int:
        """Pods that were there and are not any more: they count as failed."""
        here = {pod["metadata"]["uid"] for pod in pods}
        return len(self._made.get(job["metadata"]["uid"], set()) - here)

    def _go_on(self, job: Object, counts: dict[str, int], active: list[Object]) -> None:
        uid = job["metadata"]["uid"]
        if not active and not job["spec"]["suspend"] and time.monotonic() >= self._again.get(uid, 0):
            self._again[uid] = time.monotonic() + self.retry_s * 2 ** counts["failed"]
            pod = self._make(kinds.JOB, job, job["spec"]["template"], job["metadata"]["name"])
            if pod:
                self._made.setdefault(uid, set()).add(pod["metadata"]["uid"])
                self._started.setdefault(uid, time.monotonic())
                counts["active"] = 1
        started = {"startTime": job.get("status", {}).get("startTime", now())}
        self.objects.set_status(kinds.JOB, job, **counts, **started)

    def _complete(self, job: Object, counts: dict[str, int]) -> None:
        said = "Reached expected number of succeeded pods"
        done = (condition("SuccessCriteriaMet", True, "CompletionsReached", said),)
        done += (condition("Complete", True, "CompletionsReached", said),)
        own = {"completionTime": now(), "conditions": with_conditions(job, *done)}
        self.objects.set_status(kinds.JOB, job, **counts, **own)
        event(self.objects, kinds.JOB, job, "Completed", "Job completed", warning=False)

    def _fail(
        self, job: Object, counts: dict[str, int], active: list[Object], reason: str, said: str
    ) -> None:
        for pod in active:
            self.objects.delete(
                kinds.POD, pod["metadata"]["namespace"], pod["metadata"]["name"], "Background"
            )
        done = (condition("FailureTarget", True, reason, said), condition("Failed", True, reason, said))
        counts |= {"failed": counts["failed"] + len(active), "active": 0, "ready": 0}
        self.objects.set_status(kinds.JOB, job, **counts, conditions=with_conditions(job, *done))
        event(self.objects, kinds.JOB, job, reason, said)

    def _deployment(self, deployment: Object) -> None:
        spec, pods = deployment["spec"], self._pods(deployment)
        pods = [pod for pod in pods if _phase(pod) not in ("Failed", "Succeeded") and not _is_deleted(pod)]
        for _ in range(spec["replicas"] - len(pods)):
            if pod := self._make(
                kinds.DEPLOYMENT, deployment, spec["template"], deployment["metadata"]["name"]
            ):
                pods.append(pod)
        for pod in pods[spec["replicas"] :]:
            self.objects.delete(
                kinds.POD, pod["metadata"]["namespace"], pod["metadata"]["name"], "Background"
            )
        ready = sum(holds(pod, "Ready") for pod in pods)
        whole = ready >= spec["replicas"]
        reason = "MinimumReplicasAvailable" if whole else "MinimumReplicasUnavailable"
        told = (
            condition("Available", whole, reason),
            condition("Progressing", True, "NewReplicaSetAvailable"),
        )
        counts: dict[str, Any] = {"replicas": len(pods), "updatedReplicas": len(pods), "readyReplicas": ready}
        counts |= {"availableReplicas": ready, "unavailableReplicas": spec["replicas"] - ready or None}
        generation = deployment["metadata"]["generation"]
        conditions = with_conditions(deployment, *told)
        own = {**counts, "observedGeneration": generation, "conditions": conditions}
        self.objects.set_status(kinds.DEPLOYMENT, deployment, **own)

    def _pods(self, obj: Object) -> list[Object]:
        pods = self.objects.store.all(kinds.POD, obj["metadata"]["namespace"])
        return [pod for pod in pods if owned_by(pod, obj["metadata"]["uid"])]

    def _make(self, kind: Kind, obj: Object, template: Object, stem: str) -> Object | None:
        try:
            return make_pod(self.objects, kind, obj, template, f"{stem}-{suffix(5)}")
        except Refusal as refusal:
            event(self.objects, kind, obj, "FailedCreate", f"Error creating: {refusal.message}")
            return None


def make_pod(
    objects: Objects,
    kind: Kind,
    obj: Object,
    template: Object,
    name: str,
    labels: dict[str, str] | None = None,
) -> Object:
    """A pod of a template that belongs to an object; Refusal where a quota or the namespace refuses it."""
    meta = template.get("metadata") or {}
    namespace = obj["metadata"]["namespace"]
    own = {"name": name, "namespace": namespace, "ownerReferences": [owner(kind, obj)]}
    own |= {
        "labels": {**(meta.get("labels") or {}), **(labels or {})},
        "annotations": meta.get("annotations") or {},
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": own, "spec": template["spec"]}
    return objects.create(kinds.POD, namespace, pod)


def _phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _is_deleted(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]
