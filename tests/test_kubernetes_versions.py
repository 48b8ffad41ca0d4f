"""What the definition of the operator's objects says of the release that a cluster has, and what is said then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import clusters
import pytest
import structure
import yaml

from compiler.errors import format_problem
from launchers.kubernetes import versions

ALPHA, BETA = "v1alpha1", "v1beta1"


def definition(*served: str, fields: tuple[str, ...] = ()) -> dict[str, Any]:
    """As a cluster has it; without fields it does not say them."""

    def schema(version: str) -> dict[str, Any]:
        one = {"properties": {name: {} for name in fields}}
        spec = (
            {"components": {"items": one}} if version == BETA else {"services": {"additionalProperties": one}}
        )
        return {"openAPIV3Schema": {"properties": {"spec": {"properties": spec}}}}

    known = [{"name": one, "served": True, **({"schema": schema(one)} if fields else {})} for one in served]
    return {"spec": {"versions": known}}


OLD, NEW = ("name", "replicas"), ("name", "replicas", versions.FIELD)
PINNED = f"registry.example/dynamo@sha256:{'0' * 64}"
CASES = [
    ("no operator", None, {}, "Dynamo's operator is not there; use system.kubernetes.mode=plain"),
    (
        "old",
        definition(ALPHA),
        {},
        "serves v1alpha1 of DynamoGraphDeployment; use system.kubernetes.api_version=v1alpha1",
    ),
    ("nothing said of fields", definition(BETA), {"image": PINNED}, ""),
    ("tag that is a release", definition(BETA, fields=NEW), {"image": "r/x:1.6.1"}, ""),
    (
        "release and more",
        definition(ALPHA, BETA, fields=NEW),
        {"image": f"docker://r/x:v1.6.1-cuda13@sha256:{'0' * 64}"},
        "",
    ),
    (
        "digest only",
        definition(BETA, fields=NEW),
        {"image": PINNED},
        f"which release of Dynamo is in {PINNED}",
    ),
    (
        "digest only, an older API",
        definition(ALPHA, fields=NEW),
        {"image": PINNED, "api": ALPHA},
        "runtime_version=1.6.1",
    ),
    (
        "a tag that says nothing",
        definition(BETA, fields=NEW),
        {"image": "r/x:nightly"},
        "whose tag does not say it",
    ),
    ("said", definition(BETA, fields=NEW), {"image": PINNED, "release": "1.6.1"}, ""),
    ("not asked, not said", definition(BETA, fields=OLD), {"image": PINNED}, ""),
    (
        "not asked, but said",
        definition(BETA, fields=OLD),
        {"release": "1.6.1"},
        "is older and does not know it; leave it null",
    ),
]


@pytest.mark.parametrize(
    ("crd", "given", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_is_said_of_an_operator(crd: dict[str, Any] | None, given: dict[str, str], said: str) -> None:
    settings = clusters.deployment()[1]
    own = replace(settings.own, api_version=given.get("api", BETA), runtime_version=given.get("release"))
    system = replace(settings.system, image=given.get("image", "r/x:1.6.1"))
    found = list(versions.check(crd, replace(settings, own=own, system=system)))
    told = " ".join(map(format_problem, found))
    assert len(found) == bool(said)
    assert said in told, told


@pytest.mark.skipif(
    not structure.CRDS.exists(), reason="the operator's definition is not beside this checkout"
)
@pytest.mark.parametrize("api", [ALPHA, BETA])
def test_the_fields_of_a_release_are_read(api: str) -> None:
    (crd,) = [one for one in yaml.load_all(structure.CRDS.read_bytes(), Loader=yaml.CSafeLoader) if one]
    settings = clusters.deployment()[1]
    own = replace(settings.own, api_version=api)
    pinned = replace(settings, own=own, system=replace(settings.system, image=PINNED))
    assert [problem.key for problem in versions.check(crd, pinned)] == ["system.kubernetes.runtime_version"]
