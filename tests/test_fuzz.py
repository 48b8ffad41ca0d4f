"""Random commands, files and data: a plan that holds, or problems in words. Never an exception, never for ever.

10,000 cases by default, the same ones each time; SERVIX_FUZZ=20 throws twenty times as many, others each time.
What was found this way is pinned as an example here, or as a row of problems.yaml.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from compiling import CONFIG
from fuzzing import (
    Case,
    bounded,
    cases,
    check_plan,
    check_problem,
    digests,
    direct,
    forget,
    mutated,
    outcome,
    override_lists,
    own_file,
)
from hypothesis import HealthCheck, Phase, given, settings

from compiler.compose import composer

TIMES = int(os.environ.get("SERVIX_FUZZ", "1"))
COMMANDS, FILES, DATA = 1_800, 400, 7_800
"""Cases of each kind. A command that Hydra has to apply costs ten times a change of data, a file twice that."""

pytestmark = pytest.mark.timeout(300 * max(1, TIMES))


def often(number: int) -> settings:
    """As many cases, the same in every run unless more are asked for."""
    return settings(
        max_examples=number * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )


def both(seen: Counter[str], number: int) -> None:
    """A fuzzer that is only ever refused, or never, tests one half."""
    assert seen["plan"] > number / 50, seen
    assert seen["problems"] > number / 50, seen


def test_commands() -> None:
    seen: Counter[str] = Counter()

    @often(COMMANDS)
    @given(override_lists)
    def check(overrides: tuple[str, ...]) -> None:
        seen[outcome(overrides)] += 1

    check()
    both(seen, COMMANDS)


def test_data() -> None:
    seen: Counter[str] = Counter()

    @often(DATA)
    @given(cases())
    def check(case: Case) -> None:
        data = mutated(case)
        with bounded():
            before = json.dumps(data, default=repr, skipkeys=True)
            _, problems, made = direct(data)
            for problem in problems:
                check_problem(problem.at("somewhere"))
            if made is not None:
                check_plan(made)
                again = direct(data)[2]
                assert again is not None
                assert digests(again) == digests(made)
            assert json.dumps(data, default=repr, skipkeys=True) == before, "the input was changed"
        seen["problems" if made is None else "plan"] += 1

    check()
    both(seen, DATA)


def test_files(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    with composer(CONFIG, tmp_path) as used:

        @often(FILES)
        @given(own_file())
        def check(made: tuple[str, bytes]) -> None:
            group, text = made
            path = tmp_path / group / "mine.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text)
            forget(used)
            try:
                seen[outcome([f"{group}=mine"], used)] += 1
            finally:
                path.unlink()

        check()
    both(seen, FILES)
