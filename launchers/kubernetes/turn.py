"""One deployment and its points on a cluster: applied, ready, measured by Jobs, collected, deleted.

Takes points and a cluster; leaves a result for every point in the store.
Never does: measuring (the Job does, `bench`); leaving objects behind, unless it is told to.

What the cluster has already of this deployment is gone on with: a Job that runs is followed, the results of one that
is over are collected. A stack that was lost is deleted and applied anew, at most `max_restarts` times; a Job that was
evicted is made again, and goes on with what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from compiler.digest import short
from compiler.manifests import Settings, fitting
from compiler.manifests.names import POINTS
from compiler.plan import Deployment, Point
from launchers import deployed, session
from launchers.agenda import MOST_HITS
from launchers.cancellation import is_cancelled, to_its_end
from launchers.kubernetes.api import Cluster, Denied, Refused, Silent
from launchers.kubernetes.collect import Collector, Heard, quoted
from launchers.kubernetes.exit import EVICTED_TOO_OFTEN, FRESH
from launchers.kubernetes.following import Following
from launchers.kubernetes.listen import Listener
from launchers.kubernetes.served import Served, attempt_of, is_over, made_by, of_search
from launchers.kubernetes.start import Start
from launchers.kubernetes.verdict import JobEnd
from launchers.refusal import Trouble
from launchers.results.result import Result
from launchers.store import Store
from launchers.supervise import Tell

OTHERS_S = 30.0
"""Another command deletes what it made so long after its last Job, or is taken to be gone."""
EXPIRED = 401
TERMINATING = "it is being terminated"
"""In the refusal of whatever is new in a namespace that is being deleted."""
STAYS = "what is in the cluster stays: the same command goes on"
MOST_UNHEARD = 2
"""Jobs whose log was lost in part, until what they said counts as lost."""
MOST_ATTEMPTS = 3
"""Jobs in a row that may be evicted before one has measured anything."""


class Turn:
    """The points of one deployment."""

    def __init__(
        self,
        cluster: Cluster,
        deployment: Deployment,
        points: Sequence[Point],
        store: Store,
        settings: Settings,
        tell: Tell,
        searched: Sequence[Point] = (),
        stays: Callable[[], bool] = lambda: False,
    ) -> None:
        """`searched`: all points of a search, from which the Job chooses. `stays` is asked when this is cancelled:
        whether what runs in the cluster is left there."""
        self._cluster, self._deployment, self._store = cluster, deployment, store
        self._points, self._searched = tuple(points), tuple(searched)
        self._tell, self._stays, self._settings = tell, stays, settings
        self.served = Served(cluster, deployment, settings)
        ran = {"namespace": cluster.namespace, "name": self.served.name, "claim": _claim(settings)}
        asked = self._searched or self._points
        self._collector = Collector(deployment, asked, store, tell, self._judged, ran)
        self._restarts = deployment.max_restarts if len(asked) > 1 else 0
        if self._searched:
            # A load that no stack stands up to is an answer, after which a search goes on.
            self._restarts = MOST_HITS * len(asked)
        self._lost = 0
        self._hits: Counter[str] = Counter()
        self._attempt = 0
        self._unheard = 0
        self._job_name = ""
        self._asked: frozenset[str] = frozenset()
        """Short digests of the points that the Job is to measure."""
        self._is_over = False
        self._following = self._new_start()

    async def take(self) -> list[Result]:
        """A result for every point. When cancelled, everything is deleted first, unless it stays. Raises StoreError,
        Trouble."""
        folder = self._store.deployment_dir(self._deployment)
        digests = [str(point.digest) for point in self._points]
        deployed.write(folder, self._cluster.namespace, self.served.name, digests)
        try:
            while self._left():
                await self._one_start()
        except asyncio.CancelledError:
            if self._stays():
                raise
            await self._deleted()
            deployed.remove(folder)
            raise
        except (Silent, Denied) as problem:
            if isinstance(problem, Denied) and problem.status != EXPIRED:
                await self._cleared(folder)
                self._fail(self._left(), [str(problem)])
            else:
                # What is there can be found by this note, and by its labels, once somebody answers us.
                raise Trouble(f"{problem}; {STAYS}") from problem
        except Refused as refused:
            await self._cleared(folder)
            self._fail(self._left(), [str(refused)])
        except BaseException:
            await self._cleared(folder)
            raise
        else:
            deployed.remove(folder)
        return list(self._collector.results.values())

    async def _deleted(self) -> None:
        """Deletes what is there, however often this is cancelled. Raises Trouble where it stays."""
        try:
            await to_its_end(self._down())
        except (Silent, Refused) as problem:
            raise Trouble(f"{problem}; {STAYS}") from problem

    async def _cleared(self, folder: Any) -> None:
        """Deletes what is there after trouble, which must not be hidden by more of it."""
        with contextlib.suppress(Trouble):
            await self._down()
            deployed.remove(folder)

    def _left(self) -> list[Point]:
        if self._is_over:
            return []
        if self._searched:
            return list(self._searched)
        return [point for point in self._points if str(point.digest) not in self._collector.results]

    async def _one_start(self) -> None:
        """The stack once, from the first object to the last."""
        job = await self._adopted()
        if not self._left():
            await self._down()
            return
        self._following = self._new_start()
        self._tell("deployment_start", deployment=self._deployment.name, run=self.served.name)
        self._collector.again = self._lost < self._restarts
        stays = False
        try:
            if job is None:
                await self.served.apply()
                self._told(f"{self.served} is applied")
                job = await self._job()
            else:
                self._told(f"{self.served} is there already; Job {job} is followed")
            self._job_name = job
            await self._measured(job)
        except Refused as refused:
            if refused.status == 404 or TERMINATING in refused.said:
                await self._say_if_deleted(refused)
            stays = refused.status == EXPIRED
            raise
        except Silent:
            # It is gone on with: what is measured meanwhile would be lost with the stack.
            stays = True
            raise
        finally:
            if not stays and not is_cancelled():
                await self._stopped()
        if self._start.lost and self._left():
            self._after_loss()

    async def _adopted(self) -> str | None:
        """What there is in the cluster of this deployment: the Job to follow; null where all begins anew."""
        owner = await self.served.found()
        if owner is None:
            return None
        if owner["metadata"].get("deletionTimestamp"):
            self._told(f"{self.served} is being deleted; waiting until it is gone")
            await self._down()
            return None
        jobs = await self.served.jobs()
        self._attempt = max([self._attempt, *map(attempt_of, jobs)])
        for job in jobs:
            if not is_over(job):
                listed = (job["metadata"].get("annotations") or {}).get(POINTS) or ""
                self._asked = frozenset(listed.split(","))
                return str(job["metadata"]["name"])
            name = str(job["metadata"]["name"])
            self._told(f"{self.served} is there already; Job {name} is over, what it said is collected")
            await Listener(self.served, name, self._collector, asyncio.Event()).whole()
        if jobs:
            # On a stack that has been measured on, caches are not as they were.
            await self._others(owner)
            await self._down()
        return None

    async def _others(self, owner: Any) -> None:
        """Gives the command that applied it the time to delete it, or to go on with it."""
        who = made_by(owner)
        deadline = time.monotonic() + OTHERS_S
        if who is not None:
            self._told(f"{self.served} was applied by {who}, which is waited for")
        while who is not None and time.monotonic() < deadline and await self.served.found() is not None:
            if any(not is_over(job) for job in await self.served.jobs()):
                return
            await asyncio.sleep(1.0)

    async def _job(self) -> str:
        self._attempt += 1
        if not self._searched:
            points = fitting(self._deployment, self._left(), self._settings, self._attempt)
            self._asked = frozenset(short(str(point.digest)) for point in points)
            return await self.served.measure(points, self._attempt)
        self._asked = frozenset(short(str(point.digest)) for point in self._searched)
        known = [r for p in self._searched if (r := self._store.latest(self._deployment, p)) is not None]
        more = of_search(known, self._searched[0].config.get("baseline"))
        return await self.served.measure(self._searched, self._attempt, more)

    async def _measured(self, job: str) -> None:
        """Follows Jobs on the stack until nothing is left, it is lost, or the next point wants another."""
        for _ in range(MOST_ATTEMPTS):
            end = await self._following.to_its_end(job)
            heard = self._collector.of(job)
            if self._start.lost or not self._left():
                return
            if end is not None and not end.complete and not end.late and heard.was_stopped:
                end = JobEnd(False, "was stopped from outside", again=True)
            elif end is None or end.complete or (heard.over is not None and not heard.was_stopped):
                self._settled(heard, job)
                return
            if not end.again or heard.fault:
                self._fail(self._of_job(), [end.reason, *_said(heard, job)])
                return
            self._told(f"Job {job} {end.reason}")
            if heard.begun:
                # What it had asked is in the caches.
                self._start.lost = (f"Job {job} {end.reason}",)
                return
            job = self._job_name = await self._job()
            self._told(f"Job {job} is made in its place")
        self._fail(self._of_job(), [EVICTED_TOO_OFTEN.format(number=MOST_ATTEMPTS)])

    def _settled(self, heard: Heard, job: str) -> None:
        """The program has said its last word, or the Job is complete."""
        code = (heard.over or {}).get("code")
        if code == FRESH:
            if any(str(point.digest) in self._collector.lost for point in self._begun(job)):
                self._start.lost = ("what is served did not answer any more",)
            return
        if code == 0 and self._searched and len(self._of_job()) == len(self._searched):
            self._is_over = True
            return
        if code == 0 and (self._searched or not self._of_job()):
            # Somebody had it made for other points, or the rest did not fit into it.
            return
        self._unheard += 1
        if code == 0 and self._collector.missing(job) and self._unheard <= MOST_UNHEARD:
            # Another Job finds them on the volume and says them again.
            self._told(f"a part of what Job {job} said was not heard")
            return
        why = heard.fault or (f"ended with code {code}" if code is not None else "ended without a word")
        self._fail(self._of_job(), [f"Job {job}: {why}", *_said(heard, job)])

    def _of_job(self) -> list[Point]:
        """Points that are left and that the Job was to measure. The others have one of their own."""
        return [point for point in self._left() if short(str(point.digest)) in self._asked]

    def _begun(self, job: str) -> list[Point]:
        """Points that the Job began and of which nothing has come."""
        begun = self._collector.of(job).begun
        return [point for point in self._left() if point.name in begun]

    async def _say_if_deleted(self, refused: Refused) -> None:
        why = await self._following.why_gone()
        if why.startswith("namespace"):
            raise Refused(why, refused.status, refused.said) from refused

    async def _judged(self, result: Result) -> list[str]:
        return self._following.ended_during(result)

    def _after_loss(self) -> None:
        """What comes of the points that are left, once the stack was lost."""
        start = self._start
        self._tell("deployment_failed", reasons=start.lost)
        if start.fatal:
            self._fail(self._left(), start.lost)
            return
        if not start.ready:
            self._fail(self._left(), ["the stack did not become ready", *start.lost])
            return
        self._lost += 1
        self._hits.update(str(point.digest) for point in self._begun(self._job_name))
        spent = [point for point in self._left() if self._hits[str(point.digest)] >= MOST_HITS]
        if self._lost > self._restarts:
            times = "once" if self._lost == 1 else f"{self._lost} times"
            self._fail(self._left(), [*start.lost, f"the stack was lost {times}"])
        elif spent and not self._searched:
            self._fail(spent, [*start.lost, f"the stack was lost {MOST_HITS} times with this point"])
        if self._left():
            self._tell(
                "deployment_restart",
                deployment=self._deployment.name,
                restart=self._lost,
                most=self._restarts,
            )

    def _fail(self, points: Sequence[Point], reasons: Sequence[str]) -> None:
        if self._searched:
            raise Trouble("; ".join(reasons[:2]) + ", before the search was over; the same command goes on")
        for result in session.fail(
            self._deployment, list(points), self._store, self._tell, tuple(dict.fromkeys(reasons))
        ):
            self._collector.results[result.point_digest] = result

    async def _stopped(self) -> None:
        started = time.monotonic()
        self._tell("deployment_stopping")
        await to_its_end(self._down())
        self._tell("deployment_stop", run=self.served.name, duration_s=round(time.monotonic() - started, 3))

    async def _down(self) -> None:
        left = await self.served.down()
        if left:
            raise Trouble(f"not gone in time: {', '.join(left)}; the same command, or kubectl, deletes it")

    def _new_start(self) -> Following:
        return Following(self._deployment, self.served, self._collector, self._tell)

    @property
    def _start(self) -> Start:
        return self._following.start

    def _told(self, text: str) -> None:
        """One line for a person, once per start."""
        self._start.told(text)


def _claim(settings: Settings) -> str:
    from compiler.manifests.benchmark import results_claim

    return results_claim(settings)


def _said(heard: Heard, job: str) -> list[str]:
    return [heard.fault] if heard.fault else quoted(heard, job)
