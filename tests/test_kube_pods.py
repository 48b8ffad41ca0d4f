"""The fake cluster's operator, scheduler and kubelet: deployments, pods and Jobs."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.kubernetes import Cluster, kinds, opened
from fakes.processes import alive, wait_until
from lightkube.resources.batch_v1 import Job
from lightkube.types import CascadeType

from tests.kube_asking import (
    GRAPHS,
    JOBS,
    MAPS,
    PODS,
    apply,
    ask,
    becomes,
    client,
    component,
    config_map,
    containers,
    graph,
    job,
    job_ends,
    pod_of,
    pod_spec,
    runs,
    state,
)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as made:
        yield made


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
