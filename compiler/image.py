"""Container image references: `registry/name:tag@sha256:...`, also enroot's `registry#name:tag`."""

from __future__ import annotations

import re

REFERENCE = re.compile(
    r"(?P<name>[a-z0-9]+([._-]+[a-z0-9]+)*(:\d+)?([/#][a-zA-Z0-9]+([._-]+[a-zA-Z0-9]+)*)*)"
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?\Z"
)
MOVING_TAGS = ("latest", "main", "master", "nightly", "dev", "edge", "stable")


def is_moving(image: str | None) -> bool:
    """True for an image that may be another one tomorrow: no digest, and no tag or one that moves.

    >>> is_moving("nvcr.io/nvidia/x"), is_moving("nvcr.io/nvidia/x:1.6.1"), is_moving("/images/x.sqsh")
    (True, False, False)
    """
    match = REFERENCE.match(image.removeprefix("docker://")) if image else None
    return match is not None and match["digest"] is None and (match["tag"] or "latest") in MOVING_TAGS
