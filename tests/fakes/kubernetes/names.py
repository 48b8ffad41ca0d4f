"""The names of services: a file of hosts for each namespace, which all its containers have in place of /etc/hosts."""

from pathlib import Path

from . import kinds
from .objects import Objects
from .pods import Pod
from .store import Object


class Names:
    def __init__(self, objects: Objects, root: Path, pods: dict[str, Pod]) -> None:
        self._objects, self._root, self._pods = objects, root, pods

    def hosts(self, namespace: str) -> Path:
        file = self._root / "hosts" / namespace
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_text(self._hosts_text(namespace))
        return file

    def write(self) -> None:
        """In place, as the files are mounted into containers."""
        for file in (self._root / "hosts").glob("*"):
            text = self._hosts_text(file.name)
            if file.read_text() != text:
                file.write_text(text)

    def _hosts_text(self, namespace: str) -> str:
        lines = ["127.0.0.1 localhost"]
        for service in self._objects.store.all(kinds.SERVICE):
            name, own = service["metadata"]["name"], service["metadata"]["namespace"]
            names = [f"{name}.{own}", f"{name}.{own}.svc", f"{name}.{own}.svc.cluster.local"]
            lines.append(" ".join([self._behind(service), *([name] if own == namespace else []), *names]))
        return "\n".join(lines) + "\n"

    def _behind(self, service: Object) -> str:
        """The address of a pod that a service means, as nothing here carries one address to another; its own
        where there is none yet, so that nobody answers."""
        selector = service["spec"].get("selector") or {}
        for pod in self._objects.store.all(kinds.POD, service["metadata"]["namespace"]):
            own = self._pods.get(pod["metadata"]["uid"])
            labels = pod["metadata"].get("labels") or {}
            if selector and own is not None and own.state == "running" and selector.items() <= labels.items():
                return own.ip
        return str(service["spec"].get("clusterIP") or "127.0.0.1").replace("None", "127.255.255.254")
