"""Hands jobs to Slurm, each as a script that can be read in the store; through submitit, with a deadline.

Takes a folder and a script; gives the job's id, or why there is none: for ever (`Refused`), or for now (`Later`).
Never does: submitting twice. A controller that is slow to answer may have taken a job whose sbatch has given up; such
a job is looked for in the queue before the next is submitted.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from compiler.batch import Place
from compiler.errors import Problem, error
from launchers.host import SERVIX_DIR
from launchers.queue import asked
from launchers.refusal import Trouble

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "srun")
TAGS = ("%j", "%t", "%A", "%a")
DEADLINE_S = 12.0
"""Longest time that one sbatch may take; with a queue that is full it would wait for two minutes by itself."""
_PREFIX = re.compile(r"^(sbatch: error: |allocation failure: )", re.MULTILINE)
_FULL = re.compile(r"sleeping and retrying|Resource temporarily unavailable|(Max|Grp)Submit\w*Limit")
_SILENT = re.compile(r"timed out|Unable to contact|did not answer|Communication connection failure")
_DRAFTS = ".submission_file_*.sh"
"""Scripts of which it is not known yet, or will never be, which job they are; submitit names them."""


class Refused(Trouble):
    """Slurm did not take the job; the message is Slurm's."""

    @property
    def told(self) -> str:
        """The reason as a verdict says it."""
        return f"sbatch refused the job: {self}"


class Later(Refused):
    """Slurm takes no job now: the queue is full, or the controller does not answer."""


def not_installed() -> list[Problem]:
    """Programs of Slurm that are not there."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if not missing:
        return []
    reason = f"not installed: {', '.join(missing)}"
    hint = "run servix where jobs are submitted, or use system=local"
    return [error("slurm", "system.kind", "slurm", reason, hint)]


def misread(root: Path) -> list[Problem]:
    """A folder in whose name submitit would put the number of a job."""
    found = [tag for tag in TAGS if tag in str(root.resolve())]
    if not found:
        return []
    reason = f"'{found[0]}' stands for a number of the job in Slurm and submitit"
    return [error("slurm", "output_dir", str(root), reason, "choose another folder")]


def place(folder: Path) -> Place:
    """Where a job of that folder finds things."""
    return Place(str(folder.resolve()), str(SERVIX_DIR), sys.executable, str(Path.cwd()))


def submitted(folder: Path, script: str, after: str | None = None, needs: str | None = None) -> str:
    """The id of a job that runs `script`. Raises Refused, Later.

    It waits for the end of job `after`, and for the success of job `needs`: without that Slurm cancels it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = _known(folder, script)
    if known is not None:
        return known
    waits = [f"afterok:{needs}"] if needs is not None else []
    waits += [f"afterany:{after}"] if after is not None else []
    words = [f"--dependency={','.join(waits)}", "--kill-on-invalid-dep=yes"] if waits else []
    return _submit(folder, script, words)


def cancel(jobs: Sequence[str]) -> None:
    """Ends jobs."""
    asked(["scancel", *jobs])


def refusal(words: Sequence[str]) -> str | None:
    """Why sbatch would never take a job with these options; null where it would.

    Raises Later when Slurm does not answer.
    """
    script = "".join(["#!/bin/sh\n", *(f"#SBATCH --{word}\n" for word in words), "true\n"])
    code, _, said = asked(["sbatch", "--test-only"], script)
    if code == 0 or _FULL.search(said):
        return None
    if _SILENT.search(said):
        raise Later(_told(said))
    return _told(said)


def _submit(folder: Path, script: str, words: Sequence[str]) -> str:
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    class Script(SlurmExecutor):
        """Submits our own text: what can be read in the store is what runs."""

        def _make_submission_file_text(self, command: str, uid: str) -> str:  # noqa: ARG002
            return script

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            bound = ["timeout", "--kill-after=5", f"{DEADLINE_S:g}"]
            return [*bound, "sbatch", *words, str(submission_file_path)]

    try:
        # submitit prints what it raises as well.
        with contextlib.redirect_stderr(io.StringIO()):
            return str(Script(folder)._submit_command("").job_id)
    except (FailedJobError, FailedSubmissionError) as problem:
        said = str(problem).strip() or f"sbatch did not answer within {DEADLINE_S:g} s"
        if _SILENT.search(said):
            raise Later(_told(said)) from problem
        _forget(folder)
        kind = Later if _FULL.search(said) else Refused
        raise kind(_told(said)) from problem


def _known(folder: Path, script: str) -> str | None:
    """The id of such a job that was submitted without our being told. Raises Later when Slurm does not say."""
    drafts = [str(path.absolute()) for path in _drafts(folder) if path.read_text(encoding="utf-8") == script]
    if not drafts:
        return None
    code, out, said = asked(["squeue", "--me", "--states=all", "--noheader", "--format=%i|%o"])
    if code != 0:
        raise Later(_told(said))
    jobs = dict(line.split("|", 1)[::-1] for line in out.splitlines() if "|" in line)
    found = [(jobs[draft], Path(draft)) for draft in drafts if draft in jobs]
    for job, draft in found[:1]:
        draft.rename(folder / f"{job}_submission.sh")
    _forget(folder)
    return found[0][0] if found else None


def _drafts(folder: Path) -> list[Path]:
    return [path for path in folder.glob(_DRAFTS) if not path.is_symlink()]


def _forget(folder: Path) -> None:
    for path in _drafts(folder):
        path.unlink(missing_ok=True)


def _told(said: str) -> str:
    lines = [_PREFIX.sub("", line).strip() for line in said.splitlines()]
    return "; ".join(filter(None, lines)) or "no word from Slurm"
