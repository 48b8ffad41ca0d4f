"""A Kubernetes cluster on loopback, for tests: see `cluster`."""

from .cluster import NAMESPACE, Cluster

__all__ = ["NAMESPACE", "Cluster"]
