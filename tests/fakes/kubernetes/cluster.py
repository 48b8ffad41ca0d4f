"""A cluster for tests: an API server on loopback, with Dynamo's operator, a scheduler and a kubelet behind it.

    with Cluster(tmp_path) as cluster:
        cluster.fail_pull("vllm-runtime")
        run(kubeconfig=cluster.kubeconfig)

It starts in less than half a second, and leaves no process behind.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from . import kinds
from .access import Access
from .conditions import condition
from .garbage import collect
from .kinds import Kind
from .kubelet import Kubelet
from .logs import Log
from .objects import Objects
from .operator import Operator
from .refusals import Refusal
from .scheduler import GPU, schedule
from .server import ApiServer, Asked
from .store import Object, Store
from .tls import context
from .workloads import Workloads

TOKEN = "first-token"
NAMESPACE = "bench"
KEEPS = (kinds.NAMESPACE, kinds.NODE, kinds.STORAGE_CLASS, kinds.CRDS, kinds.EVENT, kinds.QUOTA)
"""What a run may leave: the cluster's own things."""


class Cluster:
    def __init__(
        self,
        root: Path,
        gpus: dict[str, int] | None = None,
        namespace: str = NAMESPACE,
        crd_versions: tuple[str, ...] = ("v1beta1", "v1alpha1"),
        tls: bool = False,
    ) -> None:
        """`gpus`: node -> its number of GPUs. Without versions of its CRD, Dynamo's operator is not installed.

        kubectl sends no token without `tls`; lightkube does.
        """
        self.root, self.namespace = root, namespace
        root.mkdir(parents=True, exist_ok=True)
        self.store = Store()
        self.objects = Objects(self.store)
        self.access = Access({TOKEN: "tester"})
        self.workloads, self.operator = Workloads(self.objects), Operator(self.objects)
        self.kubelet = Kubelet(self.objects, root)
        self.trouble: list[BaseException] = []
        self._fill(gpus or {"node-0": 8, "node-1": 8}, crd_versions)
        secure, self.certificate = context(root) if tls else (None, None)
        self.server = ApiServer(self.objects, self.access, self._log, secure)
        self.kubeconfig = root / "kubeconfig"
        self.write_kubeconfig()
        self._ending = threading.Event()
        self._timers: list[threading.Timer] = []
        self._controllers = threading.Thread(target=self._control, daemon=True)
        self._controllers.start()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        trouble = [*self.trouble, *self.server.trouble]
        if trouble and kind is None:
            raise trouble[0]

    def close(self) -> None:
        self._ending.set()
        with self.store.changed:
            self.store.changed.notify_all()
        for timer in self._timers:
            timer.cancel()
        self._controllers.join(10)
        self.kubelet.close()
        self.server.close()

    def _fill(self, gpus: dict[str, int], crd_versions: tuple[str, ...]) -> None:
        for name in ("default", "kube-system", self.namespace):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.objects.create(kinds.NAMESPACE, None, body)
        for name, number in gpus.items():
            self.add_node(name, number)
        meta = {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
        body = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "provisioner": "fake",
            "metadata": meta,
        }
        self.store.put(kinds.STORAGE_CLASS, body)
        self.set_crd_versions(*crd_versions)

    def _control(self) -> None:
        """All controllers, one after the other, for as long as the cluster is there."""
        while not self._ending.is_set():
            version = self.store.version
            try:
                for step in (
                    self._bind_claims,
                    self.workloads.step,
                    self.operator.step,
                    self._schedule,
                    self.kubelet.step,
                ):
                    step()
                collect(self.objects)
            except Exception as error:
                self.trouble.append(error)
                self._ending.wait(0.05)
            busy = any(one.running and one.state != "over" for one in self.kubelet.pods.values())
            self.store.wait(version, 0.03 if busy else 0.1)

    def _schedule(self) -> None:
        schedule(self.objects)

    def _bind_claims(self) -> None:
        classes = {one["metadata"]["name"]: one for one in self.store.all(kinds.STORAGE_CLASS)}
        for claim in self.store.all(kinds.CLAIM):
            wanted = claim["spec"].get("storageClassName") or "standard"
            if wanted in classes and claim["status"]["phase"] != "Bound":
                capacity = claim["spec"].get("resources", {}).get("requests", {})
                self.objects.set_status(kinds.CLAIM, claim, phase="Bound", capacity=capacity)

    def _log(self, namespace: str, name: str, container: str | None) -> Log:
        pod = self.objects.get(kinds.POD, namespace, name)
        names = [
            one["name"] for one in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
        ]
        chosen = container or names[0]
        if chosen not in names:
            raise Refusal(400, f"container {chosen} is not valid for pod {name}")
        own = self.kubelet.pods.get(pod["metadata"]["uid"])
        if own is None or own.state == "waiting":
            states = [one["state"] for one in pod.get("status", {}).get("containerStatuses", [])]
            why = next((one["waiting"]["reason"] for one in states if "waiting" in one), "ContainerCreating")
            raise Refusal(400, f'container "{chosen}" in pod "{name}" is waiting to start: {why}')
        return own.logs[chosen]

    # What tests ask

    overrides: tuple[str, ...] = ()
    shares_files = True  # what runs in it sees the files of this machine

    @property
    def asked(self) -> list[Asked]:
        """All requests so far."""
        return self.server.asked

    def get(self, kind: Kind, name: str) -> Object | None:
        return self.store.get(kind, self.namespace, name)

    def all(self, kind: Kind) -> list[Object]:
        return self.store.all(kind, self.namespace)

    def left(self) -> list[str]:
        """`kind/name` of everything in all namespaces that is not the cluster's own."""
        return [
            f"{kind.name}/{obj['metadata']['name']}"
            for kind, obj in self.store.everything()
            if kind not in KEEPS
        ]

    def wait_until(self, holds: Any, timeout_s: float = 20) -> bool:
        return self.store.wait_until(holds, timeout_s)

    def claim_folder(self, name: str) -> Path:
        """What is on a volume."""
        return self.kubelet.volumes.claim_folder(self.namespace, name)

    def pod_log(self, name: str) -> str:
        found = [one for one in self.kubelet.pods.values() if one.name == name]
        return "".join(log.text().decode() for one in found for log in one.logs.values())

    def create(self, body: Object) -> Object:
        kind = kinds.of_object(body)
        return self.objects.create(kind, self.namespace if kind.namespaced else None, body)

    # Settings and faults

    def write_kubeconfig(self, token: str = TOKEN, contexts: dict[str, str] | None = None) -> None:
        """`contexts`: name -> namespace; the first is the current one. JSON, which is YAML too."""
        import json

        contexts = contexts or {"fake": self.namespace}
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": next(iter(contexts)),
            "clusters": [{"name": "fake", "cluster": self._address()}],
            "users": [{"name": "tester", "user": {"token": token}}],
            "contexts": [
                {
                    "name": name,
                    "context": {"cluster": "fake", "user": "tester", **({"namespace": own} if own else {})},
                }
                for name, own in contexts.items()
            ],
        }
        self.kubeconfig.write_text(json.dumps(body))
        self.kubeconfig.chmod(0o600)

    def _address(self) -> dict[str, str]:
        if self.certificate is None:
            return {"server": f"http://127.0.0.1:{self.server.port}"}
        return {
            "server": f"https://127.0.0.1:{self.server.port}",
            "certificate-authority": str(self.certificate),
        }

    def set_crd_versions(self, *versions: str) -> None:
        """The versions of DynamoGraphDeployment that are served; none takes the CRD away."""
        name = "dynamographdeployments.nvidia.com"
        before = self.store.get(kinds.CRDS, None, name)
        if not versions:
            if before:
                self.store.remove(kinds.CRDS, before)
            return
        listed = [{"name": one, "served": True, "storage": index == 0} for index, one in enumerate(versions)]
        names = {"kind": kinds.DGD.name, "plural": kinds.DGD.plural, "singular": "dynamographdeployment"}
        spec = {
            "group": "nvidia.com",
            "scope": "Namespaced",
            "names": {**names, "shortNames": ["dgd"]},
            "versions": listed,
        }
        told = [condition("NamesAccepted", True), condition("Established", True)]
        body = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name},
        }
        status = {"conditions": told, "storedVersions": [versions[0]]}
        self.store.put(kinds.CRDS, {**(before or body), "spec": spec, "status": status})

    def add_node(self, name: str, gpus: int, labels: dict[str, str] | None = None, taints: Any = ()) -> None:
        numbers = {"cpu": "64", "memory": "512Gi", "pods": "110"} | ({GPU: str(gpus)} if gpus else {})
        own = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": own}}
        status = {"allocatable": numbers, "capacity": numbers, "conditions": [condition("Ready", True)]}
        self.store.put(
            kinds.NODE, {**body, "spec": {"taints": [*taints]} if taints else {}, "status": status}
        )

    def set_gpus(self, node: str, number: int) -> None:
        found = self.store.get(kinds.NODE, None, node)
        assert found is not None
        self.add_node(node, number, found["metadata"]["labels"])

    def run_engines(self) -> None:
        """Pods of deployments run their command, in a network of their own (`network.is_possible`)."""
        self.kubelet.run_engines()

    def fail_pull(self, image: str, why: str = "not found") -> None:
        """Images whose name holds this cannot be had."""
        self.kubelet.settings.missing_images[image] = why

    def allow_pull(self, image: str) -> None:
        self.kubelet.settings.missing_images.pop(image, None)

    def ready_after(self, seconds: float) -> None:
        """Simulated pods take so long."""
        self.kubelet.settings.ready_s = seconds

    def never_ready(self, pod: str) -> None:
        self.kubelet.settings.unready.add(pod)

    def flap(self, pod: str, seconds: float = 0.3) -> None:
        """A pod (part of its name) is not ready for a while."""
        self.kubelet.settings.unready.add(pod)
        self._later(seconds, lambda: self.kubelet.settings.unready.discard(pod))

    def oom(self, pod: str) -> None:
        self.kubelet.kill(pod, "OOMKilled")

    def evict(self, pod: str, message: str = "The node was low on resource: memory.") -> None:
        found = self.get(kinds.POD, pod)
        assert found is not None
        self.kubelet.evict(found, message)

    def evict_job(self, job: str) -> None:
        for pod in self.pods_of_job(job):
            self.evict(pod["metadata"]["name"])

    def pods_of_job(self, job: str) -> list[Object]:
        pods = self.store.all(kinds.POD, self.namespace)
        return [one for one in pods if (one["metadata"].get("labels") or {}).get("job-name") == job]

    def fail_operator(self, graph: str, words: str, seconds: float) -> None:
        """The operator sets `failed` for so long; `*` is every graph."""
        self.operator.failing[graph] = (words, time.monotonic() + seconds)

    def gone(self, seconds: float) -> None:
        """No API server for so long; all that runs in the cluster goes on."""
        self.server.close()
        self._later(seconds, self.server.open)

    def cut_watches(self) -> None:
        """Connections of watches and logs break in the middle."""
        self.server.cuts += 1

    def expire_watches(self) -> None:
        """All watches hear 410, and none can begin where it was."""
        self.store.forget_history()
        self.server.expiries += 1

    def expire_token(self) -> None:
        self.access.tokens.clear()

    def renew_token(self, token: str = "second-token") -> None:
        """A new token, which is in the kubeconfig."""
        self.access.tokens = {token: "tester"}
        self.write_kubeconfig(token)

    def forbid(self, verb: str, plural: str) -> None:
        self.access.forbidden.add((verb, plural))

    def answer(
        self, verb: str, plural: str, code: int, message: str = "the server is not well", times: int = 1
    ) -> None:
        """The next such requests are answered so; `*` means any."""
        self.server.faults.answers += [(verb, plural, code, message)] * times

    def when(self, verb: str, plural: str, do: Callable[[], object], after: int = 0) -> None:
        """Does this once, when such a request has come and before it is answered; `after` so many others."""
        self.server.faults.hooks.append((verb, plural, do, after))

    def slow(self, seconds: float) -> None:
        """Before every answer."""
        self.server.faults.delay_s = seconds

    def set_quota(self, name: str = "limits", **hard: str) -> None:
        meta = {"name": name, "namespace": self.namespace}
        body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}}
        self.store.put(kinds.QUOTA, {**body, "status": {"hard": hard, "used": {}}})

    def delete_namespace(self) -> None:
        self.objects.delete(kinds.NAMESPACE, None, self.namespace)

    def _later(self, seconds: float, do: Any) -> None:
        timer = threading.Timer(seconds, do)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()
