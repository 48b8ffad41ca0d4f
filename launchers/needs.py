"""What jobs need to have downloaded before they start, by the way that `launch.prefetch` says.

Takes groups and the store; leaves models and images where they belong, or gives the job that others wait for.
Never does: downloading what is there; letting a job with GPUs start without it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from compiler import late
from compiler.allocation import Allocation
from compiler.batch import Place, prefetch_options
from compiler.batch import prefetch as files_of
from compiler.digest import digest, short
from compiler.errors import Problem, error
from compiler.image import file_name
from compiler.plan import Deployment
from compiler.prefetch import SCRIPT, Downloads, Image, Model, images, models, to_json
from compiler.sweep import Group
from launchers import hub, prefetch, queue, sbatch, submitted
from launchers.host import Host
from launchers.prefetch import Failed
from launchers.refusal import Unfit, warn
from launchers.sbatch import Later, Refused
from launchers.store import Store, write_job
from launchers.submitted import Submitted

How = Literal["none", "login", "job"]


class NotDownloaded(Refused):
    """A job that was to download for others has failed; the message says why."""

    @property
    def told(self) -> str:
        """The reason as a verdict says it."""
        return str(self)


class Needs:
    """What the jobs of one command need."""

    def __init__(self, how: How, image_dir: str | None, asked: Allocation, store: Store) -> None:
        self.how = how
        self._asked, self._store = asked, store
        self._image_dir = Path(image_dir) if image_dir else store.root.resolve() / "images"
        self._ours: dict[Path, str] = {}
        """What is needed, as the folder of all of it -> the job of this command that downloads that."""

    def images(self, deployments: Sequence[Deployment]) -> Mapping[str, str]:
        """Image -> the squash file that steps run in place of it."""
        if self.how == "none":
            return {}
        return {name: str(self._image_dir / file_name(name)) for name in images(deployments)}

    def problems(self, groups: Sequence[Group]) -> list[Problem]:
        """What forbids to download."""
        if self.how == "none":
            return []
        found = [problem for model in self._named(groups) for problem in _homeless(model)]
        if found:
            return found
        wanted = prefetch.missing(self._downloads(groups), _nothing)
        # What lines of shell bring into a job cannot be seen from here.
        found = (
            [] if self.how == "job" and self._asked.setup else prefetch.cannot(wanted, self.how == "login")
        )
        if not found and wanted and self.how == "job":
            nowhere = Place("/", "/", "python", "/")
            refused = sbatch.refusal(list(prefetch_options(self._asked, nowhere))[1:])
            if refused is not None:
                reason = f"sbatch refuses the job that downloads: {refused}"
                hint = "say in hydra.launcher.prefetch_parameters where jobs without GPUs run"
                found.append(error("slurm", "launch.prefetch", "job", reason, hint))
        return found

    def warn(self, groups: Sequence[Group]) -> None:
        """Tells what will be downloaded while GPUs wait."""
        if self.how != "none":
            return
        for model in self._named(groups):
            cache = hub.cache_of({**Host(("localhost",)).environment(), **model.env})
            if not _homeless(model) and hub.snapshot(cache, model.id, model.revision) is None:
                reason = f"model {model.id} is not in {cache} in full: it is downloaded while GPUs wait"
                warn([f"{reason}; launch.prefetch=login, or job, does it before"])

    def fetch(self, groups: Sequence[Group]) -> None:
        """Downloads what is missing, here and now. Raises Unfit."""
        if self.how != "login":
            return
        try:
            prefetch.fetch(prefetch.missing(self._downloads(groups), _say), _say)
        except Failed as failed:
            raise Unfit([failed.problem]) from failed

    def job(self, groups: Sequence[Group]) -> str | None:
        """The job that has to succeed first, submitted where there is none; null where nothing is missing.

        Raises Refused, also when a job of this command has tried in vain.
        """
        if self.how != "job":
            return None
        downloads = self._downloads(groups)
        wanted = prefetch.missing(downloads, _nothing)
        if not wanted:
            if not self._ours:
                prefetch.missing(downloads, _say)
            return None
        # While a job downloads, ever less is missing: what there was to do at first says which job that is.
        key = self.folder(downloads)
        ours = self._ours.get(key)
        job = ours or _noted(self.folder(wanted))
        if job is not None and _is_in_queue(job):
            return job
        if ours is not None and prefetch.missing(wanted, _nothing):
            raise NotDownloaded(submitted.not_downloaded(self._store.root, ours))
        if ours is not None:
            # It has come to its end since we looked.
            return None
        self._ours[key] = self._submitted(wanted)
        return self._ours[key]

    def _submitted(self, wanted: Downloads) -> str:
        folder, files = self.folder(wanted), self.files(wanted)
        write_job(folder, files)
        job = sbatch.submitted(folder / "jobs", files[SCRIPT])
        submitted.write(folder, Submitted(job, time.time(), ()))
        _say(f"job {job} downloads first: {names(wanted)}")
        return job

    def planned(self, groups: Sequence[Group]) -> tuple[Path, dict[str, str]] | None:
        """Folder and files of the job that would download, null where none would."""
        wanted = prefetch.missing(self._downloads(groups), _say) if self.how != "none" else Downloads()
        return (self.folder(wanted), self.files(wanted)) if wanted and self.how == "job" else None

    def folder(self, downloads: Downloads) -> Path:
        """The folder of a job that downloads these."""
        return self._store.root / "prefetch" / short(digest(to_json(downloads)))

    def files(self, downloads: Downloads) -> dict[str, str]:
        """The files of that job."""
        return files_of(downloads, self._asked, sbatch.place(self.folder(downloads)))

    @property
    def alive(self) -> list[str]:
        """Jobs of this command that download, while they are in the queue."""
        jobs = list(self._ours.values())
        try:
            return list(queue.in_queue(jobs)) if jobs else []
        except queue.Silent:
            return jobs

    def _named(self, groups: Sequence[Group]) -> list[Model]:
        points = [point for group in groups for point in group.points]
        return models([group.deployment for group in groups], points)

    def _downloads(self, groups: Sequence[Group]) -> Downloads:
        places = Host(("localhost",)).names(Path())
        bound = tuple(
            Model(one.id, one.revision, {name: late.bind(text, places) for name, text in one.env.items()})
            for one in self._named(groups)
        )
        files = self.images([group.deployment for group in groups])
        return Downloads(bound, tuple(Image(name, file) for name, file in files.items()))


def names(downloads: Downloads) -> str:
    """What is downloaded, in words."""
    found = [*(model.id for model in downloads.models), *(image.reference for image in downloads.images)]
    return ", ".join(found)


def _noted(folder: Path) -> str | None:
    """The job that was last submitted for a folder, by whoever it was."""
    note = submitted.read(folder)
    return None if note is None else note.job


def _is_in_queue(job: str) -> bool:
    """Raises Later when Slurm does not say."""
    try:
        return submitted.look(Submitted(job, 0, ())) is not None
    except queue.Silent as silent:
        raise Later(str(silent)) from silent


def _homeless(model: Model) -> list[Problem]:
    """A place that is only known when a deployment has started."""
    return [
        error(
            "prefetch", f"system.env.{name}", text, "is another place in each run", "name a folder that stays"
        )
        for name, text in model.env.items()
        if any(bound and word != "servix_dir" for word, bound in late.pieces(text))
    ]


def _say(text: str) -> None:
    print(f"servix: {text}", file=sys.stderr, flush=True)


def _nothing(_: str) -> None:
    pass
