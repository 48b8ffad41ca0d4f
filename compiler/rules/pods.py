"""Rules on what a site adds to pods: fields that there are, of their kind, that contradict nothing of the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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


_OF_BENCH: Mapping[str, Mapping[str, str]] = {
    "pod": {
        **_PLANNED["pod"],
        "hostNetwork": "leave it out",
        "terminationGracePeriodSeconds": "leave it out",
    },
    "container": {
        **dict.fromkeys(("name", "command", "args", "ports"), "leave it out"),
        "image": f"use {OWN}.bench.image",
        "imagePullPolicy": f"use {OWN}.image_pull_policy",
        "workingDir": f"use {OWN}.bench.servix_dir",
    },
}
"""The same of the pod that measures."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a site adds something."""

    key: str
    kind: str
    """`pod` or `container`."""
    given: Mapping[str, Any]
    planned: Mapping[str, str]
    main: str
    """Name of the container of the plan."""
    env: str
    """Where variables with a value belong."""


def fields(own: Kubernetes) -> Iterator[Problem]:
    """Everything about `pod` and `container`, those of the benchmark too."""
    bench = own.bench
    env, of_bench = "use <role>.env or system.env", "use bench.env or system.env"
    for place in (
        _Place(f"{OWN}.pod", "pod", own.pod, _PLANNED["pod"], "main", env),
        _Place(f"{OWN}.container", "container", own.container, _PLANNED["container"], "main", env),
        _Place(f"{OWN}.bench.pod", "pod", bench.pod, _OF_BENCH["pod"], "bench", of_bench),
        _Place(
            f"{OWN}.bench.container", "container", bench.container, _OF_BENCH["container"], "bench", of_bench
        ),
    ):
        wrong = [problem for name, value in place.given.items() for problem in _field(place, name, value)]
        yield from wrong
        if not wrong:
            yield from _contents(own, place)


def _field(place: _Place, name: str, value: Any) -> Iterator[Problem]:
    key, kinds = f"{place.key}.{name}", _KIND_OF[place.kind]
    if name in place.planned:
        yield error(CODE, key, value, "is set by the plan or has a key of its own", place.planned[name])
    elif name not in kinds:
        yield error(CODE, key, value, f"is no field of a {place.kind}", did_you_mean(name, kinds))
    elif not isinstance(value, KINDS[kinds[name]]) or (
        isinstance(value, bool) and kinds[name] != "true or false"
    ):
        yield error(CODE, key, value, f"should be {kinds[name]}")


def _contents(own: Kubernetes, place: _Place) -> Iterator[Problem]:
    """Of lists and mappings that the plan writes to as well."""
    if place.kind == "pod":
        if any(
            isinstance(item, Mapping) and item.get("name") == place.main
            for item in place.given.get("containers", [])
        ):
            reason, hint = f"'{place.main}' is the container of the plan", f"use {place.key[:-3]}container"
            yield error(CODE, f"{place.key}.containers", NOTHING, reason, hint)
        return
    for kind in ("limits", "requests"):
        quantities, key = place.given.get("resources", {}).get(kind), f"{place.key}.resources.{kind}"
        if isinstance(quantities, Mapping) and own.gpu_resource in quantities:
            reason = f"{own.gpu_resource} of a pod is what its worker needs"
            yield error(CODE, key, NOTHING, reason, "leave it out: the sizes of the role say it")
        elif quantities is not None and not isinstance(quantities, Mapping):
            yield error(CODE, key, quantities, "should be a mapping")
    for index, entry in enumerate(place.given.get("env", [])):
        if not isinstance(entry, Mapping) or "valueFrom" not in entry:
            reason = "only values that the cluster has (valueFrom) are given here"
            yield error(CODE, f"{place.key}.env.{index}", NOTHING, reason, place.env)
