"""What the API server fills in: of a Job its selector and labels, of a Service its address, and so on."""

import copy
import itertools
import os
import uuid

from . import kinds
from .kinds import Kind
from .store import Object

_ADDRESSES = itertools.count(2)


def address() -> str:
    """A loopback address of its own, for a service or a pod of any cluster of this process."""
    number, process = next(_ADDRESSES), os.getpid()
    return f"127.{64 + process // 256 % 128}.{process % 256}.{number % 250 + 2}"


def defaulted(kind: Kind, obj: Object, live: Object | None) -> Object:
    obj = copy.deepcopy(obj)
    fill = FILLS.get(kind)
    if fill:
        fill(obj, live)
    return obj


def _job(obj: Object, live: Object | None) -> None:
    spec = obj["spec"]
    before = live["spec"] if live else {}
    for name, value in (("parallelism", 1), ("completions", 1), ("backoffLimit", 6), ("suspend", False)):
        spec.setdefault(name, value)
    spec.setdefault("completionMode", "NonIndexed")
    uid = live["metadata"]["uid"] if live else obj["metadata"].setdefault("uid", str(uuid.uuid4()))
    name = obj["metadata"]["name"]
    labels = {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
    }
    spec["selector"] = before.get("selector") or {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    meta = spec["template"].setdefault("metadata", {})
    meta["labels"] = {**(meta.get("labels") or {}), **labels, "job-name": name}


def _deployment(obj: Object, live: Object | None) -> None:
    obj["spec"].setdefault("replicas", 1)
    obj["spec"].setdefault("progressDeadlineSeconds", 600)


def _service(obj: Object, live: Object | None) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    before = (live or {}).get("spec", {}).get("clusterIP")
    spec["clusterIP"] = spec.get("clusterIP") or before or address()
    for port in spec.get("ports", []):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port["port"])


def _pod(obj: Object, live: Object | None) -> None:
    spec = obj["spec"]
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    obj.setdefault("status", {"phase": "Pending"})


def _claim(obj: Object, live: Object | None) -> None:
    obj.setdefault("status", {"phase": "Pending"})
    finalizers = obj["metadata"].setdefault("finalizers", [])
    if live is None and PROTECTION not in finalizers:
        finalizers.append(PROTECTION)


def _namespace(obj: Object, live: Object | None) -> None:
    obj.setdefault("status", {"phase": "Active"})
    obj["metadata"]["labels"] = {
        **(obj["metadata"].get("labels") or {}),
        "kubernetes.io/metadata.name": obj["metadata"]["name"],
    }


def _secret(obj: Object, live: Object | None) -> None:
    import base64

    plain = obj.pop("stringData", None) or {}
    if plain:
        coded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        obj["data"] = {**(obj.get("data") or {}), **coded}
    obj.setdefault("type", "Opaque")


PROTECTION = "kubernetes.io/pvc-protection"
FILLS = {
    kinds.JOB: _job,
    kinds.DEPLOYMENT: _deployment,
    kinds.SERVICE: _service,
    kinds.POD: _pod,
    kinds.CLAIM: _claim,
    kinds.NAMESPACE: _namespace,
    kinds.SECRET: _secret,
}
