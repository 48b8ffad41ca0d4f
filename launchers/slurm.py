"""Makes plans true on a Slurm cluster: one job per deployment, submitted through submitit, many at the same time.

Takes groups and the store, which all nodes share; leaves a result for every point in it.
Never does: starting a process of a deployment. What a job runs does that (`job`), on nodes of its own.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compiler.allocation import allocation
from compiler.allocation import problems as wrong
from compiler.batch import SCRIPT, Place, batch, options
from compiler.errors import Problem, error
from compiler.plan import Deployment, Plan, Point
from compiler.search import is_searched
from compiler.sweep import Group, split
from compiler.sweep import group as grouped
from launchers import leave
from launchers.display import Display
from launchers.host import SERVIX_DIR, Host
from launchers.jobs import Jobs, Refused, submit
from launchers.listening import listening
from launchers.preflight import not_there
from launchers.queue import asked
from launchers.refusal import Unfit
from launchers.results.result import Result
from launchers.store import Busy, Store, StoreError
from launchers.turns import Wishes

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "srun")


class Slurm:
    """The cluster, with the settings of `hydra.launcher` (`run.System`)."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.asked = allocation(settings)

    def check(self, groups: Sequence[Group]) -> None:
        """Raises Unfit when the cluster would refuse a job, or what the jobs need is not there."""
        found = [*wrong(self.asked), *_missing()] or self._not_there(groups)
        if found := found or self._refused(groups):
            raise Unfit(list(dict.fromkeys(found)))

    def files(self, deployment: Deployment, points: Sequence[Point], store: Store) -> dict[str, str]:
        """What is written for the job of a deployment, beside the deployment's own files.

        `points` may hold what is done already, which is what a search goes on from, and points of other deployments.
        """
        return batch(deployment, points, self.asked, _place(deployment, store))

    def realise(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
    ) -> Mapping[str, Result]:
        """Has the points measured in jobs; gives what was measured, by digest.

        Raises Unfit before anything is submitted, KeyboardInterrupt when told to stop: jobs go on then, unless who
        sits at the terminal has them cancelled.
        """
        with listening() as stop:
            self.check(groups)
            display = Display(sys.stderr, several=len(groups) > 1)
            how = self._submitter(store, write_files, wishes)
            jobs = Jobs(store, wishes, display, how, self.asked.array_parallelism)
            try:
                with display:
                    stop.run(jobs.take(self._parts(groups)))
            except KeyboardInterrupt:
                leave.leave_jobs(jobs.alive, _cancel, asks=stop.number == signal.SIGINT)
                raise
        return jobs.results

    def _parts(self, groups: Sequence[Group]) -> list[Group]:
        """The groups, those in parts that would take longer than a job may. What a search needs is not known before."""
        limit_s = 60.0 * self.asked.timeout_min
        return [
            part
            for group in groups
            for part in ([group] if is_searched(group.points) else split(group, limit_s)[0])
        ]

    def detach(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
        form: str,
    ) -> int:
        """Submits a job for each group and tells how to come back to them; gives the exit code."""
        found: list[tuple[str, Group]] = []
        failed = False
        for group in groups:
            holder = store.holder(group.deployment)
            if holder is not None:
                who = f"job {holder['job']}" if "job" in holder else f"process {holder.get('pid', '?')}"
                print(f"servix: {group.deployment.name}: {who} is at it", file=sys.stderr)
                continue
            # More than may run at the same time wait for those before them.
            most = self.asked.array_parallelism
            before = found[-most][0] if len(found) >= most else None
            try:
                note = submit(store, group, self._submitter(store, write_files, wishes, before))
            except (Busy, Refused) as problem:
                failed = True
                print(f"error: {group.deployment.name}: {problem}", file=sys.stderr)
                continue
            found.append((note.job, group))
        _tell_detached(found, form)
        return 1 if failed else 0

    def _submitter(
        self,
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
        after: str | None = None,
    ) -> Callable[[Group], str]:
        def submit_one(group: Group) -> str:
            write_files(group.deployment)
            # A search goes on from what is known of all its points.
            points = wishes.points if wishes.points and is_searched(group.points) else group.points
            files = self.files(group.deployment, points, store)
            folder = store.write_deployment(group.deployment, files)
            return _submitted(folder / "jobs", files[SCRIPT], after)

        return submit_one

    def _not_there(self, groups: Sequence[Group]) -> list[Problem]:
        """What the login node, which has the same installation as the others, does not have."""
        if self.asked.setup:
            # Lines of shell may bring it.
            return []
        found = []
        for group in groups:
            workloads = [point.workload for point in group.points if point.workload]
            if not any(process.image for process in group.deployment.processes):
                host = Host(("localhost",) * group.deployment.num_nodes)
                found += not_there(group.deployment, workloads, host)
        return found

    def _refused(self, groups: Sequence[Group]) -> list[Problem]:
        """What sbatch says against jobs of these shapes, before the first is submitted."""
        nowhere = Place("/", "/", "python", "/")
        shapes = {tuple(options(one.deployment, self.asked, nowhere))[1:]: one.deployment for one in groups}
        found = []
        for words, deployment in shapes.items():
            script = "".join(["#!/bin/sh\n", *(f"#SBATCH --{word}\n" for word in words), "true\n"])
            code, _, said = asked(["sbatch", "--test-only"], script)
            if code != 0:
                lines = [line.removeprefix("sbatch: error: ") for line in said.splitlines()]
                what = f"{deployment.num_nodes} nodes with {deployment.gpus_per_node} GPUs each"
                reason = f"sbatch refuses a job of {what}: {'; '.join(filter(None, lines))}"
                found.append(error("slurm", "hydra.launcher", self.asked.partition, reason))
        return found


def write_scripts(plan: Plan, store: Store, settings: Mapping[str, Any]) -> None:
    """Writes the script of each deployment's job, as it would be submitted, and tells where."""
    system = Slurm(settings)
    for each in grouped(plan, plan.points):
        try:
            folder = store.write_deployment(
                each.deployment, system.files(each.deployment, each.points, store)
            )
        except StoreError as problem:
            print(f"warning: {problem}", file=sys.stderr)
            return
        print(f"servix: written: {folder / SCRIPT}", file=sys.stderr)


def _missing() -> list[Problem]:
    import shutil

    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if not missing:
        return []
    reason = f"not installed: {', '.join(missing)}"
    return [
        error(
            "slurm",
            "system.kind",
            "slurm",
            reason,
            "run servix where jobs are submitted, or use system=local",
        )
    ]


def _place(deployment: Deployment, store: Store) -> Place:
    folder = store.deployment_dir(deployment).resolve()
    return Place(str(folder), str(SERVIX_DIR), sys.executable, str(Path.cwd()))


def _submitted(folder: Path, script: str, after: str | None) -> str:
    """The id of a new job that runs `script`. Raises Refused."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    class Script(SlurmExecutor):
        """Submits our own text: what can be read in the store is what runs."""

        def _make_submission_file_text(self, command: str, uid: str) -> str:  # noqa: ARG002
            return script

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            waits = [] if after is None else [f"--dependency=afterany:{after}"]
            return ["sbatch", *waits, str(submission_file_path)]

    folder.mkdir(parents=True, exist_ok=True)
    try:
        return str(Script(folder)._submit_command("").job_id)
    except (FailedJobError, FailedSubmissionError) as problem:
        raise Refused(str(problem).removeprefix("sbatch: error: ").strip()) from problem


def _cancel(jobs: Sequence[str]) -> None:
    asked(["scancel", *jobs])


def _tell_detached(found: Sequence[tuple[str, Group]], form: str) -> None:
    points = sum(len(group.points) for _, group in found)
    if form == "json":
        entries = [
            {"job": job, "deployment": group.deployment.digest, "points": len(group.points)}
            for job, group in found
        ]
        print(json.dumps({"schema": "servix.detached/1", "points": points, "jobs": entries}))
        return
    for job, group in found:
        plural = "s" if len(group.points) != 1 else ""
        print(f"servix: job {job} measures {len(group.points)} point{plural} on {group.deployment.name}")
    print("servix: the same command attaches to them, action=status shows where they are, scancel stops them")
