"""What the server serves: versions, groups, resources."""

from collections.abc import Callable, Iterator
from typing import Any

from . import kinds
from .kinds import Kind
from .refusals import NoSuchPath

VERSION = {"major": "1", "minor": "36", "gitVersion": "v1.36.2", "platform": "linux/amd64"}
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
SHORT = {
    kinds.DGD: ["dgd"],
    kinds.NAMESPACE: ["ns"],
    kinds.POD: ["po"],
    kinds.SERVICE: ["svc"],
    kinds.CLAIM: ["pvc"],
}


def discovered(path: str, served: Callable[[Kind], tuple[str, ...]]) -> Any:
    """The answer to a path that is no resource: JSON, or text; NoSuchPath otherwise."""
    words = [word for word in path.split("/") if word]
    if words in (["healthz"], ["readyz"], ["livez"]):
        return b"ok"
    if words == ["version"]:
        return VERSION
    if words == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"]}
    if words == ["apis"]:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(_groups(served))}
    group, version = ("", words[1]) if words[:1] == ["api"] and len(words) == 2 else ("", "")
    if words[:1] == ["apis"] and len(words) == 3:
        group, version = words[1], words[2]
    found = [kind for kind in kinds.KINDS if kind.group == group and version in served(kind)]
    if not found:
        raise NoSuchPath
    listed = [resource for kind in found for resource in _resources(kind)]
    own = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": own, "resources": listed}


def _groups(served: Callable[[Kind], tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    for group in sorted({kind.group for kind in kinds.KINDS} - {""}):
        versions = [version for kind in kinds.KINDS if kind.group == group for version in served(kind)]
        listed = [{"groupVersion": f"{group}/{one}", "version": one} for one in dict.fromkeys(versions)]
        if listed:
            yield {"name": group, "versions": listed, "preferredVersion": listed[0]}


def _resources(kind: Kind) -> Iterator[dict[str, Any]]:
    own = {"singularName": kind.name.lower(), "namespaced": kind.namespaced, "kind": kind.name}
    yield {"name": kind.plural, **own, "verbs": VERBS, "shortNames": SHORT.get(kind, [])}
    if kind.status:
        yield {"name": f"{kind.plural}/status", **own, "verbs": ["get", "patch", "update"]}
