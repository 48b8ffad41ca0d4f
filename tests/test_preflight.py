"""What forbids to start a deployment on this machine: ports, programs and models; its addresses and its models."""

import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.errors import format_problem
from compiler.sweep import Group
from launchers import local
from launchers.host import Host, claimed, resolved_revision
from launchers.preflight import preflight
from launchers.store import Store
from tests.sessions import ALL, PORT, deployment, frontend, point, process


def test_two_sessions_never_share_an_address() -> None:
    with ExitStack() as stack:
        hosts = [stack.enter_context(claimed(2)) for _ in range(50)]
        assert len({address for host in hosts for address in host.addresses}) == 100


@pytest.mark.parametrize("where", ["0.0.0.0", "node 1"])
def test_a_port_that_is_taken_is_told_before_anything_starts(where: str) -> None:
    with claimed(2) as host, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host.addresses[1] if where == "node 1" else where, PORT))
        other.listen()
        problems = preflight(deployment(), [], host)
    told = [format_problem(problem) for problem in problems]
    assert len(told) == (1 if where == "node 1" else 2)
    assert f"backend.ports.http.base = {PORT}: port 'http' of decode-0 on node 1: another program" in told[-1]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("no-such-tool", "x"), "'no-such-tool': this program is not installed"),
        (("python", "-m", "no_such.module"), "has no such module"),
        (("python", "-m", "json.no_such"), "has no such module"),
        (("python", "-m", "json.tool"), None),
    ],
)
def test_a_program_that_is_missing_is_told_with_the_way_out(argv: tuple[str, ...], said: str | None) -> None:
    stack = deployment(replace(frontend(), argv=argv), process("decode-0", 1))
    told = [format_problem(problem) for problem in preflight(stack, [], Host(("127.9.9.10", "127.9.9.11")))]
    assert len(told) == (said is not None)
    assert all(said in line and "make install" in line for line in told if said)


@pytest.mark.parametrize("there", [False, True])
def test_a_model_that_is_not_downloaded_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    if there:
        (tmp_path / "hub" / "models--Org--Name" / "snapshots").mkdir(parents=True)
    argv = ("python", "-m", "json.tool", "--model-path", "Org/Name")
    workers = [
        replace(process(name, 1, env={"HF_HUB_OFFLINE": offline}, ports={}), argv=argv)
        for name, offline in (("decode-0", "1"), ("decode-1", "1"), ("decode-2", "0"))
    ]
    host = Host(("127.9.9.10", "127.9.9.11"))
    told = [format_problem(problem) for problem in preflight(deployment(*workers), [], host)]
    assert len(told) == (not there)
    for line in told:
        assert "model.id = 'Org/Name': HF_HUB_OFFLINE is set" in line
        assert "hf download Org/Name" in line


def test_nothing_is_started_on_a_machine_that_is_unfit(tmp_path: Path) -> None:
    stack = deployment(replace(frontend(), argv=("no-such-tool",)))
    with pytest.raises(local.Unfit, match="no-such-tool"):
        local.realise([Group(stack, (point(1),))], Store(tmp_path), lambda _: None, ALL)
    assert list(tmp_path.iterdir()) == []


def test_the_revision_of_a_hub_model_is_what_the_cache_holds(tmp_path: Path) -> None:
    from plans import (
        one_prefill_one_decode,
    )  # here: the commands above import this file without the tests on their path

    served = one_prefill_one_decode().deployments[0]
    refs = tmp_path / "hub" / f"models--{served.model.replace('/', '--')}" / "refs"
    assert resolved_revision(served, {"HF_HOME": str(tmp_path)}) is None
    refs.mkdir(parents=True)
    (refs / "main").write_text("0123abcd\n")
    assert resolved_revision(served, {"HF_HOME": str(tmp_path)}) == "0123abcd"
