"""The fake cluster answers as a real API server was seen to answer, and fails when it is told to.

Asked through lightkube, as the launcher does, and in plain HTTP, where the words on the wire matter.
"""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from fakes.kubernetes import Cluster, kinds, opened
from fakes.kubernetes.running import is_possible
from fakes.processes import alive, wait_until
from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import CascadeType

containers = pytest.mark.skipif(not is_possible(), reason="needs root or user namespaces")
Object = dict[str, Any]
DGD = create_namespaced_resource("nvidia.com", "v1beta1", "DynamoGraphDeployment", "dynamographdeployments")
GRAPHS = "/apis/nvidia.com/v1beta1/namespaces/bench/dynamographdeployments"
JOBS, PODS = "/apis/batch/v1/namespaces/bench/jobs", "/api/v1/namespaces/bench/pods"
MAPS, APPLY = "/api/v1/namespaces/bench/configmaps", "application/apply-patch+yaml"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """For what changes nothing that another test looks at."""
    with Cluster(tmp_path_factory.mktemp("shared")) as made:
        made.operator.asleep = True
        yield made


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


# What the API server answers to a write

WORKER = graph("g", component("decode", "decode"))
FIRST = "spec.components.0"
LONG = "x" * 64
REFUSED: dict[str, tuple[str, Object, int, str | None, str]] = {
    "unknown field": (GRAPHS, changed(WORKER, "spec.extra", 1), 500, None, "field not declared in schema"),
    "wrong type": (GRAPHS, changed(WORKER, f"{FIRST}.replicas", "two"), 500, None, "typed patch"),
    "unknown field of a Job": (JOBS, changed(job("j"), "spec.backofLimit", 1), 500, None, "backofLimit"),
    "unquoted y": (
        *(JOBS, job("j", main={"env": [{"name": "A", "value": True}]})),
        *(500, None, "env[0].value"),
    ),
    "enum": (
        *(GRAPHS, changed(WORKER, f"{FIRST}.type", "decoder")),
        *(422, "Invalid", 'Unsupported value: "decoder"'),
    ),
    "minimum": (
        *(GRAPHS, changed(WORKER, f"{FIRST}.multinode", {"nodeCount": 1})),
        *(422, "Invalid", "greater than or equal to 2"),
    ),
    "required": (GRAPHS, changed(WORKER, FIRST, {"type": "decode"}), 422, "Invalid", "Required value"),
    "twice the same name": (
        *(GRAPHS, graph("g", component("A", "decode"), component("a", "prefill"))),
        *(422, "Invalid", "unique, case-insensitively"),
    ),
    "bad name": (MAPS, config_map("Bad_Name"), 422, "Invalid", "RFC 1123"),
    "bad label": (
        MAPS,
        changed(config_map(), "metadata.labels", {"a": LONG}),
        422,
        "Invalid",
        "63 characters",
    ),
    "large ConfigMap": (MAPS, config_map(a="x" * (1024 * 1024 + 1)), 422, "Invalid", "Too long"),
    "restart policy": (JOBS, job("j", restartPolicy="Always"), 422, "Invalid", "restartPolicy"),
    "no such volume": (
        *(JOBS, job("j", main={"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
        *(422, "Invalid", 'Not found: "v"'),
    ),
    "no namespace": (
        *(GRAPHS.replace("bench", "other"), graph()),
        *(404, "NotFound", 'namespaces "other" not found'),
    ),
}


@pytest.mark.parametrize(("path", "body", "code", "reason", "words"), REFUSED.values(), ids=list(REFUSED))
@pytest.mark.parametrize("dry_run", [{}, {"dryRun": "All"}], ids=["stored", "dry"])
def test_what_is_wrong_is_refused_with_the_code_of_a_real_server(
    shared: Cluster,
    dry_run: dict[str, str],
    path: str,
    body: Object,
    code: int,
    reason: str | None,
    words: str,
) -> None:
    answered, status = apply(shared, path, body, **dry_run)
    assert (answered, status["kind"], status.get("reason"), status["code"]) == (code, "Status", reason, code)
    assert words in status["message"]
    assert shared.left() == []


@pytest.mark.parametrize("gpus", [1, "1"])
def test_gpus_are_numbers_or_text(shared: Cluster, gpus: Any) -> None:
    assert apply(shared, GRAPHS, graph("g", component("a", "decode", gpus)), dryRun="All")[0] == 201


def test_a_post_drops_what_it_does_not_know_unless_it_is_strict(cluster: Cluster) -> None:
    body = changed(graph("a"), "spec.extra", 1)
    code, answer = ask(cluster, "POST", GRAPHS, body, fieldValidation="Strict")
    assert (code, answer["reason"]) == (400, "BadRequest")
    assert 'unknown field "spec.extra"' in answer["message"]
    code, answer = ask(cluster, "POST", GRAPHS, body)
    assert (code, "extra" in answer["spec"]) == (201, False)
    assert ask(cluster, "POST", GRAPHS, body)[0] == 409


def test_what_is_not_served_is_not_found(cluster: Cluster) -> None:
    assert ask(cluster, "GET", "/apis/nvidia.com/v1beta1/namespaces/bench/other") == (
        404,
        "404 page not found\n",
    )
    assert ask(cluster, "GET", f"{GRAPHS}/none")[1]["message"] == (
        'dynamographdeployments.nvidia.com "none" not found'
    )
    cluster.set_crd_versions("v1alpha1")
    assert ask(cluster, "GET", GRAPHS)[0] == 404
    assert ask(cluster, "GET", GRAPHS.replace("v1beta1", "v1alpha1"))[0] == 200
    cluster.set_crd_versions()
    assert ask(cluster, "GET", "/apis/nvidia.com/v1alpha1") == (404, "404 page not found\n")


def test_a_dry_run_answers_and_stores_nothing(cluster: Cluster) -> None:
    before = cluster.store.version
    answer = client(cluster).apply(DGD(graph()), dry_run=True)
    assert answer.metadata.uid
    assert (cluster.left(), cluster.store.version) == ([], before)


OFFICIAL = [
    path
    for above in Path(__file__).resolve().parents
    for path in (above / "shared/data/kubernetes/official").rglob("*.yaml")
]


def documents() -> list[Object]:
    found = []
    for path in OFFICIAL:
        found += [
            one
            for one in yaml.safe_load_all(path.read_text())
            if one and one["kind"] == "DynamoGraphDeployment"
        ]
    return [one for one in found if one["apiVersion"].endswith("v1beta1")]


@pytest.mark.skipif(not OFFICIAL, reason="no official manifests beside this checkout")
def test_official_manifests_are_accepted(shared: Cluster) -> None:
    for one in documents():
        one["metadata"]["name"] = "official"
        answers = {apply(shared, GRAPHS, {**one, "metadata": {"name": "official"}}, dryRun="All")[0]}
        assert answers == {201}, one


# Whose field it is


def test_a_field_of_another_manager_is_a_conflict_unless_forced(cluster: Cluster) -> None:
    cluster.operator.asleep = True
    assert apply(cluster, GRAPHS, graph())[0] == 201
    other = graph("g", {**component("decode", "decode"), "replicas": 3})
    code, status = apply(cluster, GRAPHS, other, fieldManager="kubectl")
    assert (code, status["reason"]) == (409, "Conflict")
    assert status["details"]["causes"][0] == {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "servix" using nvidia.com/v1beta1',
        "field": '.spec.components[name="decode"].replicas',
    }
    code, forced = apply(cluster, GRAPHS, other, fieldManager="kubectl", force="true")
    assert (code, [one["replicas"] for one in forced["spec"]["components"]]) == (200, [1, 3])
    assert {one["manager"] for one in forced["metadata"]["managedFields"]} == {"servix", "kubectl"}
    with pytest.raises(ApiError, match="conflict with"):
        client(cluster).apply(DGD(graph()))


def test_what_a_manager_leaves_out_goes_away_if_it_was_its_own_alone(cluster: Cluster) -> None:
    apply(cluster, MAPS, config_map(a="1", b="2"))
    apply(cluster, MAPS, config_map(b="2", c="3"), fieldManager="other")
    _, answer = apply(cluster, MAPS, config_map())
    assert answer["data"] == {"b": "2", "c": "3"}


def test_applying_the_same_again_changes_nothing(cluster: Cluster) -> None:
    first, again = apply(cluster, JOBS, job("j")), apply(cluster, JOBS, job("j"))
    assert [first[0], again[0]] == [201, 200]
    assert first[1]["metadata"]["generation"] == again[1]["metadata"]["generation"] == 1


def test_the_template_of_a_job_cannot_change(cluster: Cluster) -> None:
    apply(cluster, JOBS, job("j"))
    code, status = apply(cluster, JOBS, job("j", "false"))
    assert code == 422
    assert "spec.template" in status["message"]
    assert "field is immutable" in status["message"]


def test_an_old_resource_version_is_a_conflict(cluster: Cluster) -> None:
    _, answer = ask(cluster, "POST", MAPS, config_map(a="1"))
    stale = {
        **config_map(a="2"),
        "metadata": {"name": "m", "resourceVersion": answer["metadata"]["resourceVersion"]},
    }
    assert ask(cluster, "PUT", f"{MAPS}/m", stale)[0] == 200
    code, status = ask(cluster, "PUT", f"{MAPS}/m", stale)
    assert (code, "has been modified" in status["message"]) == (409, True)


def test_generation_counts_changes_of_the_spec(cluster: Cluster) -> None:
    cluster.operator.asleep = True
    apply(cluster, GRAPHS, graph())
    _, labelled = apply(cluster, GRAPHS, changed(graph(), "metadata.labels", {"a": "b"}))
    _, scaled = apply(cluster, GRAPHS, changed(graph(), "spec.components.1.replicas", 2))
    assert [one["metadata"]["generation"] for one in (labelled, scaled)] == [1, 2]


# Going away


def test_a_plain_delete_of_a_job_leaves_its_pods_behind(cluster: Cluster) -> None:
    apply(cluster, JOBS, job("j", "sleep", "60"))
    pod = pod_of(cluster, "j")["metadata"]["name"]
    ask(cluster, "DELETE", f"{JOBS}/j")
    assert cluster.wait_until(lambda: cluster.get(kinds.JOB, "j") is None)
    left = cluster.get(kinds.POD, pod)
    assert left is not None
    assert not left["metadata"].get("ownerReferences")


@pytest.mark.parametrize("cascade", [CascadeType.BACKGROUND, CascadeType.FOREGROUND])
def test_pods_go_with_their_job(cluster: Cluster, cascade: CascadeType) -> None:
    apply(cluster, JOBS, job("j", "sleep", "60"))
    pod_of(cluster, "j")
    client(cluster).delete(Job, "j", cascade=cascade)
    there = cluster.get(kinds.JOB, "j") is not None
    assert there is (cascade is CascadeType.FOREGROUND)
    assert cluster.wait_until(lambda: not cluster.left())


def test_what_a_graph_owns_goes_with_it(cluster: Cluster) -> None:
    api = client(cluster)
    uid = api.apply(DGD(graph())).metadata.uid
    owner = {"apiVersion": "nvidia.com/v1beta1", "kind": "DynamoGraphDeployment", "name": "g", "uid": uid}
    api.apply(ConfigMap.from_dict(config_map(owners=[owner])))
    assert becomes(cluster, "successful")
    api.delete(DGD, "g", cascade=CascadeType.FOREGROUND)
    assert cluster.wait_until(lambda: not cluster.left())


def test_an_owner_that_is_not_there_takes_its_own_along(cluster: Cluster) -> None:
    owner = {"apiVersion": "nvidia.com/v1beta1", "kind": "DynamoGraphDeployment", "name": "g", "uid": "gone"}
    apply(cluster, MAPS, config_map(owners=[owner]))
    assert cluster.wait_until(lambda: not cluster.left())


def test_a_finalizer_holds_an_object_until_it_is_taken_away(cluster: Cluster) -> None:
    apply(cluster, MAPS, changed(config_map(), "metadata.finalizers", ["test/hold"]))
    _, going = ask(cluster, "DELETE", f"{MAPS}/m")
    assert going["metadata"]["deletionTimestamp"]
    patch = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"finalizers": None}}
    assert ask(cluster, "PATCH", f"{MAPS}/m", patch, "application/merge-patch+json")[0] == 200
    assert ask(cluster, "GET", f"{MAPS}/m")[0] == 404


def test_a_deletion_of_another_object_of_that_name_is_refused(cluster: Cluster) -> None:
    apply(cluster, MAPS, config_map())
    code, _ = ask(cluster, "DELETE", f"{MAPS}/m", {"preconditions": {"uid": "other"}})
    assert (code, cluster.left()) == (409, ["ConfigMap/m"])


@containers
def test_a_namespace_takes_everything_along_and_takes_nothing_new(cluster: Cluster) -> None:
    apply(cluster, JOBS, job("j", "sh", "-c", "trap '' TERM; echo up; sleep 60"))
    apply(cluster, GRAPHS, graph())
    runs(cluster, "j", "up")
    cluster.delete_namespace()
    code, status = apply(cluster, MAPS, config_map())
    assert (code, status["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
    assert cluster.wait_until(lambda: cluster.store.get(kinds.NAMESPACE, None, "bench") is None)
    assert cluster.left() == []
    assert apply(cluster, MAPS, config_map())[0] == 404


# Who may


def test_quotas_refuse_objects_and_pods(cluster: Cluster) -> None:
    cluster.set_quota(**{"count/jobs.batch": "1", "requests.nvidia.com/gpu": "1"})
    gpus = {"resources": {"limits": {"nvidia.com/gpu": 2}}}
    assert apply(cluster, JOBS, job("a", main=gpus))[0] == 201
    code, status = apply(cluster, JOBS, job("b"))
    assert (code, status["reason"]) == (403, "Forbidden")
    assert (
        "exceeded quota: limits, requested: count/jobs.batch=1, used: count/jobs.batch=1" in status["message"]
    )
    assert cluster.wait_until(
        lambda: [one for one in cluster.all(kinds.EVENT) if one["reason"] == "FailedCreate"]
    )
    assert cluster.all(kinds.POD) == []


def test_what_is_forbidden_is_refused_and_a_review_says_so(cluster: Cluster) -> None:
    cluster.forbid("create", "jobs")
    code, status = ask(cluster, "POST", JOBS, job("j"))
    assert (code, status["reason"]) == (403, "Forbidden")
    assert 'jobs.batch is forbidden: User "tester" cannot create resource "jobs"' in status["message"]

    def allowed(verb: str) -> bool:
        asked = {"resourceAttributes": {"verb": verb, "resource": "jobs", "group": "batch"}}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": asked}
        return bool(
            ask(cluster, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)[1]["status"][
                "allowed"
            ]
        )

    assert [allowed("create"), allowed("get")] == [False, True]


def test_a_token_expires_and_another_is_in_the_kubeconfig(cluster: Cluster) -> None:
    old = client(cluster)
    cluster.expire_token()
    with pytest.raises(ApiError) as caught:
        old.get(ConfigMap, "m")
    assert (caught.value.status.code, caught.value.status.reason) == (401, "Unauthorized")
    cluster.renew_token()
    assert list(client(cluster).list(Pod)) == []


# Watching


def follow(cluster: Cluster, seconds: int = 20, **more: Any) -> tuple[list[str], threading.Thread]:
    """What a watch of ConfigMaps says, as it comes: `ADDED m`; the exception it ends with, if it does."""
    seen: list[str] = []

    def watch() -> None:
        try:
            for what, obj in client(cluster).watch(ConfigMap, server_timeout=seconds, **more):
                seen.append(f"{what} {obj.metadata.name}")
        except Exception as error:
            seen.append(f"{type(error).__name__}: {error}")

    before = cluster.server.watches
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert wait_until(lambda: cluster.server.watches > before)
    return seen, thread


def test_a_watch_says_what_is_there_and_what_changes(cluster: Cluster) -> None:
    apply(cluster, MAPS, config_map("a", x="1"))
    seen, _ = follow(cluster, fields={"metadata.name": "a"})
    assert wait_until(lambda: seen)
    apply(cluster, MAPS, config_map("b"))
    apply(cluster, MAPS, config_map("a", x="2"))
    ask(cluster, "DELETE", f"{MAPS}/a")
    assert wait_until(lambda: len(seen) == 3)
    assert seen == ["ADDED a", "MODIFIED a", "DELETED a"]


def test_what_comes_to_match_a_selector_is_added_to_its_watch(cluster: Cluster) -> None:
    seen, _ = follow(cluster, labels={"a": "b"})
    apply(cluster, MAPS, config_map("m"))
    apply(cluster, MAPS, changed(config_map("m"), "metadata.labels", {"a": "b"}))
    apply(cluster, MAPS, changed(config_map("m"), "metadata.labels", {"a": "c"}))
    assert wait_until(lambda: len(seen) == 2)
    assert seen == ["ADDED m", "DELETED m"]


def test_a_watch_from_a_version_says_only_what_came_after(cluster: Cluster) -> None:
    apply(cluster, MAPS, config_map("a"))
    version = ask(cluster, "GET", MAPS)[1]["metadata"]["resourceVersion"]
    apply(cluster, MAPS, config_map("b"))
    _, text = ask_text(
        cluster, watch="true", resourceVersion=version, timeoutSeconds="1", allowWatchBookmarks="true"
    )
    events = [json.loads(line) for line in text.splitlines()]
    assert [(one["type"], one["object"]["metadata"].get("name")) for one in events] == [
        ("ADDED", "b"),
        ("BOOKMARK", None),
    ]


def ask_text(cluster: Cluster, **query: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.server.port, timeout=20)
    connection.request("GET", f"{MAPS}?{urlencode(query)}", headers={"Authorization": "Bearer first-token"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_a_watch_from_a_forgotten_version_is_told_410(cluster: Cluster) -> None:
    version = ask(cluster, "GET", MAPS)[1]["metadata"]["resourceVersion"]
    apply(cluster, MAPS, config_map("a"))
    cluster.expire_watches()
    _, text = ask_text(cluster, watch="true", resourceVersion=version)
    event = json.loads(text)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_watches_that_are_open_expire_or_break(cluster: Cluster) -> None:
    seen, expired = follow(cluster)
    cluster.expire_watches()
    expired.join(10)
    assert "too old resource version" in seen[-1]
    seen, broken = follow(cluster)
    cluster.cut_watches()
    broken.join(10)
    assert "RemoteProtocolError" in seen[-1]


def test_the_server_goes_away_and_comes_back(cluster: Cluster) -> None:
    apply(cluster, MAPS, config_map("a"))
    seen, thread = follow(cluster)
    cluster.gone(0.3)
    thread.join(10)
    assert any(word in seen[-1] for word in ("RemoteProtocolError", "ReadError"))
    with pytest.raises(OSError):
        ask(cluster, "GET", MAPS)
    assert wait_until(lambda: cluster.server._http)
    assert ask(cluster, "GET", f"{MAPS}/a")[0] == 200


def test_a_request_fails_as_often_as_it_is_told_to(cluster: Cluster) -> None:
    cluster.answer("get", "configmaps", 503, times=2)
    assert [ask(cluster, "GET", f"{MAPS}/a")[0] for _ in range(3)] == [503, 503, 404]


# Deployments


def test_a_graph_becomes_ready(cluster: Cluster) -> None:
    cluster.ready_after(0.2)
    workers = component("decode", "decode", 4, replicas=2, multinode={"nodeCount": 2})
    apply(cluster, GRAPHS, graph("g", component("Frontend", "frontend"), workers))
    assert becomes(cluster, "pending")
    assert becomes(cluster, "successful")
    found = cluster.get(kinds.DGD, "g") or {}
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    assert found["status"]["components"]["decode"]["readyReplicas"] == 2
    labels = [pod["metadata"]["labels"] for pod in cluster.all(kinds.POD)]
    assert {one["nvidia.com/dynamo-graph-deployment-name"] for one in labels} == {"g"}
    assert sorted(one["nvidia.com/dynamo-component-type"] for one in labels) == ["decode"] * 4 + ["frontend"]
    assert cluster.get(kinds.SERVICE, "g-frontend")


def test_readiness_flaps_and_comes_back(cluster: Cluster) -> None:
    apply(cluster, GRAPHS, graph())
    assert becomes(cluster, "successful")
    cluster.flap("decode")
    assert becomes(cluster, "pending")
    assert becomes(cluster, "successful")


def test_the_operator_fails_and_recovers_without_having_seen_the_generation(cluster: Cluster) -> None:
    cluster.fail_operator("g", "cannot create", 0.5)
    apply(cluster, GRAPHS, graph())
    assert becomes(cluster, "failed")
    found = cluster.get(kinds.DGD, "g") or {}
    assert "observedGeneration" not in found["status"]
    assert becomes(cluster, "successful")


def reasons(cluster: Cluster) -> set[str]:
    """Why pods wait: those of their containers and of their conditions."""
    found = set()
    for pod in cluster.all(kinds.POD):
        for one in pod["status"].get("containerStatuses", []):
            found.add(one["state"].get("waiting", {}).get("reason"))
            found.add(one["lastState"].get("terminated", {}).get("reason"))
        found |= {
            one.get("reason") for one in pod["status"].get("conditions", []) if one["status"] == "False"
        }
    return {one for one in found if one}


TROUBLES: dict[str, tuple[Callable[[Cluster], None], str]] = {
    "image": (lambda cluster: cluster.fail_pull("runtime"), "ImagePullBackOff"),
    "gpus": (
        lambda cluster: [cluster.set_gpus(node, 1) for node in ("node-0", "node-1")] and None,
        "Unschedulable",
    ),
}


@pytest.mark.parametrize(("cause", "reason"), TROUBLES.values(), ids=list(TROUBLES))
def test_a_pod_says_why_it_does_not_start(
    cluster: Cluster, cause: Callable[[Cluster], None], reason: str
) -> None:
    cause(cluster)
    apply(cluster, GRAPHS, graph())
    assert cluster.wait_until(lambda: reason in reasons(cluster))
    assert state(cluster) == "pending"


def test_a_served_pod_that_is_out_of_memory_is_started_again(cluster: Cluster) -> None:
    apply(cluster, GRAPHS, graph())
    assert becomes(cluster, "successful")
    cluster.oom("g-decode-0")
    assert cluster.wait_until(lambda: "OOMKilled" in reasons(cluster))
    assert becomes(cluster, "successful")


@containers
def test_a_missing_secret_keeps_a_container_from_starting(cluster: Cluster) -> None:
    source = {"secretKeyRef": {"name": "token", "key": "HF_TOKEN"}}
    apply(
        cluster,
        JOBS,
        job("j", "sh", "-c", "echo $HF_TOKEN", main={"env": [{"name": "HF_TOKEN", "valueFrom": source}]}),
    )
    assert cluster.wait_until(lambda: "CreateContainerConfigError" in reasons(cluster))
    pod = pod_of(cluster, "j")["metadata"]["name"]
    assert ask(cluster, "GET", f"{PODS}/{pod}/log")[0] == 400
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "token"},
            "stringData": {"HF_TOKEN": "s3"},
        }
    )
    assert job_ends(cluster, "j") == "Complete CompletionsReached"
    assert cluster.pod_log(pod) == "s3\n"


def test_taints_selectors_and_affinities_choose_nodes(tmp_path: Path) -> None:
    with Cluster(tmp_path, {"a": 8, "b": 8}) as cluster:
        cluster.add_node(
            "tainted", 8, {"kind": "h200"}, [{"key": "gpu", "value": "y", "effect": "NoSchedule"}]
        )
        apart = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}
        away = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
        meta = {"labels": {"app": "x"}}
        for name in ("p", "q"):
            apply(
                cluster,
                JOBS,
                job(
                    name,
                    spec={"template": {"metadata": meta, "spec": pod_spec("sleep", "60", affinity=away)}},
                ),
            )
        chosen = {"nodeSelector": {"kind": "h200"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}
        apply(cluster, JOBS, job("r", "sleep", "60", **chosen))
        names = [pod_of(cluster, name)["metadata"]["name"] for name in "pqr"]

        def nodes() -> list[str]:
            return [
                (cluster.get(kinds.POD, name) or {"spec": {}})["spec"].get("nodeName", "") for name in names
            ]

        assert cluster.wait_until(lambda: all(nodes()))
        assert (sorted(nodes()[:2]), nodes()[2]) == (["a", "b"], "tainted")


# Containers


@containers
def test_a_job_runs_its_command_with_the_mounts_and_variables_of_its_pod(cluster: Cluster) -> None:
    apply(cluster, MAPS, config_map("files", **{"job.json": "{}"}))
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    cluster.create(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "r"}, "spec": claim}
    )
    script = "cat /servix/work/job.json; ls -l /servix/work | wc -l; echo $(NAME) $POD; echo done > /results/a;" \
        " echo why > /dev/termination-log; touch /servix/work/x 2>/dev/null || echo read-only; exit 3"  # fmt: skip
    mounts = [{"name": "work", "mountPath": "/servix/work"}, {"name": "results", "mountPath": "/results"}]
    variables = [
        {"name": "NAME", "value": "n"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]
    volumes = [
        {"name": "work", "configMap": {"name": "files"}},
        {"name": "results", "persistentVolumeClaim": {"claimName": "r"}},
    ]
    apply(
        cluster,
        JOBS,
        job("j", "sh", "-c", script, main={"volumeMounts": mounts, "env": variables}, volumes=volumes),
    )
    assert job_ends(cluster, "j") == "Failed BackoffLimitExceeded"
    pod = pod_of(cluster, "j")
    assert list(client(cluster).log(pod["metadata"]["name"], newlines=False)) == [
        "{}2",
        "n bench",
        "read-only",
    ]
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "why\n")
    assert (cluster.claim_folder("r") / "a").read_text() == "done\n"
    assert not Path("/servix").exists()


@containers
def test_a_log_is_followed_limited_and_dated(cluster: Cluster) -> None:
    apply(cluster, JOBS, job("j", "sh", "-c", "echo one; sleep 0.3; echo two; sleep 0.3; echo three"))
    pod = runs(cluster, "j", "one")["metadata"]["name"]
    assert list(client(cluster).log(pod, follow=True, newlines=False)) == ["one", "two", "three"]
    path = f"{PODS}/{pod}/log"
    assert ask(cluster, "GET", path, limitBytes="5")[1] == "one\nt"
    assert ask(cluster, "GET", path, tailLines="1")[1] == "three\n"
    dated = ask(cluster, "GET", path, timestamps="true")[1].splitlines()
    times = [line.split()[0] for line in dated]
    assert ask(cluster, "GET", path, sinceTime=times[1])[1].endswith("two\nthree\n")
    assert ask(cluster, "GET", path, sinceTime="2999-01-01T00:00:00Z")[1] == ""


@containers
def test_a_job_meets_the_frontend_of_a_deployment_by_its_name(cluster: Cluster) -> None:
    apply(cluster, GRAPHS, graph())
    assert becomes(cluster, "successful")
    code = "import urllib.request as u; print(u.urlopen('http://g-frontend:8000/health').read().decode())"
    apply(cluster, JOBS, job("j", sys.executable, "-c", code))
    assert job_ends(cluster, "j") == "Complete CompletionsReached"
    said = json.loads(cluster.pod_log(pod_of(cluster, "j")["metadata"]["name"]))
    assert said["instances"] == [{"component": "backend", "endpoint": "generate"}]


ENDINGS: dict[str, tuple[Callable[[Cluster, str], None], str, str, int]] = {
    "memory": (lambda cluster, pod: cluster.oom(pod), "Failed BackoffLimitExceeded", "OOMKilled", 137),
    "evicted": (lambda cluster, pod: cluster.evict(pod), "Failed BackoffLimitExceeded", "Error", 137),
}


@pytest.mark.parametrize(("end", "job_says", "reason", "code"), ENDINGS.values(), ids=list(ENDINGS))
@containers
def test_a_job_ends_when_its_pod_is_taken(
    cluster: Cluster, end: Callable[[Cluster, str], None], job_says: str, reason: str, code: int
) -> None:
    apply(cluster, JOBS, job("j", "sh", "-c", "echo up; sleep 60"))
    pod = runs(cluster, "j", "up")["metadata"]["name"]
    end(cluster, pod)
    assert job_ends(cluster, "j") == job_says
    found = cluster.get(kinds.POD, pod) or {}
    ended = found["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (found["status"]["phase"], ended["reason"], ended["exitCode"]) == ("Failed", reason, code)
    assert found["status"].get("reason") == ("Evicted" if end is ENDINGS["evicted"][0] else None)


@containers
def test_a_job_has_a_deadline(cluster: Cluster) -> None:
    apply(cluster, JOBS, job("j", "sleep", "60", spec={"activeDeadlineSeconds": 1}))
    assert job_ends(cluster, "j") == "Failed DeadlineExceeded"
    assert cluster.wait_until(lambda: not cluster.all(kinds.POD))


@containers
def test_a_job_is_tried_again_as_often_as_it_says(cluster: Cluster) -> None:
    apply(cluster, JOBS, job("j", "false", spec={"backoffLimit": 1}))
    assert job_ends(cluster, "j") == "Failed BackoffLimitExceeded"
    assert len(cluster.pods_of_job("j")) == 2


@containers
def test_a_pod_that_is_deleted_gets_term_and_then_kill(cluster: Cluster) -> None:
    script = "trap 'echo term > /out/a; exit 0' TERM; echo up; while true; do sleep 0.05; done"
    volumes = [{"name": "out", "persistentVolumeClaim": {"claimName": "r"}}]
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    cluster.create(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "r"}, "spec": claim}
    )
    mounts = {"volumeMounts": [{"name": "out", "mountPath": "/out"}]}
    apply(cluster, JOBS, job("polite", "sh", "-c", script, main=mounts, volumes=volumes))
    apply(cluster, JOBS, job("deaf", "sh", "-c", "trap '' TERM; echo up; sleep 60"))
    for name in ("polite", "deaf"):
        runs(cluster, name, "up")
        client(cluster).delete(Job, name, cascade=CascadeType.FOREGROUND)
    assert cluster.wait_until(lambda: not cluster.all(kinds.POD))
    assert (cluster.claim_folder("r") / "a").read_text() == "term\n"


@containers
def test_nothing_outlives_the_cluster(tmp_path: Path) -> None:
    marker = f"marker-{time.monotonic_ns()}"
    with Cluster(tmp_path) as cluster:
        script = f"echo up; (sleep 61; echo {marker}) & sleep 60; echo {marker}"
        apply(cluster, JOBS, job("j", "sh", "-c", script))
        runs(cluster, "j", "up")
        assert alive(marker)
    assert wait_until(lambda: not alive(marker))


# As a real one


def test_a_real_cluster_takes_the_place_of_the_fake_one(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVIX_TEST_KUBECONFIG", str(cluster.kubeconfig))
    with opened(tmp_path / "real") as real:
        assert real.namespace.startswith("servix-test-")
        real.create(job("j", "sleep", "60"))
        assert real.wait_until(lambda: real.pods_of_job("j"))
        assert sorted(one.partition("/")[0] for one in real.left()) == ["Job", "Pod"]
        with pytest.raises(pytest.skip.Exception):
            real.expire_token()
    assert cluster.wait_until(lambda: cluster.store.get(kinds.NAMESPACE, None, real.namespace) is None)
    assert cluster.left() == []
