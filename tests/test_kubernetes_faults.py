"""What goes wrong in a cluster, at each stage of a run: one line that says so, nothing left behind, nothing lost.

A stage is a request: the command is interrupted, or the cluster fails, when that request has come and before it is
answered. tests/test_kubernetes.py has what is wrong from the start.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commanding import Command, Start, verdicts
from fakes.kubernetes import Cluster, kinds, opened
from fakes.kubernetes.running import is_possible
from test_kubernetes import CLAIM, Run

pytestmark = pytest.mark.skipif(not is_possible(), reason="needs root or user namespaces")

ONE = "aiperf.concurrency=1"
GRAPHS, JOBS = "dynamographdeployments", "jobs"
WRITES = {"create", "patch", "update", "delete", "deletecollection"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with opened(tmp_path / "cluster") as made:
        monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig))
        yield made


@pytest.fixture
def run(tmp_path: Path, cluster: Cluster, start: Start) -> Run:
    return Run(tmp_path, cluster, start)


def is_clean(cluster: Cluster) -> bool:
    """Whether all is gone but the volume, which may not be there yet."""
    return cluster.wait_until(lambda: cluster.left() in ([], CLAIM), 15)


def told(err: str, words: str) -> list[str]:
    """The lines that say this."""
    return [line for line in err.splitlines() if words in line]


def ends_well(run: Run, command: Command, number: int = 1) -> str:
    """What it said; every point is valid, and nothing is left."""
    code, out, err = command.ended()
    assert (code, verdicts(command)) == (0, ["valid"] * number), out + err
    assert is_clean(run.cluster), (run.cluster.left(), err)
    return err


def test_a_plan_asks_no_cluster(run: Run) -> None:
    code, _, err = run.begin("action=plan").ended()
    assert code == 0, err
    assert run.cluster.asked == []


# At each request

STAGES = {
    "permissions are asked": ("create", "selfsubjectaccessreviews", 3),
    "GPUs are counted": ("list", "nodes", 0),
    "dry run": ("patch", GRAPHS, 0),
    "volume": ("patch", "persistentvolumeclaims", 1),
    "deployment": ("patch", GRAPHS, 1),
    "what belongs to it": ("patch", "services", 1),
    "work of the Job": ("create", "configmaps", 0),
    "Job": ("create", JOBS, 1),
    "log": ("get", "pods/log", 0),
    "deletion": ("delete", GRAPHS, 0),
    "what is left is looked for": ("list", "configmaps", 0),
}
"""Stage -> verb, resource, how many such requests come before."""


@pytest.mark.parametrize(("verb", "plural", "after"), STAGES.values(), ids=list(STAGES))
def test_interrupted_at_any_request_nothing_is_left(verb: str, plural: str, after: int, run: Run) -> None:
    command: list[Command] = []

    def interrupt() -> None:
        command[0].process.send_signal(signal.SIGINT)
        time.sleep(0.2)

    run.cluster.when(verb, plural, interrupt, after)
    command.append(run.begin(ONE))
    code, _, err = command[0].ended()
    assert run.cluster.server.faults.hooks == [], "the stage did not come"
    assert code == 130, err
    assert "Traceback" not in err
    assert is_clean(run.cluster), (run.cluster.left(), err)


KILLED = ["deployment", "Job", "log", "deletion"]


@pytest.mark.parametrize("stage", KILLED)
def test_killed_at_any_request_the_same_command_goes_on(stage: str, run: Run) -> None:
    verb, plural, after = STAGES[stage]
    command: list[Command] = []
    run.cluster.when(verb, plural, lambda: os.kill(command[0].process.pid, signal.SIGKILL), after)
    command.append(run.begin(ONE))
    assert command[0].ended()[0] == -signal.SIGKILL
    again = run.begin(ONE)
    ends_well(run, again)
    assert len(again.attempts()) <= 2


FAILURES = {"unavailable": 503, "too many requests": 429, "time-out": 504}


@pytest.mark.parametrize("code", FAILURES.values(), ids=list(FAILURES))
def test_a_server_that_refuses_every_kind_of_request_once_costs_nothing(code: int, run: Run) -> None:
    for verb, plural, _ in STAGES.values():
        run.cluster.answer(verb, plural, code)
    for verb, plural in (
        ("get", GRAPHS),
        ("get", JOBS),
        ("list", "pods"),
        ("watch", "pods"),
        ("watch", JOBS),
    ):
        run.cluster.answer(verb, plural, code)
    ends_well(run, run.begin(ONE))
    assert run.cluster.server.faults.answers == []


def test_connections_that_break_at_every_write_cost_nothing(run: Run) -> None:
    """The answer is lost, the request is done: what was made must be found, not refused as being there."""
    cut = run.cluster.server.cut_answer
    for verb, plural, after in STAGES.values():
        if verb in WRITES:
            run.cluster.when(verb, plural, cut, after)
    err = ends_well(run, run.begin(ONE))
    assert "Traceback" not in err


def test_watches_that_never_last_cost_nothing(run: Run) -> None:
    over = threading.Event()

    def disturb() -> None:
        while not over.wait(0.3):
            run.cluster.expire_watches()
            over.wait(0.3)
            run.cluster.cut_watches()

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    try:
        ends_well(run, run.begin(), 2)
    finally:
        over.set()
        thread.join(5)


def test_an_api_server_that_is_away_for_half_a_minute(run: Run) -> None:
    run.hold("load-1")
    command = run.begin(ONE)
    run.held()
    run.cluster.gone(30)
    time.sleep(1)
    run.let_go()
    err = ends_well(run, command)
    assert len(told(err, "the API server does not answer")) == 1
    assert command.attempts()[0][1:] == (1, "valid")


def test_an_interruption_whose_deletion_is_refused_says_what_stays(run: Run) -> None:
    run.hold("load-1")
    command = run.begin(ONE)
    run.held()
    verb, plural, after = STAGES["deletion"]
    run.cluster.when(verb, plural, run.cluster.expire_token, after)
    command.process.send_signal(signal.SIGINT)
    code, _, err = command.ended()
    assert code == 130, err
    assert told(err, "what is in the cluster stays: the same command goes on"), err
    assert "Traceback" not in err
    assert "never retrieved" not in err
    run.cluster.renew_token()
    run.let_go()
    ends_well(run, run.begin(ONE))


EXPIRES = {stage: STAGES[stage] for stage in ("deployment", "Job", "deletion")}


@pytest.mark.parametrize(("verb", "plural", "after"), EXPIRES.values(), ids=list(EXPIRES))
def test_a_token_that_expires_at_any_request_loses_nothing(
    verb: str, plural: str, after: int, run: Run
) -> None:
    run.cluster.when(verb, plural, run.cluster.expire_token, after)
    # The request that was let in is still answered.
    code, _, err = run.begin(ONE).ended()
    assert code != 0
    assert "Traceback" not in err
    assert told(err, "the credentials have expired"), err
    run.cluster.renew_token()
    ends_well(run, run.begin(ONE))


@pytest.mark.parametrize("stage", ["what belongs to it", "Job", "log"])
def test_a_namespace_that_goes_at_any_request_is_told(stage: str, run: Run) -> None:
    verb, plural, after = STAGES[stage]
    run.cluster.when(verb, plural, run.cluster.delete_namespace, after)
    code, _, err = run.begin(ONE).ended()
    assert code in (1, 3), err
    assert told(err, "namespace bench was deleted under us"), err
    assert "Traceback" not in err
    assert run.cluster.wait_until(lambda: run.cluster.left() == [])


# In the middle of a measurement


def disturbed(run: Run, disturb: Callable[[], object], *more: str) -> Command:
    """A command whose first point is under way when this happens, and goes on then."""
    run.hold("load-1")
    command = run.begin(*more)
    run.held()
    disturb()
    time.sleep(0.5)
    run.let_go()
    return command


def test_the_operator_fails_and_recovers(run: Run) -> None:
    verb, plural, after = STAGES["deployment"]
    run.cluster.when(
        verb, plural, lambda: run.cluster.fail_operator("*", "cannot reach the webhook", 3), after
    )
    err = ends_well(run, run.begin(ONE))
    assert len(told(err, "the operator says it failed: cannot reach the webhook")) == 1


def test_the_operator_fails_while_it_is_measured(run: Run) -> None:
    command = disturbed(run, lambda: run.cluster.fail_operator("*", "cannot reach the webhook", 2), ONE)
    ends_well(run, command)
    assert [row[1:] for row in command.attempts()] == [(1, "valid")]


def test_readiness_that_flaps_costs_nothing(run: Run) -> None:
    command = disturbed(run, lambda: run.cluster.flap("decode", 1.0), ONE)
    ends_well(run, command)
    assert [row[1:] for row in command.attempts()] == [(1, "valid")]


def test_gpus_that_others_have_are_waited_for_and_told(run: Run) -> None:
    for node in ("node-0", "node-1"):
        main = {"name": "main", "image": "other", "command": ["sleep", "600"]}
        main |= {"resources": {"limits": {"nvidia.com/gpu": 8}}}
        spec = {"containers": [main], "terminationGracePeriodSeconds": 0}
        run.cluster.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"other-{node}"}, "spec": spec}
        )
    assert run.cluster.wait_until(
        lambda: all(one["spec"].get("nodeName") for one in run.cluster.all(kinds.POD))
    )
    command = run.begin(ONE)
    command.wait_for(lambda event: "Insufficient nvidia.com/gpu" in event.get("what", ""))
    for node in ("node-0", "node-1"):
        run.cluster.objects.delete(kinds.POD, run.cluster.namespace, f"other-{node}", grace_s=0)
    ends_well(run, command)


def test_a_quota_that_refuses_the_pod_of_the_job_is_told(run: Run) -> None:
    run.cluster.when("create", JOBS, lambda: run.cluster.set_quota(pods="3"), 1)
    command = run.begin(ONE)
    command.wait_for(lambda event: "exceeded quota" in str(event))
    run.cluster.objects.delete(kinds.QUOTA, run.cluster.namespace, "limits")
    ends_well(run, command)


def test_a_quota_that_refuses_pods_of_the_deployment_is_told(run: Run) -> None:
    run.cluster.set_quota(pods="2")
    command = run.begin(ONE)
    command.wait_for(lambda event: "not every pod is made" in str(event.get("what")))
    run.cluster.objects.delete(kinds.QUOTA, run.cluster.namespace, "limits")
    err = ends_well(run, command)
    assert len(told(err, "not every pod is made")) == 1, err


def test_a_benchmark_that_runs_out_of_memory_is_told(run: Run) -> None:
    command = disturbed(run, lambda: run.cluster.oom(run.pod("bench")), ONE)
    code, out, err = command.ended()
    assert code == 3, err
    assert told(out + err, "OOMKilled")
    assert is_clean(run.cluster)


def test_a_job_that_takes_longer_than_it_may_is_told(run: Run) -> None:
    def hurry() -> None:
        (job,) = run.cluster.all(kinds.JOB)
        run.cluster.store.put(kinds.JOB, {**job, "spec": {**job["spec"], "activeDeadlineSeconds": 0}})

    code, out, err = disturbed(run, hurry, ONE).ended()
    assert code == 3, err
    assert told(out + err, "took longer than it may (activeDeadlineSeconds)"), out + err
    assert is_clean(run.cluster)


def test_a_worker_that_is_replaced_costs_a_stack(run: Run) -> None:
    def replace() -> None:
        name = run.pod("decode")
        run.cluster.objects.delete(kinds.POD, run.cluster.namespace, name, grace_s=0)

    err = ends_well(run, disturbed(run, replace), 2)
    assert told(err, "in the place of another") or told(err, "ended with"), err


def test_a_frontend_that_runs_out_of_memory_costs_a_stack(run: Run) -> None:
    command = disturbed(run, lambda: run.cluster.oom(run.pod("frontend")))
    err = ends_well(run, command, 2)
    assert told(err, "OOMKilled")


DELETED = {"Job": kinds.JOB, "deployment": kinds.DGD}


@pytest.mark.parametrize("kind", DELETED.values(), ids=list(DELETED))
def test_what_somebody_else_deletes_is_made_again(kind: kinds.Kind, run: Run) -> None:
    def delete() -> None:
        name = run.cluster.all(kind)[-1]["metadata"]["name"]
        run.cluster.objects.delete(kind, run.cluster.namespace, name, "Background")

    err = ends_well(run, disturbed(run, delete), 2)
    # The end of a Job's pod may be seen before that of the Job.
    assert told(err, "was deleted by somebody else") or told(err, "was stopped from outside"), err


def test_a_benchmark_whose_node_is_drained_is_made_again(run: Run) -> None:
    def drain() -> None:
        run.cluster.objects.delete(kinds.POD, run.cluster.namespace, run.pod("bench"), "Background")

    err = ends_well(run, disturbed(run, drain), 2)
    assert told(err, "was stopped from outside"), err


def test_an_image_that_comes_late_is_waited_for(run: Run) -> None:
    run.cluster.fail_pull("engine", "connection refused")
    command = run.begin(ONE)
    command.wait_for(lambda event: "cannot be pulled: connection refused" in event.get("what", ""))
    run.cluster.allow_pull("engine")
    ends_well(run, command)
