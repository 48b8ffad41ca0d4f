"""What the cache of the Hugging Face hub holds on this machine.

Takes the environment of a process that loads a model; gives whether it would find the model without asking the hub.
Never does: asking the hub; importing its client.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
MAIN = "main"


def cache_of(env: Mapping[str, str]) -> Path:
    """The folder of the cache."""
    home = env.get("HF_HOME", "~/.cache/huggingface")
    return Path(env.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()


def snapshot(cache: Path, name: str, revision: str | None) -> Path | None:
    """The folder with all files of a model at a revision; null where one is missing, or is not there in full.

    Which files there are, late releases of the hub's client write down, and so does the index of weights in shards.
    """
    repository = cache / f"models--{name.replace('/', '--')}"
    commit = _commit(repository, revision or MAIN)
    folder = repository / "snapshots" / commit
    if not folder.is_dir() or _begun(repository):
        return None
    there = [path for path in folder.rglob("*") if not path.is_dir()]
    wanted = {*_listed(repository, commit), *(file for path in there for file in _shards(folder, path))}
    complete = (
        there and all(path.exists() for path in there) and all((folder / file).exists() for file in wanted)
    )
    return folder if complete else None


def _commit(repository: Path, revision: str) -> str:
    """What a branch or tag stood for when it was downloaded; a commit stands for itself."""
    try:
        return (repository / "refs" / revision).read_text(encoding="utf-8").strip() or revision
    except (OSError, UnicodeDecodeError):
        return revision


def _begun(repository: Path) -> bool:
    """Whether a download was cut short."""
    return any((repository / "blobs").glob("*.incomplete"))


def _listed(repository: Path, commit: str) -> Iterator[str]:
    files = _read(repository / "trees" / f"{commit}.json").get("files")
    yield from files if isinstance(files, dict) else ()


def _shards(folder: Path, path: Path) -> Iterator[str]:
    """Files that an index of weights names, relative to the folder of the model."""
    if path.name.endswith(".index.json"):
        shards = _read(path).get("weight_map")
        for file in set(shards.values()) if isinstance(shards, dict) else ():
            yield str(path.parent.relative_to(folder) / str(file))


def _read(path: Path) -> dict[str, object]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
