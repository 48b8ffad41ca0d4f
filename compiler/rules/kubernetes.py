"""Rules on what only a Kubernetes cluster asks for, so that nothing is applied that its API or the operator refuses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from compiler import late
from compiler.errors import Problem, error, warning
from compiler.image import REFERENCE
from compiler.model import AUTO, Config, Kubernetes
from compiler.placement import Placement
from compiler.rules import placeholders, pods

CODE, OWN = "kubernetes", "system.kubernetes"
OPERATOR_PORT = 8000
"""Of the Service that Dynamo's operator makes for a frontend."""
MOST_COMPONENTS = 25
"""In one DynamoGraphDeployment."""
_RELEASE = re.compile(r"(0|[1-9][0-9]{0,3})(\.(0|[1-9][0-9]{0,3})){2}\Z")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_LABEL_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)


def kubernetes(config: Config, placement: Placement) -> Iterable[Problem]:
    """Everything about a system of that kind."""
    if config.system.kind != "kubernetes":
        return
    own = config.system.kubernetes
    if own is None:
        reason = "a system of kind kubernetes says how its pods come about"
        yield error(CODE, OWN, None, reason, "start your file from config/system/kubernetes.yaml")
        return
    yield from _images(config, own)
    yield from _volumes(config, own)
    yield from _addresses(config)
    yield from _hosts(config, own, placement)
    yield from _mode(config, own, placement)
    yield from _release(own)
    yield from _names(config, own, placement)
    yield from pods.fields(own)


def _images(config: Config, own: Kubernetes) -> Iterator[Problem]:
    what = {"system.image": config.system.image, f"{OWN}.bench.image": own.bench.image}
    missing = {
        "system.image": "pods have no installation of their own",
        f"{OWN}.bench.image": "the pod that measures needs an image with servix and the load generator",
    }
    for key, value in what.items():
        if value is None:
            yield error(CODE, key, None, missing[key], "name an image, best with its digest")
        elif value.startswith("/") or "#" in value:
            yield error(CODE, key, value, "is no image that a cluster can pull", "e.g. registry/name:tag")
        elif key != "system.image" and REFERENCE.match(value.removeprefix("docker://")) is None:
            yield error(CODE, key, value, "is not an image reference", "e.g. registry/name:tag@sha256:...")


def _volumes(config: Config, own: Kubernetes) -> Iterator[Problem]:
    results, key = own.results, f"{OWN}.results"
    if results.claim is None and results.size_gb is None:
        reason = "what the load generator writes needs a volume that outlives its pod"
        hint = f"name a PersistentVolumeClaim, or set {key}.size_gb to have one made"
        yield error(CODE, f"{key}.claim", None, reason, hint)
    if results.storage_class is not None and results.size_gb is None:
        reason = "is used for a claim that servix makes, and it makes none"
        yield warning("no-effect", f"{key}.storage_class", results.storage_class, reason, "set size_gb")
    if own.model_cache_claim is not None and config.system.hf_home is None:
        reason = "is mounted at system.hf_home, which is null"
        yield error(
            CODE, f"{OWN}.model_cache_claim", own.model_cache_claim, reason, "e.g. system.hf_home=/models"
        )


def _addresses(config: Config) -> Iterator[Problem]:
    """A pod has no address before it runs, and shares no files with others."""
    dynamo = config.dynamo
    if dynamo.discovery == "file":
        hint = "use kubernetes or etcd"
        yield error(
            CODE, "dynamo.discovery", "file", "pods share no folder in which to find each other", hint
        )
    for name in ("server_metrics", "gpu_telemetry"):
        for key, arguments in _rounds(config):
            if arguments.get(name) == AUTO:
                reason = "pods of workers have no address that is known before they run"
                yield error(CODE, f"{key}.{name}", AUTO, reason, "leave it null")
    for key, text, _ in placeholders.settings_with_nodes(config):
        for number in late.NODE_WORD.findall(text):
            reason = f"pods are on no node that is known before, so {{node:{number}}} has no meaning"
            yield error(CODE, key, text, reason, "use {frontend_node}, or {host} where it is allowed")
    for name, role in config.roles.items():
        if role.gpu_ids is not None:
            reason = "a cluster chooses the GPUs of a pod itself"
            yield warning("no-effect", f"{name}.gpu_ids", role.gpu_ids, reason, "leave it out")


def _rounds(config: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield config.bench.name, config.arguments
    yield from ((f"phases.{index}", phase) for index, phase in enumerate(config.phases))


def _hosts(config: Config, own: Kubernetes, placement: Placement) -> Iterator[Problem]:
    """What would have to be started on the nodes themselves."""
    hooks = {"node_setup_command": config.node_setup_command, "pre_test": config.pre_test}
    for key, command in {**hooks, "post_test": config.post_test}.items():
        if command is not None:
            hint = "do it beside servix, or in startup_command"
            yield error(CODE, key, command, "is run on nodes, and of a cluster servix has pods only", hint)
    if config.system.dcgm.command is not None:
        reason = "is started on nodes, and of a cluster servix has pods only"
        hint = "use the exporter of NVIDIA's GPU operator"
        yield error(CODE, "system.dcgm.command", config.system.dcgm.command, reason, hint)
    if config.system.gpu_log is not None:
        yield warning("no-effect", "system.gpu_log", config.system.gpu_log, "it is run on nodes, not in pods")
    spans = any(len(worker.parts) > 1 for worker in placement.workers)
    if config.startup_command is not None and spans and own.mode == "operator":
        reason = "the operator cannot tell a worker over several nodes apart from what is run before it"
        yield error(CODE, "startup_command", config.startup_command, reason, "put it into the image")


def _mode(config: Config, own: Kubernetes, placement: Placement) -> Iterator[Problem]:
    spanning = sorted({worker.role for worker in placement.workers if len(worker.parts) > 1})
    if own.mode == "plain":
        for role in spanning:
            reason = f"a {role} worker spans nodes, and only the operator can join its pods"
            yield error(CODE, f"{OWN}.mode", "plain", reason, "use mode=operator, or smaller workers")
        if config.dynamo.discovery == "kubernetes" and own.service_account is None:
            reason = "pods without the operator find each other by an account that may ask the cluster"
            hint = f"use dynamo.discovery=etcd, or name {OWN}.service_account"
            yield error(CODE, "dynamo.discovery", "kubernetes", reason, hint)
        return
    if config.dynamo.port != OPERATOR_PORT:
        reason = f"the operator's Service of the frontend is at port {OPERATOR_PORT}"
        yield error(CODE, "dynamo.port", config.dynamo.port, reason, "leave it, or use mode=plain")
    number = 1 + sum(role.workers_per_node if own.host_network else 1 for role in config.roles.values())
    if number > MOST_COMPONENTS:
        reason = (
            f"workers on one host have ports of their own, which makes {number} components, "
            f"and a DynamoGraphDeployment has at most {MOST_COMPONENTS}"
        )
        yield error(CODE, f"{OWN}.host_network", True, reason, "use fewer workers_per_node")


def _release(own: Kubernetes) -> Iterator[Problem]:
    key, version = f"{OWN}.runtime_version", own.runtime_version
    if version is None:
        return
    if not _RELEASE.match(version):
        yield error(CODE, key, version, "is no release of Dynamo", "three numbers, e.g. 1.6.1")
    elif own.mode == "plain":
        yield warning("no-effect", key, version, "is what the operator asks for, and mode=plain uses none")


def _names(config: Config, own: Kubernetes, placement: Placement) -> Iterator[Problem]:
    """Names of things in the cluster, of which its API would not even look for the wrong ones."""
    named = {
        "results.claim": own.results.claim,
        "results.storage_class": own.results.storage_class,
        "model_cache_claim": own.model_cache_claim,
        "hf_token_from.name": own.hf_token_from.name,
        "service_account": own.service_account,
        "priority_class": own.priority_class,
        **{f"image_pull_secrets.{i}": name for i, name in enumerate(own.image_pull_secrets)},
    }
    for key, value in named.items():
        if value is not None and not _NAME.match(value):
            yield error(CODE, f"{OWN}.{key}", value, "is no name in a cluster: lower case, digits, - and .")
    space = config.system.namespace
    if space is not None and not _NAMESPACE.match(space):
        yield error(
            CODE, "system.namespace", space, "is no namespace: at most 63 of lower case, digits and -"
        )
    for place, given in (("labels", own.labels), ("node_selector", own.node_selector)):
        for name, value in given.items():
            if not _LABEL_KEY.match(name) or not _LABEL.match(value):
                yield error(CODE, f"{OWN}.{place}.{name}", value, "is no label of a cluster")
    for name, value in own.annotations.items():
        if not _LABEL_KEY.match(name):
            yield error(CODE, f"{OWN}.annotations.{name}", value, "is no key of an annotation")
    for key in [key for key in own.labels if key.startswith(("servix.dev/", "app.kubernetes.io/managed-by"))]:
        yield error(CODE, f"{OWN}.labels.{key}", own.labels[key], "is a label that servix sets itself")
    for node in [name for name in placement.node_names if name is not None and not _NAME.match(name)]:
        yield error(CODE, "nodes", node, "is no name of a node in a cluster: lower case, digits, - and .")
