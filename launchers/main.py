"""The command's outer shell: Hydra's command line, our composing, Hydra's sweeper and launcher.

`hydra.main` composes the configuration three times before a launcher sees it, and stops at the first mistake. A
command that runs takes the same steps with one composition and all mistakes; everything else Hydra's command line
can do (--help, --cfg, --info, --shell-completion) is left to `hydra.main` itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from compiler.compose import Composer, composer, composition_problem
from compiler.errors import error
from launchers import command
from launchers.refusal import refuse

DEBUG = "SERVIX_DEBUG"
"""Environment variable that shows the traceback behind a message."""


def main(config_dir: Path, arguments: Sequence[str]) -> int:
    """Runs one command; gives its exit code."""
    # Intermixed, so that options may stand between overrides.
    parsed = get_args_parser().parse_intermixed_args(list(arguments))
    try:
        if _is_hydras_own(parsed):
            hydra.main(version_base="1.3", config_path=str(config_dir), config_name="config")(_never)()
            return command.OK
        return _run(config_dir, parsed)
    except (HydraException, OmegaConfBaseException) as exception:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        return refuse([composition_problem(exception)])
    except KeyboardInterrupt:
        return command.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return command.FAULT


def _is_hydras_own(parsed: argparse.Namespace) -> bool:
    asked = (
        "help",
        "hydra_help",
        "cfg",
        "info",
        "shell_completion",
        "experimental_rerun",
        "config_name",
        "config_path",
    )
    return any(getattr(parsed, name) for name in asked)


def _never(_: DictConfig) -> None:
    raise SystemExit(refuse([error("command-line", "", "", "this combination of options runs nothing")]))


def _run(config_dir: Path, parsed: argparse.Namespace) -> int:
    extra = Path(parsed.config_dir) if parsed.config_dir else None
    if extra is not None and not extra.is_dir():
        reason = "is not a folder"
        return refuse([error("config-dir", "--config-dir", str(extra), reason, "name a folder with groups")])
    exit_codes: list[int] = []
    with composer(config_dir, extra, parsed.overrides) as ours:
        master = ours.master(parsed.overrides)
        if str(master.hydra.mode) != "RunMode.MULTIRUN":
            reason = "every run goes through a launcher, and only MULTIRUN does"
            return refuse([error("mode", "hydra.mode", str(master.hydra.mode), reason, "leave it alone")])
        if master.hydra.sweeper.get("max_batch_size") is not None:
            value, key = master.hydra.sweeper.max_batch_size, "hydra.sweeper.max_batch_size"
            reason = "batches would hide from each other which points share a deployment"
            return refuse([error("batch-size", key, value, reason, "leave it out")])
        sweeper = Plugins.instance().instantiate_sweeper(
            config=master,
            hydra_context=Context(ours),
            task_function=exit_codes.append,
        )
        sweeper.sweep(arguments=list(parsed.overrides))
    return max(exit_codes, default=command.OK)


class Context(HydraContext):
    """What Hydra hands to sweepers and launchers, with our composer in it."""

    def __init__(self, ours: Composer) -> None:
        super().__init__(config_loader=ours.loader, callbacks=None)  # type: ignore[arg-type]
        self.composer = ours
