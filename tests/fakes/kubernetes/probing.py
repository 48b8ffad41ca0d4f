"""The probes of pods that run: asked again and again, as a kubelet does."""

import http.client
import socket
import threading
from collections.abc import Callable
from typing import Any

from .network import Network

PERIOD_S = 0.3
"""A real kubelet asks every few seconds."""


class Prober:
    """Asks in a thread of its own. `wanted` gives (what is answered for, address, container) of each that runs."""

    def __init__(self, network: Network, wanted: Callable[[], list[tuple[str, str, dict[str, Any]]]]) -> None:
        self.passed: set[str] = set()
        self._network, self._wanted, self._over = network, wanted, threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)

    def _ask(self) -> None:
        self._network.enter()
        while not self._over.wait(PERIOD_S):
            passed = set()
            for key, address, container in self._wanted():
                probe = container.get("readinessProbe") or container.get("startupProbe")
                if probe is None or self._passes(probe, address, container):
                    passed.add(key)
            self.passed = passed

    def _passes(self, probe: dict[str, Any], address: str, container: dict[str, Any]) -> bool:
        try:
            if "httpGet" in probe:
                return self._http(address, _port(probe["httpGet"]["port"], container), probe["httpGet"])
            if "tcpSocket" in probe:
                port = _port(probe["tcpSocket"]["port"], container)
                socket.create_connection((address, port), 1).close()
            return True
        except (OSError, http.client.HTTPException):
            return False

    def _http(self, address: str, port: int, request: dict[str, Any]) -> bool:
        connection = http.client.HTTPConnection(address, port, timeout=2)
        try:
            connection.request("GET", request.get("path", "/"))
            return 200 <= connection.getresponse().status < 400
        finally:
            connection.close()


def _port(port: Any, container: dict[str, Any]) -> int:
    names = {one.get("name"): one["containerPort"] for one in container.get("ports") or []}
    return int(names.get(port, port))
