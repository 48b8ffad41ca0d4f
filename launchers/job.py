"""What a batch job runs on the first of its nodes: measures points on the job's nodes.

    python -m launchers.job FOLDER [NAME]

Takes the job's folder below `output_dir`, with the file of that name (`job.json`) that was written before the job was
submitted; leaves a result for every point. Deployments are realised one after the other. A job that is started again
(requeued, preempted, a node lost) does what is left to do.
Exit codes: 0 every point has a result, 1 a fault of ours, 75 stopped because its time is nearly up, 128 more than the
signal that stopped it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from compiler.batch import WORK
from compiler.plan import Deployment
from compiler.sweep import Group
from launchers import local, run, submitted
from launchers.allocated import allocated
from launchers.listening import listening
from launchers.queue import TIME_IS_UP
from launchers.refusal import Trouble, Unfit, tell
from launchers.results.result import Result
from launchers.store import Store
from launchers.submitted import Todo
from launchers.turns import Wishes

OK, FAULT = 0, 1
WARNING = signal.SIGUSR1
"""What `--signal` of the job's script has Slurm send before the time limit."""


class Job:
    """The system of the process in a job (`run.System`)."""

    def __init__(self, todo: Todo) -> None:
        self.stopped_by: int | None = None
        self._todo = todo

    def check(self, groups: Sequence[Group]) -> None:
        """Slurm has checked what there is to check."""

    def realise(
        self,
        groups: Sequence[Group],
        store: Store,
        write_files: Callable[[Deployment], None],  # noqa: ARG002  (written before the job was submitted)
        wishes: Wishes,
    ) -> Mapping[str, Result]:
        """Measures the points on the nodes of this job. Raises KeyboardInterrupt when told to stop."""
        claims = {
            group.deployment.digest: partial(
                allocated, group.deployment, self._todo.srun_args, self._todo.images
            )
            for group in groups
        }
        with listening(WARNING) as stop:
            try:
                # All deployments start at the first node.
                return local.work(stop, groups, store, lambda _: None, replace(wishes, parallel=1), claims)
            finally:
                self.stopped_by = stop.number

    def detach(self, *_: object) -> int:
        """Never asked: a job stays with its work."""
        raise TypeError("a job is left already")


def main(folder: Path, name: str = WORK) -> int:
    """The exit code of the job."""
    try:
        todo = submitted.work(folder, name)
        system = Job(todo)
        measured = run.attended(todo.plan, system, Store(folder.parents[1]))
        if measured.trouble is not None:
            raise measured.trouble
    except Unfit as unfit:
        tell(unfit.problems, sys.stderr)
        return FAULT
    except (Trouble, OSError, ValueError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return FAULT
    if system.stopped_by is not None:
        return TIME_IS_UP if system.stopped_by == WARNING else 128 + system.stopped_by
    return FAULT if measured.interrupted else OK


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:3]))
