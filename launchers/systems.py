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
from compiler.plan import Plan

if TYPE_CHECKING:
    from compiler.plan import Deployment
    from compiler.sweep import Group
    from launchers.results.result import Result
    from launchers.run import System
    from launchers.slurm import Slurm
    from launchers.store import Store
    from launchers.turns import Wishes


def system_of(plan: Plan, composer: Composer) -> System:
    """The launcher of the plan's system."""
    launchers: dict[str, Callable[[], System]] = {
        "local": _local,
        "slurm": partial(slurm_of, plan, composer),
        "kubernetes": partial(_kubernetes, plan),
    }
    return _Late(launchers[kind_of(plan)])


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
