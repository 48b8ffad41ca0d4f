"""A Kubernetes cluster on loopback, for tests: see `cluster`."""

from . import kinds
from .cluster import NAMESPACE, Cluster

__all__ = ["NAMESPACE", "Cluster", "kinds"]
