"""Makes plans true on a Slurm cluster: one job per deployment, submitted through submitit, many at the same time.

With `launch.single_allocation` it is one job for all deployments.

Takes groups and the store, which all nodes share; leaves a result for every point in it.
Never does: starting a process of a deployment. What a job runs does that (`job`), on nodes of its own.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from compiler import limit
from compiler.allocation import allocation
from compiler.allocation import problems as wrong
from compiler.batch import SAME_FOR_ALL, Place, Size, batch, names, nodes_of, options
from compiler.errors import NOTHING, Problem, error
from compiler.estimate import estimate, time_words
from compiler.plan import Deployment, Point
from compiler.search import is_searched, most_measured
from compiler.sweep import Group, split
from launchers import containers, leave, sbatch
from launchers.display import Display
from launchers.host import Host
from launchers.jobs import Jobs
from launchers.listening import listening
from launchers.needs import Needs
from launchers.preflight import not_there
from launchers.queue import longest_min, shared_machine
from launchers.refusal import Unfit, warn
from launchers.results.result import Result
from launchers.sbatch import Later, Refused
from launchers.store import Busy, Store
from launchers.submission import Sent, Task, submit
from launchers.turns import Wishes


class Slurm:
    """The cluster, with the settings of `hydra.launcher` and of `launch` (`run.System`)."""

    def __init__(self, settings: Mapping[str, Any], config: Mapping[str, Any], store: Store) -> None:
        """`config`: that of any point."""
        launch = config["launch"]
        self._wrong = list(wrong(settings))
        self.asked = allocation({} if self._wrong else settings)
        self._root = store.root
        self.together = launch["single_allocation"] is True
        self.needs = Needs(launch["prefetch"], config["system"]["image_dir"], self.asked, store)

    @cached_property
    def longest_min(self) -> int | None:
        """Minutes that a job may take; null where that is not known, or not needed."""
        return longest_min(self.asked.partition) if self.asked.timeout_min is None else None

    def check(self, groups: Sequence[Group]) -> None:
        """Raises Unfit when the cluster would refuse a job, or what the jobs need is not there."""
        found = [*self._wrong, *sbatch.not_installed(), *sbatch.misread(self._root)]
        found = found or [*self._not_there(groups), *self._on_one_machine(groups)]
        try:
            found = found or self._refused(groups) or self.needs.problems(groups)
        except Later as later:
            hint = "the same command goes on when it does"
            found = [error("slurm", "system.kind", "slurm", f"Slurm does not answer: {later}", hint)]
        if found:
            raise Unfit(list(dict.fromkeys(found)))

    def files(self, task: Task, points: Sequence[Point], store: Store) -> dict[str, str]:
        """What is written for a job into its folder, beside the deployment's own files.

        `points` may hold what is done already, which is what a search goes on from, and points of other deployments.
        """
        deployments, size = _deployments(task), Size(self._minutes(task, points), task.number)
        home, images = sbatch.place(store.job_dir(deployments)), self.needs.images(deployments)
        return batch(deployments, points, self.asked, home, size, images)

    def tasks(self, groups: Sequence[Group]) -> list[list[Task]]:
        """The jobs of a command: those of a list come one after the other, for the same deployments."""
        if self.together:
            return [[Task(tuple(groups))]]
        return [[Task((part,), index + 1) for index, part in enumerate(self._split(one))] for one in groups]

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
            self.warn(groups)
            self.needs.fetch(groups)
            display = Display(sys.stderr, several=len(groups) > 1)
            how = _Sender(self, store, write_files, wishes)
            silence_s = 60 * self.asked.silence_min
            jobs = Jobs(store, wishes, display, how, self.at_once, self.together, silence_s)
            parts = [part for chain in self.tasks(groups) for task in chain for part in task.groups]
            try:
                with display:
                    stop.run(jobs.take(parts))
            except KeyboardInterrupt:
                alive = [*jobs.alive, *self.needs.alive]
                leave.leave_jobs(alive, sbatch.cancel, asks=stop.number == signal.SIGINT)
                raise
        _tell_left(jobs.left)
        return jobs.results

    def warn(self, groups: Sequence[Group]) -> None:
        """Tells what one job will not come to, and what GPUs will wait for."""
        self.needs.warn(groups)
        for task, *more in self.tasks(groups):
            points = [point for group in task.groups for point in group.points]
            seconds, limit_s = _seconds(task, points), 60 * self._minutes(task, points)
            if self.together and not more and seconds > limit_s:
                took = f"one allocation for everything takes about {time_words(seconds)}"
                warn(
                    [f"{took}, and ends after {time_words(limit_s)}; the same command does what is left over"]
                )

    def _split(self, group: Group) -> list[Group]:
        """The group, in parts where it would take longer than a job may. What a search needs is not known before."""
        if is_searched(group.points):
            return [group]
        around_s = limit.around_loads_s([group.deployment])
        return split(group, limit.most_seconds(self.asked, around_s, self.longest_min))[0]

    def _minutes(self, task: Task, points: Sequence[Point]) -> int:
        """The time limit of a job."""
        around_s = limit.around_loads_s(_deployments(task), points, most_measured(points))
        return limit.minutes(self.asked, _seconds(task, points), around_s, self.longest_min)

    def detach(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],
        wishes: Wishes,
        form: str,
    ) -> int:
        """Submits the jobs and tells how to come back to them; gives the exit code."""
        self.warn(groups)
        with listening():
            self.needs.fetch(groups)
        free = [group for group in groups if _is_free(store, group)]
        found: list[tuple[str, Task]] = []
        lanes: list[str] = []
        failed = False
        for number, chain in enumerate(self.tasks(free) if free else []):
            # More than may run at the same time wait for those before them.
            lane = number % self.at_once
            how = _Sender(self, store, write_files, wishes, chained=True)
            how.after = lanes[lane] if lane < len(lanes) else None
            try:
                jobs = submit(store, chain, how)
            except (Busy, Refused) as problem:
                failed = True
                print(f"error: {_names(chain[0])}: {problem}", file=sys.stderr)
                continue
            lanes[lane : lane + 1] = jobs[-1:]
            found += zip(jobs, chain, strict=False)
            if len(jobs) < len(chain):
                failed = True
                print(
                    f"error: {_names(chain[0])}: sbatch took {len(jobs)} of {len(chain)} jobs",
                    file=sys.stderr,
                )
        _tell_detached(found, form)
        return 1 if failed else 0

    @cached_property
    def machine(self) -> str | None:
        """The host name that nodes of this cluster share, as on one for tests; null where each is a machine."""
        return shared_machine()

    @property
    def at_once(self) -> int:
        """Jobs of one command at the same time."""
        # They would use the same ports.
        return 1 if self.machine is not None else self.asked.array_parallelism

    def _on_one_machine(self, groups: Sequence[Group]) -> list[Problem]:
        """Plans for several nodes where nodes are one machine: their processes would use the same ports."""
        nodes = max((group.deployment.num_nodes for group in groups), default=0)
        if nodes < 2 or self.machine is None:
            return []
        reason = f"nodes of this cluster are one machine ({self.machine}), where {nodes} nodes would use the same ports"
        return [error("slurm", "num_nodes", nodes, reason, "ask for one node")]

    def _not_there(self, groups: Sequence[Group]) -> list[Problem]:
        """What the login node, which has the same installation as the others, does not have."""
        if self.asked.setup:
            # Lines of shell may bring it.
            return []
        found = []
        for group in groups:
            workloads = [point.workload for point in group.points if point.workload]
            images = {process.image for process in group.deployment.processes if process.image}
            found += [
                error("image", "system.image", image, "there is no such file")
                for image in images
                if image.startswith("/") and not Path(image).exists()
            ]
            host = Host(("localhost",) * group.deployment.num_nodes)
            if images and group.deployment.container is not None:
                found += containers.not_there(group.deployment.container, host.environment()["PATH"])
            if not images:
                # What looks at GPUs is on the nodes that have some.
                own = [one for one in group.deployment.processes if not one.sees_all_gpus]
                found += not_there(replace(group.deployment, processes=tuple(own)), workloads, host)
        # What is going to be downloaded is not there yet.
        return [one for one in found if one.code != "model" or self.needs.how == "none"]

    def _refused(self, groups: Sequence[Group]) -> list[Problem]:
        """What sbatch says against jobs of these shapes, before the first is submitted."""
        nowhere = Place("/", "/", "python", "/")
        shapes = {}
        for task in (task for chain in self.tasks(groups) for task in chain):
            deployments, points = _deployments(task), [point for one in task.groups for point in one.points]
            size = Size(self._minutes(task, points))
            shapes[tuple(options(deployments, self.asked, nowhere, size))[1:]] = deployments
        found = []
        for words, deployments in shapes.items():
            said = sbatch.refusal(words)
            if said is not None:
                told = f"sbatch refuses a job of {_shape(deployments, words)}: {said}"
                found.append(error("slurm", "hydra.launcher", NOTHING, told))
        return found


def _shape(deployments: Sequence[Deployment], words: Sequence[str]) -> str:
    """What such a job asks for, for a user: nodes, GPUs, and what the launcher's settings add."""
    number, gpus = nodes_of(deployments)[0], max(one.gpus_per_node if one.gpus else 0 for one in deployments)
    size = f"{number} node{'s' if number != 1 else ''} with {gpus} GPUs{' each' if number != 1 else ''}"
    own = [f"--{word}" for word in words if word.partition("=")[0] not in SAME_FOR_ALL]
    return f"{size} ({' '.join(own)})"


@dataclass(slots=True)
class _Sender:
    """Writes the files of jobs and submits them (`jobs.Submit`)."""

    slurm: Slurm
    store: Store
    write_files: Callable[[Deployment], None]
    wishes: Wishes
    chained: bool = False
    """Each job waits for the one before it."""
    after: str | None = None
    """The job that the next one waits for."""

    def __call__(self, task: Task) -> Sent:
        """Raises Refused."""
        deployments = _deployments(task)
        for deployment in deployments:
            self.write_files(deployment)
        folder = write_job(self.slurm, task, _points(task, self.wishes), self.store)
        script = (folder / names(task.number)[0]).read_text(encoding="utf-8")
        needed = self.slurm.needs.job(task.groups)
        job = sbatch.submitted(folder / "jobs", script, self.after, needed)
        if self.chained:
            self.after = job
        own = folder.relative_to(self.store.root) if len(deployments) > 1 else None
        return Sent(job, None if own is None else str(own), needed)


def _points(task: Task, wishes: Wishes) -> Sequence[Point]:
    points = [point for group in task.groups for point in group.points]
    # A search goes on from what is known of all its points.
    return wishes.points if wishes.points and is_searched(points) else points


def _deployments(task: Task) -> tuple[Deployment, ...]:
    return tuple(group.deployment for group in task.groups)


def _seconds(task: Task, points: Sequence[Point]) -> float:
    """What a job is estimated to take."""
    return estimate(points, _deployments(task), most_measured(points)).seconds


def _names(task: Task) -> str:
    return ", ".join(group.deployment.name for group in task.groups)


def _is_free(store: Store, group: Group) -> bool:
    """Whether nobody works on a deployment; tells who does."""
    holder = store.holder(group.deployment)
    if holder is not None:
        who = f"job {holder['job']}" if "job" in holder else f"process {holder.get('pid', '?')}"
        print(f"servix: {group.deployment.name}: {who} is at it", file=sys.stderr)
    return holder is None


def write_job(system: Slurm, task: Task, points: Sequence[Point], store: Store) -> Path:
    """The folder of a job, with its files. Raises StoreError."""
    return store.write_job(_deployments(task), system.files(task, points, store))


def _tell_left(left: int) -> None:
    if left:
        plural = "points are" if left != 1 else "point is"
        print(
            f"servix: time was up, and {left} {plural} left over: the same command goes on", file=sys.stderr
        )


def _tell_detached(found: Sequence[tuple[str, Task]], form: str) -> None:
    entries = [
        {"job": job, "deployment": group.deployment.digest, "points": len(group.points)}
        for job, task in found
        for group in task.groups
    ]
    if form == "json":
        points = sum(len(group.points) for _, task in found for group in task.groups)
        print(json.dumps({"schema": "servix.detached/1", "points": points, "jobs": entries}))
        return
    for job, task in found:
        number = sum(len(group.points) for group in task.groups)
        print(f"servix: job {job} measures {number} point{'s' if number != 1 else ''} on {_names(task)}")
    print("servix: the same command attaches to them, action=status shows where they are, scancel stops them")
