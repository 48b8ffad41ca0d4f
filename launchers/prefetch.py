"""Downloads what deployments need before nodes with GPUs are asked for: by the command, or by a job of its own.

    python -m launchers.prefetch FOLDER

Takes what `compiler.prefetch` found; leaves models in the hub's cache and images as squash files. The tools are the
official ones: `hf download` (or `huggingface-cli download`) and `enroot import`.
Never does: what is done already; leaving half a file that looks whole; writing a token anywhere, or naming one on a
command line. It stays in the environment, or in the file that HF_TOKEN_PATH names.
Exit codes: 0 everything is there, 1 something is not.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compiler import image as images
from compiler.errors import Problem, error
from compiler.prefetch import WORK, Downloads, Image, Model, from_json
from launchers import hub, submitted
from launchers.atomic import as_json, guarded, write_atomically
from launchers.host import Host
from launchers.lock import Lock
from launchers.refusal import Trouble

CLIENTS = ("hf", "huggingface-cli")
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "NO_COLOR": "1",
}
LINES = 20
STOP_S = 10.0
SCHEMA = "servix.image/1"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NOISE = ("hint:", "if the repo", "set hf_debug")

Say = Callable[[str], None]


class Failed(Trouble):
    """Something could not be downloaded. The message is one line for a user, `log` the end of what the tool said."""

    def __init__(self, key: str, value: str, message: str, log: str = "") -> None:
        super().__init__(message)
        self.key, self.value, self.log = key, value, log

    @property
    def problem(self) -> Problem:
        """The same as what forbids to go on."""
        return error("prefetch", self.key, self.value, str(self))


def missing(downloads: Downloads, say: Say) -> Downloads:
    """What is not there yet; tells what is."""
    models = tuple(model for model in downloads.models if not _has(model, say))
    wanted = tuple(image for image in downloads.images if not _holds(image, say))
    return Downloads(models, wanted)


def cannot(downloads: Downloads, imports: bool) -> list[Problem]:
    """Programs that are not there; `imports`: images are imported on this machine."""
    path = Host(("localhost",)).environment()["PATH"]
    problems = []
    if downloads.models and _client(path) is None:
        hint = "install huggingface_hub, or download the model yourself"
        problems.append(error("program", "launch.prefetch", "hf", "this program is not installed", hint))
    if imports and downloads.images and shutil.which("enroot", path=path) is None:
        hint = "install it, use launch.prefetch=job, or name a squash file in system.image"
        problems.append(error("program", "launch.prefetch", "enroot", "this program is not installed", hint))
    return problems


def fetch(downloads: Downloads, say: Say) -> None:
    """Downloads everything. Raises Failed, StoreError; KeyboardInterrupt, with what was begun stopped."""
    for model in downloads.models:
        _download(model, say)
    for image in downloads.images:
        with guarded(Path(image.file)):
            _import(image, say)


def of_file(path: Path) -> Mapping[str, Any]:
    """What is known of a squash file that was imported: reference and digest, null where enroot does not tell it."""
    return {"file": str(path), "reference": None, "digest": None, **_record(path)}


def _has(model: Model, say: Say) -> bool:
    env = _env(model)
    folder = hub.snapshot(hub.cache_of(env), model.id, model.revision)
    if folder is not None:
        say(f"model {_name(model)} is in {folder}")
    return folder is not None


def _name(model: Model) -> str:
    return f"{model.id} ({model.revision})" if model.revision else model.id


def _env(model: Model) -> dict[str, str]:
    """The environment of the hub's client: of the user, and where the plan says that models are."""
    own = Host(("localhost",)).environment()
    env = {**own, **QUIET, **model.env}
    # The configuration may forbid the engines to ask the hub; who prefetches wants exactly that.
    env = {name: value for name, value in env.items() if name not in hub.OFFLINE}
    token = Path(own["HF_HOME"]).expanduser() / "token"
    if "HF_TOKEN_PATH" not in env and token.is_file():
        # Another home has no token of the user's.
        env["HF_TOKEN_PATH"] = str(token)
    return env


def _client(path: str) -> str | None:
    return next((name for name in CLIENTS if shutil.which(name, path=path)), None)


def _download(model: Model, say: Say) -> None:
    env = _env(model)
    client = _client(env["PATH"])
    if client is None:
        raise Failed("launch.prefetch", "hf", f"model {_name(model)}: 'hf' is not installed")
    words = [client, "download", model.id, *(["--revision", model.revision] if model.revision else [])]
    say(f"model {_name(model)} is downloaded into {hub.cache_of(env)}")
    code, lines = _run(words, env)
    if code != 0:
        raise Failed("model.id", model.id, f"'{' '.join(words)}' {_why(code, lines)}", "\n".join(lines))
    if hub.snapshot(hub.cache_of(env), model.id, model.revision) is None:
        reason = f"'{' '.join(words)}' came to an end, and {hub.cache_of(env)} does not have all files"
        raise Failed("model.id", model.id, reason, "\n".join(lines))
    say(f"model {_name(model)} is there")


def _why(code: int, lines: Sequence[str]) -> str:
    told = [line for line in lines if line.strip() and not line.lower().strip().startswith(_NOISE)]
    first = next(
        (line for line in told if line.lower().startswith(("error", "[error]"))), told[-1] if told else ""
    )
    how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
    return f"{how}: {first.strip()}" if first else how


def _holds(image: Image, say: Say) -> bool:
    path = Path(image.file)
    if not path.is_file():
        return False
    if images.is_moving(image.reference):
        # It may be another one by now.
        known = _record(path).get("digest")
        if known is None or known != _digest(image):
            return False
    say(f"image {image.reference} is in {path}")
    return True


def _record(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: data.get(key) for key in ("reference", "digest")} if isinstance(data, dict) else {}


def _digest(image: Image) -> str | None:
    """The digest of an image: pinned, or what enroot says; early releases of enroot cannot."""
    pinned = images.digest_of(image.reference)
    if pinned is not None:
        return pinned
    try:
        code, lines = _run(
            ["enroot", "digest", images.uri(image.reference)], Host(("localhost",)).environment(), tell=False
        )
    except Failed:
        return None
    found = [match[0] for line in lines if (match := _DIGEST.search(line))]
    return found[-1] if code == 0 and found else None


def _import(image: Image, say: Say) -> None:
    path = Path(image.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    note = {"image": image.reference, **submitted.own_note()}
    with Lock(path.with_suffix(".lock"), note, None, submitted.is_over):
        if _holds(image, say):
            # Somebody else has imported it while we waited.
            return
        # enroot refuses a file that is there; a cut one has not this name.
        draft, digest = path.with_suffix(".part"), _digest(image)
        draft.unlink(missing_ok=True)
        words = ["enroot", "import", "--output", str(draft), images.uri(image.reference)]
        say(f"image {image.reference} is imported into {path}")
        try:
            code, lines = _run(words, Host(("localhost",)).environment())
            if code != 0 or not draft.is_file():
                reason = f"'enroot import {words[-1]}' {_why(code, lines)}"
                raise Failed("system.image", image.reference, reason, "\n".join(lines))
            now = datetime.now(UTC).isoformat(timespec="seconds")
            told = {"schema": SCHEMA, "reference": image.reference, "digest": digest, "imported_at": now}
            write_atomically(path.with_suffix(".json"), as_json(told))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    say(f"image {image.reference} is there")


def _run(words: Sequence[str], env: Mapping[str, str], tell: bool = True) -> tuple[int, list[str]]:
    """Exit code and last lines of a program, shown as they come. Raises Failed where it cannot be started."""
    last: deque[str] = deque(maxlen=LINES)
    try:
        process = subprocess.Popen(
            words,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as problem:
        raise Failed(
            "launch.prefetch", words[0], f"'{words[0]}' cannot be started: {problem.strerror}"
        ) from problem
    with process:
        try:
            for line in _lines(process):
                last.append(line)
                if tell:
                    print(f"  {line}", file=sys.stderr, flush=True)
            return process.wait(), list(last)
        except BaseException:
            _end(process)
            raise


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    for line in process.stdout or ():
        yield line.rstrip()


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def main(folder: Path) -> int:
    """The exit code of the job."""

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        downloads = from_json(json.loads((folder / WORK).read_bytes()))
        fetch(missing(downloads, say), say)
    except (Trouble, OSError, ValueError, KeyError, TypeError) as problem:
        print(f"error: {problem}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
