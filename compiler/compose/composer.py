"""Overrides -> plain data, one configuration per point, with every problem of composing it.

A group selection (`backend=vllm topology=shared`) is composed once by Hydra; value overrides are then set in it one
by one, so that each wrong one is told and the others still count. Never does: knowing what the keys mean.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from compiler.complaint import problem_of, sentence
from compiler.compose.choosing import Choosing, is_choosing
from compiler.compose.loader import COMPLAINTS, CONFIG_NAME, Base, Loader, Source, base_of, search_path
from compiler.compose.overlay import Overlay, overlay
from compiler.compose.overrides import Overrides, of_hydra
from compiler.compose.resolve import plain_data
from compiler.compose.rows import with_rows
from compiler.compose.sweeps import MOST_POINTS, choices, empty_sweep, refused_sweep, too_many
from compiler.compose.values import apply, innermost, set_plainly
from compiler.errors import NOTHING, Problem, error

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Composed:
    """One point: plain data (null when it cannot be composed at all) and what went wrong on the way."""

    overrides: tuple[str, ...]
    data: Mapping[str, Any] | None
    problems: tuple[Problem, ...] = ()
    time_limit_min: float | None = None
    """Minutes after which the launcher's job ends; null: it never does."""


class Composer(Overrides):
    """Composes points against one configuration directory tree; keeps what points have in common."""

    def __init__(self, loader: Loader, hydra_overrides: Sequence[str] = ()) -> None:
        super().__init__(loader)
        self.hydra_overrides = tuple(hydra_overrides)
        self.read_params: Any = NOTHING
        """`hydra.sweeper.params` as the sweeper got them; NOTHING: it did not ask."""
        self._bases: dict[tuple[str, ...], Base] = {}
        self._kept: dict[Any, Any] = {}

    def master(self, arguments: Sequence[str]) -> DictConfig:
        """The configuration that is the same for all points, Hydra's own part included.

        Groups that are swept or wrong are left out. Raises what Hydra raises when it cannot be composed.
        """
        parsed = [override for text in arguments if (override := self.parsed(text)[0]) is not None]
        fixed = [
            o.input_line or "" for o in parsed if not o.is_sweep_override() and not o.is_hydra_override()
        ]
        base = self.base(self.selection(fixed))
        self.read_params = base.choosing.params
        return base.config

    def launcher(self, arguments: Sequence[str]) -> dict[str, Any]:
        """`hydra.launcher` as plain data: the same for every point of a command. Raises what `master` raises."""
        found = OmegaConf.to_container(self.master(arguments).hydra.launcher, resolve=True)
        return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}

    def points(self, arguments: Sequence[str]) -> tuple[list[tuple[str, ...]], list[Problem]]:
        """Overrides of every point of a sweep, in Hydra's order, and the arguments that cannot be read.

        Rows of `zip` and `sample` come last in each point, as overrides that could have been typed.
        """
        parsed: list[Override] = []
        problems: list[Problem] = []
        for argument in arguments:
            override, problem = self.parsed(argument)
            if problem is None and override is not None:
                problem = refused_sweep(override)
            if problem is not None:
                problems.append(problem)
            elif override is not None and not override.is_hydra_override():
                parsed.append(override)
        chosen = [override for override in parsed if is_choosing(override)]
        parsed = [override for override in parsed if not is_choosing(override)]
        # As Hydra does it: the last override of a key counts, and the product follows the order of the arguments.
        grid = {override.get_key_element(): choices(override) for override in parsed}
        problems += [empty_sweep(override) for override in parsed if not grid[override.get_key_element()]]
        number = math.prod(map(len, grid.values()))
        if number > MOST_POINTS:
            return [], [*problems, too_many(number, max(grid, key=lambda key: len(grid[key])))]
        points, wrong = with_rows(self, list(itertools.product(*grid.values())), parsed, chosen)
        return points, problems + wrong

    def compose(self, overrides: Sequence[str]) -> Composed:
        """The configuration of one point; wrong overrides are left out of it and told."""
        problems: list[Problem] = []
        groups: list[str] = []
        values: list[Override] = []
        for text in overrides:
            override, problem = self.parsed(text)
            if override is None:
                problems.append(cast(Problem, problem))
            elif self.chooses(override):
                wrong = self.wrong_option(override)
                problems += wrong
                groups += [] if wrong else [text]
            else:
                values.append(override)
        selection = (*self.hydra_overrides, *groups)
        try:
            base = self.base(selection)
        except COMPLAINTS as exception:
            told = self.complaint(exception)
            if not told.origin:
                # Nothing says which file it is: those of the options that were chosen.
                told = told.at(f"override '{' '.join(groups) or CONFIG_NAME}'")
            return Composed(tuple(overrides), None, (*problems, told))
        if base.plain is not None and (made := set_plainly(base.plain, values, base.watched)) is not None:
            return Composed(tuple(overrides), made, tuple(problems), base.time_limit_min)
        config = copy.deepcopy(base.config)
        for value in values:
            problems += apply(value, config)
        data, unresolved = plain_data(config)
        return Composed(tuple(overrides), data, (*problems, *unresolved), base.time_limit_min)

    def wrong_settings(self, arguments: Sequence[str]) -> list[Problem]:
        """Settings of Hydra's own that cannot be applied; they are left out of every later composition."""
        groups = [text for text in arguments if text not in self.hydra_overrides]
        settings, self.hydra_overrides = self.hydra_overrides, ()
        problems: list[Problem] = []
        for text in settings:
            try:
                self.hydra_overrides = (text,)
                self.master(groups)
            except COMPLAINTS as exception:
                key, _, value = text.partition("=")
                inner = innermost(exception)
                told = self.complaint(exception)
                if told.code == "unknown-option":
                    problems.append(told.at(f"override '{text}'"))
                    continue
                absent = isinstance(inner, ConfigAttributeError | ConfigKeyError)
                reason = "Hydra has no such setting here" if absent else sentence(inner)
                problems.append(error("hydra", key.lstrip("+~"), value, reason).at(f"override '{text}'"))
        places = {problem.origin for problem in problems}
        self.hydra_overrides = tuple(text for text in settings if f"override '{text}'" not in places)
        return problems

    def complaint(self, exception: BaseException) -> Problem:
        """A failure to compose as a problem, with its place among the configuration files."""
        folders = [
            Path(source.path.removeprefix("file://"))
            for source in self.loader.get_sources()
            if source.scheme() == "file"
        ]
        return problem_of(exception, [path for folder in folders for path in sorted(folder.rglob("*.yaml"))])

    def selection(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """The group overrides among `overrides` that name options there are, and the settings of Hydra's own."""
        parsed = [override for text in overrides if (override := self.parsed(text)[0]) is not None]
        groups = [o.input_line or "" for o in parsed if self.chooses(o) and not self.wrong_option(o)]
        return (*self.hydra_overrides, *groups)

    def overlay(self, overrides: Sequence[str]) -> Overlay | None:
        """What an experiment file says in place of `overrides`; null where it cannot, or one cannot be read."""
        parsed = [self.parsed(text)[0] for text in overrides]
        readable = [override for override in parsed if override is not None]
        return overlay(readable, self.chooses) if len(readable) == len(parsed) else None

    def choosing(self, overrides: Sequence[str]) -> Choosing:
        """What the files that `overrides` select say of points that are chosen together. Raises one of COMPLAINTS."""
        return self.base(self.selection(overrides)).choosing

    def beside(self, folder: Path | None) -> Composer:
        """A composer that has `folder` in place of the user's own one. This one stays open: Hydra knows one only."""
        (own,) = (path for provider, path in self._searched() if provider == "main")
        return Composer(Loader(search_path(own, folder)))

    @property
    def extra_dir(self) -> Path | None:
        """The user's own folder (--config-dir); null without one."""
        found = [path for provider, path in self._searched() if provider == "command-line"]
        return Path(found[0].removeprefix("file://")) if found else None

    def _searched(self) -> list[tuple[str, str]]:
        """Who added a folder to Hydra's search path, and its path."""
        elements = self.loader.get_search_path().get_path()
        return [(str(element.provider), str(element.path)) for element in elements]

    def kept(self, make: Callable[[Composer, tuple[str, ...]], T], selection: tuple[str, ...]) -> T:
        """What `make` gives for a selection, made once: all points of it have it in common."""
        key = (make, selection)
        if key not in self._kept:
            self._kept[key] = make(self, selection)
        return cast(T, self._kept[key])

    def sources(self, selection: Sequence[str]) -> list[Source]:
        """Files of a group selection in merge order; files of Hydra's own are left out."""
        result: list[Source] = []
        for default in self.base(tuple(selection)).merged:
            found = self.loader.source(default.config_path) if default.config_path else None
            if found is not None and found.scheme() == "file":
                path = Path(found.path) / f"{default.config_path}.yaml"
                package = "" if default.package in (None, "_global_") else str(default.package)
                result.append(Source(path, package, found.provider != "main"))
        return result

    def base(self, selection: tuple[str, ...]) -> Base:
        """What points of a group selection have in common. Raises one of COMPLAINTS."""
        if selection not in self._bases:
            self._bases[selection] = base_of(self.loader, selection)
        return self._bases[selection]


@contextmanager
def composer(
    config_dir: Path, extra_dir: Path | None = None, arguments: Sequence[str] = ()
) -> Iterator[Composer]:
    """A composer for `config_dir`; `extra_dir` adds options of a user's own, as Hydra's --config-dir does.

    Settings of Hydra's own among `arguments` (`hydra.launcher.partition=gpu`) hold for every point.
    """
    setbase("1.3")
    loader = Loader(search_path(str(config_dir.absolute()), extra_dir))
    hydra = Hydra(task_name="servix", config_loader=loader)
    GlobalHydra.instance().initialize(hydra)
    try:
        yield Composer(cast(Loader, hydra.config_loader), of_hydra(arguments))
    finally:
        GlobalHydra.instance().clear()
