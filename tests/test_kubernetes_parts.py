"""Files that come in chunks, as a reader on the volume says them: whole or not at all, and never elsewhere."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import clusters
import pytest

from launchers.kubernetes import fetch, reader
from launchers.kubernetes.frames import Reader, lines
from launchers.kubernetes.parts import Parts

DATA = bytes(range(256)) * 100


def told(folder: Path, name: str = "a/b.bin", data: bytes = DATA) -> Parts:
    parts = Parts(folder)
    parts.tell([(name, len(data), hashlib.sha256(data).hexdigest())])
    return parts


def test_chunks_that_do_not_follow_are_asked_for_again(tmp_path: Path) -> None:
    parts = told(tmp_path)
    parts.take("a/b.bin", 0, DATA[:1000])
    parts.take("a/b.bin", 2000, DATA[2000:])
    assert (parts.missing, parts.have()) == (["a/b.bin"], {"a/b.bin": 1000})
    again = told(tmp_path)
    again.take("a/b.bin", 1000, DATA[1000:])
    assert (again.missing, (tmp_path / "a/b.bin").read_bytes()) == ([], DATA)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.bin"]


def test_what_does_not_fit_its_checksum_is_no_file(tmp_path: Path) -> None:
    parts = told(tmp_path)
    parts.take("a/b.bin", 0, DATA[:-1] + b"x")
    assert (parts.missing, parts.wrong, parts.have()) == (["a/b.bin"], {"a/b.bin"}, {})
    parts.take("a/b.bin", 0, DATA)
    assert (parts.missing, parts.wrong) == ([], set())


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
def test_nothing_leaves_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves the folder"):
        told(tmp_path / "in", name)


def test_files_nobody_told_of_are_not_written(tmp_path: Path) -> None:
    parts = told(tmp_path)
    parts.take("else", 0, b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_says_what_is_there_from_where_it_is_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "d-0123456789" / "p-abcdef0123" / "attempts" / "2"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "artifacts" / "large").write_bytes(DATA * 20)
    (folder / "result.json").write_text("{}")
    (folder / "deployment").symlink_to("/")
    said: list[tuple[str, Any]] = []
    wanted = {"root": str(tmp_path), "deployment": "0123456789", "point": "abcdef0123", "attempt": 2}
    reader.tell(0, {**wanted, "have": {"artifacts/large": 7}}, lambda *one: said.append(one))
    heard = Reader()
    said_whole = [m for kind, data in said for line in lines(kind, data) if (m := heard.take(line))]
    assert [message.kind for message in said_whole[:3]] == ["alive", "files", "chunk"]
    came = [message.data for message in said_whole[1:]]
    assert [name for name, _, _ in came[0]["files"]] == ["artifacts/large"]
    assert b"".join(one["data"].encode("latin-1") for one in came[1:]) == (DATA * 20)[7:]
    reader.tell(1, {**wanted, "attempt": 9}, lambda *one: said.append(one))
    assert said[-1] == ("files", {"attempt": 1, "there": False, "files": []})


class Cluster:
    """Takes a pod, and is then told to stop before it has said so."""

    def __init__(self) -> None:
        self.pods: list[str] = []

    async def create(self, wanted: dict[str, Any]) -> None:
        self.pods.append(wanted["metadata"]["name"])
        raise asyncio.CancelledError

    async def delete(self, _version: str, _kind: str, name: str) -> None:
        self.pods.remove(name)


def test_a_fetch_that_is_stopped_as_its_pod_is_made_leaves_none(tmp_path: Path) -> None:
    plan, cluster = clusters.planned(), Cluster()
    (only,), (point,), settings = plan.deployments, plan.points, clusters.deployment()[1]
    wanted = [fetch.Wanted(point, only, {"attempt": 1}, Parts(tmp_path))]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(fetch._one_pod(cluster, settings, wanted, fetch.Bar("json")))  # type: ignore[arg-type]
    assert cluster.pods == []


def test_a_reader_has_the_site_data_of_the_pod_that_measures() -> None:
    only, settings = clusters.deployment(
        "+system.kubernetes.bench.pod={securityContext: {fsGroup: 1000}, initContainers: [{name: a, image: b}]}",
        "+system.kubernetes.bench.container.resources={limits: {memory: 16Gi}}",
    )
    spec = fetch.pod(only, settings, [])["spec"]
    assert (spec["securityContext"], "initContainers" in spec) == ({"fsGroup": 1000}, False)
    assert spec["containers"][0]["resources"]["limits"] == {"memory": "16Gi"}
