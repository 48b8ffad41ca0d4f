"""Names and labels of a deployment's objects in a cluster: short, safe everywhere, unique by digest.

Grove joins the name of a deployment with that of a component, once or twice, and allows 45 characters for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from compiler.digest import short
from compiler.plan import Deployment

MANAGED_BY = "app.kubernetes.io/managed-by"
DEPLOYMENT, ROLE, POINTS = "servix.dev/deployment", "servix.dev/role", "servix.dev/points"
"""Label with the short digest of a deployment; label of its pods; annotation with short digests of points."""
POINT = "servix.dev/point"
"""Label of what is about one point only."""
DIGEST = "servix.dev/digest"
"""Annotation with the whole digest of a deployment."""
COMPONENTS: Mapping[str, str] = {"aggregated": "worker"}
"""Role -> name of its component, where it is another word."""

_LONGEST_SLUG = 13


def name_of(deployment: Deployment) -> str:
    """At most 24 characters: with a prefill worker over several nodes, Grove's longest name, 45 are not reached."""
    plain = re.sub(r"[^a-z0-9]+", "-", deployment.name.lower()).strip("-")
    slug = plain[:_LONGEST_SLUG].strip("-") or "servix"
    return f"{slug if slug[0].isalpha() else 's' + slug[1:]}-{short(deployment.digest)}"


def labels_of(deployment: Deployment) -> dict[str, str]:
    """Of every object that belongs to the deployment."""
    return {MANAGED_BY: "servix", DEPLOYMENT: short(deployment.digest)}


def head_of(deployment: Deployment) -> str:
    """Name of the Service behind which is the frontend's pod, with every port of it."""
    return f"{name_of(deployment)}-head"


def frontend_of(deployment: Deployment) -> str:
    """Name of the Service of the frontend: Dynamo's operator makes one of this name."""
    return f"{name_of(deployment)}-frontend"
