"""Watches of the fake cluster: what they say, and how they end; a server that goes away."""

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from fakes.kubernetes import Cluster
from fakes.processes import wait_until
from lightkube.resources.core_v1 import ConfigMap

from tests.kube_asking import (
    MAPS,
    apply,
    ask,
    changed,
    client,
    config_map,
)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as made:
        yield made


# Watching


def follow(cluster: Cluster, seconds: int = 20, **more: Any) -> tuple[list[str], threading.Thread]:
    """What a watch of ConfigMaps says, as it comes: `ADDED m`; the exception it ends with, if it does."""
    seen: list[str] = []

    def watch() -> None:
        try:
            for what, obj in client(cluster).watch(ConfigMap, server_timeout=seconds, **more):
                seen.append(f"{what} {obj.metadata.name}")
        except Exception as error:
            seen.append(f"{type(error).__name__}: {error}")

    before = cluster.server.watches
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert wait_until(lambda: cluster.server.watches > before)
    return seen, thread


def test_a_watch_says_what_is_there_and_what_changes(cluster: Cluster) -> None:
    apply(cluster, MAPS, config_map("a", x="1"))
    seen, _ = follow(cluster, fields={"metadata.name": "a"})
    assert wait_until(lambda: seen)
    apply(cluster, MAPS, config_map("b"))
    apply(cluster, MAPS, config_map("a", x="2"))
    ask(cluster, "DELETE", f"{MAPS}/a")
    assert wait_until(lambda: len(seen) == 3)
    assert seen == ["ADDED a", "MODIFIED a", "DELETED a"]


def test_what_comes_to_match_a_selector_is_added_to_its_watch(cluster: Cluster) -> None:
    seen, _ = follow(cluster, labels={"a": "b"})
    apply(cluster, MAPS, config_map("m"))
    apply(cluster, MAPS, changed(config_map("m"), "metadata.labels", {"a": "b"}))
    apply(cluster, MAPS, changed(config_map("m"), "metadata.labels", {"a": "c"}))
    assert wait_until(lambda: len(seen) == 2)
    assert seen == ["ADDED m", "DELETED m"]


def test_a_watch_from_a_version_says_only_what_came_after(cluster: Cluster) -> None:
    apply(cluster, MAPS, config_map("a"))
    version = ask(cluster, "GET", MAPS)[1]["metadata"]["resourceVersion"]
    apply(cluster, MAPS, config_map("b"))
    _, text = ask_text(
        cluster, watch="true", resourceVersion=version, timeoutSeconds="1", allowWatchBookmarks="true"
    )
    events = [json.loads(line) for line in text.splitlines()]
    assert [(one["type"], one["object"]["metadata"].get("name")) for one in events] == [
        ("ADDED", "b"),
        ("BOOKMARK", None),
    ]


def ask_text(cluster: Cluster, **query: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.server.port, timeout=20)
    connection.request("GET", f"{MAPS}?{urlencode(query)}", headers={"Authorization": "Bearer first-token"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_a_watch_from_a_forgotten_version_is_told_410(cluster: Cluster) -> None:
    version = ask(cluster, "GET", MAPS)[1]["metadata"]["resourceVersion"]
    apply(cluster, MAPS, config_map("a"))
    cluster.expire_watches()
    _, text = ask_text(cluster, watch="true", resourceVersion=version)
    event = json.loads(text)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_watches_that_are_open_expire_or_break(cluster: Cluster) -> None:
    seen, expired = follow(cluster)
    cluster.expire_watches()
    expired.join(10)
    assert "too old resource version" in seen[-1]
    seen, broken = follow(cluster)
    cluster.cut_watches()
    broken.join(10)
    assert "RemoteProtocolError" in seen[-1]


def test_the_server_goes_away_and_comes_back(cluster: Cluster) -> None:
    apply(cluster, MAPS, config_map("a"))
    seen, thread = follow(cluster)
    cluster.gone(0.3)
    thread.join(10)
    assert any(word in seen[-1] for word in ("RemoteProtocolError", "ReadError"))
    with pytest.raises(OSError):
        ask(cluster, "GET", MAPS)
    assert wait_until(lambda: cluster.server._http)
    assert ask(cluster, "GET", f"{MAPS}/a")[0] == 200


def test_a_request_fails_as_often_as_it_is_told_to(cluster: Cluster) -> None:
    cluster.answer("get", "configmaps", 503, times=2)
    assert [ask(cluster, "GET", f"{MAPS}/a")[0] for _ in range(3)] == [503, 503, 404]
