"""The same small benchmark through servix and through by_hand.sh, in turn; `start_stop` and `whole_run` read it.

The runs are made once per command, whichever figures ask for them. Before them, every word that servix gives to a
process is looked for in by_hand.sh: a comparison of different things would be worth nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from measure import HERE, ROOT, Failed, Took, fresh_folder, interleaved, servix, took

REQUESTS, OUTPUT_TOKENS = 20, 50
CONCURRENCY = 2
LOAD = (
    f"aiperf.request_count={REQUESTS}",
    f"aiperf.output_tokens_mean={OUTPUT_TOKENS}",
    f"aiperf.concurrency={CONCURRENCY}",
    "aiperf.random_seed=7",
)
MODEL = ROOT / "config" / "model" / "files" / "tiny"
TIMEOUT_S = 150.0


@dataclass(frozen=True, slots=True)
class Timed:
    """Stages of one run, seconds."""

    whole_s: float
    launch_to_completion_s: float
    """From the start of the first server to the first completion."""
    exec_to_completion_s: float
    """From the start of the command to the first completion."""
    load_to_gone_s: float
    """From the end of the load generator to the end of the last server."""
    load_s: float
    """What the load generator took."""
    gone_to_end_s: float
    """From the end of the last server to the end of the command."""
    cpu_s: float
    """CPU time of everything, servers and load generator included."""

    @property
    def own_s(self) -> float:
        """The whole without the load generator."""
        return self.whole_s - self.load_s


@cache
def pairs(repeat: int) -> tuple[list[Timed], list[Timed]]:
    """Runs of servix and of by_hand.sh. Raises Failed."""
    _same_words()
    return interleaved(repeat, _ours, _by_hand)


def _ours() -> Timed:
    with fresh_folder() as folder:
        whole = took(servix(*LOAD, f"output_dir={folder}/outputs"), folder, TIMEOUT_S)
        logs = list(folder.glob("outputs/store/*/events.jsonl"))
        if len(logs) != 1:
            raise Failed(f"expected one event log, found {len(logs)}")
        events = [json.loads(line) for line in logs[0].read_text(encoding="utf-8").splitlines()]
    launch, ready = _when(events, "deployment_start"), _when(events, "deployment_ready")
    load_end = _when(events, "process_exit", process="aiperf-main")
    gone = _when(events, "deployment_stop")
    return Timed(
        whole.wall_s,
        ready - launch,
        ready - whole.begun_s,
        gone - load_end,
        load_end - _when(events, "process_start", process="aiperf-main"),
        whole.begun_s + whole.wall_s - gone,
        whole.cpu_s,
    )


def _when(events: list[dict[str, Any]], name: str, **fields: str) -> float:
    for event in events:
        if event["event"] == name and fields.items() <= event.items():
            return datetime.fromisoformat(event["time"]).timestamp()
    raise Failed(f"no event '{name}' {fields or ''} in the log")


def by_hand(concurrency: str, *more: str, timeout_s: float = TIMEOUT_S) -> tuple[Took, dict[str, float]]:
    """What by_hand.sh took, and its marks: `launch`, `ready`, `load_end`, `gone` in seconds since the epoch."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # servix takes subnets from 127.16 on.
    subnet = f"127.9.{secrets.randbelow(256)}"
    with fresh_folder() as folder:
        (folder / "tmp").mkdir()
        words = [str(folder), subnet, str(MODEL), str(REQUESTS), str(OUTPUT_TOKENS), concurrency, *more]
        environment = {"PATH": path, "TMPDIR": f"{folder}/tmp"}
        whole = took(["bash", str(HERE / "by_hand.sh"), *words], folder, timeout_s, environment)
        lines = (folder / "marks").read_text(encoding="utf-8").splitlines()
    return whole, {name: float(time) for name, time in (line.split() for line in lines)}


def _by_hand() -> Timed:
    whole, at = by_hand(str(CONCURRENCY))
    return Timed(
        whole.wall_s,
        at["ready"] - at["launch"],
        at["ready"] - whole.begun_s,
        at["gone"] - at["load_end"],
        at["load_end"] - at["ready"],
        whole.begun_s + whole.wall_s - at["gone"],
        whole.cpu_s,
    )


def _same_words() -> None:
    """Raises Failed when servix gives a process a word, or a variable, that by_hand.sh does not."""
    with fresh_folder() as folder:
        argv = servix("action=plan", "format=json", f"output_dir={folder}/outputs", *LOAD)
        text = took(argv, folder, TIMEOUT_S).output
    plan, _ = json.JSONDecoder().raw_decode(text[text.index("{\n") :])
    wanted: set[str] = set()
    for process in plan["deployments"][0]["processes"]:
        wanted.update(process["argv"], (f"{name}={value}" for name, value in process["env"].items()))
    for phase in plan["points"][0]["workload"]["phases"]:
        wanted.update(phase["argv"])
    script = (HERE / "by_hand.sh").read_text(encoding="utf-8").replace("(", " ").replace(")", " ")
    has = {*shlex.split(script, comments=True), str(REQUESTS), str(OUTPUT_TOKENS), str(CONCURRENCY)}
    # What is bound late stands in the script as a variable; the braces of JSON arguments are doubled in a plan.
    literal = {word.replace("{{", "{").replace("}}", "}") for word in wanted if not _late(word)}
    if missing := sorted(literal - has):
        raise Failed(f"by_hand.sh does not pass what servix passes: {', '.join(missing)}")


def _late(word: str) -> bool:
    return "{" in word.replace("{{", "")
