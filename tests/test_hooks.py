"""Commands around a deployment: in which order they run, what their failures mean, what they are part of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commanding import FAKE, Command
from compiling import deployment, plan

from compiler import plan_json
from compiler.digest import hashed
from compiler.plan import Plan

WRITE = "echo {0}-{{node:1}} >> {{results_dir}}/said"
ALL = (
    "node_setup_command='" + WRITE.format("setup") + "'",
    "startup_command=['sh','-c','echo $1 >> said','-','up {results_dir}']",
    "pre_test='" + WRITE.format("pre") + "'",
    "post_test='" + WRITE.format("post") + "'",
)


def said(command: Command) -> list[str]:
    (path,) = command.output_dir.glob("store/*/runs/1/said")
    return [line.partition("-127.")[0] for line in path.read_text().splitlines()]


def test_hooks_run_in_order_around_one_start(start: Callable[..., Command], tmp_path: Path) -> None:
    out = tmp_path / "a b $HOME"
    command = start(*FAKE, *ALL, "aiperf.concurrency=1,2", output_dir=out)
    code, _, err = command.ended()
    assert code == 0, err
    (run,) = out.glob("store/*/runs/1")
    assert said(command) == ["setup", "setup", "pre", *[f"up {run}"] * 2, "post"]
    logs = {path.name for path in run.glob("logs/*.log")}
    assert logs >= {"node-setup-0.log", "node-setup-1.log", "pre-test.log", "post-test.log"}
    assert logs >= {"startup-decode-0.log", "startup-prefill-0.log"}
    assert [result["verdict"]["status"] for result in command.results()] == ["valid"] * 2
    assert "setup" in command.results()[0]["durations_s"]


WRONG: list[tuple[str, tuple[str, ...], str, tuple[str, ...], bool]] = [
    # id, overrides, status, words of the verdict, the load generator ran
    (
        "node-setup",
        ("node_setup_command='echo no disk; test $DYN_SYSTEM_HOST = {node:0}'",),
        "failed",
        ("the stack was not started", "node-setup-1 on node 1, 127.", "exited with code 1", "no disk"),
        False,
    ),
    (
        "pre-test",
        ("pre_test='echo slow link; exit 7'",),
        "failed",
        ("pre-test on node 0", "code 7", "slow link"),
        False,
    ),
    (
        "deadline",
        ("pre_test=[sleep,'60']", "launch.hook_timeout_s=0.3"),
        "failed",
        ("pre-test on node 0", "took longer than 0.3 s (launch.hook_timeout_s) and was killed"),
        False,
    ),
    (
        "startup",
        ("startup_command='echo no wheel; exit 5'",),
        "failed",
        ("exited with code 97", "startup_command exited with code 5; end of startup-", "no wheel"),
        False,
    ),
    (
        "startup-deadline",
        ("startup_command='sleep 60'", "launch.hook_timeout_s=0.3"),
        "failed",
        ("startup_command took longer than 0.3 s",),
        False,
    ),
    (
        "post-test",
        ("post_test='echo lost a GPU; exit 3'",),
        "invalid",
        ("post-test on node 0", "lost a GPU"),
        True,
    ),
]


@pytest.mark.parametrize(
    ("more", "status", "words", "ran"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_a_hook_that_fails_is_named(
    start: Callable[..., Command], more: tuple[str, ...], status: str, words: tuple[str, ...], ran: bool
) -> None:
    command = start(*FAKE, *more)
    code, _, err = command.ended()
    assert code == 3, err
    (result,) = command.results()
    assert result["verdict"]["status"] == status
    told = "\n".join(result["verdict"]["reasons"])
    assert all(word in told for word in words), told
    assert bool(command.events("phase_start")) == ran


def test_hooks_are_part_of_the_deployment_where_there_are_any() -> None:
    plain, hooked = deployment(), deployment(*ALL)
    later = deployment(*ALL, "launch.hook_timeout_s=1")
    assert plain.hooks == ()
    assert [hook.name for hook in hooked.hooks] == ["node-setup-0", "node-setup-1", "pre-test", "post-test"]
    assert plain.digest != hooked.digest == later.digest
    made = Plan((), (hooked,))
    assert plan_json.from_json(plan_json.to_json(made)) == made


def test_what_is_explained_is_what_is_hashed() -> None:
    data: dict[str, Any] = plan_json.deployment_to_json(deployment())
    told = hashed(data)
    assert "hooks" not in told
    assert all("startup" not in process for process in told["processes"].values())
    told = hashed(plan_json.deployment_to_json(deployment(*ALL)))
    assert told["hooks"]["node-setup-1"]["when"] == "node_setup"
    assert "timeout_s" not in told["hooks"]["pre-test"]
    assert set(told["processes"]["decode-0"]["startup"]) == {"text"}


def test_points_with_other_hooks_have_stacks_of_their_own() -> None:
    assert len(plan("pre_test='true','echo x'").deployments) == 2
