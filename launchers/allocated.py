"""The nodes of a job as the plan sees them: their host names, and a command line of `srun` for every process.

Takes a plan's late-bound text; gives commands that run where the plan says, with exactly the GPUs it says.
Never does: deciding that; writing an environment anywhere (it may hold a token, and travels to the step as it is).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compiler import late
from compiler.plan import Accuracy, Container, Deployment, Hook, Phase, Process, Reset, Workload
from launchers import containers
from launchers.child import Command
from launchers.guard import MARKER
from launchers.host import SERVIX_DIR, Host
from launchers.prefetch import of_file
from launchers.refusal import Trouble
from launchers.steps import NOT_STARTED, TASK, StepSupervisor, owner
from launchers.supervise import Supervisor, Tell

OF_THE_JOB = ("SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CLUSTER_NAME", "SLURM_CLUSTERS")
"""What a step may know of the job. The rest (`SLURM_GPUS_PER_NODE`, ...) would be taken as wishes of the step."""

EXIT_ERROR = "SLURM_EXIT_ERROR"
"""What srun ends with when it gets no step, which else looks like an end of what it was to start."""
OF_A_STEP = ("SLURM_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
"""What Slurm tells a step of its own nodes, in variables that name the job's."""


class NoAllocation(Trouble):
    """The nodes of the job are not those of the plan, or Slurm does not tell them."""


@dataclass(frozen=True, slots=True)
class Allocated(Host):
    """Nodes of a job; `addresses` are their names, or what Slurm reaches them by where those do not resolve."""

    job: str = ""
    nodes: tuple[str, ...] = ()
    """Their names in Slurm."""
    srun_args: tuple[str, ...] = ()
    gpus_per_node: int = 0
    """What the job was given on each node; 0: it asked for none."""
    image: str | None = None
    """Container image of every step; null: the host's own installation."""
    container: Container | None = None
    """What puts steps into it."""
    imported: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the squash file that was made of the image; empty where none was."""
    mounts: tuple[str, ...] = ()
    """`HOST:CONTAINER` of every step in a container, as plan text."""
    shared: tuple[str, ...] = ()
    """Folders that every container has where the host has them, as plan text: caches."""

    @property
    def is_here(self) -> bool:
        """Never: other nodes cannot be looked at without starting something there."""
        return False

    @property
    def ran(self) -> Mapping[str, Any]:
        """What a result says of the machine."""
        ran: dict[str, Any] = {"hosts": list(self.nodes), "slurm_job": self.job}
        if self.image is not None and self.container is not None:
            known = self.imported.get("digest") or containers.resolved(self.image)
            ran["container"] = {"by": self.container.name, "image": known}
        if self.imported:
            ran["image"] = dict(self.imported)
        return ran

    def node_name(self, node: int) -> str:
        """Its name in Slurm."""
        return self.nodes[node]

    def supervisor(self, tell: Tell) -> Supervisor:
        """What starts and ends steps."""
        return StepSupervisor(tell, self.job, self.tmp_dir)

    def environment(self) -> dict[str, str]:
        """What every step gets from the environment of the job."""
        own = {name: os.environ[name] for name in OF_THE_JOB if name in os.environ}
        return {**Host.environment(self), **own}

    def command(self, process: Process, results_dir: Path) -> Command:
        """The process as a step on its node, with its GPUs."""
        made = Host.command(self, process, results_dir)
        gpus = range(self.gpus_per_node) if process.sees_all_gpus else process.gpus
        bare = process.image is None
        return self._step(made, results_dir, process.node, gpus, tuple(process.env), bare=bare)

    def hook(self, hook: Hook, results_dir: Path) -> Command:
        """The hook as a step on its node, with all GPUs of that; what sets up a node runs outside containers."""
        made, bare = Host.hook(self, hook, results_dir), hook.when == "node_setup"
        gpus = range(self.gpus_per_node)
        # An srun of the hook's own would take these for the whole job.
        argv = ("env", *(f"--unset={name}" for name in OF_A_STEP), *made.argv)
        return self._step(replace(made, argv=argv), results_dir, hook.node, gpus, tuple(hook.env), bare=bare)

    def gpu_logs(self, deployment: Deployment, results_dir: Path) -> list[Command]:
        """A step on each node, outside containers."""
        nodes = range(deployment.num_nodes if deployment.gpu_log else 0)
        gpus = range(self.gpus_per_node)
        made = [(node, self._gpu_log(deployment, results_dir, node)) for node in nodes]
        return [self._step(command, results_dir, node, gpus, bare=True) for node, command in made]

    def reset(self, reset: Reset, results_dir: Path, number: int) -> Command:
        """The command that empties the caches, as a step on the frontend's node."""
        made = Host.reset(self, reset, results_dir, number)
        return self._step(made, results_dir, env=tuple(reset.env))

    def client(self, workload: Workload, phase: Phase, attempt_dir: Path) -> Command:
        """The load generator of one phase, as a step on the frontend's node."""
        made = Host.client(self, workload, phase, attempt_dir)
        return self._step(made, attempt_dir, env=tuple(workload.env))

    def accuracy(self, run: Accuracy, attempt_dir: Path) -> tuple[Command | None, Command]:
        """The setup of an accuracy run and the run itself, as steps on the frontend's node."""
        setup, made = Host.accuracy(self, run, attempt_dir)
        env = tuple(run.env)
        first = None if setup is None else self._step(setup, attempt_dir, env=env)
        return first, self._step(made, attempt_dir, env=env)

    def between(self, workload: Workload, phase: Phase, attempt_dir: Path) -> Command | None:
        """The command between phases, as a step on the frontend's node."""
        made = Host.between(self, workload, phase, attempt_dir)
        return None if made is None else self._step(made, attempt_dir)

    def _step(
        self,
        command: Command,
        results_dir: Path,
        node: int = 0,
        gpus: Sequence[int] = (),
        env: Sequence[str] = (),
        *,
        bare: bool = False,
    ) -> Command:
        how, mounts = None if bare or self.image is None else self.container, self._mounted(results_dir)
        is_pyxis = how is not None and not how.command
        flags = containers.flags(self.image or "", mounts, str(results_dir), env) if is_pyxis else ()
        words = [
            "srun",
            "--overlap",
            "--nodes=1",
            "--ntasks=1",
            f"--nodelist={self.nodes[node]}",
            f"--job-name={command.name}",
            "--export=ALL",
            "--input=none",
            "--kill-on-bad-exit=1",
            "--cpu-bind=none",
            *([f"--gpus-per-node={self.gpus_per_node if gpus else 0}"] if self.gpus_per_node else []),
            *(f"--{word}" for word in flags),
            *self.srun_args,
        ]
        # Slurm sets CUDA_VISIBLE_DEVICES of the step, whatever was exported; what `env` sets comes after that. The
        # marker stays with srun: who looks for leftover processes must not find tasks, which are stopped by step.
        visible = f"CUDA_VISIBLE_DEVICES={','.join(map(str, gpus))}"
        whose = f"{TASK}={owner(self.job, self.nodes[node])}"
        words += [f"--chdir={command.workdir}", "env"]
        words += [f"--unset={MARKER}", f"--unset={EXIT_ERROR}", whose, visible]
        if how is not None and how.command:
            # Once more inside: what the image and the program set would win over what the plan says.
            inside = [f"{name}={command.env[name]}" for name in env if name != "CUDA_VISIBLE_DEVICES"]
            own = {"image": self.image or "", "workdir": str(command.workdir)}
            words += containers.prefix(how, own, mounts, command.env, self.names(results_dir))
            words += ["env", whose, visible, *inside]
        known = {**command.env, EXIT_ERROR: str(NOT_STARTED)}
        if self.tmp_dir is not None and (node != 0 or (self.image and not bare)):
            # It is there on the first node only, and not in containers.
            del known["TMPDIR"]
        return replace(command, argv=(*words, *command.argv), env=known)

    def _mounted(self, results_dir: Path) -> list[str]:
        """`HOST:CONTAINER[:OPTIONS]` of a step: the deployment's folder, the checkout, caches, the user's own."""
        names = self.names(results_dir)
        store = results_dir.parents[1] if len(results_dir.parents) > 1 else results_dir
        folders = [str(store), str(SERVIX_DIR), *(late.bind(folder, names) for folder in self.shared)]
        own = [f"{folder}:{folder}" for folder in dict.fromkeys(folders)]
        return [*own, *(late.bind(one, names) for one in self.mounts)]


@contextlib.contextmanager
def allocated(deployment: Deployment, srun_args: Sequence[str], images: Mapping[str, str]) -> Iterator[Host]:
    """The nodes of the job that this process runs in. Raises NoAllocation.

    `images`: image -> the squash file that it was imported into.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        raise NoAllocation("this is no job of Slurm: SLURM_JOB_ID is not set")
    first = next((one for one in deployment.processes if one.role == "frontend"), deployment.processes[0])
    shared = (first.env.get("HF_HOME"), deployment.storage_cache_dir)
    nodes = _bound(deployment, _hosts())
    file = images.get(first.image or "")
    with _tmp_dir(nodes[0]) as tmp_dir:
        yield Allocated(
            tuple(map(_address, nodes)),
            deployment.storage_cache_dir,
            tmp_dir,
            job=job,
            nodes=nodes,
            srun_args=tuple(srun_args),
            gpus_per_node=deployment.gpus_per_node if deployment.gpus else 0,
            image=file or first.image,
            imported=of_file(Path(file)) if file else {},
            container=deployment.container,
            mounts=first.mounts,
            shared=tuple(folder for folder in shared if folder is not None),
        )


def _tmp_dir(first: str) -> contextlib.AbstractContextManager[str | None]:
    """A folder for temporary files on the node of the load generator, which leaves some behind, each time.

    Null where that is not the node of this process.
    """
    if first != os.environ.get("SLURMD_NODENAME"):
        return contextlib.nullcontext()
    return tempfile.TemporaryDirectory(prefix="servix-", ignore_cleanup_errors=True)


def _address(node: str) -> str:
    """What reaches a node: its name or, where nobody resolves that, the address Slurm has of it."""
    with contextlib.suppress(OSError):
        socket.getaddrinfo(node, None)
        return node
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = ["scontrol", "--oneliner", "show", "node", node]
        said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
        if found := re.search(r"\bNodeAddr=(\S+)", said):
            return found[1]
    return node


def _hosts() -> list[str]:
    """Names of the job's nodes, in Slurm's order."""
    asked = ["scontrol", "show", "hostnames", os.environ.get("SLURM_JOB_NODELIST", "")]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as problem:
        raise NoAllocation(f"scontrol does not tell the nodes of the job: {problem}") from problem
    return said.split()


def _bound(deployment: Deployment, hosts: Sequence[str]) -> tuple[str, ...]:
    """The host of each node of the plan: the one the user named, else the next that is free."""
    named = {node.name for node in deployment.nodes}
    free = [host for host in hosts if host not in named]
    if missing := sorted(name for name in named if name is not None and name not in hosts):
        raise NoAllocation(f"the job does not have the nodes {', '.join(missing)}, but {', '.join(hosts)}")
    if len(hosts) < deployment.num_nodes:
        raise NoAllocation(f"the job has {len(hosts)} nodes, the plan needs {deployment.num_nodes}")
    return tuple(node.name if node.name is not None else free.pop(0) for node in deployment.nodes)
