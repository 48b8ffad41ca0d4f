"""The launcher of a plan's system, imported once there is something to start.

Takes a plan; gives what makes it true. Never does: knowing more of a system than its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.compose import Composer
from compiler.errors import error
from compiler.plan import Plan
from launchers.refusal import Unfit

if TYPE_CHECKING:
    from compiler.plan import Deployment
    from compiler.sweep import Group
    from launchers.results.result import Result
    from launchers.run import System
    from launchers.slurm import Slurm
    from launchers.store import Store
    from launchers.turns import Wishes

REALISED_BY = frozenset({"local", "slurm", "kubernetes"})
"""Kinds of systems that plans are made true on."""


def system_of(plan: Plan, composer: Composer) -> System:
    """The launcher of the plan's system. Raises Unfit where there is none yet."""
    kind = kind_of(plan)
    if kind not in REALISED_BY:
        reason = f"plans for a {kind} system compile, launching them is not there yet"
        raise Unfit([error("system", "system.kind", kind, reason, "use action=plan, or system=local")])
    launchers: dict[str, Callable[[], System]] = {
        "slurm": partial(slurm_of, plan, composer),
        "kubernetes": partial(_kubernetes, plan),
    }
    return _Late(launchers.get(kind, _local))


def _local() -> System:
    from launchers import local

    return local


def slurm_of(plan: Plan, composer: Composer) -> Slurm:
    """The launcher of jobs, with the settings of the command."""
    from launchers.slurm import Slurm
    from launchers.store import Store

    first = plan.points[0]
    store = Store(Path(str(first.config["output_dir"])))
    return Slurm(composer.launcher(first.overrides), first.config, store)


def _kubernetes(plan: Plan) -> System:
    from launchers.kubernetes.launcher import Kubernetes

    return Kubernetes(plan.points[0].config)


@dataclass(frozen=True, slots=True)
class _Late:
    """A launcher that is imported once there is something to start."""

    launcher: Callable[[], System]

    def check(self, groups: Sequence[Group]) -> None:
        self.launcher().check(groups)

    def realise(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
    ) -> Mapping[str, Result]:
        return self.launcher().realise(groups, store, write_files, wishes)

    def detach(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
        form: str,
    ) -> int:
        return self.launcher().detach(groups, store, write_files, wishes, form)


def kind_of(plan: Plan) -> str:
    """Kind of the system that the plan is for."""
    return str((plan.points[0].config.get("system") or {}).get("kind"))
