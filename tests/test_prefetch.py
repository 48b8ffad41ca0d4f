"""What is downloaded before a job: what a plan names, what is there already, and the official tools at work.

The hub is `tests/fakes/hub.py`, asked by the real client; `enroot` is a script.
"""

from __future__ import annotations

import doctest
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import golden
import pytest
from compiling import ROOT, plan

from compiler import image, limit
from compiler.allocation import allocation
from compiler.batch import Place, prefetch
from compiler.plan import Plan
from compiler.prefetch import SCRIPT, WORK, Downloads, Image, Model, from_json, images, models
from compiler.sweep import group
from launchers import hub, queue, sbatch, submitted
from launchers.needs import Needs, NotDownloaded
from launchers.prefetch import Failed, fetch, missing, of_file
from launchers.queue import InQueue
from launchers.store import Store
from tests.fakes.hub import COMMIT, Hub

REAL = ("system=slurm", "model=qwen3-0.6b", "topology=shared")
PINNED = "nvcr.io/nvidia/x@sha256:" + 64 * "a"
PLACE = Place("/shared/prefetch/0123456789", "/opt/servix", "/opt/servix/.venv/bin/python", "/home/me")


def named(made: Plan) -> list[tuple[str, str | None]]:
    assert made.valid
    return [(model.id, model.revision) for model in models(made.deployments, made.points)]


NAMED = [
    (REAL, [("Qwen/Qwen3-0.6B", None)]),
    ((*REAL, "model.revision=abc"), [("Qwen/Qwen3-0.6B", "abc")]),
    ((*REAL, "model.revision=abc", "backend=sglang"), [("Qwen/Qwen3-0.6B", "abc")]),
    ((*REAL, "model.path=/models/qwen"), []),
    ((*REAL, "model.tokenizer=other/words"), [("Qwen/Qwen3-0.6B", None), ("other/words", None)]),
    (("system=mini",), []),
]


@pytest.mark.parametrize(("arguments", "found"), NAMED, ids=[" ".join(row[0][1:]) for row in NAMED])
def test_models_that_a_plan_names(arguments: tuple[str, ...], found: list[tuple[str, str | None]]) -> None:
    assert named(plan(*arguments)) == found


def test_images_that_a_plan_names() -> None:
    made = plan(*REAL, f"system.image={PINNED}", "aiperf.concurrency=2,4")
    assert images(made.deployments) == [PINNED]
    assert images(plan(*REAL, "system.image=/images/x.sqsh").deployments) == []
    assert images(plan(*REAL, "system.image=docker://a/b:1", "system.container=apptainer").deployments) == []


def test_the_script_of_the_job_that_downloads() -> None:
    asked = allocation(
        {"partition": "gpu", "account": "team", "prefetch_parameters": {"partition": "cpu", "mem": "8G"}}
    )
    wanted = Downloads(
        (Model("Qwen/Qwen3-0.6B", "abc", {"HF_HOME": "/hf"}),), (Image(PINNED, "/images/x.sqsh"),)
    )
    files = prefetch(wanted, asked, PLACE)
    golden.check("emit/prefetch.sbatch", files[SCRIPT])
    assert from_json(json.loads(files[WORK])) == wanted
    with pytest.raises(ValueError, match=r"servix\.prefetch/1"):
        from_json({"schema": "servix.prefetch/9"})


def test_examples_in_docstrings_are_right() -> None:
    assert [doctest.testmod(module).failed for module in (image, limit, queue, sbatch)] == [0, 0, 0, 0]


# --- the cache of the hub


def cached(cache: Path, **more: str) -> Path:
    """A model with two shards of weights, downloaded in full, as main."""
    repository = cache / "models--a--b"
    files = {"config.json": "{}", "x-1.safetensors": "1", "x-2.safetensors": "2"}
    files["x.safetensors.index.json"] = json.dumps(
        {"weight_map": {"p": "x-1.safetensors", "q": "x-2.safetensors"}}
    )
    for name, text in files.items():
        blob, link = repository / "blobs" / name, repository / "snapshots" / COMMIT / name
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(text)
        link.symlink_to(Path("../../blobs") / name)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return repository


def nothing(_: Path) -> None:
    pass


def no_shard(repository: Path) -> None:
    (repository / "snapshots" / COMMIT / "x-2.safetensors").unlink()


def no_blob(repository: Path) -> None:
    (repository / "blobs" / "x-1.safetensors").unlink()


def begun(repository: Path) -> None:
    (repository / "blobs" / "y.incomplete").touch()


def unlisted(repository: Path) -> None:
    (repository / "trees").mkdir()
    (repository / "trees" / f"{COMMIT}.json").write_text('{"files": {"config.json": {}, "vocab.txt": {}}}')


def unreadable(repository: Path) -> None:
    (repository / "trees").mkdir()
    (repository / "trees" / f"{COMMIT}.json").write_text("[]")


def empty(repository: Path) -> None:
    shutil.rmtree(repository / "snapshots" / COMMIT)
    (repository / "snapshots" / COMMIT).mkdir()


CACHED: list[tuple[Callable[[Path], None], str | None, bool]] = [
    (nothing, None, True),
    (nothing, "main", True),
    (nothing, COMMIT, True),
    (nothing, "v1", False),
    (no_shard, None, False),
    (no_blob, None, False),
    (begun, None, False),
    (unlisted, None, False),
    (unreadable, None, True),
    (empty, None, False),
]


@pytest.mark.parametrize(
    ("change", "revision", "there"), CACHED, ids=[f"{row[0].__name__} {row[1]}" for row in CACHED]
)
def test_a_model_is_there_with_all_its_files(
    tmp_path: Path, change: Callable[[Path], None], revision: str | None, there: bool
) -> None:
    change(cached(tmp_path))
    assert (hub.snapshot(tmp_path, "a/b", revision) is not None) == there
    assert hub.snapshot(tmp_path, "a/c", None) is None


# --- downloading


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of a user who has the token that the hub asks for."""
    shutil.copytree(ROOT / "config" / "model" / "files" / "tiny", tmp_path / "hub" / "acme" / "tiny")

    class Own(Hub):
        folder, token = tmp_path / "hub", "hf_sesame"

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_TOKEN", "hf_sesame")
        yield tmp_path / "home"
        server.shutdown()


def model(revision: str | None = None, name: str = "acme/tiny", **env: str) -> Downloads:
    return Downloads((Model(name, revision, env),))


def test_a_model_is_downloaded_once_at_its_revision(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    # The engines may not ask the hub; who prefetches does.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert missing(model("v1"), said.append) == model("v1")
    fetch(model("v1"), said.append)
    assert hub.snapshot(served / "hub", "acme/tiny", "v1") is not None
    assert hub.snapshot(served / "hub", "acme/tiny", "main") is None
    assert not missing(model("v1"), said.append)
    assert said[-1] == f"model acme/tiny (v1) is in {served}/hub/models--acme--tiny/snapshots/{COMMIT}"


def test_the_token_of_the_user_goes_with_another_home(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    served.mkdir()
    (served / "token").write_text("hf_sesame")
    fetch(model(HF_HOME=str(tmp_path / "shared")), print)
    assert hub.snapshot(tmp_path / "shared" / "hub", "acme/tiny", None) is not None
    assert not list((tmp_path / "shared").rglob("token"))


FAILING: list[tuple[dict[str, str], Downloads, str]] = [
    (
        {},
        model("v9"),
        "'hf download acme/tiny --revision v9' failed with exit code 1: Error: Revision not found",
    ),
    ({}, model(name="acme/none"), "failed with exit code 1: Error: Model 'acme/none' not found"),
    ({"HF_TOKEN": "hf_wrong"}, model(), "Error: Access denied"),
    ({"HF_ENDPOINT": "http://127.0.0.1:1"}, model(), "failed with exit code 1: Error"),
]


@pytest.mark.parametrize(("env", "wanted", "words"), FAILING, ids=["revision", "model", "token", "hub"])
def test_a_download_that_fails_says_why(
    served: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], wanted: Downloads, words: str
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Failed) as caught:
        fetch(wanted, print)
    assert words in str(caught.value)
    assert (caught.value.problem.code, caught.value.problem.key) == ("prefetch", "model.id")


# --- images

DIGEST = "sha256:" + 64 * "b"
ENROOT = f"""#!/bin/bash
echo "$@" >> "$CALLS"
case $1 in
    digest) [[ ${{OLD-}} ]] && {{ echo "[ERROR] Invalid command: digest" >&2; exit 1; }}; echo "${{NOW-{DIGEST}}}" ;;
    import)
        [[ -e $3 ]] && {{ echo "[ERROR] File already exists: $3" >&2; exit 1; }}
        echo "[INFO] Fetching image manifest" >&2
        echo half > "$3"
        [[ ${{FAIL-}} ]] && {{ echo "[ERROR] URL https://registry returned error code: 404 Not Found" >&2; exit 1; }}
        [[ ${{DIE-}} ]] && kill -9 $$
        echo whole >> "$3" ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a fake `enroot`, first in PATH, writes its command lines. Its environment is not that of the user."""
    folder, log = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    (folder / "enroot").write_text(
        ENROOT.replace("#!/bin/bash", f"#!/bin/bash\nCALLS={log}\n. {tmp_path}/knobs 2>&-")
    )
    (folder / "enroot").chmod(0o755)
    # What stands beside our Python comes first, and has no enroot.
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    log.touch()
    return log


def knob(calls: Path, text: str) -> None:
    (calls.parent / "knobs").write_text(text)


def of_image(folder: Path, reference: str) -> tuple[Downloads, Path]:
    path = folder / "images" / image.file_name(reference)
    return Downloads((), (Image(reference, str(path)),)), path


def test_an_image_is_imported_once_and_its_digest_known(tmp_path: Path, calls: Path) -> None:
    wanted, path = of_image(tmp_path, "nvcr.io/nvidia/x:1.6.1")
    assert missing(wanted, print) == wanted
    fetch(wanted, print)
    assert path.read_text() == "half\nwhole\n"
    known: dict[str, Any] = {"file": str(path), "reference": "nvcr.io/nvidia/x:1.6.1", "digest": DIGEST}
    assert of_file(path) == known
    fetch(wanted, print)
    assert not missing(wanted, print)
    assert calls.read_text().splitlines() == [
        "digest docker://nvcr.io#nvidia/x:1.6.1",
        f"import --output {path.with_suffix('.part')} docker://nvcr.io#nvidia/x:1.6.1",
    ]


def test_a_pinned_image_has_its_digest_whatever_enroot_can_say(tmp_path: Path, calls: Path) -> None:
    knob(calls, "OLD=1")
    wanted, path = of_image(tmp_path, PINNED)
    fetch(wanted, print)
    assert of_file(path)["digest"] == PINNED.partition("@")[2]
    assert calls.read_text().endswith(f" docker://nvcr.io#nvidia/x:sha256:{64 * 'a'}\n")
    other, there = of_image(tmp_path, "nvidia/x:2")
    fetch(other, print)
    assert of_file(there)["digest"] is None


def test_a_tag_that_moves_is_imported_again_when_it_has_moved(tmp_path: Path, calls: Path) -> None:
    wanted, _ = of_image(tmp_path, "nvidia/x:latest")
    fetch(wanted, print)
    assert not missing(wanted, print)
    knob(calls, f"NOW=sha256:{64 * 'c'}")
    assert missing(wanted, print) == wanted
    fetch(wanted, print)
    assert calls.read_text().count("import") == 2
    knob(calls, "OLD=1")
    assert missing(wanted, print) == wanted


@pytest.mark.parametrize(
    ("how", "words"),
    [("FAIL=1", "failed with exit code 1: [ERROR] URL https://registry"), ("DIE=1", "was ended by signal 9")],
    ids=["refused", "killed"],
)
def test_an_import_that_fails_leaves_nothing_that_looks_whole(
    tmp_path: Path, calls: Path, how: str, words: str
) -> None:
    wanted, path = of_image(tmp_path, "nvidia/x:1")
    knob(calls, how)
    with pytest.raises(Failed, match="enroot import docker://nvidia/x:1") as caught:
        fetch(wanted, print)
    assert words in str(caught.value)
    assert caught.value.problem.key == "system.image"
    assert [entry.name for entry in path.parent.iterdir() if entry.suffix != ".lock"] == []
    knob(calls, "")
    fetch(wanted, print)
    assert path.is_file()


# --- jobs that download


def test_each_deployment_of_a_sweep_waits_for_its_own_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: dict[str, InQueue] = {}

    def taken(*_: object) -> str:
        job = str(len(alive) + 1)
        alive[job] = InQueue("RUNNING", "", "")
        return job

    monkeypatch.setattr(sbatch, "submitted", taken)
    monkeypatch.setattr(submitted, "_QUEUE", queue.Queue())
    monkeypatch.setattr(queue, "FRESH_S", -1)
    monkeypatch.setattr(queue, "in_queue", lambda jobs: {job: alive[job] for job in jobs if job in alive})
    made = plan(*REAL, f"system.hf_home={tmp_path}/hf", "model.id=a/b,a/c")
    first, second = group(made, made.points)
    needs = Needs("job", None, allocation({}), Store(tmp_path / "outputs"))
    assert [needs.job([one]) for one in (first, second, first)] == ["1", "2", "1"]
    assert needs.alive == ["1", "2"]
    # The job has done it, and is over.
    cached(tmp_path / "hf" / "hub")
    alive.pop("1")
    assert needs.job([first]) is None
    assert needs.job([second]) == "2"
    alive.pop("2")
    with pytest.raises(NotDownloaded):
        needs.job([second])
