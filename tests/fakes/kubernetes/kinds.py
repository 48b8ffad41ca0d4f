"""The kinds of objects that the fake API server knows, and their schemas.

Core kinds are checked against the schemas that come with kubernetes-validate, DynamoGraphDeployments against the
CRD's own where ../shared/data has it, else against the fields of it that are written down here.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

RECORDED = "shared/data/kubernetes/crds/dynamographdeployments-without-conversion.yaml"
CRD = next((path for above in Path(__file__).resolve().parents if (path := above / RECORDED).exists()), None)
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
POD_TEMPLATE = "io.k8s.api.core.v1.PodTemplateSpec"


@dataclass(frozen=True, slots=True)
class Kind:
    group: str  # empty: core
    versions: tuple[str, ...]  # the first is the one that objects are answered in if nobody says
    name: str
    plural: str
    definition: str | None  # in kubernetes-validate; None: a custom resource
    namespaced: bool = True
    status: bool = False  # has a status subresource: the status is nobody's but the controllers'

    @property
    def resource(self) -> str:
        """As messages of the API server name it: `jobs.batch`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def api_version(self, version: str | None = None) -> str:
        return "/".join(filter(None, [self.group, version or self.versions[0]]))


def _core(
    name: str,
    plural: str,
    group: str = "",
    package: str = "",
    *,
    namespaced: bool = True,
    status: bool = False,
) -> Kind:
    package = package or f"io.k8s.api.{group.split('.')[0] or 'core'}"
    return Kind(group, ("v1",), name, plural, f"{package}.v1.{name}", namespaced, status)


DGD = Kind(
    "nvidia.com",
    ("v1beta1", "v1alpha1"),
    "DynamoGraphDeployment",
    "dynamographdeployments",
    None,
    status=True,
)
NAMESPACE = _core("Namespace", "namespaces", namespaced=False, status=True)
NODE = _core("Node", "nodes", namespaced=False, status=True)
POD = _core("Pod", "pods", status=True)
SERVICE = _core("Service", "services", status=True)
CONFIG_MAP = _core("ConfigMap", "configmaps")
SECRET = _core("Secret", "secrets")
CLAIM = _core("PersistentVolumeClaim", "persistentvolumeclaims", status=True)
EVENT = _core("Event", "events")
QUOTA = _core("ResourceQuota", "resourcequotas", status=True)
JOB = _core("Job", "jobs", "batch", status=True)
DEPLOYMENT = _core("Deployment", "deployments", "apps", status=True)
STORAGE_CLASS = _core("StorageClass", "storageclasses", "storage.k8s.io", namespaced=False)
CRDS = _core(
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "apiextensions.k8s.io",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    namespaced=False,
    status=True,
)
KINDS = (
    *(
        DGD,
        NAMESPACE,
        NODE,
        POD,
        SERVICE,
        CONFIG_MAP,
        SECRET,
        CLAIM,
        EVENT,
        QUOTA,
        JOB,
        DEPLOYMENT,
        STORAGE_CLASS,
        CRDS,
    ),
    _core("ServiceAccount", "serviceaccounts"),
    _core("PersistentVolume", "persistentvolumes", namespaced=False, status=True),
    _core("LimitRange", "limitranges"),
    _core("ReplicaSet", "replicasets", "apps", status=True),
    _core("Role", "roles", "rbac.authorization.k8s.io"),
    _core("RoleBinding", "rolebindings", "rbac.authorization.k8s.io"),
    _core("EndpointSlice", "endpointslices", "discovery.k8s.io"),
    _core("Lease", "leases", "coordination.k8s.io"),
)
BY_PLURAL = {(kind.group, kind.plural): kind for kind in KINDS}
BY_NAME = {(kind.group, kind.name): kind for kind in KINDS}


def of_object(obj: dict[str, Any]) -> Kind:
    """The kind of an object; KeyError when it is not known here."""
    group, _, _ = obj["apiVersion"].rpartition("/")
    return BY_NAME[group, obj["kind"]]


@functools.cache
def definitions() -> dict[str, Schema]:
    import kubernetes_validate

    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    newest = max(
        folder.glob("v1.*-local-strict"),
        key=lambda path: [int(x) for x in path.name[1:].split("-")[0].split(".")],
    )
    return dict(json.loads((newest / "_definitions.json").read_text())["$defs"])


@functools.cache
def schema_of(kind: Kind, version: str) -> Schema:
    if kind.definition:
        return definitions()[kind.definition]
    own = _recorded(version) if CRD else _slim(version)
    return {**own, "properties": {**own["properties"], "metadata": definitions()[META]}}


@functools.cache
def _crd() -> dict[str, Any]:
    import yaml

    assert CRD is not None
    return dict(yaml.load(CRD.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506


def _recorded(version: str) -> Schema:
    found = [one for one in _crd()["spec"]["versions"] if one["name"] == version]
    return dict(found[0]["schema"]["openAPIV3Schema"])


TEXT, NUMBER, ANYTHING = (
    {"type": "string"},
    {"type": "integer"},
    {"x-kubernetes-preserve-unknown-fields": True},
)
WORDS = {"type": "object", "additionalProperties": TEXT}


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _named(item: Schema, **more: Any) -> Schema:
    return {
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        **more,
    }


def _slim(version: str) -> Schema:
    spec = _slim_beta() if version == "v1beta1" else _slim_alpha()
    return _object(apiVersion=TEXT, kind=TEXT, metadata=ANYTHING, spec=spec, status=ANYTHING)


def _slim_beta() -> Schema:
    component = _object(
        ("name",),
        name={**TEXT, "pattern": "^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$", "maxLength": 63, "minLength": 1},
        type={**TEXT, "enum": ["frontend", "worker", "prefill", "decode", "planner", "epp"]},
        replicas={**NUMBER, "minimum": 0},
        minAvailable={**NUMBER, "minimum": 1},
        podTemplate={"$ref": f"#/$defs/{POD_TEMPLATE}"},
        multinode=_object(nodeCount={**NUMBER, "minimum": 2}),
        sharedMemorySize={"x-kubernetes-int-or-string": True},
        compilationCache=_object(("pvcName",), pvcName=TEXT, mountPath=TEXT),
        modelRef=_object(("name",), name=TEXT, revision=TEXT),
        topologyConstraint=_object(("packDomain",), packDomain=TEXT),
        scalingAdapter=_object(),
        frontendSidecar=TEXT,
        runtimeVersionOverride={**TEXT, "pattern": r"^(0|[1-9]\d{0,3})\.(0|[1-9]\d{0,3})\.(0|[1-9]\d{0,3})$"},
        globalDynamoNamespace={"type": "boolean"},
        experimental=ANYTHING,
        eppConfig=ANYTHING,
    )
    return _object(
        annotations=WORDS,
        labels=WORDS,
        backendFramework={**TEXT, "enum": ["sglang", "vllm", "trtllm"]},
        components=_named(component, maxItems=25),
        env={"type": "array", "items": {"$ref": "#/$defs/io.k8s.api.core.v1.EnvVar"}},
        restart=ANYTHING,
        priorityClassName=TEXT,
        topologyConstraint=_object(("clusterTopologyName",), clusterTopologyName=TEXT, packDomain=TEXT),
        experimental=ANYTHING,
    )


def _slim_alpha() -> Schema:
    return _object(
        services={"type": "object", "additionalProperties": ANYTHING},
        backendFramework={**TEXT, "enum": ["sglang", "vllm", "trtllm"]},
        **dict.fromkeys(("envs", "pvcs", "annotations", "labels", "restart", "topologyConstraint"), ANYTHING),
    )
