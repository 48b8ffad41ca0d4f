"""What a person sees while deployments are realised: a live table on a terminal, else one line per event.

Takes events (as `events.EventLog` tells them); gives text on a stream, standard error by default.
Never does: importing rich before there is a terminal to draw on; drawing more than four times a second.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from compiler.plan import Deployment, Process

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

SHORTEST_PAUSE_S = 0.25
SHOWN_LINES = 5
MOST_TABLES = 3
STYLES: Mapping[str, str] = {"waiting": "dim", "starting": "yellow", "ready": "green", "stopping": "dim"}

Event = Mapping[str, Any]


class Display:
    """A context manager around what one command shows; `of` gives the listener of one deployment."""

    def __init__(self, stream: TextIO | None = None, several: bool = False) -> None:
        """`several`: deployments run at the same time, so lines say which one they are about."""
        self._stream = stream or sys.stderr
        self._several = several
        self._views: list[View] = []
        self._drawn_at = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Display:
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._stream)
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            # The terminal may be gone.
            with contextlib.suppress(OSError):
                self._live.stop()

    def plain(self) -> None:
        """Shows lines only from now on: the terminal is needed for a question."""
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError):
                live.stop()

    def of(self, deployment: Deployment) -> View:
        """A listener for the events of this deployment."""
        return View(deployment, self)

    def attach(self, view: View) -> None:
        """Draws what is known of a deployment already: until something happens there, nothing else would."""
        if self._live is not None and not view.over:
            self.forget(view)
            self._views.append(view)
            self._draw(urgent=True)

    def forget(self, view: View) -> None:
        """Shows no more of it."""
        self._views = [known for known in self._views if known is not view]

    def say(self, text: str) -> None:
        """One line beside the events, for a person."""
        with contextlib.suppress(OSError):
            if self._live is None:
                print(text, file=self._stream, flush=True)
            else:
                self._live.console.print(text, markup=False, highlight=False)

    def show(self, view: View, event: Event) -> None:
        """Shows an event that `view` has noted."""
        text = line(event)
        if text is not None and self._several:
            text = f"[{view.deployment.name}] {text}"
        if self._live is None:
            if text is not None:
                print(f"{event['time'][11:19]} {text}", file=self._stream, flush=True)
            return
        if event["event"] in LASTING and text is not None:
            self._live.console.print(text, markup=False, highlight=False)
        if view.over:
            self.forget(view)
        elif view not in self._views:
            self._views.append(view)
        self._draw(urgent=event["event"] not in ("process_start", "process_ready", "process_exit", "probe"))

    def _draw(self, urgent: bool) -> None:
        now = time.monotonic()
        if self._live is not None and (urgent or now - self._drawn_at >= SHORTEST_PAUSE_S):
            self._drawn_at = now
            self._live.update(self._tables(), refresh=True)

    def _tables(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        shown = [view.table() for view in self._views[:MOST_TABLES]]
        more = len(self._views) - len(shown)
        return Group(*shown, *([Text(f"... and {more} more deployments")] if more else []))


class View:
    """One deployment, as its events tell it. Called with each of them."""

    def __init__(self, deployment: Deployment, display: Display) -> None:
        self.deployment = deployment
        self.over = False
        """True once the deployment has stopped."""
        self._display = display
        self._states: dict[str, tuple[str, str]] = {}
        self._phase = self._point = ""

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        self.note(event)
        self._display.show(self, event)

    def note(self, event: Event) -> None:
        """Takes an event in without showing it."""
        kind = event["event"]
        self.over = kind == "deployment_stop"
        if kind == "deployment_start":
            self._states = {process.name: ("waiting", "") for process in self.deployment.processes}
            self._phase = "starting"
        elif kind in _STATES and event["process"] in self._states:
            pid = str(event.get("pid") or self._states[event["process"]][1])
            self._states[event["process"]] = (_STATES[kind](event), pid)
        elif kind != "process_start":
            self._point = str(event["point"]) if kind == "point_start" else self._point
            of_point = f"point {self._point}: " if kind in _OF_A_POINT and self._point else ""
            self._phase = f"{of_point}{text}" if (text := line(event)) is not None else self._phase

    def table(self) -> RenderableType:
        """The processes and what is going on."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table()
        for column in ("process", "node", "GPUs", "ports", "state", "pid"):
            table.add_column(column)
        for process in self.deployment.processes:
            state, pid = self._states.get(process.name, ("waiting", ""))
            cells = [process.name, str(process.node), _gpus(process), _ports(process)]
            table.add_row(*map(Text, cells), Text(state, style=STYLES.get(state, "red")), Text(pid))
        return Group(Text(self.deployment.name, style="bold"), table, Text(self._phase))


_STATES: Mapping[str, Callable[[Event], str]] = {
    "process_start": lambda _: "starting",
    "process_ready": lambda _: "ready",
    "process_exit": lambda event: "exited" if event["code"] == 0 else f"exit {event['code']}",
}

_OF_A_POINT = frozenset({"phase_start", "phase_end", "accuracy_start", "accuracy_end"})
"""Events that do not say which point they are about."""
LASTING = frozenset(
    {
        "cluster",
        "deployment_ready",
        "phase_end",
        "accuracy_end",
        "measurement",
        "deployment_failed",
        "deployment_restart",
        "deployment_stop",
        "guardian_restart",
        "step_again",
        "job_over",
    }
)
"""Events that stay on a terminal above the table."""


def line(event: Event) -> str | None:
    """One event for a person; null for events that only programs need.

    >>> line({"event": "process_ready", "process": "frontend"})
    'frontend is ready'
    """
    shape = _LINES.get(event["event"])
    return shape(event) if shape is not None else None


def _phase_start(event: Event) -> str:
    asked = [f"{key} {event[key]}" for key in ("concurrency", "requests") if event.get(key) is not None]
    return f"phase {event['phase']}: load starts" + (f" ({', '.join(asked)})" if asked else "")


def _accuracy_end(event: Event) -> str:
    value = "" if event["value"] is None else f", {event['value']:.4f}"
    return f"accuracy run {event['accuracy']}: {event['verdict']} after {event['duration_s']:.1f} s{value}"


def _caches_reset(event: Event) -> str:
    if not event["ok"]:
        return f"the prefix caches were not reset: {event['reason']}"
    return f"prefix caches reset in {event['duration_s']:.1f} s"


def _measurement(event: Event) -> str:
    reasons = event.get("reasons") or ()
    why = f": {reasons[0].splitlines()[0]}" if reasons else ""
    return f"point {event['point']}: {event['verdict']}{why}"


def _failed(event: Event) -> str:
    """Every reason; of the quoted log only the end, the rest is in the result."""
    lines = ["deployment failed"]
    for reason in event["reasons"]:
        first, *quoted = str(reason).splitlines()
        lines += [first, *(f"  {text}" for text in quoted[-SHOWN_LINES:])]
    return "\n  ".join(lines)


_LINES: Mapping[str, Callable[[Event], str]] = {
    "deployment_start": lambda e: f"deployment {e['deployment']}: start {e['run']}",
    "process_start": lambda e: f"{e['process']} started (pid {e['pid']})",
    "process_ready": lambda e: f"{e['process']} is ready",
    "process_exit": lambda e: f"{e['process']} ended ({e['code']})",
    "step_again": lambda e: f"Slurm has not started {e['process']}: asked again",
    "job_over": lambda e: f"Slurm has ended job {e['job']} or begun it anew elsewhere",
    "probe": lambda e: f"waiting for {e['of']}: {e['kind']}: {e['seen']}",
    "hook_failed": lambda e: e["reasons"][0],
    "deployment_ready": lambda e: f"deployment is ready after {sum(e['durations_s'].values()):.1f} s",
    "deployment_failed": _failed,
    "deployment_restart": lambda e: (
        f"restarting the deployment ({e['restart']} of at most {e['most']} restarts)"
    ),
    "guardian_restart": lambda e: f"{e['how']}; {'another is there' if e['pid'] else 'there is no other'}",
    "cluster": lambda e: str(e["what"]),
    "deployment_stopping": lambda _: "stopping",
    "deployment_stop": lambda e: f"deployment stopped in {e['duration_s']:.1f} s",
    "caches_reset": _caches_reset,
    "point_start": lambda e: f"point {e['point']}: attempt {e['attempt']}",
    "phase_start": _phase_start,
    "phase_end": lambda e: f"phase {e['phase']}: {e['verdict']} after {e['duration_s']:.1f} s",
    "accuracy_start": lambda e: f"accuracy run {e['accuracy']} starts",
    "accuracy_end": _accuracy_end,
    "measurement": _measurement,
}


def _gpus(process: Process) -> str:
    return ",".join(map(str, process.gpus)) or "-"


def _ports(process: Process) -> str:
    ranges = (p.port if p.count == 1 else f"{p.port}-{p.port + p.count - 1}" for p in process.ports.values())
    return " ".join(map(str, ranges))
