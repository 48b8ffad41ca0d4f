"""This machine as the plan sees it: an address per virtual node, the folders, the programs, the environment.

Takes a plan's late-bound text; gives what is started here. What forbids to start it, `preflight` says.
Never does: deciding what is started; writing an environment anywhere (it may hold a token).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compiler import late, quote
from compiler.plan import Accuracy, Deployment, Hook, Phase, Probe, Process, Reset, Workload
from launchers.child import Command
from launchers.supervise import Supervisor, Tell

SERVIX_DIR = Path(__file__).resolve().parents[1]
FIRST_NODE = 10
MOST_NODES = 240

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

    @property
    def is_here(self) -> bool:
        """Whether programs, models and ports of all nodes are those that can be seen from here."""
        return True

    @property
    def ran(self) -> Mapping[str, Any]:
        """What a result says of the machine."""
        return {"hosts": [socket.gethostname()]}

    def node_name(self, node: int) -> str:
        """What a person calls a node of the plan."""
        return self.addresses[node]

    def supervisor(self, tell: Tell) -> Supervisor:
        """What starts and ends processes here."""
        return Supervisor(tell, self.tmp_dir)

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

    def commands(self, deployment: Deployment, results_dir: Path) -> list[Command]:
        """The processes of a deployment that are started from here, in start order."""
        return [self.command(process, results_dir) for process in deployment.processes]

    def command(self, process: Process, results_dir: Path) -> Command:
        """The process as it is started here; its log goes to `results_dir/logs`."""
        names = self.names(results_dir)
        own = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, process.gpus)), **process.env}
        argv = tuple(late.bind(word, names) for word in process.argv)
        return Command(
            name=process.name,
            argv=(*self._startup(process, results_dir), *argv),
            env={**self.environment(), **{name: late.bind(value, names) for name, value in own.items()}},
            workdir=Path(late.bind(process.workdir, names)),
            log=results_dir / "logs" / f"{process.name}.log",
            after=process.after,
            stop=process.stop,
            title=self._title(process),
        )

    def _startup(self, process: Process, results_dir: Path) -> tuple[str, ...]:
        """Words before a command line that is to follow a command of the user's."""
        if process.startup is None:
            return ()
        log = results_dir / "logs" / f"startup-{process.name}.log"
        timeout_s = f"{process.startup.timeout_s:g}"
        words = ("python", str(SERVIX_DIR / "launchers" / "startup.py"), str(log), timeout_s)
        return (*words, self._shell_text(process.startup.text, results_dir))

    def _shell_text(self, text: str, results_dir: Path) -> str:
        """Plan text for `bash -c`: what is filled in is one word each, whatever it holds."""
        names = {word: quote.shell(value) for word, value in self.names(results_dir).items()}
        return late.bind(text, names)

    def hook(self, hook: Hook, results_dir: Path) -> Command:
        """A hook as it is run here; its log goes to `results_dir/logs`."""
        names = self.names(results_dir)
        return Command(
            name=hook.name,
            argv=("bash", "-c", self._shell_text(hook.text, results_dir)),
            env={**self.environment(), **{name: late.bind(value, names) for name, value in hook.env.items()}},
            workdir=results_dir,
            log=results_dir / "logs" / f"{hook.name}.log",
        )

    def gpu_logs(self, deployment: Deployment, results_dir: Path) -> list[Command]:
        """What logs the use of GPUs, one per machine, each with a file below `results_dir/gpus`."""
        return [self._gpu_log(deployment, results_dir, 0)] if deployment.gpu_log else []

    def _gpu_log(self, deployment: Deployment, results_dir: Path, node: int) -> Command:
        name = f"gpu-log-{node}"
        script, file = SERVIX_DIR / "launchers" / "gpu_log.py", results_dir / "gpus" / f"node-{node}.csv"
        words = tuple(late.bind(word, {}) for word in deployment.gpu_log)
        argv = ("python", str(script), str(file), *words)
        return Command(name, argv, self.environment(), results_dir, results_dir / "logs" / f"{name}.log")

    def _title(self, process: Process) -> str:
        """What a verdict calls a part of a worker over several nodes: who reads it looks for the node."""
        if process.rank is None:
            return ""
        where = f"rank {process.rank} on node {process.node}, {self.node_name(process.node)}"
        return f"{process.name} ({where})"

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
            argv = ("bash", "-c", late.literal(self._shell_text(run.setup, attempt_dir)))
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
        text = self._shell_text(workload.between_command, attempt_dir)
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


def versions() -> Mapping[str, str]:
    """Releases of what a local run is made of, as they are installed; nothing is imported."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("ai-dynamo", "ai-dynamo-runtime", "aiperf"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {**found, "python": sys.version.split()[0]}
