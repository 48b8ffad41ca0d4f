"""Pods of deployments that do not run: a frontend has an endpoint, which says what workers there are."""

import contextlib

from . import kinds
from .objects import Objects
from .operator import GRAPH, NODE_RANK, TYPE
from .pods import Pod, is_ready, is_served
from .serving import Endpoint
from .store import Object


def serve(objects: Objects, own: Pod, pod: Object, token_s: float) -> None:
    labels = pod["metadata"].get("labels") or {}
    main = next(
        (one for one in pod["spec"]["containers"] if one["name"] == "main"), pod["spec"]["containers"][0]
    )
    words = [*(main.get("command") or []), *(main.get("args") or [])]
    own.logs[main["name"]].add(f"simulated: {' '.join(words)}".encode())
    if labels.get(TYPE) == "frontend" or any("dynamo.frontend" in word for word in words):
        port = next(
            (one["containerPort"] for one in main.get("ports") or [] if one.get("name") == "http"), 8000
        )
        graph, namespace = labels.get(GRAPH), own.namespace
        with contextlib.suppress(OSError):
            own.endpoint = Endpoint(
                own.ip,
                port,
                _model(objects, namespace, graph),
                lambda: _instances(objects, namespace, graph),
                token_s,
            )


def _workers(objects: Objects, namespace: str, graph: str | None) -> list[tuple[Object, list[str]]]:
    """The pods of workers of a graph (of the namespace, where there is none), each with its words."""
    found = []
    for pod in objects.store.all(kinds.POD, namespace):
        labels = pod["metadata"].get("labels") or {}
        if is_served(pod) and labels.get(GRAPH) == graph and labels.get(TYPE) != "frontend":
            main = pod["spec"]["containers"][0]
            found.append((pod, [*(main.get("command") or []), *(main.get("args") or [])]))
    return found


def _model(objects: Objects, namespace: str, graph: str | None) -> str:
    for flag in ("--served-model-name", "--model-name", "--model", "--model-path"):
        for _, words in _workers(objects, namespace, graph):
            if flag in words:
                return str(words[words.index(flag) + 1])
    return "m"


def _instances(objects: Objects, namespace: str, graph: str | None) -> dict[str, int]:
    """Dynamo's components and how many of each are there: a decode worker is a `backend`."""
    counts = {"prefill": 0, "backend": 0}
    for pod, words in _workers(objects, namespace, graph):
        labels = pod["metadata"].get("labels") or {}
        if not is_ready(pod) or labels.get(NODE_RANK, "0") != "0" or "dynamo.frontend" in words:
            continue
        counts["prefill" if "prefill" in (labels.get(TYPE), *words) else "backend"] += 1
    return counts
