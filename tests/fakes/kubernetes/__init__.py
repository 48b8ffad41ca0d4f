"""A Kubernetes cluster on loopback, for tests: see `cluster`."""

import os
from pathlib import Path

from . import kinds
from .cluster import NAMESPACE, Cluster
from .real import VARIABLE, Real

__all__ = ["NAMESPACE", "Cluster", "Real", "kinds", "opened"]


def opened(root: Path) -> Cluster:
    """The cluster of a test: a fake one, or a namespace of the real one that the environment names."""
    given = os.environ.get(VARIABLE)
    return Real(Path(given), root) if given else Cluster(root)  # type: ignore[return-value]
