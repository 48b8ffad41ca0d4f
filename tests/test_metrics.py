"""The lists of metrics: current, and complete for every result that was recorded."""

import doctest
import json
import subprocess
import sys

import pytest
from compiling import ROOT
from results_data import DATA

from compiler import metrics
from launchers.results import aiperf, genai_perf
from launchers.results.metrics import derived

RELEASES = {"aiperf": "0.13.0", "genai_perf": "0.0.16"}


def recorded(tool: str) -> list[dict[str, float]]:
    """Metrics of every recorded result of a tool, with those we derive."""
    if tool == "aiperf":
        files = sorted(DATA.glob(f"*/{aiperf.SUMMARY}"))
        found = [aiperf.metrics_of(json.loads(path.read_text())) for path in files]
    else:
        found = [dict(genai_perf.read(path.parent).metrics) for path in DATA.glob(f"*/{genai_perf.TABLES}")]
    return [{**held, **derived(held, gpus=2, concurrency=2)} for held in found]


@pytest.mark.parametrize("tool", RELEASES)
def test_every_recorded_metric_may_stand_in_a_gate(tool: str) -> None:
    known = metrics.metrics(tool, RELEASES[tool])
    assert known is not None
    results = recorded(tool)
    assert results
    assert not [name for held in results for name in held if metrics.wrong(name, known)]


def test_the_list_of_the_installed_tool_is_what_it_says() -> None:
    command = [sys.executable, "tools/metrics.py", "--check", "aiperf"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("release", ["9.9", "../x", "a\0b", "", "x" * 5000])
def test_a_release_without_a_list_is_no_error(release: str) -> None:
    assert metrics.metrics("aiperf", release) is None


def test_the_example_holds() -> None:
    assert doctest.testmod(metrics).failed == 0


LIKE = [
    ("itl", "inter_token_latency_ms"),
    ("time_to_first_token", "time_to_first_token_ms"),
    ("request_latncy_ms", "request_latency_ms"),
    ("throughput_gpu", "request_throughput_per_gpu_per_s"),
]


@pytest.mark.parametrize(("said", "meant"), LIKE, ids=[row[0] for row in LIKE])
def test_a_name_is_guessed_by_letters_words_or_initials(said: str, meant: str) -> None:
    known = metrics.metrics("aiperf", "0.13.0")
    assert known is not None
    assert meant in metrics.like(said, known)
