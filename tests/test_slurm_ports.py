"""A Slurm whose nodes are one machine, for where network namespaces are forbidden."""

from __future__ import annotations

from collections.abc import Callable

from commanding import FAKE, Command
from slurm_cluster import NEEDED

pytestmark = NEEDED
CLUSTER = {"NET": "ports", "ACCT": "none"}


def test_deployments_of_one_node_are_measured_one_after_the_other(start: Callable[..., Command]) -> None:
    command = start(*FAKE, "system=mini", "topology=aggregated,shared")
    code, _, err = command.ended(150)
    assert code == 0, err
    assert [result["verdict"]["status"] for result in command.results()] == ["valid"] * 2
    starts, stops = command.events("deployment_start"), command.events("deployment_stop")
    assert starts[1]["monotonic_s"] > stops[0]["monotonic_s"]


def test_nodes_that_would_share_their_ports_are_told_of(start: Callable[..., Command]) -> None:
    code, _, err = start(*FAKE, "system=mini", "topology=separate").ended()
    assert code == 2, err
    assert "num_nodes = 2: nodes of this cluster are one machine" in err
    assert "nothing was started" in err
