"""What can be known to fail in a cluster before anything is applied: asked of the API server, nothing is changed.

Takes a cluster and what would be applied; gives problems: versions that are not served, rights, Secrets and claims
that are missing, GPUs that no node has, a quota that does not suffice, objects that are refused (server-side dry run).
Never does: creating anything; failing because something may not be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from compiler.errors import Problem, error
from compiler.manifests import Manifests, Settings
from compiler.manifests.pods import VIRTUAL
from compiler.plan import Deployment
from launchers.kubernetes import versions
from launchers.kubernetes.api import Cluster, Denied, Object, Refused

CODE = "kubernetes"
CRD = "dynamographdeployments.nvidia.com"
RIGHTS = (
    *(("", "pods", verb) for verb in ("list", "watch")),
    ("", "pods/log", "get"),
    *(("", "configmaps", verb) for verb in ("create", "get", "list", "delete")),
    *(("batch", "jobs", verb) for verb in ("create", "get", "list", "watch", "delete")),
)
"""What a run cannot do without: group, resource, verb."""
OF_OWNER = ("create", "patch", "get", "watch", "delete")
APPLIED = ("create", "patch", "get")
"""What server-side apply asks of a kind, and who looks at it."""


async def problems(
    cluster: Cluster, deployments: Sequence[tuple[Deployment, Manifests]], settings: Settings
) -> list[Problem]:
    """Everything that is wrong, errors and warnings. Raises Silent."""
    found = await _access(cluster, deployments)
    if found:
        # Without the rights to look, nothing else can be told.
        return found
    found += await _versions(cluster, settings)
    if not found:
        found += await _things(cluster, settings)
        found += await _gpus(cluster, deployments, settings)
        for _, made in deployments:
            found += await _dry_run(cluster, made)
    return list(dict.fromkeys(found))


async def _access(cluster: Cluster, deployments: Sequence[tuple[Deployment, Manifests]]) -> list[Problem]:
    """Rights that are missing, in one line."""
    wanted = dict.fromkeys(RIGHTS)
    for _, made in deployments:
        wanted |= dict.fromkeys((*_resource(made.owner), verb) for verb in OF_OWNER)
        others = [*made.stack[1:], *([made.claim] if made.claim is not None else [])]
        wanted |= dict.fromkeys((*_resource(one), verb) for one in others for verb in APPLIED)
    try:
        missing = [right for right in wanted if not await _may(cluster, *right)]
    except Refused as refused:
        key = "system.namespace" if refused.status == 404 else "system.context"
        return [error(CODE, key, _value(cluster, key), str(refused), "log in, or choose another context")]
    if not missing:
        return []
    listed = ", ".join(f"{verb} {resource}" for _, resource, verb in missing)
    reason = f"you may not do what a run needs: {listed}"
    return [error(CODE, "system.namespace", cluster.namespace, reason, "ask for a role with these rights")]


def _resource(one: Object) -> tuple[str, str]:
    """Group of an object, and the name of its kind in rules."""
    return str(one["apiVersion"]).rpartition("/")[0], f"{str(one['kind']).lower()}s"


async def _may(cluster: Cluster, group: str, resource: str, verb: str) -> bool:
    name, _, part = resource.partition("/")
    asked = {"namespace": cluster.namespace, "verb": verb, "group": group, "resource": name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "metadata": {},
        "spec": {"resourceAttributes": {**asked, **({"subresource": part} if part else {})}},
    }
    answer = await cluster.create(review)
    return bool((answer.get("status") or {}).get("allowed"))


async def _versions(cluster: Cluster, settings: Settings) -> list[Problem]:
    """Whether the operator's objects are known, in the version that is asked for."""
    found = await _namespace(cluster)
    own = settings.own
    if found or own.mode != "operator":
        return found
    try:
        crd = await cluster.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", CRD)
    except Refused:
        # Few may look at it. The dry run says it as well, in other words.
        return []
    return list(versions.check(crd, settings))


async def _namespace(cluster: Cluster) -> list[Problem]:
    try:
        space = await cluster.get("v1", "Namespace", cluster.namespace)
    except Refused:
        return []
    if space is None:
        reason = "there is no such namespace in the cluster"
        return [error(CODE, "system.namespace", cluster.namespace, reason, "create it, or name another")]
    if space["metadata"].get("deletionTimestamp"):
        return [error(CODE, "system.namespace", cluster.namespace, "this namespace is being deleted")]
    return []


async def _things(cluster: Cluster, settings: Settings) -> list[Problem]:
    """Secrets and volumes that must be there."""
    own, found = settings.own, list[Problem]()
    secrets = [(f"system.kubernetes.image_pull_secrets.{i}", n) for i, n in enumerate(own.image_pull_secrets)]
    if own.hf_token_from.name is not None:
        secrets.append(("system.kubernetes.hf_token_from.name", own.hf_token_from.name))
    for key, name in secrets:
        secret = await _seen(cluster, "v1", "Secret", name)
        if secret is None:
            reason = f"there is no such Secret in namespace {cluster.namespace}"
            found.append(error(CODE, key, name, reason, "create it, or name another"))
        elif key.endswith("hf_token_from.name") and secret and own.hf_token_from.key not in _keys(secret):
            reason = f"Secret {name} holds {', '.join(sorted(_keys(secret))) or 'nothing'}"
            found.append(error(CODE, "system.kubernetes.hf_token_from.key", own.hf_token_from.key, reason))
    found += await _claims(cluster, settings)
    return found


async def _claims(cluster: Cluster, settings: Settings) -> list[Problem]:
    own, found = settings.own, list[Problem]()
    claims = []
    if own.results.claim is not None and own.results.size_gb is None:
        claims.append(("system.kubernetes.results.claim", own.results.claim))
    if own.model_cache_claim is not None:
        claims.append(("system.kubernetes.model_cache_claim", own.model_cache_claim))
    for key, name in claims:
        if await _seen(cluster, "v1", "PersistentVolumeClaim", name) is None:
            reason = f"there is no such PersistentVolumeClaim in namespace {cluster.namespace}"
            hint = "set system.kubernetes.results.size_gb, and servix makes it" if "results" in key else ""
            found.append(error(CODE, key, name, reason, hint))
    wanted = own.results.storage_class
    asked = own.results.size_gb is not None and wanted is not None
    if asked and await _seen(cluster, "storage.k8s.io/v1", "StorageClass", str(wanted)) is None:
        reason = "the cluster has no such storage class"
        found.append(error(CODE, "system.kubernetes.results.storage_class", wanted, reason))
    return found


async def _seen(cluster: Cluster, version: str, kind: str, name: str) -> Object | None:
    """The object; null where there is none, empty where we may not look."""
    try:
        return await cluster.get(version, kind, name)
    except Denied as denied:
        if denied.status == 401:
            raise
        return {}


def _keys(secret: Mapping[str, Any]) -> set[str]:
    return {*(secret.get("data") or {}), *(secret.get("stringData") or {})}


async def _gpus(
    cluster: Cluster, deployments: Sequence[tuple[Deployment, Manifests]], settings: Settings
) -> list[Problem]:
    """GPUs that the cluster does not have at all, and a quota that does not suffice. What others hold comes back."""
    resource, found = settings.own.gpu_resource, list[Problem]()
    pod_gpus = max((_most_per_pod(made, resource) for _, made in deployments), default=0)
    # Simulated GPUs are asked of nobody.
    total = max((d.gpus for d, _ in deployments if d.gpu != VIRTUAL), default=0)
    try:
        nodes = await cluster.find("v1", "Node")
    except Refused:
        nodes = []
    have = [_number(((node.get("status") or {}).get("allocatable") or {}).get(resource)) for node in nodes]
    if nodes and sum(have) < total:
        reason = f"the deployment needs {total} of {resource}, the cluster has {sum(have)}"
        found.append(
            error(
                CODE, "system.kubernetes.gpu_resource", resource, reason, "ask for fewer or smaller workers"
            )
        )
    elif nodes and max(have) < pod_gpus:
        reason = f"a pod needs {pod_gpus} of {resource}, the largest node has {max(have)}"
        hint = "use smaller workers, or workers that span nodes"
        found.append(error(CODE, "system.kubernetes.gpu_resource", resource, reason, hint))
    found += await _quota(cluster, resource, total)
    return found


async def _quota(cluster: Cluster, resource: str, total: int) -> list[Problem]:
    try:
        quotas = await cluster.find("v1", "ResourceQuota")
    except Refused:
        return []
    found = []
    for quota in quotas:
        hard = ((quota.get("spec") or {}).get("hard") or {}).get(f"requests.{resource}")
        if hard is not None and _number(hard) < total:
            name = quota["metadata"]["name"]
            reason = f"quota {name} allows {_number(hard)} of {resource}, the deployment needs {total}"
            found.append(error(CODE, "system.namespace", cluster.namespace, reason, "ask for a larger quota"))
    return found


async def _dry_run(cluster: Cluster, made: Manifests) -> list[Problem]:
    """What the API server says against the very objects, without storing any."""
    found = []
    for one in (*([made.claim] if made.claim is not None else []), *made.stack, *made.benchmark):
        try:
            if one is made.claim and await cluster.get("v1", one["kind"], one["metadata"]["name"]):
                # It stays as it was made.
                continue
            if one["kind"] == "Job":
                await cluster.create(
                    {**one, "metadata": {**one["metadata"], "name": f"{made.name}-check"}}, True
                )
            else:
                await cluster.apply(one, dry_run=True)
        except Refused as refused:
            name = f"{one['kind']} {one['metadata']['name']}"
            found.append(error(CODE, "system.kubernetes", name, f"the API server refuses it: {refused.said}"))
    return found


def _most_per_pod(made: Manifests, resource: str) -> int:
    return max((_number(value) for one in made.stack for value in _asked(one, resource)), default=0)


def _asked(data: Any, resource: str) -> Iterator[Any]:
    """Every quantity of a resource that limits in the object ask for."""
    if isinstance(data, Mapping):
        limits = data.get("limits")
        if isinstance(limits, Mapping):
            yield from (limits[key] for key in (resource, "gpu") if key in limits)
        yield from _in(data.values(), resource)
    elif isinstance(data, list):
        yield from _in(data, resource)


def _in(values: Iterable[Any], resource: str) -> Iterator[Any]:
    for value in values:
        yield from _asked(value, resource)


def _number(quantity: Any) -> int:
    try:
        return int(str(quantity))
    except ValueError:
        return 0


def _value(cluster: Cluster, key: str) -> str | None:
    return cluster.namespace if key == "system.namespace" else None
