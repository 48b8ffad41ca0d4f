"""`python -m tests.fakes.kubernetes FOLDER`: a fake cluster until Ctrl-C, for kubectl and for trying things out."""

import signal
import sys
from pathlib import Path

from .cluster import Cluster

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Cluster(Path(sys.argv[1]), tls=True) as cluster:
        print(f"export KUBECONFIG={cluster.kubeconfig}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopping", flush=True)
