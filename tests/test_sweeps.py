"""Sweeps through the real command line: a start per deployment, and nothing twice, however many ask for it."""

from __future__ import annotations

import csv
from collections import Counter

from commanding import FAKE, Start, nothing_left


def test_two_by_three_by_two_is_one_start_per_deployment_and_one_table(start: Start) -> None:
    axes = ("topology=separate,shared", "aiperf.concurrency=1,2,4", "aiperf.request_count=4,6")
    command = start(*FAKE, *axes)
    code, out, err = command.ended()
    assert code == 0, err
    started = [event["deployment"] for event in command.events("deployment_start")]
    deployments = {path.parent.name for path in command.output_dir.glob("store/*/plan.json")}
    assert len(started) == len(set(started)) == len(deployments) == 2
    assert [(number, verdict) for _, number, verdict in command.attempts()] == [(1, "valid")] * 12
    assert (out.count(" valid "), out.count("requests\n")) == (12, 1)
    (table,) = command.output_dir.glob("sweeps/*/results.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    asked = {(row["deployment"], row["concurrency"], row["requests_sent"]) for row in rows}
    assert len(rows) == len(asked) == 12
    nothing_left(command)


def test_ten_commands_at_once_measure_every_point_once(start: Start) -> None:
    """Each asks for three loads out of six on both deployments."""
    asked = [",".join(str(1 + (first + step) % 6) for step in range(3)) for first in range(10)]
    commands = [
        start(*FAKE, "topology=separate,shared", "aiperf.request_count=6", f"aiperf.concurrency={loads}")
        for loads in asked
    ]
    for command in commands:
        code, out, err = command.ended(timeout_s=240)
        assert code == 0, err
        assert out.count(" valid ") == 6, out
    attempts = commands[0].attempts()
    assert [(number, verdict) for _, number, verdict in attempts] == [(1, "valid")] * 12
    assert set(Counter(point for point, _, _ in attempts).values()) == {2}
    measured = commands[0].events("measurement")
    assert [event["verdict"] for event in measured] == ["valid"] * 12
    nothing_left(commands[0])
