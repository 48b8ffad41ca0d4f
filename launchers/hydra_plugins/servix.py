"""Our sweeper and launchers under the one package name Hydra looks for plugins in.

Hydra imports this module at every start, so nothing heavy is imported here. Hydra 1.3 accepts plugins of the
package `hydra_plugins` only; `run.py` puts `launchers/` at the end of the module path for that.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Launcher(HydraLauncher):
    """Compiles all points of a command together and acts on the plan."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what Hydra gives; `task_function` is told how the command ended."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self,
        job_overrides: Sequence[Sequence[str]],
        initial_job_idx: int,  # noqa: ARG002  (Hydra's signature)
    ) -> Sequence[JobReturn]:
        """One JobReturn per point for a sweeper that reads them. Ours does not: the exit code of the command goes to
        `run.py` through the task function."""
        from launchers import command

        trials = self.hydra_context.trials  # type: ignore[attr-defined]
        if trials is not None:
            # A sweeper that chooses the next points by the objective of these.
            return list(trials.launch(job_overrides))
        composer = self.hydra_context.composer  # type: ignore[attr-defined]
        self.task_function(command.execute(composer, job_overrides))
        return []


class Local(Launcher):
    """This machine."""


class Slurm(Launcher):
    """A Slurm cluster, through submitit."""


class Kubernetes(Launcher):
    """A Kubernetes cluster."""


class Sweeper(BasicSweeper):
    """Hydra's grid syntax, all points in one batch, and no folder of Hydra's own."""

    def sweep(self, arguments: list[str]) -> Any:
        """Every point goes to one `launch`: checks, grouping by deployment and the table need them together."""
        launcher = self.launcher
        if not isinstance(launcher, Launcher):
            return super().sweep(arguments)
        return launcher.launch([[*self._parse_config(), *arguments]], initial_job_idx=0)


@dataclass
class LocalConf:
    """Settings of the local launcher."""

    _target_: str = "hydra_plugins.servix.Local"


@dataclass
class SlurmConf:
    """Settings of the Slurm launcher; names are those of hydra-submitit-launcher."""

    _target_: str = "hydra_plugins.servix.Slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    constraint: str | None = None
    comment: str | None = None
    timeout_min: Any = "auto"
    timeout_factor: float = 1.5
    timeout_spare_min: float = 5
    setup: list[str] | None = None
    srun_args: list[str] | None = None
    additional_parameters: dict[str, Any] = field(default_factory=dict)
    exclude: str | None = None
    nodelist: str | None = None
    mem_gb: int | None = None
    cpus_per_task: int | None = None
    array_parallelism: int = 256
    silence_min: float = 60
    prefetch_timeout_min: int = 240
    prefetch_parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class KubernetesConf:
    """Settings of the Kubernetes launcher; what describes a cluster is in `system.kubernetes`."""

    _target_: str = "hydra_plugins.servix.Kubernetes"


@dataclass
class SweeperConf:
    """Settings of the sweeper: those of Hydra's own."""

    _target_: str = "hydra_plugins.servix.Sweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


STORE = ConfigStore.instance()
# Plain data: a key that there is not and a value of another kind are told by us, with the line of the file they are in.
STORE.store(group="hydra/launcher", name="local", node=asdict(LocalConf()), provider="servix")
STORE.store(group="hydra/launcher", name="slurm", node=asdict(SlurmConf()), provider="servix")
STORE.store(group="hydra/launcher", name="kubernetes", node=asdict(KubernetesConf()), provider="servix")
STORE.store(group="hydra/sweeper", name="servix", node=SweeperConf, provider="servix")
