"""Parts of `lower`: texts, processes, workers, the workload."""
