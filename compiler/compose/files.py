"""Configuration files, read as Hydra reads them and faster.

Hydra reads YAML with a parser written in Python, a twentieth of what planning a point takes. libyaml's gives the same
nodes, and OmegaConf makes the same data of them. Whatever is wrong with a file is told by Hydra.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

HEADER = 512
"""Characters of a file in which Hydra looks for its package."""
MOST_LEVELS = 2_000
"""libyaml's parser ends the process where values are nested some ten thousand levels deep; Python's raises."""


class Repository(ConfigRepository):
    """Hydra's repository; folders among its sources are `Files`."""

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Called by Hydra, again where the configuration names folders of its own."""
        super().initialize_sources(config_search_path)
        self.sources = [
            Files(source.provider, source.path) if source.scheme() == "file" else source
            for source in self.sources
        ]


class Files(FileConfigSource):
    """The files of a folder."""

    def load_config(self, config_path: str) -> ConfigResult:
        """One file. Raises what Hydra raises when it is not there or cannot be read."""
        path = Path(self.path) / self._normalize_file_name(config_path)
        text, data = _read(path)
        if not isinstance(data, dict):
            return super().load_config(config_path)
        config, header = OmegaConf.create(data), ConfigSource._get_header_dict(text[:HEADER])
        return ConfigResult(self.provider, f"{self.scheme()}://{self.path}", config, header)


def _read(path: Path) -> tuple[str, Any]:
    """Text and data of a YAML file; null for data that is left to Hydra."""
    loader = _loader()
    try:
        text = path.read_text(encoding="utf-8")
        if loader is None or sum(map(text.count, "[{-?\n")) > MOST_LEVELS:
            return text, None
        return text, yaml.load(text, Loader=loader)  # noqa: S506  (a SafeLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return "", None


@cache
def _loader() -> Any:
    """OmegaConf's loader with libyaml's parser below it; null where PyYAML was built without."""
    parser = getattr(yaml, "CSafeLoader", None)
    if parser is None:
        return None
    omegaconf = get_yaml_loader()

    class Loader(parser, omegaconf):  # type: ignore[misc, valid-type]
        yaml_implicit_resolvers = omegaconf.yaml_implicit_resolvers
        yaml_constructors = omegaconf.yaml_constructors
        construct_mapping = omegaconf.construct_mapping

    return Loader
