"""This machine as the plan sees it: an address per virtual node, the folders, the programs, the environment.

Takes a plan's late-bound text; gives what can be started here, and the problems that forbid to start it.
Never does: deciding what is started; writing an environment anywhere (it may hold a token).
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from compiler import late, quote
from compiler.errors import Problem, error
from compiler.plan import Accuracy, Deployment, Phase, Probe, Process, Reset, Workload
from launchers.child import Command

SERVIX_DIR = Path(__file__).resolve().parents[1]
FIRST_NODE = 10
MOST_NODES = 240
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
INTERPRETERS = ("python", "python3", "bash", "sh")
INSTALL_HINT = "run 'make install', which sets up .venv with everything a local run needs"

INHERITED = frozenset(
    {"HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "LD_LIBRARY_PATH"}
)
PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})
CERTIFICATES = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})
INHERITED_PREFIXES = ("LC_", "HF_", "HUGGING_FACE_")
"""Everything else of the user's environment stays outside: a run means the same in every shell."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where late-bound names point to on this machine."""

    addresses: tuple[str, ...]
    """Address of each virtual node."""
    storage_cache_dir: str | None = None
    """`system.storage_cache_dir`; null: a folder of the run."""
    tmp_dir: str | None = None
    """TMPDIR of every process, short enough for the sockets in it; null: the user's."""

    def names(self, results_dir: Path) -> dict[str, str]:
        """Late-bound word -> value, for processes whose results go to `results_dir`."""
        return {
            "frontend_node": self.addresses[0],
            "frontend_ip": self.addresses[0],
            "results_dir": str(results_dir),
            "storage_cache_dir": self.storage_cache_dir or str(results_dir / "cache"),
            "servix_dir": str(SERVIX_DIR),
            **{f"node:{index}": address for index, address in enumerate(self.addresses)},
        }

    def command(self, process: Process, results_dir: Path) -> Command:
        """The process as it is started here; its log goes to `results_dir/logs`."""
        names = self.names(results_dir)
        own = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, process.gpus)), **process.env}
        return Command(
            name=process.name,
            argv=tuple(late.bind(word, names) for word in process.argv),
            env={**self.environment(), **{name: late.bind(value, names) for name, value in own.items()}},
            workdir=Path(late.bind(process.workdir, names)),
            log=results_dir / "logs" / f"{process.name}.log",
            after=process.after,
            stop=process.stop,
        )

    def reset(self, reset: Reset, results_dir: Path, number: int) -> Command:
        """The command that empties, for the `number`th time, the caches of a stack with its results there."""
        names = self.names(results_dir)
        env = {name: late.bind(value, names) for name, value in reset.env.items()}
        argv = tuple(late.bind(word, names) for word in reset.argv)
        log = results_dir / "logs" / f"reset-caches-{number}.log"
        return Command("reset-caches", argv, {**self.environment(), **env}, results_dir, log)

    def client(self, workload: Workload, phase: Phase, attempt_dir: Path) -> Command:
        """The load generator of one phase, as it is started here."""
        name = f"{workload.tool}-{phase.name}"
        return self._client(name, phase.argv, workload.env, workload.unset_env, attempt_dir)

    def accuracy(self, run: Accuracy, attempt_dir: Path) -> tuple[Command | None, Command]:
        """The setup of an accuracy run, null where there is none, and the run itself, as they are started here."""
        setup = None
        if run.setup is not None:
            names = {word: quote.shell(value) for word, value in self.names(attempt_dir).items()}
            argv = ("bash", "-c", late.literal(late.bind(run.setup, names)))
            setup = self._client("accuracy-setup", argv, run.env, run.unset_env, attempt_dir)
        return setup, self._client("accuracy", run.argv, run.env, run.unset_env, attempt_dir)

    def _client(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        unset_env: Sequence[str],
        attempt_dir: Path,
    ) -> Command:
        """What runs against a live deployment; its log goes to `attempt_dir/logs`."""
        names = self.names(attempt_dir)
        return Command(
            name=name,
            argv=tuple(late.bind(word, names) for word in argv),
            env={
                **{key: value for key, value in self.environment().items() if key not in unset_env},
                **{key: late.bind(value, names) for key, value in env.items()},
            },
            workdir=attempt_dir,
            log=attempt_dir / "logs" / f"{name}.log",
        )

    def between(self, workload: Workload, phase: Phase, attempt_dir: Path) -> Command | None:
        """The command that runs after `phase`, under bash as its documents say; null where there is none."""
        if workload.between_command is None:
            return None
        names = {word: quote.shell(value) for word, value in self.names(attempt_dir).items()}
        text = late.bind(workload.between_command, names)
        name = f"between-{phase.name}"
        log = attempt_dir / "logs" / f"{name}.log"
        return Command(name, ("bash", "-c", text), self.environment(), attempt_dir, log)

    def probe(self, probe: Probe, results_dir: Path) -> Probe:
        """The probe with its address filled in."""
        return replace(probe, url=late.bind(probe.url, self.names(results_dir)))

    def environment(self) -> dict[str, str]:
        """What every process gets from the user's environment, our programs first in PATH."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in INHERITED | CERTIFICATES
            or name.lower() in PROXIES
            or name.startswith(INHERITED_PREFIXES)
        }
        # Processes have homes of their own; the models the user has downloaded are still those of the user.
        kept.setdefault("HF_HOME", str(Path("~/.cache/huggingface").expanduser()))
        for name in ("NO_PROXY", "no_proxy"):
            # A proxy cannot reach the loopback addresses of this machine.
            kept[name] = ",".join(filter(None, [kept.get(name), "127.0.0.0/8", "localhost", *self.addresses]))
        if self.tmp_dir is not None:
            kept["TMPDIR"] = self.tmp_dir
        path = os.environ.get("PATH", os.defpath)
        return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{path}"}


@contextlib.contextmanager
def claimed(num_nodes: int, storage_cache_dir: str | None = None) -> Iterator[Host]:
    """This machine with loopback addresses 127.x.y.10, 127.x.y.11, ... that no other servix uses meanwhile.

    It has a folder for temporary files, which is removed in the end. Raises ValueError for more virtual nodes than
    a subnet holds.
    """
    if num_nodes > MOST_NODES:
        raise ValueError(f"{num_nodes} virtual nodes, at most {MOST_NODES} fit on one machine")
    while True:
        subnet = f"127.{16 + secrets.randbelow(239)}.{secrets.randbelow(256)}"
        with socket.socket(socket.AF_UNIX) as claim:
            # An abstract name is in the same namespace as the loopback device, and goes with its process.
            try:
                claim.bind(f"\0servix-{subnet}")
            except OSError:
                continue
            addresses = tuple(f"{subnet}.{FIRST_NODE + node}" for node in range(num_nodes))
            # AIPerf leaves folders behind, each time; what is in use somewhere else stays.
            with tempfile.TemporaryDirectory(prefix="servix-", ignore_cleanup_errors=True) as tmp_dir:
                yield Host(addresses, storage_cache_dir, tmp_dir)
            return


def preflight(deployment: Deployment, workloads: Sequence[Workload], host: Host) -> list[Problem]:
    """Everything that can be known to fail before a process is started: ports in use, programs and models not there."""
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
    return list(dict.fromkeys(problem for problem in missing if problem)) + list(
        _taken_ports(deployment, host)
    )


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


def resolved_revision(deployment: Deployment, environment: Mapping[str, str]) -> str | None:
    """Commit of the served hub model in the cache of this machine; null for a model that is not in it."""
    worker = next((process for process in deployment.processes if process.worker is not None), None)
    if worker is None:
        return None
    env = {**environment, **worker.env}
    cache = env.get("HF_HUB_CACHE") or f"{env.get('HF_HOME', '~/.cache/huggingface')}/hub"
    folder = Path(cache).expanduser() / f"models--{deployment.model.replace('/', '--')}" / "refs"
    pinned = worker.argv[worker.argv.index("--revision") + 1] if "--revision" in worker.argv[:-1] else "main"
    try:
        return (folder / pinned).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
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
    if process.role == "infrastructure":
        return "lmcache_controller.ports"
    return f"backend.ports.{name}.base"


def versions() -> Mapping[str, str]:
    """Releases of what a local run is made of, as they are installed; nothing is imported."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("ai-dynamo", "ai-dynamo-runtime", "aiperf"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {**found, "python": sys.version.split()[0]}
