"""What a plan makes is taken by a cluster, in strict mode, and its pods find a place: every kind of deployment."""

from pathlib import Path
from typing import Any

import clusters
import pytest
from fakes.kubernetes import Cluster, kinds
from fakes.kubernetes.conditions import holds
from fakes.kubernetes.objects import How

NODES = ("alpha", "beta", "gamma", "delta", "epsilon")


def prepared(root: Path) -> Cluster:
    """Nodes with GPUs, and what site data refers to."""
    cluster = Cluster(root, {})
    for name in NODES:
        cluster.add_node(name, 8, {"nvidia.com/gpu.product": "NVIDIA-H100"})
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": "models"}
    cluster.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim})
    token = {"HF_TOKEN": "x"}
    cluster.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hf-token"}, "stringData": token}
    )
    return cluster


def is_served(cluster: Cluster) -> bool:
    graphs, deployments = cluster.all(kinds.DGD), cluster.all(kinds.DEPLOYMENT)
    states = [one.get("status", {}).get("state") == "successful" for one in graphs]
    states += [holds(one, "Available") for one in deployments]
    return bool(states) and all(states)


def reasons(cluster: Cluster) -> list[Any]:
    return [one["message"] for one in cluster.all(kinds.EVENT)]


@pytest.mark.parametrize("name", clusters.CASES)
def test_what_a_plan_makes_is_taken_and_finds_a_place(name: str, tmp_path: Path) -> None:
    made = clusters.objects(*clusters.CASES[name])
    wanted = [*([made.claim] if made.claim else []), *made.stack, *made.benchmark]
    with prepared(tmp_path) as cluster:
        for one in wanted:
            kind, version = kinds.of_object(one), one["apiVersion"].rpartition("/")[2]
            how = How("servix", True, validation="Strict", version=version)
            cluster.objects.create(kind, cluster.namespace, one, how)
        for one in [*([made.claim] if made.claim else []), *made.stack]:
            version = one["apiVersion"].rpartition("/")[2]
            name_of = one["metadata"]["name"]
            how = How("servix", version=version)
            cluster.objects.apply(kinds.of_object(one), cluster.namespace, name_of, one, how)
        assert cluster.wait_until(lambda: is_served(cluster)), reasons(cluster)
