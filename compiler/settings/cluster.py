"""How a deployment becomes objects of a Kubernetes cluster. Part of `model`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from compiler.kinds import STRICT, Arguments, Flag, Positive, Text, number


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKey:
    """One key of a Secret that is in the cluster already. Its value is never seen here."""

    __pydantic_config__ = STRICT

    name: Text | None = None
    """Name of the Secret; null: none is used."""
    key: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The volume that keeps what the load generator writes."""

    __pydantic_config__ = STRICT

    claim: Text | None = None
    """Name of a PersistentVolumeClaim."""
    size_gb: Positive | None = None
    """Size of the claim, where servix is to make it, in GiB; null: it is there already."""
    storage_class: Text | None = None
    """Of a claim that is made; null: the cluster's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPod:
    """The pod that measures."""

    __pydantic_config__ = STRICT

    image: Text | None = None
    """Has the load generator and servix; null: not said, which is a problem."""
    servix_dir: Text
    """Folder of the servix checkout in the images."""
    resources: Arguments = field(default_factory=dict)
    """What the pod requests: `{cpu: 4, memory: 8Gi}`."""
    pod: Arguments = field(default_factory=dict)
    """Further fields of the pod's spec, merged into what servix writes."""
    container: Arguments = field(default_factory=dict)
    """Further fields of its container, merged the same way."""
    head_room: Annotated[float, BeforeValidator(number), Field(ge=1, allow_inf_nan=False)]
    """How many times longer than estimated the points may take before the cluster ends the Job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """How a deployment becomes objects of a Kubernetes cluster."""

    __pydantic_config__ = STRICT

    mode: Literal["operator", "plain"]
    """`operator`: one DynamoGraphDeployment; `plain`: Deployments and Services, for clusters without the operator."""
    api_version: Literal["v1beta1", "v1alpha1"]
    """Of the DynamoGraphDeployment."""
    runtime_version: Text | None = None
    """Release of Dynamo in `system.image`, where its tag does not say it: `1.6.1`."""
    gpu_resource: Text
    """Name under which the cluster hands out GPUs."""
    bench: BenchPod
    results: Results
    model_cache_claim: Text | None = None
    """PersistentVolumeClaim that is mounted at `system.hf_home` of every pod."""
    hf_token_from: SecretKey
    """Where `HF_TOKEN` of every pod comes from."""
    image_pull_secrets: list[Text] = field(default_factory=list)
    """Names of Secrets."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    service_account: Text | None = None
    priority_class: Text | None = None
    shared_memory_gb: Positive | None = None
    """Size of /dev/shm of a worker, in GiB; null: what the operator gives."""
    host_network: Flag = False
    networks: Text | None = None
    """Secondary networks of the workers' pods: value of the annotation `k8s.v1.cni.cncf.io/networks`."""
    node_selector: dict[str, Text] = field(default_factory=dict)
    tolerations: list[Arguments] = field(default_factory=list)
    annotations: dict[str, Text] = field(default_factory=dict)
    """Of every pod."""
    labels: dict[str, Text] = field(default_factory=dict)
    """Of every pod."""
    pod: Arguments = field(default_factory=dict)
    """Further fields of the spec of every pod of the deployment, merged into what servix writes."""
    container: Arguments = field(default_factory=dict)
    """Further fields of the container of every worker, merged the same way."""
