"""Plan text as a pod understands it: late-bound names filled, `$` protected from Kubernetes' own expansion.

A plan speaks of nodes, a pod only knows itself. So the node of a process is the pod's own address, which Kubernetes
fills in, and the frontend's node is the name of a Service. Another node has no name here (`rules.kubernetes`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler import late
from compiler.manifests.names import head_of
from compiler.manifests.settings import Settings
from compiler.plan import Deployment

RUN_DIR = "/servix/run"
"""`{results_dir}` in pods of a deployment: a volume that goes with the pod."""
POD_IP = "AA_POD_IP"
"""Variable with a pod's own address. The operator sorts variables by name, and only earlier ones can be referred to."""
OWN_ADDRESS = f"$({POD_IP})"
OF_THE_HEAD = ("ETCD_ENDPOINTS", "NATS_SERVER")
"""Variables that name the frontend's node by its index, also in a process on that node."""
_EXPANDED = re.compile(r"\$(?=[$(]|\Z)")
"""What Kubernetes would read in a literal: it takes `$(NAME)` for a variable, and `$$` for one `$`."""


@dataclass(frozen=True, slots=True)
class Names:
    """Late-bound word -> what stands for it in a pod of the deployment."""

    values: Mapping[str, str]

    def of_node(self, node: int, is_head: bool) -> Names:
        """The same for a process on that node; `is_head`: where the word means the frontend."""
        return self if is_head else Names({**self.values, f"node:{node}": OWN_ADDRESS})

    def bind(self, text: str) -> str:
        """Text for `args` and `env`. Raises ValueError for a node without a name."""
        return "".join(
            self._value(piece) if bound else _EXPANDED.sub("$$", piece) for piece, bound in late.pieces(text)
        )

    def plain(self, text: str) -> str:
        """Text for a file or a path, where Kubernetes expands nothing."""
        return "".join(self._value(piece) if bound else piece for piece, bound in late.pieces(text))

    def tree(self, value: Any) -> Any:
        """The same for the texts in plain data; keys are no plan text."""
        if isinstance(value, str):
            return self.plain(value)
        if isinstance(value, Mapping):
            return {str(key): self.tree(item) for key, item in value.items()}
        return [self.tree(item) for item in value] if isinstance(value, Sequence) else value

    def _value(self, word: str) -> str:
        if word not in self.values:
            raise ValueError(f"a pod has no name for {{{word}}}")
        return self.values[word]


def names_of(deployment: Deployment, settings: Settings) -> Names:
    """What late-bound words stand for where no node is a process's own."""
    head = head_of(deployment)
    return Names(
        {
            "frontend_node": head,
            "frontend_ip": head,
            "node:0": head,
            "results_dir": RUN_DIR,
            "storage_cache_dir": deployment.storage_cache_dir or f"{RUN_DIR}/cache",
            "servix_dir": settings.own.bench.servix_dir,
        }
    )
