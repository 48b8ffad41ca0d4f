"""Container image references: `registry/name:tag@sha256:...`, also enroot's `registry#name:tag`."""

from __future__ import annotations

import hashlib
import re

REFERENCE = re.compile(
    r"(?P<name>[a-z0-9]+([._-]+[a-z0-9]+)*(:\d+(?=[/#]))?([/#][a-zA-Z0-9]+([._-]+[a-zA-Z0-9]+)*)*)"
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?\Z"
)
MOVING_TAGS = ("latest", "main", "master", "nightly", "dev", "edge", "stable")


def is_moving(image: str | None) -> bool:
    """True for an image that may be another one tomorrow: no digest, and no tag or one that moves.

    >>> is_moving("nvcr.io/nvidia/x"), is_moving("nvcr.io/nvidia/x:1.6.1"), is_moving("/images/x.sqsh")
    (True, False, False)
    >>> is_moving("registry:5000/x"), is_moving("ubuntu:24")
    (True, False)
    """
    match = REFERENCE.match(image.removeprefix("docker://")) if image else None
    return match is not None and match["digest"] is None and (match["tag"] or "latest") in MOVING_TAGS


def digest_of(image: str) -> str | None:
    """The digest that a reference is pinned by; null without one."""
    match = REFERENCE.match(image.removeprefix("docker://"))
    return match["digest"] if match else None


def uri(image: str) -> str:
    """The image as enroot wants it named. What comes before a # is the registry, in every release of enroot.

    A digest stands in the place of the tag: the form with an @ is read by late releases only.

    >>> uri("nvcr.io/nvidia/x:1.6.1"), uri("ubuntu:24.04"), uri("docker://team/x")
    ('docker://nvcr.io#nvidia/x:1.6.1', 'docker://ubuntu:24.04', 'docker://team/x')
    """
    plain = image.removeprefix("docker://")
    match = REFERENCE.match(plain)
    if match is None:
        return f"docker://{plain}"
    name, version = match["name"], match["digest"] or match["tag"]
    registry, slash, rest = name.partition("/")
    if "#" not in name and slash and ("." in registry or ":" in registry or registry == "localhost"):
        name = f"{registry}#{rest}"
    return f"docker://{name}:{version}" if version else f"docker://{name}"


def file_name(image: str) -> str:
    """Name of the squash file of an image: readable, and its own.

    >>> file_name("nvcr.io/nvidia/x:1.6.1")
    'nvcr.io-nvidia-x-1.6.1-caa623faef.sqsh'
    """
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", image.partition("@")[0]).strip("-.")
    return f"{slug}-{hashlib.sha256(image.encode()).hexdigest()[:10]}.sqsh"
