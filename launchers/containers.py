"""Words that put a step into a container: flags of srun for Pyxis, else a program before the command.

Taken from: `allocated`. Never does: a shell; handing on values of a user's variables on a command line.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from compiler import late
from compiler.errors import Problem, error
from compiler.plan import Container
from launchers.host import PROXIES
from launchers.queue import asked

HANDED_ON = ("HF_", "HUGGING_FACE_")
"""Variables of the user's that a container gets, beside proxies."""


def not_there(how: Container, path: str) -> list[Problem]:
    """What puts processes into containers and is not on this machine, which has the same installation as nodes."""
    hint = "choose another system.container; where nodes alone have it, say so by hydra.launcher.setup=[':']"
    if not how.command:
        said = asked(["srun", "--help"])[1]
        reason = "srun knows no --container-image: this Slurm has no Pyxis"
        known = not said or "--container-image" in said
        return [] if known else [error("program", "system.container", how.name, reason, hint)]
    program = how.command[0]
    # What a placeholder in it stands for is known in a job only.
    if "{" in program or shutil.which(program, path=path) is not None:
        return []
    return [error("program", "system.container", how.name, f"not installed: {program}", hint)]


def flags(image: str, mounts: Sequence[str], workdir: str, env: Sequence[str]) -> Iterator[str]:
    """Flags of srun, without dashes, that Pyxis understands; `mounts` are `HOST:CONTAINER[:OPTIONS]`."""
    yield f"container-image={image}"
    yield f"container-mounts={','.join(mounts)}"
    yield f"container-workdir={workdir}"
    yield "no-container-mount-home"
    yield "no-container-entrypoint"
    if env:
        # Else what the image sets wins over what the plan says.
        yield f"container-env={','.join(env)}"


def prefix(
    how: Container,
    own: Mapping[str, str],
    mounts: Sequence[str],
    env: Iterable[str],
    names: Mapping[str, str],
) -> Iterator[str]:
    """Words before a command. `own`: image and workdir; `env`: names of what the caller has in its environment."""
    for word in how.command:
        if word == "{mounts}":
            for mount in mounts:
                source, target = [*mount.split(":"), mount][:2]
                fields = {"mount": mount, "source": source, "target": target}
                yield from (_filled(part, fields, names) for part in how.mount)
        elif word == "{env}":
            handed = [name for name in env if name.startswith(HANDED_ON) or name.lower() in PROXIES]
            yield from (_filled(part, {"name": name}, names) for name in handed for part in how.env)
        else:
            yield _filled(word, own, names)


def _filled(word: str, fields: Mapping[str, str], names: Mapping[str, str]) -> str:
    literal = {name: late.literal(value) for name, value in fields.items()}
    return late.bind(late.template(word, literal, late.SETTING_WORDS), names)


def resolved(image: str) -> str | None:
    """Which image that is, as far as it can be known here: a digest, or size and time of a file; null: no telling."""
    if "@sha256:" in image:
        return image.partition("@")[2]
    try:
        known = Path(image).stat() if image.startswith("/") else None
    except OSError:
        return None
    if known is None:
        return None
    changed = datetime.fromtimestamp(known.st_mtime, UTC).isoformat(timespec="seconds")
    return f"{known.st_size} bytes, changed {changed}"
