"""The volumes and the environment of a pod, made true on this machine."""

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import kinds
from .objects import Objects
from .refusals import Refusal
from .store import Object


class Waiting(Exception):
    """Why a container cannot start yet: the kubelet's reason and words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True, slots=True)
class Volumes:
    objects: Objects
    claims: Path  # <namespace>/<claim>: a folder each

    def claim_folder(self, namespace: str, name: str) -> Path:
        folder = self.claims / namespace / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def folders(self, pod: Object, under: Path) -> dict[str, Path]:
        """Volume -> its folder or file; Waiting when something that it needs is not there."""
        return {one["name"]: self._folder(pod, one, under) for one in pod["spec"].get("volumes") or []}

    def _folder(self, pod: Object, volume: dict[str, Any], under: Path) -> Path:
        namespace, own = pod["metadata"]["namespace"], under / "volumes" / volume["name"]
        if source := volume.get("persistentVolumeClaim"):
            claim = self._needed(kinds.CLAIM, namespace, source["claimName"])
            if claim is None or claim.get("status", {}).get("phase") != "Bound":
                raise Waiting("ContainerCreating", f'claim "{source["claimName"]}" is not bound')
            return self.claim_folder(namespace, source["claimName"])
        if source := volume.get("hostPath"):
            if source.get("type") == "DirectoryOrCreate":
                Path(source["path"]).mkdir(parents=True, exist_ok=True)
            return Path(source["path"])
        own.mkdir(parents=True, exist_ok=True)
        for kind, key, name in (
            (kinds.CONFIG_MAP, "configMap", "name"),
            (kinds.SECRET, "secret", "secretName"),
        ):
            if (source := volume.get(key)) is not None:
                found = self._needed(kind, namespace, source[name], bool(source.get("optional")))
                _write(own, _contents(found or {}), source.get("items"))
        return own

    def _needed(self, kind: kinds.Kind, namespace: str, name: str, optional: bool = False) -> Object | None:
        found = self.objects.store.get(kind, namespace, name)
        if found is None and not optional:
            said = f'{kind.plural[:-1]} "{name}" not found'
            raise Waiting("ContainerCreating", f"MountVolume.SetUp failed: {said}")
        return found

    def environment(self, pod: Object, container: dict[str, Any]) -> dict[str, str]:
        """The variables of a container; Waiting where a Secret or ConfigMap is missing."""
        env: dict[str, str] = {}
        for source in container.get("envFrom") or []:
            for key, kind in (("configMapRef", kinds.CONFIG_MAP), ("secretRef", kinds.SECRET)):
                if key in source:
                    values = self._values(pod, kind, source[key])
                    env |= {source.get("prefix", "") + name: value for name, value in values.items()}
        for one in container.get("env") or []:
            value = self._value(pod, one["valueFrom"]) if one.get("valueFrom") else one.get("value", "")
            if value is not None:
                env[one["name"]] = expanded(value, env)
        return env

    def _values(self, pod: Object, kind: kinds.Kind, source: dict[str, Any]) -> dict[str, str]:
        found = self.objects.store.get(kind, pod["metadata"]["namespace"], source["name"])
        if found is None and not source.get("optional"):
            raise Waiting("CreateContainerConfigError", f'{kind.plural[:-1]} "{source["name"]}" not found')
        return {key: value.decode() for key, value in _contents(found or {}).items()}

    def _value(self, pod: Object, source: dict[str, Any]) -> str | None:
        if "fieldRef" in source:
            return field_of(pod, source["fieldRef"]["fieldPath"])
        for key, kind in (("configMapKeyRef", kinds.CONFIG_MAP), ("secretKeyRef", kinds.SECRET)):
            if key in source:
                values = self._values(pod, kind, source[key])
                if source[key]["key"] not in values and not source[key].get("optional"):
                    own = f"{pod['metadata']['namespace']}/{source[key]['name']}"
                    said = f"couldn't find key {source[key]['key']} in {kind.name} {own}"
                    raise Waiting("CreateContainerConfigError", said)
                return values.get(source[key]["key"])
        return ""


def field_of(pod: Object, path: str) -> str:
    """A field by its path, as the downward API knows it: `metadata.labels['a']`, `status.podIP`."""
    if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def expanded(text: str, env: dict[str, str]) -> str:
    """`$(NAME)` replaced where NAME is known; `$$` is one dollar."""
    return re.sub(r"\$(\$|\(([^)]+)\))", lambda m: "$" if m[1] == "$" else env.get(m[2], m[0]), text)


def binds(
    container: dict[str, Any], folders: dict[str, Path], read_only: set[str]
) -> list[tuple[str, str, bool]]:
    """(source, path in the container, read-only) of each mount; Refusal where a subPath leaves its volume."""
    found = []
    for mount in container.get("volumeMounts") or []:
        source, inside = folders[mount["name"]], mount.get("subPath")
        if inside:
            if ".." in Path(inside).parts:
                raise Refusal(400, f"subPath {inside}: must not contain '..'")
            source /= inside
            if not source.exists():
                source.mkdir(parents=True)
        found.append(
            (str(source), mount["mountPath"], bool(mount.get("readOnly")) or mount["name"] in read_only)
        )
    return found


def read_only_volumes(pod: Object) -> set[str]:
    return {one["name"] for one in pod["spec"].get("volumes") or [] if "configMap" in one or "secret" in one}


def _contents(obj: Object) -> dict[str, bytes]:
    coded = obj.get("data") or {}
    if obj.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in coded.items()}
    more = {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    return {key: value.encode() for key, value in coded.items()} | more


def _write(folder: Path, contents: dict[str, bytes], items: list[dict[str, Any]] | None) -> None:
    """Files as the kubelet leaves them: links into `..data`, which is a link to a folder with a date."""
    if (folder / "..data").exists():
        return
    wanted = {one["path"]: contents[one["key"]] for one in items} if items else contents
    dated = folder / "..2026_01_01_00_00_00.1"
    for name, data in wanted.items():
        file = dated / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    dated.mkdir(exist_ok=True)
    (folder / "..data").symlink_to(dated.name)
    for top in {Path(name).parts[0] for name in wanted}:
        (folder / top).symlink_to(f"..data/{top}")
