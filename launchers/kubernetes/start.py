"""One start of a deployment, as looks at it tell: whether it is ready, and why nothing more can be measured on it.

Takes looks, one after the other, and the time; gives reasons to end it, and words for a person who waits.
Never does: asking the cluster; ending anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from launchers.kubernetes import verdict
from launchers.kubernetes.api import Object
from launchers.kubernetes.served import Look
from launchers.kubernetes.verdict import Finding, Killed

FAILED_S = 30.0
"""An operator that calls a deployment failed may take it back within this time."""
LOST_S = 20.0
"""A deployment that was ready may be without one of its pods for so long."""


class Start:
    """From the first object to the last."""

    def __init__(self, limit_s: float, say: Callable[[str], None], now: float | None = None) -> None:
        """`limit_s`: it is ready after so many seconds, or never; `say` tells a line, each once."""
        self.ready = False
        """Every pod was ready once."""
        self.lost: tuple[str, ...] = ()
        """Why nothing more can be measured on it."""
        self.fatal = False
        """Another start would come to the same."""
        self._begun = time.monotonic() if now is None else now
        self._limit_s, self._say = limit_s, say
        self._told: set[str] = set()
        self._failed_since: float | None = None
        self._short_since: float | None = None
        self._hopeless: dict[str, float] = {}
        self._before: set[Killed] = set()
        self._pods: frozenset[str] = frozenset()
        """Those that it became ready with."""

    def due_s(self, now: float) -> float:
        """Seconds until something is decided without any news."""
        return self._begun + self._limit_s - now

    def told(self, text: str) -> None:
        """Tells a person one line, once."""
        if text not in self._told:
            self._told.add(text)
            self._say(text)

    def judge(self, look: Look, now: float, refused: str = "") -> tuple[str, ...]:
        """Why the start is lost; nothing while it is not. `refused`: why there are fewer pods than there should be."""
        ends = verdict.killed(look.serving)
        if self.ready:
            return self._reasons(look, [one for one in ends if one not in self._before], now)
        self._before.update(ends)
        if not look.progress.ready:
            why = self._not_ready(look, now)
            return (*why, f"not every pod is made: {refused}") if why and refused else why
        self.ready, self._pods = True, frozenset(map(_identity, look.serving))
        self._hopeless.clear()
        self.told(f"every pod is ready after {now - self._begun:.1f} s: {look.progress.what}")
        return ()

    def ends(self, look: Look) -> list[Killed]:
        """Containers that ended since it was ready."""
        return [one for one in verdict.killed(look.serving) if one not in self._before]

    def _reasons(self, look: Look, ends: Sequence[Killed], now: float) -> tuple[str, ...]:
        """Why it is lost that was ready."""
        if ends:
            return tuple(map(str, ends))
        if new := [pod for pod in look.serving if _identity(pod) not in self._pods]:
            # What it replaces may be gone without a trace, and what that had cached is.
            return (f"pod {new[0]['metadata']['name']} came in the place of another",)
        wrong = self._seen(verdict.findings(look.measuring))
        if why := self._without_hope(wrong, now):
            # It is the pod that measures which cannot start.
            self.fatal = True
            return why
        reason = f"not every pod is ready any more: {look.progress.what}"
        if not look.progress.ready:
            self.told(reason)
        running = [pod for pod in look.serving if (pod.get("status") or {}).get("phase") == "Running"]
        if look.progress.ready or len(running) >= len(self._pods):
            # Under load, probes of pods that do their work may be late.
            self._short_since = None
            return ()
        if self._short_since is None:
            self._short_since = now
        if now - self._short_since <= LOST_S:
            return ()
        return (reason, *map(str, verdict.findings(look.serving)))

    def _not_ready(self, look: Look, now: float) -> tuple[str, ...]:
        """Why it never will be; nothing while it may."""
        self.told(f"waiting for pods: {look.progress.what}")
        wrong = self._seen(verdict.findings((*look.serving, *look.measuring)))
        if why := self._without_hope(wrong, now):
            return why
        if look.progress.failed:
            reason = f"the operator says it failed: {look.progress.failed}"
            self.told(reason)
            if self._failed_since is None:
                self._failed_since = now
            if now - self._failed_since > FAILED_S:
                return (reason, *map(str, wrong))
        else:
            self._failed_since = None
        if self.due_s(now) >= 0:
            return ()
        limit = f"launch.ready_timeout_s = {self._limit_s:g} s"
        return (f"not ready within {limit}; last seen: {look.progress.what}", *map(str, wrong))

    def _seen(self, wrong: Sequence[Finding]) -> Sequence[Finding]:
        for finding in wrong:
            self.told(str(finding))
        return wrong

    def _without_hope(self, wrong: Sequence[Finding], now: float) -> tuple[str, ...]:
        current = {finding.pod: finding for finding in wrong if finding.hopeless}
        self._hopeless = {pod: self._hopeless.get(pod, now) for pod in current}
        return tuple(str(one) for pod, one in current.items() if now - self._hopeless[pod] >= one.patience_s)


def _identity(pod: Object) -> str:
    """Of one pod: the next of the same name has another."""
    return str(pod["metadata"].get("uid") or pod["metadata"]["name"])
