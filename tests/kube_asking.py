"""A fake cluster to ask, the objects that are sent to it, and what has become of them."""

import http.client
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from fakes.kubernetes import Cluster, kinds
from fakes.kubernetes.running import is_possible
from fakes.processes import wait_until
from lightkube import Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource

containers = pytest.mark.skipif(not is_possible(), reason="needs root or user namespaces")
Object = dict[str, Any]
DGD = create_namespaced_resource("nvidia.com", "v1beta1", "DynamoGraphDeployment", "dynamographdeployments")
GRAPHS = "/apis/nvidia.com/v1beta1/namespaces/bench/dynamographdeployments"
JOBS, PODS = "/apis/batch/v1/namespaces/bench/jobs", "/api/v1/namespaces/bench/pods"
MAPS, APPLY = "/api/v1/namespaces/bench/configmaps", "application/apply-patch+yaml"


def client(cluster: Cluster, **more: Any) -> Client:
    config = KubeConfig.from_file(str(cluster.kubeconfig))
    return Client(config=config, field_manager="servix", **more)


def ask(
    cluster: Cluster,
    method: str,
    path: str,
    body: Object | None = None,
    kind: str = "application/json",
    **query: str,
) -> tuple[int, Any]:
    """Status code and body of one request."""
    token = next(iter(cluster.access.tokens), "none")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind, "User-Agent": "test/1"}
    connection = http.client.HTTPConnection("127.0.0.1", cluster.server.port, timeout=20)
    target = path + ("?" + urlencode(query) if query else "")
    connection.request(method, target, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text) if "json" in answer.headers["Content-Type"] else text


def apply(cluster: Cluster, path: str, body: Object, **query: str) -> tuple[int, Any]:
    target = f"{path}/{body['metadata']['name']}"
    return ask(cluster, "PATCH", target, body, APPLY, **{"fieldManager": "servix", **query})


def config_map(name: str = "m", owners: list[Object] | None = None, **data: str) -> Object:
    meta = {"name": name, **({"ownerReferences": owners} if owners else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def pod_spec(*words: str, **more: Any) -> Object:
    main = {"name": "main", "image": "python", "command": list(words) or ["true"], **more.pop("main", {})}
    return {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main], **more}


def job(name: str, *words: str, spec: Object | None = None, **more: Any) -> Object:
    own = {"backoffLimit": 0, "template": {"spec": pod_spec(*words, **more)}, **(spec or {})}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": own}


def component(name: str, kind: str, gpus: Any = None, **more: Any) -> Object:
    main: Object = {"name": "main", "image": "runtime:1", "command": ["python3", "-m", f"dynamo.{kind}"]}
    if gpus is not None:
        main["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
    return {
        "name": name,
        "type": kind,
        "replicas": 1,
        "podTemplate": {"spec": {"containers": [main]}},
        **more,
    }


def graph(name: str = "g", *components: Object) -> Object:
    own = list(components) or [component("Frontend", "frontend"), component("decode", "decode", 2)]
    head = {"apiVersion": "nvidia.com/v1beta1", "kind": "DynamoGraphDeployment", "metadata": {"name": name}}
    return {**head, "spec": {"components": own}}


def changed(body: Object, path: str, value: Any) -> Object:
    """A copy with one value of another kind: `spec.components.0.type`."""
    copy = json.loads(json.dumps(body))
    *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    here = copy
    for part in above:
        here = here[part]
    here[last] = value
    return dict(copy)


def state(cluster: Cluster, name: str = "g") -> str:
    return str((cluster.get(kinds.DGD, name) or {}).get("status", {}).get("state"))


def becomes(cluster: Cluster, wanted: str, name: str = "g") -> bool:
    return cluster.wait_until(lambda: state(cluster, name) == wanted)


def job_ends(cluster: Cluster, name: str) -> str:
    """The condition that a Job ends with, and its reason."""

    def ended() -> list[Object]:
        held = (cluster.get(kinds.JOB, name) or {}).get("status", {}).get("conditions", [])
        return [one for one in held if one["type"] in ("Complete", "Failed")]

    assert cluster.wait_until(ended), cluster.get(kinds.JOB, name)
    return f"{ended()[0]['type']} {ended()[0]['reason']}"


def pod_of(cluster: Cluster, name: str) -> Object:
    assert cluster.wait_until(lambda: cluster.pods_of_job(name))
    return cluster.pods_of_job(name)[0]


def runs(cluster: Cluster, name: str, text: str) -> Object:
    """The pod of a Job, once its log says this."""
    pod = pod_of(cluster, name)
    assert wait_until(lambda: text in cluster.pod_log(pod["metadata"]["name"]))
    return pod
