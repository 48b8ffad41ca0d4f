"""The Job that measures points of a deployment that is ready, and the ConfigMap with its work.

The template of a Job's pods cannot be changed, so each attempt is a Job of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from compiler.digest import short
from compiler.estimate import point_seconds
from compiler.manifests.merged import merged
from compiler.manifests.names import DIGEST, POINT, POINTS, ROLE, head_of, labels_of, name_of
from compiler.manifests.placing import beside
from compiler.manifests.pods import image, model_cache, scheduling, token
from compiler.manifests.settings import Settings
from compiler.manifests.work import TooLong, Work, files_of, of_deployment
from compiler.plan import Deployment, Point

PROGRAM = "launchers.kubernetes.bench"
WORK_DIR, RESULTS_DIR = "/servix/work", "/servix/results"
"""Where the pod has its work, and the results volume."""
ROLE_NAME = "benchmark"
CONTAINER = "bench"
LEAST_S = 600
"""Seconds that a Job has in any case, beside what its points take: to be scheduled, to wait, to write down."""


def job_name(deployment: Deployment, attempt: int) -> str:
    """Of the Job, and of its ConfigMap."""
    return f"{name_of(deployment)}-bench-{attempt}"


def work(deployment: Deployment, points: Sequence[Point], settings: Settings, attempt: int) -> Work:
    """What the Job of that attempt is to do."""
    # The pod itself, with every port: infrastructure that a command between phases asks is beside the frontend.
    head = head_of(deployment)
    names = {
        "frontend_node": head,
        "frontend_ip": head,
        "node:0": head,
        "servix_dir": settings.own.bench.servix_dir,
        "storage_cache_dir": deployment.storage_cache_dir or f"{RESULTS_DIR}/cache",
    }
    results = f"{RESULTS_DIR}/{name_of(deployment)}"
    return Work(deployment, of_deployment(deployment, points), attempt, names, results)


def deadline_s(deployment: Deployment, points: Sequence[Point], settings: Settings) -> int:
    """Seconds after which the cluster ends the Job: the estimate of its points with head-room, and the start."""
    estimated = sum(point_seconds(point.config) for point in points)
    return math.ceil(LEAST_S + deployment.ready_timeout_s + settings.own.bench.head_room * estimated)


def fitting(
    deployment: Deployment, points: Sequence[Point], settings: Settings, attempt: int
) -> tuple[Point, ...]:
    """The first points of the deployment, as many as one Job is told of. Raises TooLong where not one is."""
    mine = of_deployment(deployment, points)
    while True:
        try:
            files_of(work(deployment, mine, settings, attempt))
        except TooLong as problem:
            if len(mine) == 1:
                raise
            mine = mine[: max(1, problem.fits)]
        else:
            return mine


def benchmark(
    deployment: Deployment, points: Sequence[Point], settings: Settings, attempt: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ConfigMap and the Job. Raises TooLong for more points than a ConfigMap holds."""
    mine = of_deployment(deployment, points)
    labels = {**labels_of(deployment), ROLE: ROLE_NAME}
    if len(mine) == 1:
        labels[POINT] = short(str(mine[0].digest))
    metadata = {
        "name": job_name(deployment, attempt),
        "labels": labels,
        "annotations": {
            DIGEST: deployment.digest,
            POINTS: ",".join(short(str(point.digest)) for point in mine),
        },
    }
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        **files_of(work(deployment, mine, settings, attempt)),
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": deadline_s(deployment, mine, settings),
            "template": {
                "metadata": {
                    "labels": {**settings.own.labels, **labels},
                    "annotations": {**settings.own.annotations, DIGEST: deployment.digest},
                },
                "spec": _pod(deployment, settings, attempt),
            },
        },
    }
    return config_map, job


def _pod(deployment: Deployment, settings: Settings, attempt: int) -> dict[str, Any]:
    cache, mounted = model_cache(settings)
    own, claim = settings.own.bench, results_claim(settings)
    container = {
        "name": CONTAINER,
        **image(own.image, settings),
        "command": ["python", "-m", PROGRAM],
        "args": [WORK_DIR],
        "workingDir": own.servix_dir,
        "env": _environment(settings),
        "volumeMounts": [
            {"name": "work", "mountPath": WORK_DIR, "readOnly": True},
            {"name": "results", "mountPath": RESULTS_DIR},
            *mounted,
        ],
        "resources": {"requests": {name: str(value) for name, value in own.resources.items()}},
    }
    spec = {
        **scheduling(settings),
        "restartPolicy": "Never",
        "affinity": {"podAffinity": beside(deployment, "frontend")},
        "containers": [merged(container, own.container)],
        "volumes": [
            {"name": "work", "configMap": {"name": job_name(deployment, attempt)}},
            {"name": "results", "persistentVolumeClaim": {"claimName": claim}},
            *cache,
        ],
    }
    found: dict[str, Any] = merged(spec, own.pod)
    return found


def _environment(settings: Settings) -> list[dict[str, Any]]:
    home = settings.system.hf_home
    return [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "PYTHONUNBUFFERED", "value": "1"},
        *([{"name": "HF_HOME", "value": home}] if home is not None else []),
        *token(settings),
    ]


def results_claim(settings: Settings) -> str:
    """Name of the claim that keeps results."""
    return settings.own.results.claim or "servix-results"
