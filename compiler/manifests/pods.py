"""A component -> the template of its pods: containers, volumes, probes, and where they may run.

Taken from: a component and the cluster's settings. Given to: `operator` and `plain`, as plain data.
Never does: deciding arguments, ports or GPUs. Those are the plan's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compiler import late, quote
from compiler.manifests.bound import OF_THE_HEAD, OWN_ADDRESS, POD_IP, RUN_DIR, Names
from compiler.manifests.components import Component
from compiler.manifests.merged import merged
from compiler.manifests.names import DIGEST, ROLE, labels_of, name_of
from compiler.manifests.placing import affinity
from compiler.manifests.settings import Settings
from compiler.plan import Deployment, Probe, Process

MAIN = "main"
"""Name that the operator asks of the container that counts."""
NETWORKS = "k8s.v1.cni.cncf.io/networks"
PERIOD_S, TIMEOUT_S = 2, 4
"""Of probes: what is ready is to be seen soon, and a loaded server may answer late."""
VIRTUAL = "virtual"
"""GPU kind that is none: the cluster is not asked for it."""
LMCACHE = "lmcache.yaml"
BY_OPERATOR = ("VLLM_NIXL_SIDE_CHANNEL_HOST",)
"""Variables with the pod's own address that the operator adds to pods of a worker over several nodes: to find one of
the same name is an error of the objects it makes."""
_URL = re.compile(r"http://\{node:[0-9]+\}:(?P<port>[0-9]+)(?P<path>/.*)\Z")


def pod(deployment: Deployment, component: Component, settings: Settings, names: Names) -> dict[str, Any]:
    """Metadata and spec of the component's pods. What `system.kubernetes` adds is in it; shared memory is not."""
    own = settings.own
    worker = component.role != "frontend"
    containers = [
        _container(deployment, component, one, settings, names) for one in (component.main, *component.beside)
    ]
    if worker:
        containers[0] = merged(containers[0], own.container)
    grace_s = max(one.stop.grace_s for one in (component.main, *component.beside))
    spec: dict[str, Any] = {
        **scheduling(settings),
        "terminationGracePeriodSeconds": math.ceil(grace_s),
        "containers": containers,
        "volumes": list(_volumes(deployment, component, settings, names)),
    }
    if own.host_network:
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    if placed := affinity(deployment, component):
        spec["affinity"] = placed
    networks = {NETWORKS: own.networks} if own.networks is not None and worker else {}
    return {
        "metadata": {
            "labels": {**own.labels, **labels_of(deployment), ROLE: component.role},
            "annotations": {**own.annotations, **networks, DIGEST: deployment.digest},
        },
        "spec": merged(spec, own.pod),
    }


def scheduling(settings: Settings) -> dict[str, Any]:
    """What every pod has of the site, that of the benchmark too."""
    own = settings.own
    found = {
        "imagePullSecrets": [{"name": name} for name in own.image_pull_secrets],
        "serviceAccountName": own.service_account,
        "priorityClassName": own.priority_class,
        "nodeSelector": dict(own.node_selector),
        "tolerations": [dict(each) for each in own.tolerations],
    }
    return {name: value for name, value in found.items() if value}


def image(name: str | None, settings: Settings) -> dict[str, Any]:
    """The image of a container, and when it is pulled."""
    policy = settings.own.image_pull_policy
    found = {"image": (name or "").removeprefix("docker://")}
    return found | ({"imagePullPolicy": policy} if policy is not None else {})


def token(settings: Settings) -> list[dict[str, Any]]:
    """`HF_TOKEN` by reference: its value is in the cluster only."""
    source = settings.own.hf_token_from
    if source.name is None:
        return []
    return [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": source.name, "key": source.key}}}]


def own_address() -> dict[str, Any]:
    """The variable with the pod's own address."""
    return {"name": POD_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def model_cache(settings: Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volume and mount of the model cache; neither without a claim."""
    claim, path = settings.own.model_cache_claim, settings.system.hf_home
    if claim is None or path is None:
        return [], []
    volume = {"name": "model-cache", "persistentVolumeClaim": {"claimName": claim}}
    return [volume], [{"name": "model-cache", "mountPath": path}]


def gpus(deployment: Deployment, component: Component) -> int:
    """GPUs of one pod: those of its process, never the node's."""
    return 0 if deployment.gpu == VIRTUAL else len(component.main.gpus)


def _container(
    deployment: Deployment, component: Component, process: Process, settings: Settings, names: Names
) -> dict[str, Any]:
    own = names.of_node(process.node, is_head=False)
    words = [own.bind(word) for word in _argv(component, process, settings)]
    # The interpreter and its module are the command: the operator appends to the arguments.
    program = 3 if words[1:2] == ["-m"] else 1
    found: dict[str, Any] = {
        "name": MAIN if process is component.main else process.name,
        **image(process.image, settings),
        "command": [*_startup(process, own), *words[:program]],
        "args": words[program:],
        "workingDir": own.plain(process.workdir),
        "env": _environment(component, process, settings, names),
        "ports": list(_ports(process)),
        "volumeMounts": list(_mounts(process, settings, names)),
    }
    if process is component.main and (number := gpus(deployment, component)):
        resource = settings.own.gpu_resource
        found["resources"] = {"limits": {resource: str(number)}, "requests": {resource: str(number)}}
    if process.ready is not None:
        found |= _probes(process.ready, deployment.ready_timeout_s)
    return found


def _startup(process: Process, names: Names) -> list[str]:
    """Words before a command that is to start when this text has been run to its end."""
    if process.startup is None:
        return []
    quoted = Names({word: quote.shell(value) for word, value in names.values.items()})
    script = f'timeout {process.startup.timeout_s:g} bash -c "$0" && exec "$@"'
    return ["bash", "-c", script, quoted.bind(process.startup.text)]


def _argv(component: Component, process: Process, settings: Settings) -> list[str]:
    """Words of the plan; of a worker over several nodes without those by which the operator joins its pods."""
    if component.node_count == 1 or process is not component.main:
        return list(process.argv)
    result, dropping = [], False
    for word in process.argv:
        if word.startswith("-"):
            dropping = word in settings.rendezvous
        if not dropping:
            result.append(word)
    return result


def _environment(
    component: Component, process: Process, settings: Settings, names: Names
) -> list[dict[str, Any]]:
    env = dict(process.env)
    if process.gpus:
        # Inside a pod the GPUs it was given count from 0.
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(len(process.gpus))))
    is_frontend = component.role == "frontend"
    found = []
    for name, text in sorted(env.items()):
        mine = names.of_node(process.node, name in OF_THE_HEAD and not is_frontend)
        value = mine.bind(text)
        if component.node_count > 1 and name in BY_OPERATOR and value == OWN_ADDRESS:
            continue
        source = own_address()["valueFrom"] if value == OWN_ADDRESS else None
        found.append({"name": name, "valueFrom": source} if source else {"name": name, "value": value})
    return sorted([own_address(), *found, *token(settings)], key=lambda entry: str(entry["name"]))


def _ports(process: Process) -> Iterator[dict[str, Any]]:
    for name, port in process.ports.items():
        plain = name.lower().replace("_", "-")[:12].strip("-")
        for offset in range(port.count):
            called = plain if offset == 0 else f"{plain[:9]}-{offset}"
            yield {"name": called, "containerPort": port.port + offset, "protocol": "TCP"}


def _probes(probe: Probe, ready_timeout_s: float) -> dict[str, Any]:
    """The probe of the plan, while the process starts and afterwards. Kinds other than `http` are none of a pod."""
    match = _URL.match(probe.url)
    if probe.kind != "http" or match is None:
        return {}
    seen = {"httpGet": {"path": match["path"], "port": int(match["port"])}}
    timing = {"periodSeconds": PERIOD_S, "timeoutSeconds": TIMEOUT_S}
    tries = math.ceil(ready_timeout_s / PERIOD_S)
    return {
        "startupProbe": {**seen, **timing, "failureThreshold": tries},
        "readinessProbe": {**seen, **timing, "failureThreshold": 3},
    }


def _mounts(process: Process, settings: Settings, names: Names) -> Iterator[dict[str, Any]]:
    yield {"name": "run", "mountPath": RUN_DIR}
    if "LMCACHE_CONFIG_FILE" in process.env:
        path = late.bind(process.env["LMCACHE_CONFIG_FILE"], names.values)
        yield {"name": "lmcache", "mountPath": path, "subPath": LMCACHE, "readOnly": True}
    yield from model_cache(settings)[1]
    for index, text in enumerate(process.mounts):
        _, target, *options = names.plain(text).split(":")
        read_only = {"readOnly": True} if "ro" in ",".join(options).split(",") else {}
        yield {"name": f"host-{index}", "mountPath": target, **read_only}


def _volumes(
    deployment: Deployment, component: Component, settings: Settings, names: Names
) -> Iterator[Mapping[str, Any]]:
    processes: Sequence[Process] = (component.main, *component.beside)
    yield {"name": "run", "emptyDir": {}}
    if any("LMCACHE_CONFIG_FILE" in process.env for process in processes):
        yield {"name": "lmcache", "configMap": {"name": f"{name_of(deployment)}-lmcache"}}
    yield from model_cache(settings)[0]
    for index, text in enumerate(component.main.mounts):
        yield {"name": f"host-{index}", "hostPath": {"path": names.plain(text).split(":")[0]}}
