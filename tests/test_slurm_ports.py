"""A Slurm whose nodes are one machine, for where network namespaces are forbidden."""

from __future__ import annotations

from collections.abc import Callable

from commanding import Command
from slurm_cluster import DAEMONS_NEEDED

pytestmark = DAEMONS_NEEDED
CLUSTER = {"NET": "ports", "ACCT": "none"}


def test_nodes_that_would_share_their_ports_are_told_of(start: Callable[..., Command]) -> None:
    code, _, err = start("system=mini", "topology=separate").ended()
    assert code == 2, err
    assert "num_nodes = 2: nodes of this cluster are one machine" in err
    assert "nothing was started" in err
