"""The kubelet of all nodes: images pulled, containers run, probed, stopped; the status of each pod.

Pods of a Job, and pods by themselves, run their real command (`container`). Those of a DynamoGraphDeployment or a
Deployment are simulated: ready after a while, with an endpoint where they are a frontend. After `run_engines` they
run as well, each pod with an address and ports of its own, and are ready when their probes say so.
"""

import sys
import time
from pathlib import Path
from typing import Any

from . import kinds
from .conditions import condition, event, with_conditions
from .defaults import address
from .logs import Log
from .names import Names
from .network import Network
from .objects import Objects
from .pods import Pod, Settings, container_status, ended, is_served, state, tell
from .probing import Prober
from .running import Running
from .scheduler import GPU, gpus
from .simulated import serve
from .store import Object, now
from .volumes import Volumes, Waiting, binds, expanded, read_only_volumes

REPOSITORY = Path(__file__).resolve().parents[3]


class Kubelet:
    def __init__(self, objects: Objects, root: Path) -> None:
        self.objects, self.root, self.settings = objects, root, Settings()
        self.pods: dict[str, Pod] = {}
        self.names = Names(objects, root, self.pods)
        self.volumes = Volumes(objects, root / "claims")
        self.network: Network | None = None
        self._prober: Prober | None = None

    def run_engines(self) -> None:
        """From now on all pods run their command."""
        self.network = Network()
        self._prober = Prober(self.network, self._probed)

    def _probed(self) -> list[tuple[str, str, dict[str, Any]]]:
        """What a prober asks: every container that runs of what is served."""
        found = []
        for pod in self.objects.store.all(kinds.POD):
            own = self.pods.get(pod["metadata"]["uid"])
            if own is not None and own.state == "running" and is_served(pod):
                found += [(f"{own.name}/{one['name']}", own.ip, one) for one in pod["spec"]["containers"]]
        return found

    def step(self) -> None:
        there = {pod["metadata"]["uid"]: pod for pod in self.objects.store.all(kinds.POD)}
        for uid, pod in there.items():
            if pod["spec"].get("nodeName"):
                self._sync(uid, pod)
        for uid in set(self.pods) - set(there):
            self._destroy(self.pods[uid])
            if all(one.ended for one in self.pods[uid].running.values()):
                del self.pods[uid]
        self.names.write()

    def _sync(self, uid: str, pod: Object) -> None:
        own = self.pods.get(uid) or self._adopt(uid, pod)
        if pod["metadata"].get("deletionTimestamp"):
            self._stop(own, pod)
        elif own.state == "waiting":
            self._begin(own, pod)
        elif own.state == "running":
            self._follow(own, pod)

    def _adopt(self, uid: str, pod: Object) -> Pod:
        folder = self.root / "pods" / uid
        folder.mkdir(parents=True)
        meta = pod["metadata"]
        containers = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
        logs = {one["name"]: Log() for one in containers}
        holder, ip = self.network.join() if self.network is not None else (None, address())
        own = Pod(meta["name"], meta["namespace"], folder, ip, logs, time.monotonic())
        own.holder = holder
        own.served = is_served(pod)
        own.left = list(pod["spec"].get("initContainers") or [])
        self.pods[uid] = own
        return own

    # Starting

    def _begin(self, own: Pod, pod: Object) -> None:
        why = self._pulls(own, pod)
        if why is None:
            try:
                self._start(own, pod)
            except Waiting as waiting:
                why = waiting
        if why is not None:
            self._wait(own, pod, why)

    def _pulls(self, own: Pod, pod: Object) -> Waiting | None:
        """Why the images are not there yet."""
        for container in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]:
            image = container["image"]
            for part, words in self.settings.missing_images.items():
                if part in image:
                    event(self.objects, kinds.POD, pod, "Failed", f'Failed to pull image "{image}": {words}')
                    tries = (time.monotonic() - own.began_s) % 3 < 1
                    said = f'Back-off pulling image "{image}": ErrImagePull: {words}'
                    return Waiting("ErrImagePull", words) if tries else Waiting("ImagePullBackOff", said)
        if time.monotonic() - own.began_s < self.settings.pull_s:
            return Waiting("ContainerCreating", "")
        return None

    def _wait(self, own: Pod, pod: Object, why: Waiting) -> None:
        if own.restarts and why.reason == "ContainerCreating":
            why = Waiting("CrashLoopBackOff", "back-off restarting failed container")
        if why.message and why.reason != "ErrImagePull":
            event(self.objects, kinds.POD, pod, _event_of(why.reason), why.message)
        said = {"reason": why.reason, **({"message": why.message} if why.message else {})}
        statuses = [container_status(own, one, {"waiting": said}) for one in pod["spec"]["containers"]]
        told = (condition("Initialized", True), condition("Ready", False, "ContainersNotReady"))
        phase = "Running" if own.restarts else "Pending"
        status = {"phase": phase, "containerStatuses": statuses, "conditions": with_conditions(pod, *told)}
        self.objects.set_status(kinds.POD, pod, **status)

    def _start(self, own: Pod, pod: Object) -> None:
        folders = self.volumes.folders(pod, own.folder)
        simulated = is_served(pod) and self.network is None
        given = {**pod, "status": {**pod.get("status", {}), "podIP": own.ip}}
        envs = {one["name"]: self.volumes.environment(given, one) for one in pod["spec"]["containers"]}
        if simulated:
            serve(self.objects, own, pod, self.settings.token_s)
        elif own.left:
            first = own.left[0]
            running = own.running.get(first["name"])
            if running is None:
                env = self.volumes.environment(given, first)
                own.running[first["name"]] = self._run(own, pod, first, env, folders)
            elif running.ended and running.code == 0:
                own.left.pop(0)
            if own.left:
                if running is not None and running.ended and running.code:
                    self._end(own, pod, "Failed")
                    return
                raise Waiting("PodInitializing", "")
        if not simulated:
            for container in pod["spec"]["containers"]:
                one = self._run(own, pod, container, envs[container["name"]], folders)
                own.running[container["name"]] = one
        own.state, own.started_s, own.started_at = "running", time.monotonic(), now()
        self._follow(own, pod)

    def _run(
        self, own: Pod, pod: Object, container: dict[str, Any], env: dict[str, str], folders: dict[str, Path]
    ) -> Running:
        words = [*(container.get("command") or []), *(container.get("args") or [])]
        base = {"HOSTNAME": own.name, "HOME": str(own.folder), "LANG": "C.UTF-8", **self.settings.extra_env}
        base |= {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(REPOSITORY),
        }
        if gpus(pod):
            base["NVIDIA_VISIBLE_DEVICES"] = ",".join(map(str, range(int(_limit(container)))))
        mounts = binds(container, folders, read_only_volumes(pod))
        return Running(
            folder=own.folder / container["name"],
            argv=[expanded(word, env) for word in words],
            env={**base, **env},
            workdir=container.get("workingDir") or str(REPOSITORY),
            binds=[*mounts, (str(self.names.hosts(own.namespace)), "/etc/hosts", False)],
            termination=container.get("terminationMessagePath") or "/dev/termination-log",
            log=own.logs[container["name"]],
            network=own.holder.path if own.holder is not None else None,
        )

    # Running

    def _follow(self, own: Pod, pod: Object) -> None:
        for container in pod["spec"]["containers"]:
            running = own.running.get(container["name"])
            if running is not None:
                running.poll()
        mains = [own.running[one["name"]] for one in pod["spec"]["containers"] if one["name"] in own.running]
        if is_served(pod):
            self._start_again(own, pod)
        elif mains and all(one.ended for one in mains):
            self._end(own, pod, "Failed" if any(one.code for one in mains) else "Succeeded")
            return
        tell(self.objects, own, pod, "Running", self._becomes_ready(own))

    def _becomes_ready(self, own: Pod) -> bool:
        if any(part in own.name for part in self.settings.unready):
            return False
        if own.running and self._prober is not None:
            return all(f"{own.name}/{name}" in self._prober.passed for name in own.running) or not own.served
        if own.running:
            return True
        return time.monotonic() - own.started_s >= self.settings.ready_s

    def _end(self, own: Pod, pod: Object, phase: str) -> None:
        restart = pod["spec"].get("restartPolicy", "Always")
        if restart == "Always" or (restart == "OnFailure" and phase == "Failed"):
            self._restart(own, {name: state(own, name) for name in own.running})
            return
        own.state, own.ended_at = "over", now()
        self._close(own)
        tell(self.objects, own, pod, phase, False)

    def _start_again(self, own: Pod, pod: Object) -> None:
        """Containers of what is served that have ended, each after a while."""
        for container in pod["spec"]["containers"]:
            name, ended = container["name"], own.running.get(container["name"])
            if ended is None or not ended.ended:
                continue
            if name not in own.again:
                own.last[name] = state(own, name)
                own.again[name], own.restarts = time.monotonic() + self.settings.back_off_s, own.restarts + 1
            elif time.monotonic() >= own.again[name]:
                del own.again[name]
                given = {**pod, "status": {**pod.get("status", {}), "podIP": own.ip}}
                folders = self.volumes.folders(pod, own.folder)
                env = self.volumes.environment(given, container)
                own.running[name] = self._run(own, pod, container, env, folders)

    def _restart(self, own: Pod, last: dict[str, dict[str, Any]]) -> None:
        own.last, own.restarts = last, own.restarts + 1
        own.running.clear()
        own.reasons.clear()
        own.state, own.began_s = "waiting", time.monotonic() + self.settings.back_off_s

    # Ending

    def _stop(self, own: Pod, pod: Object) -> None:
        """TERM, after the grace KILL, then the object goes."""
        grace = pod["metadata"].get("deletionGracePeriodSeconds", 0)
        if own.stop_s is None:
            own.stop_s = time.monotonic() + grace
            for one in own.running.values():
                one.terminate()
        for one in own.running.values():
            if time.monotonic() >= own.stop_s:
                one.kill()
            one.poll()
        if all(one.ended for one in own.running.values()):
            self._close(own)
            if own.state == "running":
                own.state = "over"
                tell(
                    self.objects,
                    own,
                    pod,
                    "Failed" if any(one.code for one in own.running.values()) else "Succeeded",
                    False,
                )
            self.objects.finalize(kinds.POD, pod, None)

    def _close(self, own: Pod) -> None:
        if own.endpoint is not None:
            own.endpoint.close()
            own.endpoint = None
        if not own.running:
            for log in own.logs.values():
                log.close()

    def _destroy(self, own: Pod) -> None:
        for one in own.running.values():
            one.kill()
            one.poll()
        self._close(own)
        if own.holder is not None:
            own.holder.close()
            own.holder = None

    def kill(self, name: str, reason: str) -> None:
        """Ends the containers of a pod as the kernel does when the memory is full."""
        for own in [one for one in self.pods.values() if one.name == name]:
            own.reasons |= dict.fromkeys(own.logs, reason)
            for one in own.running.values():
                one.kill()
            if not own.running:
                self._crash(own, reason)

    def _crash(self, own: Pod, reason: str) -> None:
        """A simulated pod whose process died: it is started again, after a while."""
        self._close(own)
        pod = self.objects.store.get(kinds.POD, own.namespace, own.name)
        self._restart(own, {name: {"terminated": ended(own, 137, reason)} for name in own.logs})
        if pod is not None:
            self._wait(own, pod, Waiting("ContainerCreating", ""))

    def evict(self, pod: Object, message: str) -> None:
        own = self.pods.get(pod["metadata"]["uid"])
        if own is not None:
            own.state = "over"
            for one in own.running.values():
                one.kill()
            self._close(own)
            for one in own.running.values():
                one.wait(5)
            target = condition("DisruptionTarget", True, "TerminationByKubelet", message)
            pod = {**pod, "status": {**pod.get("status", {}), "conditions": with_conditions(pod, target)}}
            tell(self.objects, own, pod, "Failed", False, reason="Evicted", message=message)
            event(self.objects, kinds.POD, pod, "Evicted", message)

    def close(self) -> None:
        if self._prober is not None:
            self._prober.close()
        for own in self.pods.values():
            self._destroy(own)
        for own in self.pods.values():
            for one in own.running.values():
                one.wait(5)
        if self.network is not None:
            self.network.close()


def _limit(container: dict[str, Any]) -> int:
    return int(((container.get("resources") or {}).get("limits") or {}).get(GPU, 0))


def _event_of(reason: str) -> str:
    return {
        "ContainerCreating": "FailedMount",
        "ImagePullBackOff": "BackOff",
        "PodInitializing": "Pulling",
    }.get(reason, "Failed")
