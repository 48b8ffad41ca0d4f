"""Which cluster and namespace a kubeconfig and two keys mean, and what is said where they leave a choice."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from lightkube.core.resource_registry import resource_registry

from compiler.errors import format_problem
from launchers.kubernetes.api import Cluster, Denied, _resource
from launchers.kubernetes.context import context_of
from launchers.refusal import Unfit

PLUGIN = "client.authentication.k8s.io/v1"


def kubeconfig(path: Path, contexts: dict[str, str | None], **user: Any) -> Path:
    own = [
        {
            "name": name,
            "context": {"cluster": "c", "user": "u", **({"namespace": ns} if ns else {})},
        }
        for name, ns in contexts.items()
    ]
    data = {
        "clusters": [{"name": "c", "cluster": {"server": f"https://{path.name}"}}],
        "users": [{"name": "u", "user": user or {"token": "t"}}],
        "contexts": own,
        "current-context": next(iter(contexts), ""),
    }
    path.write_text(json.dumps(data))
    return path


ONE, TWO = {"a": "ns"}, {"a": "ns", "b": "other"}
MEANT = [
    ("the only one", ONE, {}, ("a", "ns")),
    ("the only one, another namespace", ONE, {"namespace": "mine"}, ("a", "mine")),
    ("one of two", TWO, {"context": "b", "namespace": "mine"}, ("b", "mine")),
]


@pytest.mark.parametrize(("contexts", "system", "meant"), [r[1:] for r in MEANT], ids=[r[0] for r in MEANT])
def test_what_is_meant(
    contexts: dict[str, str | None],
    system: dict[str, str],
    meant: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", contexts)))
    found = context_of(system)
    assert (found.name, found.namespace) == meant
    assert str(found) == f"context {meant[0]}, namespace {meant[1]} (https://config)"


REFUSED = [
    ("two", TWO, {}, ["the kubeconfig holds 2 contexts (a, b)", "system.namespace = null: is not said"]),
    ("two, no namespace", TWO, {"context": "b"}, ["the kubeconfig holds several contexts"]),
    ("no such context", TWO, {"context": "c", "namespace": "n"}, ["has no such context, but a, b"]),
    ("no namespace", {"a": None}, {}, ["system.namespace = null: is not said, and neither there"]),
    ("none", {}, {}, ["the kubeconfig holds no contexts; log in to the cluster first"]),
]


@pytest.mark.parametrize(
    ("contexts", "system", "said"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_nothing_is_guessed(
    contexts: dict[str, str | None],
    system: dict[str, str],
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", contexts)))
    with pytest.raises(Unfit) as unfit:
        context_of(system)
    told = "\n".join(map(format_problem, unfit.value.problems))
    assert all(text in told for text in said), told


def test_a_context_that_is_not_whole_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kubeconfig(tmp_path / "config", {"a": "ns"})
    data = json.loads(path.read_text())
    for name, names in (
        ("old", {"cluster": "c", "user": "gone"}),
        ("older", {"cluster": "gone", "user": "u"}),
    ):
        data["contexts"].append({"name": name, "context": names})
    path.write_text(json.dumps(data))
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert context_of({"context": "a", "namespace": "n"}).server == "https://config"
    for name in ("old", "older"):
        with pytest.raises(
            Unfit, match=f"context {name} names a cluster or a user that the kubeconfig does not"
        ):
            context_of({"context": name, "namespace": "n"})
    path.write_text(json.dumps({**data, "contexts": data["contexts"][-1:]}))
    with pytest.raises(Unfit) as unfit:
        context_of({})
    assert len(unfit.value.problems) == 1


def test_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [
        kubeconfig(tmp_path / "first", {"a": "x"}),
        kubeconfig(tmp_path / "second", {"a": "y", "b": "z"}),
    ]
    monkeypatch.setenv("KUBECONFIG", ":".join(map(str, files)))
    found = {name: context_of({"context": name, "namespace": "n"}).server for name in ("a", "b")}
    assert found == {"a": "https://first", "b": "https://second"}


@pytest.mark.parametrize("text", ["{", "[1]", "7", "contexts: [{name: a}]", "contexts: 7"])
def test_a_file_that_cannot_be_read(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(Unfit) as unfit:
        context_of({})
    assert "kubeconfig" in format_problem(unfit.value.problems[0])


def test_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(Unfit) as unfit:
        context_of({})
    assert "there is no kubeconfig" in format_problem(unfit.value.problems[0])
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(Unfit):
        context_of({})


UNUSABLE: list[tuple[str, dict[str, Any]]] = [
    ("certificate that is not there", {"client-certificate": "/nowhere", "client-key": "/nowhere"}),
    ("certificate that is none", {"client-certificate": __file__, "client-key": __file__}),
    ("file without a token", {"tokenFile": "/nowhere"}),
    ("plugin that is not there", {"exec": {"apiVersion": PLUGIN, "command": "no-such-plugin"}}),
    ("plugin that fails", {"exec": {"apiVersion": PLUGIN, "command": "false"}}),
    ("a way that is gone", {"auth-provider": {"name": "gcp"}}),
]


@pytest.mark.parametrize("user", [row[1] for row in UNUSABLE], ids=[row[0] for row in UNUSABLE])
def test_credentials_that_cannot_be_used(
    user: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", {"a": "ns"}, **user)))
    # Other tests in this process know pods by a class of lightkube's own.
    monkeypatch.setattr(resource_registry, "_registry", {})
    _resource.cache_clear()
    context = context_of({})

    async def asked() -> None:
        async with Cluster(context.connect, print) as cluster:
            await cluster.get("v1", "Pod", "x")

    with pytest.raises(Denied, match="the kubeconfig's credentials cannot be used"):
        asyncio.run(asked())


def test_a_plugin_of_the_newest_form_gives_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "true"}
    file = kubeconfig(tmp_path / "config", {"a": "ns"}, exec=plugin)
    monkeypatch.setenv("KUBECONFIG", str(file))
    found = context_of({})
    assert found._config.user.exec.apiVersion.endswith("/v1beta1")
