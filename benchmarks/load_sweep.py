"""A sweep of the load on one deployment whose model takes a minute to load: once for all points, or once for each.

Baselines: the same sweep with `isolation=restart`, and by_hand.sh with AIPerf's own `--concurrency a,b,c`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from figure import Figure, Line
from measure import Failed, fresh_folder, median, servix, took
from pair import LOAD, by_hand

CONCURRENCIES = (2, 4, 8, 16)
STARTUP_S = 60
TIMEOUT_S = 150.0 + len(CONCURRENCIES) * (STARTUP_S + 40)


@dataclass(frozen=True, slots=True)
class Swept:
    """One sweep, seconds."""

    whole_s: float
    start_s: float
    """From the start of a stack to its first completion, all starts together."""
    starts: int


def measure(repeat: int) -> list[Line]:
    """Start-up time and wall time of the sweep."""
    sweep, number = ",".join(map(str, CONCURRENCIES)), len(CONCURRENCIES)
    ours = [_servix(sweep) for _ in range(repeat)]
    restarting = _servix(sweep, "isolation=restart")
    alone = median([by_hand(sweep, str(STARTUP_S), timeout_s=TIMEOUT_S)[0].wall_s for _ in range(repeat)])
    if [one.starts for one in (*ours, restarting)] != [*[1] * repeat, number]:
        raise Failed(f"expected one start, and {number} with isolation=restart")
    whole, start = median([one.whole_s for one in ours]), median([one.start_s for one in ours])
    what = f"sweep of {number} loads, model load {STARTUP_S} s"
    per_point = "a start per point"
    return [
        Line(f"{what}: starting", start, "s", restarting.start_s, per_point, "speedup", 0.8 * number),
        Line("the whole sweep", whole, "s", restarting.whole_s, per_point, "speedup"),
        Line("the whole sweep", whole, "s", alone, "by hand, AIPerf's own sweep", "ratio", 1.05),
    ]


def _servix(sweep: str, *more: str) -> Swept:
    load = [word for word in LOAD if not word.startswith("aiperf.concurrency")]
    own = ["--multirun", f"aiperf.concurrency={sweep}", f"mocker.startup_time={STARTUP_S}", *more]
    with fresh_folder() as folder:
        whole = took(servix(*load, *own, f"output_dir={folder}/outputs"), folder, TIMEOUT_S)
        (log,) = folder.glob("outputs/store/*/events.jsonl")
        events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    begun = [_at(event) for event in events if event["event"] == "deployment_start"]
    ready = [_at(event) for event in events if event["event"] == "deployment_ready"]
    return Swept(whole.wall_s, sum(end - start for start, end in zip(begun, ready, strict=True)), len(begun))


def _at(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


FIGURE = Figure("load_sweep", "a sweep of the load (takes eight minutes)", 1, measure, by_default=False)
