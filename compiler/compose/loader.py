"""Hydra's loader, and what all points of one group selection have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.errors import ConfigCompositionException, HydraException
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from compiler.compose.choosing import Choosing, taken
from compiler.compose.files import Repository
from compiler.compose.resolve import plain_data, watched_keys

CONFIG_NAME = "config"
COMPLAINTS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError)
"""What composing raises for a configuration that is wrong (a file that is not UTF-8 is a ValueError)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration file that took part, and the package its keys live in ("" for the top)."""

    path: Path
    package: str
    own: bool
    """Of a folder the user named, not one that servix brings."""


@dataclass(frozen=True, slots=True)
class Base:
    """What all points of one group selection have in common."""

    config: DictConfig
    merged: Sequence[ResultDefault]
    """Files in merge order."""
    plain: Mapping[str, Any] | None
    """The same as plain data; null when something in it cannot be resolved, or is resolved by code."""
    watched: frozenset[str]
    """Keys that interpolations refer to: changing one changes others."""
    time_limit_min: float | None
    """Minutes after which the launcher's job ends; null: it never does."""
    choosing: Choosing
    """What chooses points together; in `config` it is as if nothing did."""


class Loader(ConfigLoaderImpl):
    """Hydra's loader, which remembers the files it merged: `origin` needs them, and finding them is slow."""

    merged: list[ResultDefault]

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.repository = Repository(config_search_path)

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: Any) -> DictConfig:
        self.merged = defaults
        return super()._compose_config_from_defaults_list(defaults, repo)

    def source(self, config_path: str) -> ConfigSource | None:
        """Where a file is found, by its path without the ending; null when it is nowhere."""
        return self.repository._find_object_source(config_path, ObjectType.CONFIG)


def base_of(loader: Loader, selection: Sequence[str]) -> Base:
    """One composition by Hydra. Raises one of COMPLAINTS."""
    try:
        config = loader.load_configuration(
            CONFIG_NAME, list(selection), RunMode.RUN, validate_sweep_overrides=False
        )
        choosing = taken(config)
        plain, unresolved = plain_data(config)
        watched = watched_keys(config)
    except (AttributeError, TypeError, AssertionError, LookupError, OSError) as exception:
        # OmegaConf trips over values of a kind it does not expect, such as a mapping in place of null.
        raise ConfigCompositionException("a value of this kind does not fit here") from exception
    except RecursionError as exception:
        raise ConfigCompositionException("has no end") from exception
    simple = None if unresolved or watched is None else plain
    return Base(config, loader.merged, simple, watched or frozenset(), _time_limit_min(config), choosing)


def _time_limit_min(config: DictConfig) -> float | None:
    """What a launcher that has such a limit calls by the name hydra-submitit-launcher gave it."""
    launcher = config.get("hydra", {}).get("launcher")
    limit = launcher.get("timeout_min") if isinstance(launcher, DictConfig) else None
    return limit if isinstance(limit, int | float) and limit >= 1 else None


def search_path(config_dir: str, extra_dir: Path | None) -> ConfigSearchPath:
    """Hydra's search path: the project's folder, then the user's own."""
    found = create_config_search_path(config_dir)
    if extra_dir is not None:
        anchor = SearchPathQuery(provider="schema")
        found.prepend(provider="command-line", path=f"file://{extra_dir.absolute()}", anchor=anchor)
    return found
