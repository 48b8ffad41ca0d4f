"""The command's outer shell: runs Hydra, and turns whatever goes wrong in it into our words and exit codes.

Never does: anything when the command line is right; then Hydra, our sweeper and our launcher have done it all.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from compiler.errors import error
from launchers import command

DEBUG = "SERVIX_DEBUG"
"""Environment variable that shows the traceback behind a message."""


def exit_code(outcome: Any) -> int:
    """What the launcher said. Hydra itself calls with a configuration when a launcher was bypassed."""
    if isinstance(outcome, int):
        return outcome
    reason = "a run must go through a launcher, and only MULTIRUN does"
    return command.refuse([error("mode", "hydra.mode", "RUN", reason, "leave hydra.mode alone").at("hydra.mode")])


def run(main: Callable[[], None], exit_codes: list[int], config_dir: Path, arguments: Sequence[str]) -> int:
    """The exit code of one command."""
    try:
        main()
    except (HydraException, OmegaConfBaseException) as exception:
        _debug()
        return _diagnosed(exception, config_dir, arguments)
    except KeyboardInterrupt:
        return command.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return command.FAULT
    return max(exit_codes, default=command.OK)


def _debug() -> None:
    if os.environ.get(DEBUG):
        traceback.print_exc()


def _diagnosed(exception: Exception, config_dir: Path, arguments: Sequence[str]) -> int:
    """Hydra stops at the first mistake; our own composing finds them all. Hydra's words are the last resort."""
    from hydra._internal.utils import get_args_parser

    from compiler.compose import composer, composition_problem

    told = composition_problem(exception)
    parsed = get_args_parser().parse_args(list(arguments))
    extra = [Path(parsed.config_dir)] if parsed.config_dir else []
    try:
        with composer(config_dir, *extra) as ours:
            plan = command.compiled(ours, [parsed.overrides])
            if not plan.valid:
                return command.execute(ours, [parsed.overrides], {})
    except (HydraException, OmegaConfBaseException):
        _debug()
    return command.refuse([told])
