"""The manifests of a plan with real engines: Dynamo's frontend and mocker in pods that have an address each.

Dynamo finds its workers through etcd here, as the fake API server has no resources of Dynamo's own discovery.
"""

import shutil
from pathlib import Path

import pytest
from commanding import FAKE, Start, verdicts
from fakes.kubernetes import Cluster, kinds
from fakes.kubernetes.network import is_possible
from test_kubernetes import CLAIM, OURS

pytestmark = pytest.mark.skipif(
    not is_possible() or not shutil.which("etcd"), reason="needs root, iproute2, nsenter and etcd"
)


def pods(cluster: Cluster) -> list[str]:
    return [pod["metadata"]["name"] for pod in cluster.all(kinds.POD)]


@pytest.mark.parametrize("mode", ["operator", "plain"])
@pytest.mark.parametrize("topology", ["separate", "aggregated"])
def test_real_engines_are_found_and_measured(
    mode: str, topology: str, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.run_engines()
        printed: list[str] = []
        cluster.when("get", "pods/log", lambda: printed.extend(map(cluster.pod_log, pods(cluster))))
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        more = (f"system.kubernetes.mode={mode}", f"topology={topology}", "dynamo.discovery=etcd")
        command = start(*FAKE, *OURS, *more, "aiperf.concurrency=1")
        code, out, err = command.ended(200)
        assert (code, verdicts(command)) == (0, ["valid"]), out + err
        assert cluster.wait_until(lambda: cluster.left() == CLAIM)
        assert len(printed) > 1
        assert "simulated" not in "".join(printed)
