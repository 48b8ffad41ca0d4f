"""What deployments and their load generators download before they can start: models of the hub, container images.

Takes a plan's deployments and points; gives what they name, each once.
Never does: looking whether it is there already; downloading (`launchers.prefetch` does both).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from compiler.plan import Deployment, Point, Process

SCRIPT, WORK = "prefetch.sbatch", "prefetch.json"
SCHEMA = "servix.prefetch/1"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
PLACES = ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN_PATH")
"""Variables of a plan that say where models come from and go to. None of them is a secret."""
OF_SQUASH_FILES = ("pyxis", "enroot")
"""What puts processes into containers and takes a squash file for an image."""
_MODEL, _TOKENIZER, _REVISION = ("--model", "--model-path"), ("--tokenizer",), ("--revision",)


@dataclass(frozen=True, slots=True)
class Model:
    """A repository of the hub."""

    id: str
    revision: str | None
    """Null: what the hub calls main."""
    env: Mapping[str, str]
    """Of PLACES, what the plan says."""


@dataclass(frozen=True, slots=True)
class Image:
    """A container image of a registry."""

    reference: str
    """As it is configured."""
    file: str
    """The squash file that it is imported into."""


@dataclass(frozen=True, slots=True)
class Downloads:
    """Everything that is downloaded."""

    models: tuple[Model, ...] = ()
    images: tuple[Image, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.models or self.images)


def models(deployments: Sequence[Deployment], points: Sequence[Point]) -> list[Model]:
    """Models of the hub that processes or load generators name, each once; a folder is none."""
    found: dict[tuple[str, str | None], Model] = {}
    for deployment in deployments:
        for process in deployment.processes:
            for name in _words(process.argv, _MODEL):
                revision = next(_words(process.argv, _REVISION), None)
                found.setdefault((name, revision), Model(name, revision, _places(process)))
    held = {deployment.digest: deployment for deployment in deployments}
    known = {name for name, _ in found}
    for point in points:
        phases = point.workload.phases if point.workload is not None and point.deployment in held else ()
        for name in (name for phase in phases for name in _words(phase.argv, _TOKENIZER)):
            if name not in known:
                env = _places(held[str(point.deployment)].processes[0])
                found.setdefault((name, None), Model(name, None, env))
    return list(found.values())


def images(deployments: Sequence[Deployment]) -> list[str]:
    """Images of a registry that processes run in, each once, where squash files are run; such a file is none."""
    running = [one for one in deployments if one.container and one.container.name in OF_SQUASH_FILES]
    named = (process.image for one in running for process in one.processes)
    return list(dict.fromkeys(image for image in named if image is not None and not image.startswith("/")))


def _words(argv: Sequence[str], flags: Sequence[str]) -> Iterator[str]:
    """What follows one of the flags; of models only ids of the hub."""
    for word, after in pairwise(argv):
        if word in flags and (flags is _REVISION or HUB_ID.fullmatch(after)):
            yield after


def _places(process: Process) -> Mapping[str, str]:
    return {name: process.env[name] for name in PLACES if name in process.env}


def to_json(downloads: Downloads) -> dict[str, Any]:
    """The form of `prefetch.json`."""
    return {"schema": SCHEMA, **asdict(downloads)}


def from_json(data: Any) -> Downloads:
    """Raises ValueError for data of another form."""
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"not of the form {SCHEMA}")
    return Downloads(
        tuple(Model(one["id"], one["revision"], one["env"]) for one in data["models"]),
        tuple(Image(**one) for one in data["images"]),
    )
