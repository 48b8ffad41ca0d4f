"""One container: the command of a pod in namespaces of its own, with its volumes where the pod says they are.

Run as a program with the path of a JSON file: `argv`, `env`, `workdir`, `root` (an empty folder), `binds`
(`[source, target, read-only]`), perhaps `network` (the path of a network namespace). The command sees this machine's
files, its own mounts over them, and no process but its own. It is process 1 of its namespace, so nothing that it
started outlives it; it ends with whoever started this program. Where mounts are not permitted to a user, a user
namespace makes them so.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUSER, NEWPID, NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
RDONLY, REMOUNT, BIND, REC, PRIVATE = 1, 32, 4096, 16384, 1 << 18
PDEATHSIG = 1


def call(name: str, *args: object) -> None:
    if getattr(LIBC, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    words = [text.encode() if text else None for text in (source, target, kind)]
    call("mount", *words, ctypes.c_ulong(flags), None)


def end_with_parent() -> None:
    call("prctl", PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        os._exit(137)


def enter_network(path: str) -> None:
    with Path(path).open() as file:
        call("setns", file.fileno(), NEWNET)


def enter_namespaces() -> None:
    user, group = os.getuid(), os.getgid()
    if user == 0:
        call("unshare", NEWNS | NEWPID)
    else:
        call("unshare", NEWNS | NEWPID | NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    mount("none", "/", None, REC | PRIVATE)


def bind(source: str, target: str, read_only: bool = False) -> None:
    mount(source, target, None, BIND | REC)
    if read_only:
        mount("none", target, None, BIND | REMOUNT | RDONLY)


def lay(source: Path, target: Path, wanted: dict[str, object]) -> None:
    """Fills the empty folder `target` with what `source` holds, but with the mounts of `wanted` where it has any."""
    here = (
        {entry.name: entry for entry in source.iterdir()}
        if source.is_dir() and source != Path("/proc")
        else {}
    )
    for name in {**here, **wanted}:
        if name in wanted:
            lay_wanted(source / name, target / name, wanted[name])
        elif here[name].is_symlink():
            (target / name).symlink_to(here[name].readlink())
        else:
            place(here[name], target / name)
            bind(str(here[name]), str(target / name))


def lay_wanted(source: Path, target: Path, what: object) -> None:
    if isinstance(what, dict):
        target.mkdir()
        lay(source, target, what)
    else:
        own, read_only = what  # type: ignore[misc]
        place(Path(own), target)
        bind(own, str(target), read_only)


def place(like: Path, target: Path) -> None:
    """An empty thing to mount over, of the same sort."""
    target.mkdir() if like.is_dir() else target.touch()


def tree(binds: list[list[object]]) -> dict[str, object]:
    """Folders as dictionaries, mounts as `(source, read-only)`."""
    whole: dict[str, object] = {}
    for source, target, read_only in sorted(binds, key=lambda one: str(one[1]).count("/")):
        parts = [part for part in str(target).split("/") if part]
        here = whole
        for part in parts[:-1]:
            if not isinstance(here.get(part, {}), dict):
                break  # a mount inside another is in that one's own folder
            here = here.setdefault(part, {})  # type: ignore[assignment]
        else:
            here[parts[-1]] = (source, read_only)
    return whole


def become(spec: dict[str, object], root: str) -> None:
    end_with_parent()
    os.chroot(root)
    mount("proc", "/proc", "proc", 0)
    os.chdir(str(spec["workdir"]))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    argv, env = list(spec["argv"]), dict(spec["env"])  # type: ignore[call-overload]
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        print(f"exec: {argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(128 if isinstance(error, PermissionError) else 127)


def main() -> int:
    end_with_parent()
    spec = json.loads(Path(sys.argv[1]).read_text())
    root = str(spec["root"])
    if spec.get("network"):
        enter_network(str(spec["network"]))
    enter_namespaces()
    mount("tmpfs", root, "tmpfs", 0)
    lay(Path("/"), Path(root), {"sys": ("/sys", False), **tree(spec["binds"]), "proc": {}})
    child = os.fork()
    if child == 0:
        become(spec, root)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda sent, _: os.kill(child, sent))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
