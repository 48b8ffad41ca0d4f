"""`action=plan` on Slurm: the scripts of jobs, as they would be submitted.

Takes a plan with the state of its points, and the launcher; leaves files in the store and tells where.
Never does: changing the files of a job that is in the queue.
"""

from __future__ import annotations

import sys

from compiler.batch import names
from compiler.plan import Plan
from compiler.prefetch import SCRIPT as PREFETCH
from compiler.search import is_searched
from compiler.sweep import Group
from compiler.sweep import group as grouped
from launchers.slurm import Slurm, write_job
from launchers.store import Store, StoreError
from launchers.store import write_job as write_files


def write_scripts(plan: Plan, store: Store, system: Slurm) -> None:
    """Writes the scripts of jobs as they would be submitted, and tells where."""
    new = [point for point in plan.points if point.status != "done"] or list(plan.points)
    groups = grouped(plan, new)
    system.warn(groups)
    if planned := system.needs.planned(groups):
        print(f"servix: written: {write_files(*planned) / PREFETCH}", file=sys.stderr)
    for task in (task for chain in system.tasks(groups) for task in chain):
        script = names(task.number)[0]
        if job := next((found for group in task.groups if (found := _job(store, group))), None):
            print(f"servix: job {job} is at it, its {script} stays as it is", file=sys.stderr)
            continue
        points = [point for group in task.groups for point in group.points]
        try:
            folder = write_job(system, task, plan.points if is_searched(points) else points, store)
        except StoreError as problem:
            print(f"warning: {problem}", file=sys.stderr)
            return
        print(f"servix: written: {folder / script}", file=sys.stderr)


def _job(store: Store, group: Group) -> str | None:
    """The job that is at a deployment."""
    holder = store.holder(group.deployment)
    return str(holder["job"]) if holder is not None and "job" in holder else None
