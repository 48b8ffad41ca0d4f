"""What can be known to fail on this machine before a process of a plan is started.

Takes a deployment, its workloads and the host; gives problems: ports in use, programs, modules and models not there.
Never does: starting a program, or importing one of its packages.
"""

from __future__ import annotations

import importlib.machinery
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from compiler import late
from compiler.errors import Problem, error
from compiler.plan import Accuracy, Deployment, Process, Workload
from launchers.child import Command
from launchers.host import Host

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
INTERPRETERS = ("python", "python3", "bash", "sh")
INSTALL_HINT = "run 'make install', which sets up .venv with everything a local run needs"


def preflight(deployment: Deployment, workloads: Sequence[Workload], host: Host) -> list[Problem]:
    """Everything that can be known to fail before a process is started: ports in use, programs and models not there."""
    if not host.is_here:
        return []
    return not_there(deployment, workloads, host) + list(_taken_ports(deployment, host))


def not_there(deployment: Deployment, workloads: Sequence[Workload], host: Host) -> list[Problem]:
    """Programs and models that a deployment and its workloads need and that are not on this machine."""
    names, path = host.names(Path()), host.environment()["PATH"]
    # Named after the first that needs it: eight workers miss the same module only once.
    first = {
        tuple(late.bind(word, names) for word in process.argv[:3]): process.name
        for process in reversed(deployment.processes)
    }
    if deployment.reset is not None and len(workloads) > 1:
        first[tuple(late.bind(word, names) for word in deployment.reset.argv[:3])] = "reset-caches"
    missing = [_missing(words, name, path) for words, name in first.items()]
    missing += [_missing_tools(workload, path) for workload in workloads]
    runs = [workload.accuracy for workload in workloads if workload.accuracy is not None]
    missing += [_missing_script(run, names, path) for run in runs if run.setup is None]
    missing += [_missing_model(host.command(process, Path())) for process in deployment.processes]
    return list(dict.fromkeys(problem for problem in missing if problem))


def _missing(words: Sequence[str], name: str, path: str) -> Problem | None:
    program = words[0]
    if shutil.which(program, path=path) is None:
        hint = (
            f"install it, or name it in dynamo.{name}_command" if name in ("etcd", "nats") else INSTALL_HINT
        )
        return error("program", name, program, "this program is not installed", hint)
    if program == "python" and words[1:2] == ("-m",) and not _has_module(words[2]):
        return error("program", name, words[2], f"{sys.executable} has no such module", INSTALL_HINT)
    return None


def _missing_tools(workload: Workload, path: str) -> Problem | None:
    """What the load generator needs and is not there."""
    names = [program for program in workload.needs if shutil.which(program, path=path) is None]
    if not names:
        return None
    reason = f"not installed: {', '.join(names)}"
    return error("program", "bench", workload.tool, reason, workload.needs_hint or "")


def _missing_script(run: Accuracy, names: Mapping[str, str], path: str) -> Problem | None:
    """The program of an accuracy run, or the script that a well-known one is given. A setup may bring either."""
    program, *rest = (late.bind(word, {**names, "results_dir": ""}) for word in run.argv[:2])
    if shutil.which(program, path=path) is None:
        return error("program", "accuracy.entrypoint", program, "this program is not installed")
    script = Path(rest[0]) if rest and program.rpartition("/")[2] in INTERPRETERS else None
    if script is not None and script.is_absolute() and not script.exists():
        return error("program", "accuracy.entrypoint", str(script), "there is no such file")
    return None


def _missing_model(command: Command) -> Problem | None:
    """A model of the hub that was never downloaded, for a process that may not ask the hub."""
    if command.env.get("HF_HUB_OFFLINE", "").upper() not in ("1", "ON", "YES", "TRUE"):
        return None
    names = [after for word, after in pairwise(command.argv) if word in ("--model", "--model-path")]
    cache = command.env.get("HF_HUB_CACHE") or f"{command.env['HF_HOME']}/hub"
    for name in names:
        folder = Path(cache).expanduser() / f"models--{name.replace('/', '--')}" / "snapshots"
        if HUB_ID.fullmatch(name) and not Path(name).exists() and not folder.is_dir():
            reason = f"HF_HUB_OFFLINE is set, and {folder.parent.parent} does not have this model"
            hint = f"download it first ('hf download {name}'), set model.path, or use model=tiny"
            return error("model", "model.id", name, reason, hint)
    return None


def _has_module(name: str) -> bool:
    """Whether a module is there, without running any of its packages."""
    path: Sequence[str] | None = None
    for index in range(len(parts := name.split("."))):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: index + 1]), path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True


def _taken_ports(deployment: Deployment, host: Host) -> Iterator[Problem]:
    for process in deployment.processes:
        for name, ports in process.ports.items():
            for number in range(ports.port, ports.port + ports.count):
                reason = _why_not(host.addresses[process.node], number)
                if reason:
                    what = f"port '{name}' of {process.name} on node {process.node}: {reason}"
                    yield error("port", _key(process, name), number, what, "choose another port")


def _why_not(address: str, port: int) -> str | None:
    with socket.socket() as probe:
        # Connections that are only waiting to be forgotten do not count; listeners on all addresses do.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except PermissionError:
            return "a user may not listen there"
        except OSError as problem:
            return f"another program listens there ({problem.strerror})"
    return None


def _key(process: Process, name: str) -> str:
    """The setting that moves a port."""
    if process.role == "frontend":
        return "dynamo.port"
    if process.name in ("etcd", "nats"):
        return f"dynamo.{process.name}_port"
    if process.sees_all_gpus:
        return "system.dcgm.port"
    if process.role == "infrastructure":
        return "lmcache_controller.ports"
    return f"backend.ports.{name}.base"
