"""Whether Dynamo's operator knows the objects that are applied, in the version and with the fields they have.

Taken from: the definition of DynamoGraphDeployment as a cluster has it. Given to: `preflight`.
Never does: asking a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from compiler.errors import Problem, error
from compiler.image import REFERENCE
from compiler.manifests import Settings

CODE, OWN = "kubernetes", "system.kubernetes"
KIND = "DynamoGraphDeployment"
FIELD = "runtimeVersionOverride"
_VERSION = re.compile(r"[vV]?[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?\Z")
"""Tags that the operator takes for a release of Dynamo."""


def check(definition: Mapping[str, Any] | None, settings: Settings) -> Iterator[Problem]:
    """What is wrong; `definition` is null where the cluster has none."""
    own = settings.own
    if definition is None:
        reason = f"this cluster does not know {KIND}: Dynamo's operator is not there"
        yield error(CODE, f"{OWN}.mode", own.mode, reason, "use system.kubernetes.mode=plain")
        return
    served = {str(one["name"]): one for one in definition["spec"]["versions"] if one.get("served")}
    if own.api_version not in served:
        reason = f"this cluster serves {' and '.join(served)} of {KIND}"
        hint = f"use system.kubernetes.api_version={list(served)[-1]}" if served else ""
        yield error(CODE, f"{OWN}.api_version", own.api_version, reason, hint)
        return
    if fields := _fields(served[own.api_version]):
        yield from _release(FIELD in fields, settings)


def _fields(version: Mapping[str, Any]) -> frozenset[str]:
    """Fields of a component; none where the definition does not say them."""
    try:
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        one = (
            spec["components"]["items"] if "components" in spec else spec["services"]["additionalProperties"]
        )
        return frozenset(one["properties"])
    except (KeyError, TypeError):
        return frozenset()


def _release(is_asked: bool, settings: Settings) -> Iterator[Problem]:
    """Operators from 1.4 on refuse an image of whose release they know nothing; older ones do not know the field."""
    own, image = settings.own, settings.system.image or ""
    key, match = f"{OWN}.runtime_version", REFERENCE.match(image.removeprefix("docker://"))
    tag = (match["tag"] if match is not None else None) or ""
    if own.runtime_version is not None and not is_asked:
        reason = "the operator of this cluster is older and does not know it"
        yield error(CODE, key, own.runtime_version, reason, "leave it null")
    elif own.runtime_version is None and is_asked and not _VERSION.match(tag):
        reason = f"the operator asks which release of Dynamo is in {image}, whose tag does not say it"
        yield error(CODE, key, None, reason, "e.g. system.kubernetes.runtime_version=1.6.1")
