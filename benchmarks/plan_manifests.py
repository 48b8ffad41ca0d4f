"""Planning 1,000 points for a Kubernetes cluster, their manifests written: CPU time per point."""

from __future__ import annotations

from figure import Figure, Line
from measure import interleaved, median
from plan_many import TIMEOUT_S, planned

CLUSTER = [
    "system=kubernetes",
    "system.kubernetes.bench.image=registry.example/servix-bench:1",
    "system.kubernetes.results.claim=results",
]


def measure(repeat: int) -> list[Line]:
    """CPU per point with manifests, and without: the same points for a cluster of Slurm, whose scripts are written."""
    written, plain = interleaved(
        repeat,
        lambda: planned(1_000, TIMEOUT_S, CLUSTER),
        lambda: planned(1_000, TIMEOUT_S, ["system=slurm"]),
    )
    cpu, other = median([one.cpu_s for one in written]), median([one.cpu_s for one in plain])
    return [
        Line("plan 1,000 points and write manifests, CPU per point", cpu / 1_000, "ms", limit=0.006),
        Line("the same against Slurm's scripts", cpu, "s", other, "system=slurm", "ratio"),
    ]


FIGURE = Figure("plan_manifests", "plan 1,000 points for Kubernetes", 3, measure)
