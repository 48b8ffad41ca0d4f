"""Rules on images and paths, and on what is not pinned."""

from __future__ import annotations

from collections.abc import Iterable

from compiler.errors import NOTHING, Problem, did_you_mean, error, warning
from compiler.image import REFERENCE, is_moving
from compiler.model import NO_CONTAINER, PYXIS, Config
from compiler.placement import Placement


def image(config: Config, placement: Placement) -> Iterable[Problem]:
    """A container image: a registry reference (also enroot's `registry#name`), or an absolute squash file."""
    value = config.system.image
    if value is None or value.startswith("/"):
        return
    match = REFERENCE.match(value.removeprefix("docker://"))
    if match is None:
        hint = "e.g. registry/name:tag@sha256:... or /path/to/image.sqsh"
        yield error("image", "system.image", value, "is not an image reference", hint)
    elif is_moving(value):
        reason = f"the tag '{match['tag'] or 'latest'}' moves, so no result with it is ever taken as done"
        yield warning("image", "system.image", value, reason, "name a version, best with its digest")
    elif match["digest"] is None:
        reason = "a tag can be moved to another image"
        yield warning("image", "system.image", value, reason, "add @sha256:...")


def container(config: Config, placement: Placement) -> Iterable[Problem]:
    """What puts processes into the image is there, and asked of a system that starts processes on nodes."""
    system = config.system
    known = [NO_CONTAINER, PYXIS, *system.containers]
    key, value = "system.container", system.container
    for name in {NO_CONTAINER, PYXIS} & system.containers.keys():
        yield error(
            "container", f"{key}s.{name}", NOTHING, "this name has a meaning of its own", "choose another"
        )
    if value not in known:
        hint = did_you_mean(value, known) or f"one of {', '.join(known)}"
        yield error("container", key, value, "is not one of system.containers", hint)
    elif system.kind == "slurm" and system.image is not None and value == NO_CONTAINER:
        reason = "nothing puts processes into system.image"
        yield error(
            "container", key, value, reason, f"use {' or '.join(known[1:])}, or set system.image=null"
        )
    elif system.kind == "local" and system.image is not None:
        reason = "processes run with this machine's own installation"
        yield warning("no-effect", "system.image", system.image, reason, "use system=slurm or kubernetes")


def revision(config: Config, placement: Placement) -> Iterable[Problem]:
    """A hub model without revision is whatever the hub has that day."""
    if config.engine == "real" and config.model.path is None and config.model.revision is None:
        reason = f"'{config.model.id}' has no revision, so the hub decides what is measured"
        yield warning("revision", "model.revision", None, reason, "set model.revision to a commit")


def paths(config: Config, placement: Placement) -> Iterable[Problem]:
    """Paths are read on other machines and in containers, where a relative one means something else."""
    model, system = config.model, config.system
    places = [("model.path", model.path), ("system.hf_home", system.hf_home)]
    places += [("system.storage_cache_dir", system.storage_cache_dir), ("system.image_dir", system.image_dir)]
    for key, value in places:
        if value is not None and not value.startswith(("/", "{")):
            yield error("path", key, value, "is not absolute", "start it with /")
    for index, mount in enumerate(system.mounts):
        parts, key = mount.split(":"), f"system.mounts.{index}"
        if len(parts) not in (2, 3) or not all(part.startswith(("/", "{")) for part in parts[:2]):
            yield error(
                "path",
                key,
                mount,
                "is not source:target[:options] with absolute paths",
                "e.g. /data:/data:ro",
            )
