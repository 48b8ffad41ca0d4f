"""The pod of a benchmark Job: the stack it measures is served elsewhere in the cluster, behind one address.

Takes the host name of the frontend's service; gives commands that run in this pod.
Never does: starting, restarting or ending a process of a deployment. The operator runs those, and the command that
made the Job replaces them.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compiler.plan import Deployment, Reset
from launchers.child import Command
from launchers.host import Host
from launchers.refusal import Trouble

NODE, POD = "NODE_NAME", "POD_NAME"
"""Environment variables that name this pod and its node."""
OF_THE_POD = (POD, "POD_NAMESPACE", "POD_UID", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
"""What Dynamo asks of its environment where processes find each other through the cluster."""


class Spent(Trouble):
    """The stack is not fit for what comes next, and only who deployed it can start another."""

    def __init__(self) -> None:
        super().__init__("the next point needs a fresh deployment")


@dataclass(frozen=True, slots=True)
class Pod(Host):
    """`addresses` are the frontend's, whatever the node."""

    given: Mapping[str, str] = field(default_factory=dict)
    """Late-bound words of which the work says what they stand for."""

    def names(self, results_dir: Path) -> dict[str, str]:
        """Late-bound word -> value; folders are those of this pod."""
        own = Host.names(self, results_dir)
        return {**own, **self.given, "servix_dir": own["servix_dir"], "results_dir": own["results_dir"]}

    @property
    def is_here(self) -> bool:
        """Never: what is served cannot be looked at from here."""
        return False

    @property
    def ran(self) -> Mapping[str, Any]:
        """What a result says of the machine."""
        pod = os.environ.get(POD) or socket.gethostname()
        return {"hosts": [os.environ.get(NODE) or pod], "kubernetes": {"pod": pod}}

    def commands(self, deployment: Deployment, results_dir: Path) -> list[Command]:  # noqa: ARG002
        """None."""
        return []

    def reset(self, reset: Reset, results_dir: Path, number: int) -> Command:
        """The command that empties the caches, which finds the workers from this pod, where it can."""
        made = Host.reset(self, reset, results_dir, number)
        known = {name: os.environ[name] for name in OF_THE_POD if name in os.environ}
        return replace(made, env={**made.env, **known})

    def gpu_logs(self, deployment: Deployment, results_dir: Path) -> list[Command]:  # noqa: ARG002
        """None: the GPUs are those of other pods."""
        return []


class OneStart:
    """Gives the deployment that is there, once: what is restarted is another one. Raises Spent after that."""

    def __init__(self, deployment: Deployment, names: Mapping[str, str]) -> None:
        addresses = (names["frontend_node"],) * deployment.num_nodes
        self._host = Pod(addresses, deployment.storage_cache_dir, given=dict(names))
        self._taken = False

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Host]:
        if self._taken:
            raise Spent
        self._taken = True
        yield self._host
