"""Commands against a cluster on loopback: what comes home, what is told, and that nothing is left in the cluster."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commanding import FAKE, FIRST, ROOT, RUN, SECOND, VALID, Command, Start
from fakes.kubernetes import Cluster, kinds, opened
from fakes.kubernetes.running import is_possible

pytestmark = pytest.mark.skipif(not is_possible(), reason="needs root or user namespaces")

OURS = (
    "system=kubernetes",
    "system.engine=mocker",
    "model=tiny",
    f"system.image=engine@sha256:{'0' * 64}",
    "system.kubernetes.bench.image=bench:1",
    f"system.kubernetes.bench.servix_dir={ROOT}",
    "system.kubernetes.results.size_gb=1",
)
CLAIM = ["PersistentVolumeClaim/servix-results"]
"""What a run leaves: the volume with raw results."""


class Run:
    """Two points on one deployment in a fake cluster, with a load generator that can be held."""

    def __init__(self, folder: Path, cluster: Cluster, start: Start) -> None:
        self.cluster, self._hold, self._start = cluster, folder / "hold", start
        self._hold.mkdir()

    def begin(self, *more: str, **where: Path) -> Command:
        hold = f"+bench.env.HOLD={self._hold}"
        return self._start(
            *FAKE, *OURS, "aiperf.concurrency=1,2", hold, *self.cluster.overrides, *more, **where
        )

    def hold(self, stage: str) -> None:
        if not self.cluster.shares_files:
            pytest.skip("what runs in a real cluster cannot be held")
        (self._hold / stage).touch()

    def let_go(self) -> None:
        for path in self._hold.iterdir():
            if path.name != "held":
                path.unlink()

    def held(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not (self._hold / "held").exists():
            assert time.monotonic() < deadline, "nothing was held"
            time.sleep(0.02)

    def job(self) -> str:
        """The Job that is not over."""
        jobs = self.cluster.all(kinds.JOB)
        return str(jobs[-1]["metadata"]["name"])

    def pod(self, part: str) -> str:
        return next(
            str(pod["metadata"]["name"])
            for pod in self.cluster.all(kinds.POD)
            if part in pod["metadata"]["name"]
        )


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with opened(tmp_path / "cluster") as made:
        monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig))
        yield made


@pytest.fixture
def run(tmp_path: Path, cluster: Cluster, start: Start) -> Run:
    return Run(tmp_path, cluster, start)


def is_clean(cluster: Cluster) -> bool:
    return cluster.wait_until(lambda: cluster.left() == CLAIM, 10)


def test_a_sweep_applies_one_deployment_and_leaves_nothing(run: Run) -> None:
    command = run.begin("aiperf.concurrency=1,2,4")
    code, out, err = command.ended()
    assert code == 0, err
    assert [entry["verdict"]["status"] for entry in command.results()] == ["valid"] * 3, out
    assert is_clean(run.cluster)
    result = command.results()[0]
    assert result["ran"]["kubernetes"]["namespace"] == run.cluster.namespace
    assert result["config"]["system"]["name"] == "kubernetes"
    if not run.cluster.shares_files:
        return
    applied = [one for one in run.cluster.asked if one.verb == "patch" and "dynamograph" in str(one)]
    assert len(applied) == 2, "a dry run, and the deployment once"
    # Raw results are on the volume.
    volume = run.cluster.claim_folder("servix-results")
    assert len(list(volume.glob("*/store/*/*/attempts/1/artifacts"))) == 3
    again = run.begin("aiperf.concurrency=1,2,4")
    assert again.ended()[0] == 0
    assert len([one for one in run.cluster.asked if one.verb == "patch" and "dynamograph" in str(one)]) == 2


TROUBLE: list[tuple[str, Callable[[Cluster], None], tuple[str, ...], int, str]] = [
    ("image", lambda c: c.fail_pull("engine"), (), 3, "image engine@sha256:"),
    (
        "image of the Job",
        lambda c: c.fail_pull("bench:1"),
        (),
        3,
        "image bench:1 cannot be pulled: not found",
    ),
    (
        "no GPU in the cluster",
        lambda c: (c.set_gpus("node-0", 0), c.set_gpus("node-1", 1)),
        (),
        2,
        "the deployment needs 2 of nvidia.com/gpu, the cluster has 1",
    ),
    ("operator fails", lambda c: c.ready_after(60), ("launch.ready_timeout_s=2",), 3, "not ready within"),
    ("no operator", lambda c: c.set_crd_versions(), (), 2, "Dynamo's operator is not there"),
    ("old operator", lambda c: c.set_crd_versions("v1alpha1"), (), 2, "api_version=v1alpha1"),
    ("no such namespace", lambda _: None, ("system.namespace=nowhere",), 2, "there is no such namespace"),
    (
        "no rights",
        lambda c: c.forbid("create", "jobs"),
        (),
        2,
        "you may not do what a run needs: create jobs",
    ),
    (
        "no rights to what belongs to it",
        lambda c: (c.forbid("patch", "services"), c.forbid("create", "persistentvolumeclaims")),
        (),
        2,
        "you may not do what a run needs: patch services, create persistentvolumeclaims",
    ),
    (
        "no rights without the operator",
        lambda c: c.forbid("create", "deployments"),
        ("system.kubernetes.mode=plain", "dynamo.discovery=etcd"),
        2,
        "you may not do what a run needs: create deployments",
    ),
    ("token", lambda c: c.expire_token(), (), 2, "the credentials have expired or are not valid"),
    (
        "quota",
        lambda c: c.set_quota(**{"requests.nvidia.com/gpu": "1"}),
        (),
        2,
        "quota limits allows 1 of nvidia.com/gpu, the deployment needs 2",
    ),
    (
        "no such claim",
        lambda _: None,
        ("system.kubernetes.results={claim: mine, size_gb: null}",),
        2,
        "there is no such PersistentVolumeClaim in namespace bench",
    ),
    (
        "no such secret",
        lambda _: None,
        ("system.kubernetes.hf_token_from.name=hf",),
        2,
        "there is no such Secret in namespace bench",
    ),
    (
        "several contexts",
        lambda c: c.write_kubeconfig(contexts={"a": "bench", "b": "other"}),
        (),
        2,
        "the kubeconfig holds 2 contexts (a, b)",
    ),
    (
        "no namespace",
        lambda c: c.write_kubeconfig(contexts={"a": ""}),
        (),
        2,
        "system.namespace = null: is not said, and neither there",
    ),
]


@pytest.mark.parametrize(
    ("fault", "more", "code", "told"), [row[1:] for row in TROUBLE], ids=[row[0] for row in TROUBLE]
)
def test_trouble_is_told_in_one_line_and_leaves_nothing(
    fault: Callable[[Cluster], None], more: tuple[str, ...], code: int, told: str, run: Run
) -> None:
    fault(run.cluster)
    ended, out, err = run.begin(*more).ended()
    assert told in out + err
    assert (ended, "Traceback" in err) == (code, False), err
    run.cluster.renew_token()
    assert run.cluster.wait_until(lambda: run.cluster.left() in ([], CLAIM), 10), run.cluster.left()


def test_a_worker_that_runs_out_of_memory_costs_a_stack_and_no_point(run: Run) -> None:
    run.hold("load-1")
    command = run.begin()
    run.held()
    run.cluster.oom(run.pod("decode"))
    run.let_go()
    code, _, err = command.ended()
    assert "ran out of memory and was killed (OOMKilled)" in err
    assert "restarting the deployment (1 of at most 3 restarts)" in err
    assert (code, [one["verdict"]["status"] for one in command.results()]) == (0, ["valid"] * 2), err
    assert is_clean(run.cluster)


def test_a_job_that_is_evicted_is_made_again(run: Run) -> None:
    run.hold("load-2")
    command = run.begin()
    run.held()
    run.cluster.evict_job(run.job())
    run.let_go()
    code, _, err = command.ended()
    assert "was evicted (Evicted)" in err
    assert code == 0, err
    assert [one["verdict"]["status"] for one in command.results()] == ["valid"] * 2
    assert is_clean(run.cluster)


def test_an_api_server_that_is_away_and_watches_that_end(run: Run) -> None:
    run.hold("load-1")
    command = run.begin()
    run.held()
    run.cluster.expire_watches()
    run.cluster.cut_watches()
    run.cluster.gone(4)
    time.sleep(2)
    run.let_go()
    code, _, err = command.ended()
    assert code == 0, err
    assert "the API server does not answer" in err
    assert command.attempts() == VALID
    assert is_clean(run.cluster)


def test_a_token_that_expires_ends_the_command_and_no_work(run: Run) -> None:
    run.hold("load-1")
    command = run.begin()
    run.held()
    run.cluster.expire_token()
    code, _, err = command.ended()
    assert (code, err.count("the credentials have expired")) == (1, 1), err
    assert "the same command goes on" in err
    run.cluster.renew_token()
    status = run.begin("action=status", "format=json")
    assert json.loads(status.ended()[1])["summary"]["running"] == 2
    again = run.begin()
    again.wait_for(lambda event: "is followed" in event.get("what", ""))
    run.let_go()
    code, _, err = again.ended()
    assert code == 0, err
    assert again.attempts() == VALID
    assert is_clean(run.cluster)


def test_a_namespace_that_is_deleted(run: Run) -> None:
    run.hold("load-1")
    command = run.begin()
    run.held()
    run.cluster.delete_namespace()
    code, _, err = command.ended()
    assert code == 3, err
    assert "namespace bench was deleted under us" in err


STAGES: list[tuple[str, Callable[[Run, Command], Any]]] = [
    ("waiting for pods", lambda _, c: c.wait_for(lambda e: "waiting for pods" in e.get("what", ""))),
    ("measuring", lambda r, _: r.held()),
    ("between points", lambda _, c: c.wait_for(lambda e: e["event"] == "measurement")),
]


@pytest.mark.parametrize("stage", [row[1] for row in STAGES], ids=[row[0] for row in STAGES])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_nothing_is_left(number: signal.Signals, stage: Callable[..., Any], run: Run) -> None:
    run.hold("load-2" if stage is STAGES[2][1] else "load-1")
    if stage is STAGES[0][1]:
        run.cluster.ready_after(30)
    command = run.begin()
    stage(run, command)
    command.process.send_signal(number)
    code, _, err = command.ended()
    assert code == 130, err
    assert is_clean(run.cluster), err
    run.let_go()
    run.cluster.ready_after(0.05)
    again = run.begin()
    assert again.ended()[0] == 0
    assert [one["verdict"]["status"] for one in again.results()] == ["valid"] * 2


@pytest.mark.parametrize("meanwhile", [False, True], ids=["still at it", "over meanwhile"])
def test_a_killed_command_is_gone_on_with(meanwhile: bool, run: Run) -> None:
    run.hold("load-2")
    command = run.begin()
    run.held()
    command.process.kill()
    command.ended()
    (job,) = run.cluster.all(kinds.JOB)
    if meanwhile:
        run.let_go()
        run.cluster.wait_until(lambda: "succeeded" in run.cluster.all(kinds.JOB)[0].get("status", {}))
    again = run.begin()
    if not meanwhile:
        again.wait_for(lambda event: "is followed" in event.get("what", ""))
        run.let_go()
    code, _, err = again.ended()
    assert code == 0, err
    assert again.attempts() == VALID
    made = {result["ran"]["kubernetes"]["pod"].rpartition("-")[0] for result in again.results()}
    assert made == {job["metadata"]["name"]}, "nothing was measured twice"
    assert is_clean(run.cluster)


def test_more_points_than_a_killed_command_wanted_are_measured_after_those(run: Run) -> None:
    run.hold("load-2")
    command = run.begin()
    run.held()
    command.process.kill()
    command.ended()
    again = run.begin("aiperf.concurrency=1,2,4")
    again.wait_for(lambda event: "is followed" in event.get("what", ""))
    run.let_go()
    code, _, err = again.ended()
    assert code == 0, err
    assert [(row[1], row[2]) for row in again.attempts()] == [(1, "valid")] * 3
    assert is_clean(run.cluster)


def test_simulated_gpus_are_asked_of_no_cluster(run: Run) -> None:
    for node in ("node-0", "node-1"):
        run.cluster.set_gpus(node, 0)
    code, _, err = run.begin("aiperf.concurrency=1", "system.gpu.kind=virtual").ended()
    assert code == 0, err


def test_what_another_command_runs_elsewhere_is_followed(run: Run, tmp_path: Path) -> None:
    run.hold("load-2")
    first = run.begin()
    run.held()
    second = run.begin(output_dir=tmp_path / "elsewhere")
    second.wait_for(lambda event: "is followed" in event.get("what", ""))
    run.let_go()
    for command in (first, second):
        code, _, err = command.ended()
        assert code == 0, err
        assert command.attempts() == VALID
    assert len({json.dumps([r["started_at"] for r in one.results()]) for one in (first, second)}) == 1
    assert is_clean(run.cluster)


def test_points_with_stacks_of_their_own(run: Run) -> None:
    command = run.begin("isolation=restart")
    code, _, err = command.ended()
    assert code == 0, err
    assert command.attempts() == VALID
    assert err.count("is applied") == 2
    assert is_clean(run.cluster)
    assert {FIRST, SECOND} == {row[0] for row in command.attempts()}


def raw(folder: Path) -> dict[str, bytes]:
    """Files of an attempt that are not servix's own, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != "result.json"
    }


def test_raw_results_are_fetched_and_a_cut_fetch_is_gone_on_with(run: Run) -> None:
    command = run.begin()
    assert command.ended()[0] == 0
    on_volume = sorted(run.cluster.claim_folder("servix-results").glob("*/store/*/*/attempts/1"))
    (on_volume[0] / "artifacts" / "large.bin").write_bytes(bytes(range(256)) * 8000)
    (on_volume[0] / "artifacts" / "empty").touch()
    here = sorted(command.output_dir.glob("store/*/*/attempts/1"))
    assert [raw(folder) for folder in here] == [{}, {}]
    code, out, err = run.begin("action=fetch").ended()
    assert code == 0, err
    assert out.count(": complete: ") == 2
    assert [raw(folder) for folder in here] == [raw(folder) for folder in on_volume]
    # As a fetch leaves it that was killed; and a part that is not what it should be.
    large = here[0] / "artifacts" / "large.bin"
    large.with_name("large.bin.part").write_bytes(large.read_bytes()[:1_000_000])
    large.unlink()
    code, _, err = run.begin("action=fetch").ended()
    assert (code, raw(here[0])) == (0, raw(on_volume[0])), err
    large.with_name("large.bin.part").write_bytes(b"x" * 1_000_000)
    large.unlink()
    code, _, err = run.begin("action=fetch").ended()
    assert (code, raw(here[0])) == (0, raw(on_volume[0])), err
    assert is_clean(run.cluster)


def test_what_there_is_nothing_of_cannot_be_fetched(run: Run) -> None:
    code, _, err = run.begin("action=fetch").ended()
    assert code == 3
    assert f"{FIRST}: nothing of it was measured on a cluster" in err
    assert run.cluster.asked == []


def test_a_plan_asks_no_cluster_anything(run: Run) -> None:
    code, _, err = run.begin("action=plan").ended()
    assert code == 0, err
    assert run.cluster.asked == []


def test_a_search_is_one_job_and_goes_on_from_what_is_known(run: Run) -> None:
    asked = (
        "search=bisect",
        "aiperf.concurrency=1,2,4",
        "gates=['request_count >= 1']",
        "objective={metric: request_throughput_per_s, direction: maximize}",
    )
    command = run.begin(*asked)
    code, out, err = command.ended()
    assert code == 0, err
    measured = len(command.results())
    assert 1 <= measured <= 3, out
    assert err.count("is applied") == 1
    code, _, err = run.begin(*asked).ended()
    assert (code, len(command.results()), "is applied" in err) == (0, measured, False), err
    assert is_clean(run.cluster)


def test_a_baseline_of_this_machine_is_not_needed_in_the_cluster(run: Run) -> None:
    first = run.begin("aiperf.concurrency=1")
    assert first.ended()[0] == 0
    (path,) = first.output_dir.glob("store/*/*/result.json")
    more = (f"baseline={path}", "gates=['request_count >= -50%']")
    code, _, err = run.begin("aiperf.concurrency=2", *more).ended()
    assert code == 0, err


def test_deployments_run_beside_each_other(run: Run) -> None:
    run.hold("load-1")
    command = run.begin("aiperf.concurrency=1", "decode.workers_per_node=1,2", "launch.parallel=2")
    assert run.cluster.wait_until(lambda: len(run.cluster.all(kinds.DGD)) == 2)
    run.held()
    run.let_go()
    code, _, err = command.ended()
    assert (code, len(command.results())) == (0, 2), err
    assert is_clean(run.cluster)


def test_a_detached_command_collects_and_deletes(run: Run) -> None:
    command = run.begin("launch.detach=true", "format=json")
    code, out, err = command.ended()
    assert (code, json.loads(out)["points"]) == (0, 2), err
    deadline = time.monotonic() + 60
    while len(command.results()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert command.attempts() == VALID
    assert is_clean(run.cluster)


def test_what_a_plan_and_a_run_leave_in_the_store_can_be_removed(run: Run) -> None:
    assert run.begin("action=plan").ended()[0] == 0
    command = run.begin()
    assert command.ended()[0] == 0
    shutil.rmtree(command.output_dir / "sweeps")
    code, out, err = run.begin("action=gc", "gc.valid=true", "yes=true").ended()
    assert code == 0, err
    left = [path for path in command.output_dir.glob("store/*") if path.name != ".locks"]
    assert left == [], out


@pytest.mark.parametrize(("answer", "stays"), [("d", True), ("c", False), ("", False)])
def test_who_sits_at_the_terminal_is_asked(answer: str, stays: bool, run: Run, tmp_path: Path) -> None:
    run.hold("load-1")
    main, side = pty.openpty()
    words = [*RUN, f"output_dir={tmp_path / 'outputs'}", *FAKE, *OURS, "aiperf.concurrency=1"]
    words.append(f"+bench.env.HOLD={tmp_path / 'hold'}")
    process = subprocess.Popen(
        words, cwd=ROOT, stdin=side, stdout=side, stderr=side, start_new_session=True, close_fds=True
    )
    os.close(side)
    screen = bytearray()
    reader = threading.Thread(target=copied, args=(main, screen), daemon=True)
    reader.start()
    run.held()
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 20
    while b"let it go on?" not in screen:
        assert time.monotonic() < deadline, screen[-500:].decode(errors="replace")
        time.sleep(0.05)
    os.write(main, f"{answer}\n".encode())
    assert process.wait(30) == 130, screen[-500:].decode(errors="replace")
    assert bool(run.cluster.all(kinds.DGD)) == stays
    run.let_go()
    again = run.begin("aiperf.concurrency=1")
    code, _, err = again.ended()
    assert code == 0, err
    assert is_clean(run.cluster)
    os.close(main)


def copied(source: int, target: bytearray) -> None:
    """All that comes from a terminal, until nobody writes to it any more."""
    with contextlib.suppress(OSError):
        while data := os.read(source, 4096):
            target += data


SHAPES = [
    ("older operator", ("system.kubernetes.api_version=v1alpha1",)),
    ("no operator", ("system.kubernetes.mode=plain", "dynamo.discovery=etcd")),
    ("aggregated", ("topology=aggregated",)),
    (
        "shared, two phases",
        ("topology=shared", "phases=[{name: a, concurrency: 1}, {name: b, concurrency: 2}]"),
    ),
    ("lmcache", ("lmcache=on",)),
]


@pytest.mark.parametrize("more", [row[1] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_other_shapes_run_as_well(more: tuple[str, ...], run: Run) -> None:
    if "system.kubernetes.mode=plain" in more:
        run.cluster.set_crd_versions()
    command = run.begin("aiperf.concurrency=1", *more)
    code, _, err = command.ended()
    assert code == 0, err
    assert is_clean(run.cluster), run.cluster.left()
