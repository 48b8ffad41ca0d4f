"""Rules on what a site adds to pods: fields that there are, of their kind, that contradict nothing of the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compiler.errors import NOTHING, Problem, did_you_mean, error
from compiler.model import Kubernetes

CODE, OWN = "kubernetes", "system.kubernetes"
KINDS: Mapping[str, tuple[type, ...]] = {
    "a mapping": (dict,),
    "a list": (list,),
    "text": (str,),
    "a whole number": (int,),
    "true or false": (bool,),
}
_KIND_OF: Mapping[str, Mapping[str, str]] = {
    "pod": {
        **dict.fromkeys(
            ("affinity", "dnsConfig", "os", "overhead", "resources", "securityContext"), "a mapping"
        ),
        **dict.fromkeys(("containers", "hostAliases", "initContainers", "readinessGates"), "a list"),
        **dict.fromkeys(
            ("resourceClaims", "schedulingGates", "topologySpreadConstraints", "volumes"), "a list"
        ),
        **dict.fromkeys(
            ("dnsPolicy", "hostname", "nodeName", "preemptionPolicy", "runtimeClassName"), "text"
        ),
        **dict.fromkeys(("schedulerName", "subdomain"), "text"),
        **dict.fromkeys(("activeDeadlineSeconds", "priority"), "a whole number"),
        **dict.fromkeys(("automountServiceAccountToken", "enableServiceLinks", "hostIPC"), "true or false"),
        **dict.fromkeys(
            ("hostPID", "hostUsers", "setHostnameAsFQDN", "shareProcessNamespace"), "true or false"
        ),
    },
    "container": {
        **dict.fromkeys(("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"), "a mapping"),
        **dict.fromkeys(("resources", "securityContext"), "a mapping"),
        **dict.fromkeys(("env", "envFrom", "resizePolicy", "volumeDevices", "volumeMounts"), "a list"),
        **dict.fromkeys(("restartPolicy", "terminationMessagePath", "terminationMessagePolicy"), "text"),
        **dict.fromkeys(("stdin", "stdinOnce", "tty"), "true or false"),
    },
}
"""Fields of a pod's spec and of a container that a site may give."""
_PLANNED: Mapping[str, Mapping[str, str]] = {
    "pod": {
        "hostNetwork": f"use {OWN}.host_network",
        "serviceAccountName": f"use {OWN}.service_account",
        "serviceAccount": f"use {OWN}.service_account",
        "priorityClassName": f"use {OWN}.priority_class",
        "nodeSelector": f"use {OWN}.node_selector",
        "tolerations": f"use {OWN}.tolerations",
        "imagePullSecrets": f"use {OWN}.image_pull_secrets",
        "terminationGracePeriodSeconds": "use launch.stop_timeout_s",
        "restartPolicy": "leave it out",
    },
    "container": {
        "name": "leave it out: the operator asks for 'main'",
        "command": "use the role's args or extra_args",
        "args": "use the role's args or extra_args",
        "image": "use system.image",
        "imagePullPolicy": f"use {OWN}.image_pull_policy",
        "workingDir": "leave it out",
        "ports": "use backend.ports",
    },
}
"""Fields that are not left to a site -> what to do instead."""


def fields(own: Kubernetes) -> Iterator[Problem]:
    """Everything about `pod` and `container`."""
    given: Mapping[str, Mapping[str, Any]] = {"pod": own.pod, "container": own.container}
    for place, settings in given.items():
        wrong = [problem for name, value in settings.items() for problem in _field(place, name, value)]
        yield from wrong
        if not wrong:
            yield from _contents(own, place, settings)


def _field(place: str, name: str, value: Any) -> Iterator[Problem]:
    key, kinds = f"{OWN}.{place}.{name}", _KIND_OF[place]
    if name in _PLANNED[place]:
        yield error(CODE, key, value, "is set by the plan or has a key of its own", _PLANNED[place][name])
    elif name not in kinds:
        yield error(CODE, key, value, f"is no field of a {place}", did_you_mean(name, kinds))
    elif not isinstance(value, KINDS[kinds[name]]) or (
        isinstance(value, bool) and kinds[name] != "true or false"
    ):
        yield error(CODE, key, value, f"should be {kinds[name]}")


def _contents(own: Kubernetes, place: str, settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Of lists and mappings that the plan writes to as well."""
    if place == "pod":
        if any(
            isinstance(item, Mapping) and item.get("name") == "main"
            for item in settings.get("containers", [])
        ):
            reason = "'main' is the container of the plan"
            yield error(CODE, f"{OWN}.pod.containers", NOTHING, reason, f"use {OWN}.container")
        return
    for kind in ("limits", "requests"):
        quantities = settings.get("resources", {}).get(kind)
        if isinstance(quantities, Mapping) and own.gpu_resource in quantities:
            key = f"{OWN}.container.resources.{kind}"
            reason = f"{own.gpu_resource} of a pod is what its worker needs"
            yield error(CODE, key, NOTHING, reason, "leave it out: the sizes of the role say it")
        elif quantities is not None and not isinstance(quantities, Mapping):
            yield error(CODE, f"{OWN}.container.resources.{kind}", quantities, "should be a mapping")
    for index, entry in enumerate(settings.get("env", [])):
        if not isinstance(entry, Mapping) or "valueFrom" not in entry:
            key = f"{OWN}.container.env.{index}"
            reason = "only values that the cluster has (valueFrom) are given here"
            yield error(CODE, key, NOTHING, reason, "use <role>.env or system.env")
