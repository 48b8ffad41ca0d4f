"""Plans on Kubernetes: the operator runs what is served, a Job measures it from inside the cluster."""
