"""What a key of the configuration is about, where that is not what is measured. Every place that asks reads this table.

Takes a key, as it is typed in an override or stands in a configuration; gives what it is about.
Never does: knowing values; deciding what follows for a command (the callers do).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

About = Literal["invocation", "choice", "goal", "judging", "realising"]
"""What a key in no digest is about.

`invocation`: what the command does with points, and where. `choice`: which points it has, and how many of them.
`goal`: what the points are compared by. `judging`: what is said of one point before or after it is measured.
`realising`: how a point is made true: times, places and names that no number depends on.
"""

KUBERNETES = (
    *("mode", "api_version", "runtime_version", "gpu_resource", "bench", "results"),
    *("model_cache_claim", "hf_token_from"),
    *("image_pull_secrets", "image_pull_policy", "service_account", "priority_class"),
    *("node_selector", "tolerations", "annotations", "labels"),
)
"""Below `system.kubernetes`: how pods come about. What is not here changes what runs in them."""

ABOUT: Mapping[str, About] = {
    "action": "invocation",
    "format": "invocation",
    "output_dir": "invocation",
    "yes": "invocation",
    "gc": "invocation",
    "between": "invocation",
    "force": "invocation",
    "launch.detach": "invocation",
    "launch.parallel": "invocation",
    "launch.single_allocation": "invocation",
    "launch.prefetch": "invocation",
    "hydra": "invocation",
    "on_invalid": "choice",
    "zip": "choice",
    "sample": "choice",
    "max_points": "choice",
    "max_gpu_hours": "choice",
    "search": "choice",
    "budget": "choice",
    "objective": "goal",
    "strict": "judging",
    "gates": "judging",
    "baseline": "judging",
    "constraints": "judging",
    "system.max_nodes": "judging",
    "system.gpu.memory_gb": "judging",
    "launch": "realising",
    "between_phases.timeout_s": "realising",
    "bench.timeout_s": "realising",
    "accuracy.timeout_s": "realising",
    "accuracy.name": "realising",
    "system.name": "realising",
    "system.hf_home": "realising",
    "system.container": "realising",
    "system.containers": "realising",
    "system.gpu_log": "realising",
    "system.context": "realising",
    "system.namespace": "realising",
    **{f"system.kubernetes.{key}": "realising" for key in KUBERNETES},
    "system.image_dir": "realising",
}
"""Key, with all that is below it -> what it is about. Of keys in each other, the longer one counts."""


# Every row of a table of results asks again.
@lru_cache(maxsize=4_096)
def about(key: str) -> About | None:
    """What a key is about; null for one that a digest may depend on.

    >>> about("launch.parallel"), about("launch.estimate.start_s"), about("hydra/launcher"), about("trial")
    ('invocation', 'realising', 'invocation', None)
    """
    parts = key.replace("/", ".").split(".")
    paths = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((ABOUT[path] for path in paths if path in ABOUT), None)


def in_digest(key: str) -> bool:
    """False for a key that no digest depends on: points that differ in it are one."""
    return about(key) is None


def of_command(key: str) -> bool:
    """True for a key that says what to do with points, or which there are: none of them has it for itself."""
    return about(key) in ("invocation", "choice")


def one_for_all(key: str) -> bool:
    """True for a key in which the points of one command cannot differ."""
    return of_command(key) or about(key) == "goal"
