"""A command through Hydra's sweeper: the points it expands, or chooses one after the other, come to our launcher.

Takes the composer, the configuration that is the same for all points, and what was typed; gives an exit code.
Never does: compiling; knowing a sweeper beside ours by more than what it does.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from compiler.complaint import sentence
from compiler.compose import COMPLAINTS, Composer
from compiler.compose.choosing import KEYS
from compiler.errors import NOTHING, Problem, error
from compiler.origin import with_origins
from launchers import command
from launchers.refusal import Trouble, debug, tell

if TYPE_CHECKING:
    from launchers.trials import Trials

OURS = "hydra_plugins.servix."
"""Where the targets of our launchers and our sweeper are."""


def swept(ours: Composer, master: DictConfig, arguments: list[str]) -> int:
    """Through Hydra's sweeper to the launcher, which knows how the command ended."""
    exit_codes: list[int] = []
    context = Context(ours)
    if not _is_ours(master):
        # Optuna's sweeper is written for an Optuna that is older than what it runs with.
        warnings.filterwarnings("ignore", category=FutureWarning, module="hydra_plugins|optuna")
        problems, context.trials = _trials(ours, master, arguments)
        if context.trials is None:
            fixed = [text for text in arguments if not ours.is_swept(text)]
            return command.execute(ours, [fixed], problems)
    try:
        sweeper = Plugins.instance().instantiate_sweeper(
            config=master,
            hydra_context=context,
            task_function=exit_codes.append,
        )
    except (AttributeError, AssertionError, TypeError, *COMPLAINTS) as exception:
        # What Hydra's `instantiate` makes of a launcher or sweeper that is none.
        debug()
        problem = error("hydra", "hydra.launcher", str(master.hydra.get("launcher")), sentence(exception))
        return command.execute(ours, [arguments], [problem])
    if context.trials is not None:
        return _searched(sweeper, context.trials, [text for text in arguments if not ours.is_hydras(text)])
    sweeper.sweep(arguments=arguments)
    return max(exit_codes, default=command.OK)


def _is_ours(master: DictConfig) -> bool:
    return str(master.hydra.sweeper.get("_target_")).startswith(OURS)


def _trials(
    ours: Composer, master: DictConfig, arguments: Sequence[str]
) -> tuple[list[Problem], Trials | None]:
    """What a foreign sweeper measures through, with the settings that servix knows better; else why it cannot."""
    # Few commands have such a sweeper, and it brings all that measures.
    from launchers import writable
    from launchers.atomic import StoreError
    from launchers.trials import Trials, unfit

    fixed = [text for text in arguments if not ours.is_swept(text) and not ours.is_hydras(text)]
    config = dict(ours.compose(fixed).data or {})
    objective = config.get("objective") or {}
    wanted = objective.get("direction")
    typed = [text for text in ours.hydra_overrides if text.startswith("hydra.sweeper.direction=")]
    given = typed[-1].partition("=")[2] if typed else None
    detached = (config.get("launch") or {}).get("detach") is True
    problems = unfit(
        str(config.get("action")), objective.get("metric"), wanted, given, detached, config.get("search")
    )
    problems += _nothing_to_choose(ours, master, arguments, fixed)
    if problems or not config:
        return list(with_origins(ours, arguments, problems)), None
    trials = Trials(ours, arguments, config)
    try:
        folder = trials.folder
    except StoreError as exception:
        return list(with_origins(ours, arguments, [writable.problem(trials.store, exception)])), None
    with open_dict(master):
        master.hydra.sweeper.direction = wanted
        if not any(text.startswith("hydra.sweeper.max_failure_rate=") for text in ours.hydra_overrides):
            # Its own is 0: the first trial that failed would end the search.
            master.hydra.sweeper.max_failure_rate = 1.0
        # Optuna writes its own summary there.
        master.hydra.sweep.dir = str(folder)
    return [], trials


SPACES = ("params", "search_space", "custom_search_space")
"""Settings of a foreign sweeper that say what it chooses from, beside what is typed."""
COUNTS = ("n_trials", "n_jobs")


def _nothing_to_choose(
    ours: Composer, master: DictConfig, arguments: Sequence[str], fixed: Sequence[str]
) -> list[Problem]:
    """What keeps every trial from being a point, so that none has to be asked for to see it."""
    settings = master.hydra.sweeper
    found = [
        error("hydra", f"hydra.sweeper.{name}", settings.get(name), "should be at least 1")
        for name in COUNTS
        if isinstance(settings.get(name), int) and settings.get(name) < 1
    ]
    swept = {text.partition("=")[0].lstrip("+"): text for text in arguments if ours.is_swept(text)}
    if not swept and not any(settings.get(name) for name in SPACES):
        reason, hint = (
            "nothing is swept, so there is nothing to choose",
            "e.g. 'aiperf.concurrency=range(1,24)'",
        )
        found.append(error("hydra", "hydra/sweeper", "optuna", reason, hint))
    points, wrong = ours.points(fixed)
    if len(points) > 1:
        typed = [text for text in fixed if text.partition("=")[0].partition(".")[0] in KEYS]
        reason = "zip and sample give points of their own, and this sweeper chooses each of them"
        problem = error("hydra", "", NOTHING, reason, "leave them out, or hydra/sweeper")
        found.append(problem.at(f"override '{typed[0]}'" if typed else "the command"))
    return [*found, *wrong, *_unknown(ours, fixed, swept)]


def _unknown(ours: Composer, fixed: Sequence[str], swept: Mapping[str, str]) -> Iterator[Problem]:
    """Keys to choose values for that are not there."""
    tried = {key: f"{text.partition('=')[0]}=0" for key, text in swept.items()}
    for problem in command.compiled(ours, [[*fixed, *tried.values()]]).points[0].problems:
        if problem.code == "unknown-key" and (typed := swept.get(problem.key)) is not None:
            hint = problem.hint.replace(tried[problem.key], typed)
            yield replace(problem, value=typed.partition("=")[2], hint=hint, origin=f"override '{typed}'")


def _searched(sweeper: Sweeper, trials: Trials, arguments: list[str]) -> int:
    """Lets a foreign sweeper run; gives the exit code of all its trials together."""
    from launchers.trials import Lost, Spent

    if logging.lastResort is not None:
        logging.lastResort.addFilter(trials.is_news)
    try:
        sweeper.sweep(arguments)
    except KeyboardInterrupt:
        return trials.finish(interrupted=True)
    except (Trouble, OSError):
        trials.finish()
        raise
    except Spent as spent:
        tell(spent.problems, sys.stderr)
        print("servix: the search ends here", file=sys.stderr)
    except (Lost, ValueError, AssertionError, RuntimeError, HydraException) as exception:
        # No trial counts, more failed than the sweeper was told to bear, or it cannot read a range.
        if GRID_IS_DONE not in str(exception):
            debug()
            print(f"error: hydra/sweeper: {sentence(exception)}", file=sys.stderr)
    return trials.finish()


GRID_IS_DONE = "`Study.stop` is supposed to be invoked inside"
"""What Optuna's grid raises in Hydra's sweeper where its last trial is one that failed."""


def bypasses(master: DictConfig) -> list[Problem]:
    """Settings of Hydra's own with which points would not come to our launcher, or not together."""
    found: list[Problem] = []
    mode, batch = master.hydra.mode, OmegaConf.select(master, "hydra.sweeper.max_batch_size")
    if mode != RunMode.MULTIRUN:
        reason = "every run goes through a launcher, and only MULTIRUN does"
        found.append(error("hydra", "hydra.mode", mode.name if mode else None, reason, "leave it alone"))
    choices, kind = master.hydra.runtime.choices, master.get("system", {}).get("kind")
    if choices.get("hydra/launcher") == "basic" and kind is None:
        # Hydra's own default: nothing has chosen another one.
        reason = "its file names no kind of system, so no launcher comes with it"
        hint = "begin it with '# @package _global_' and name local, slurm or kubernetes in its defaults"
        return [*found, error("hydra", "system", choices.get("system"), reason, hint)]
    for what in ("launcher", "sweeper"):
        chosen = master.hydra[what]
        if not isinstance(chosen, DictConfig):
            found.append(error("hydra", f"hydra.{what}", chosen, f"is no {what}", "leave it to system"))
        elif not str(chosen.get("_target_")).startswith("hydra_plugins."):
            reason = f"this {what} does not know deployments, and would start a server for every point"
            named = str(choices.get(f"hydra/{what}"))
            found.append(error("hydra", f"hydra/{what}", named, reason, "leave it to system"))
    if (launcher := choices.get("hydra/launcher")) in ("local", "slurm", "kubernetes") and launcher != kind:
        reason = f"system '{master.system.name}' is of kind {kind}, and its launcher goes with it"
        found.append(error("hydra", "hydra/launcher", launcher, reason, f"use system={launcher}"))
    if isinstance(chosen := master.hydra.launcher, DictConfig) and str(chosen.get("_target_")).startswith(
        OURS
    ):
        found += _of_launcher(chosen)
    if batch is not None and _is_ours(master):
        reason = "batches would hide from each other which points share a deployment"
        found.append(error("hydra", "hydra.sweeper.max_batch_size", batch, reason, "leave it out"))
    sweeper = master.hydra.sweeper
    raw = OmegaConf.to_container(sweeper, resolve=False) if isinstance(sweeper, DictConfig) else {}
    params = raw.get("params") or {}  # type: ignore[union-attr]
    for key, value in params.items():
        if "${" in str(value):
            reason = "is filled once, before the sweep, so every point would get the same value"
            hint = f"set {key} outside hydra.sweeper.params: it is filled for each point there"
            found.append(error("hydra", f"hydra.sweeper.params.{key}", value, reason, hint))
    return found


def _of_launcher(launcher: DictConfig) -> list[Problem]:
    """What is wrong with the settings of one of our launchers, whatever the plan."""
    from compiler import allocation

    try:
        settings = OmegaConf.to_container(launcher, resolve=True)
    except COMPLAINTS as exception:
        return [error("hydra", "hydra.launcher", NOTHING, sentence(exception))]
    given = {str(name): value for name, value in settings.items()} if isinstance(settings, dict) else {}
    if str(given.get("_target_")) == "hydra_plugins.servix.Slurm":
        return list(allocation.problems(given))
    return [
        error("hydra", f"hydra.launcher.{name}", value, allocation.ABSENT, allocation.unknown(name))
        for name, value in given.items()
        if name != "_target_"
    ]


class Context(HydraContext):
    """What Hydra hands to sweepers and launchers, with our composer in it."""

    def __init__(self, ours: Composer) -> None:
        super().__init__(config_loader=ours.loader, callbacks=None)  # type: ignore[arg-type]
        self.composer = ours
        self.trials: Trials | None = None
        """Set for a sweeper that chooses its points by their objective."""
