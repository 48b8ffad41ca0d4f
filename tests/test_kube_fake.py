"""The fake cluster's API server answers as a real one was seen to answer, and fails when it is told to.

Asked through lightkube, as the launcher does, and in plain HTTP, where the words on the wire matter.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.kubernetes import Cluster, kinds
from lightkube import ApiError
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import CascadeType

from tests.kube_asking import (
    DGD,
    GRAPHS,
    JOBS,
    MAPS,
    Object,
    apply,
    ask,
    becomes,
    changed,
    client,
    component,
    config_map,
    containers,
    graph,
    job,
    pod_of,
    runs,
)


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
