"""The command's outer shell: Hydra's command line, our composing, Hydra's sweeper and launcher.

`hydra.main` composes the configuration three times before a launcher sees it, and stops at the first mistake. A
command that runs takes the same steps with one composition and all mistakes; everything else Hydra's command line
can do (--help, --cfg, --info, --shell-completion) is left to `hydra.main` itself.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import hydra
from hydra._internal import utils
from omegaconf import DictConfig

from compiler.complaint import problem_of, shown
from compiler.compose import COMPLAINTS, composer
from compiler.errors import NOTHING, Problem, error
from launchers import command
from launchers.interrupt import heard, noting
from launchers.refusal import DEBUG, Trouble, debug, refuse
from launchers.sweeping import bypasses, swept

USAGE = """python run.py [--multirun] [--config-dir DIR] [group=option ...] [key=value ...]
       python run.py --help | --cfg job | --info | --hydra-help
settings are written without dashes: aiperf.concurrency=4"""


def main(config_dir: Path, arguments: Sequence[str]) -> int:
    """Runs one command; gives its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names in a store may hold what the terminal's encoding does not.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Intermixed, so that options may stand between overrides.
    parsed = get_args_parser().parse_intermixed_args(list(arguments))
    with noting() as ctrl_c:
        try:
            return _hydras_own(config_dir) if _is_hydras_own(parsed) else _run(config_dir, parsed)
        except KeyboardInterrupt:
            return _interrupted()
        except BrokenPipeError:
            # The reader of our output has gone; Python would complain once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return command.FAULT
        except (Trouble, OSError) as problem:
            debug()
            print(f"error: {problem}; {DEBUG}=1 shows where", file=sys.stderr)
            return command.FAULT
        except Exception:
            if ctrl_c.told:
                return _interrupted()
            raise


def _interrupted() -> int:
    print("interrupted: what was measured is kept, the same command goes on from there", file=sys.stderr)
    return command.INTERRUPTED


def get_args_parser() -> argparse.ArgumentParser:
    """Hydra's, with a usage line that names what is of use here."""
    hydras = utils.get_args_parser()
    parser = argparse.ArgumentParser(
        usage=USAGE,
        parents=[hydras],
        add_help=False,
        conflict_handler="resolve",
        description=hydras.description,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the versions of servix and Hydra")
    return parser


class _Version(argparse.Action):
    """Shows what a report of a fault should name."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import tomllib

        project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
        print(f"servix {project['project']['version']} (Hydra {hydra.__version__})")
        parser.exit()


def _hydras_own(config_dir: Path) -> int:
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir), config_name="config")(_never)()
    except COMPLAINTS as exception:
        debug()
        return refuse([problem_of(exception)])
    return command.OK


def _is_hydras_own(parsed: argparse.Namespace) -> bool:
    asked = ("help", "hydra_help", "cfg", "info", "shell_completion", "experimental_rerun")
    return any(getattr(parsed, name) for name in asked) and not _unfit(parsed)


def _unfit(parsed: argparse.Namespace) -> list[Problem]:
    """Options of Hydra that do nothing here, or nothing without another one."""
    reason, hint = "servix has one configuration", "--config-dir names a folder with options of your own"
    found = [
        error("command-line", f"--{name}", value, reason, hint)
        for name in ("config-name", "config-path")
        if (value := getattr(parsed, name.replace("-", "_"))) is not None
    ]
    if (parsed.resolve or parsed.package) and not (parsed.cfg or parsed.help):
        name = "--resolve" if parsed.resolve else "--package"
        found.append(error("command-line", name, NOTHING, "goes with --cfg only", "add --cfg job"))
    return found


def _never(_: DictConfig) -> None:
    raise SystemExit(refuse([error("command-line", "", "", "this combination of options runs nothing")]))


def _run(config_dir: Path, parsed: argparse.Namespace) -> int:
    if unfit := _unfit(parsed):
        return refuse(unfit)
    extra = Path(parsed.config_dir) if parsed.config_dir else None
    arguments = list(parsed.overrides)
    problems = _own_folder(extra, config_dir) if extra is not None else []
    usable = extra if extra is not None and extra.is_dir() else None
    with composer(config_dir, usable, arguments) as ours:
        try:
            master = ours.master(arguments)
        except COMPLAINTS as exception:
            heard()
            debug()
            wrong = ours.wrong_settings(arguments) or [ours.complaint(exception)]
            problems += map(_with_way_to_install, wrong)
            return command.execute(ours, [arguments], problems)
        problems += bypasses(master)
        return command.execute(ours, [arguments], problems) if problems else swept(ours, master, arguments)


def _with_way_to_install(problem: Problem) -> Problem:
    """A sweeper that is only missing has a way to be there."""
    if (problem.key, problem.value) != ("hydra/sweeper", "optuna"):
        return problem
    return replace(problem, hint="make install-optuna brings it")


def _own_folder(extra: Path, config_dir: Path) -> list[Problem]:
    """A folder that is not there, and files that Hydra would never look at: ours come first in its search."""
    if not extra.is_dir():
        return [
            error("config-dir", "--config-dir", str(extra), "is not a folder", "name a folder with groups")
        ]
    doubles = [
        path for path in sorted(extra.rglob("*.yaml")) if (config_dir / path.relative_to(extra)).exists()
    ]
    reason = "servix has an option of this name, which is found first"
    return [
        error("config-dir", "--config-dir", str(extra), reason, "give the file another name").at(shown(path))
        for path in doubles
    ]
