"""Overrides as Hydra reads them, and the groups whose options they choose.

Takes texts as typed; gives what Hydra's parser makes of each, or the problem, once per text.
Never does: composing.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from compiler.allocation import ABSENT, unknown
from compiler.complaint import sentence, setting_hint
from compiler.compose.loader import COMPLAINTS, Loader
from compiler.compose.sweeps import of_number
from compiler.compose.syntax import QUOTE, why_unreadable
from compiler.compose.values import innermost, place, too_deep, with_quotes
from compiler.errors import NOTHING, Problem, did_you_mean, error, nearest


class Overrides:
    """What was read, kept: points of a sweep share most of their overrides, and all of their groups."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self._parser = OverridesParser.create(config_loader=loader)
        self._read: dict[str, tuple[Override | None, Problem | None]] = {}
        self._options: dict[str, list[str]] = {}

    def is_group(self, text: str) -> bool:
        """True for an override that chooses an option of a group."""
        override, _ = self.parsed(text)
        return override is not None and self.chooses(override)

    def chooses(self, override: Override) -> bool:
        """The same of an override that was read."""
        key = override.key_or_group
        return override.package is not None or key.startswith("hydra/") or bool(self.options(key))

    def is_swept(self, text: str) -> bool:
        """True for an override that stands for several values, or for a range to choose from."""
        override, _ = self.parsed(text)
        return override is not None and override.is_sweep_override()

    def is_hydras(self, text: str) -> bool:
        """True for a setting of Hydra's own."""
        override, _ = self.parsed(text)
        return override is not None and override.is_hydra_override()

    def options(self, group: str) -> list[str]:
        """Options of a group, sorted; empty when there is no such group."""
        if group not in self._options:
            self._options[group] = sorted(self.loader.repository.get_group_options(group, ObjectType.CONFIG))
        return self._options[group]

    def groups(self) -> list[str]:
        """Names of the project's groups."""
        return [name for name in self.loader.list_groups("") if name != "hydra" and self.options(name)]

    def parsed(self, text: str) -> tuple[Override | None, Problem | None]:
        """An override as Hydra reads it, or null and what is wrong with it."""
        if text not in self._read:
            self._read[text] = self._parse(text)
        return self._read[text]

    def _parse(self, text: str) -> tuple[Override | None, Problem | None]:
        hint = f"write key=value; {QUOTE}"
        try:
            override = of_number(text) or self._parser.parse_override(with_quotes(text))
            override.config_loader, override.input_line = self.loader, text
            reason = "holds values nested too deep" if too_deep(override.value()) else "has no key"
            if override.key_or_group and not too_deep(override.value()):
                return override, None
        except RecursionError:
            reason = "holds values nested too deep"
        except HydraException as exception:
            why, hint = why_unreadable(text, str(exception))
            reason = f"cannot be read as an override: {why}"
        except (OmegaConfBaseException, ValueError) as exception:
            # Python refuses to read a number of more than 4300 digits (a ValueError).
            reason = f"cannot be read as an override: {sentence(exception)}"
        key = text.partition("=")[0].lstrip("+~")
        return None, error("override-syntax", key, NOTHING, reason, hint).at(f"override '{text}'")

    def wrong_option(self, override: Override) -> list[Problem]:
        """What is wrong with the option that an override chooses."""
        if override.is_add() or override.is_force_add():
            plain = (override.input_line or "").lstrip("+")
            reason = "a group has one option, and there is a place for it"
            return [
                error(
                    "override", override.key_or_group, override.value(), reason, f"write {plain}, without +"
                ).at(place(override))
            ]
        value, known = override.value(), self.options(override.key_or_group)
        if value is None and not override.is_delete() and override.key_or_group != "experiment" and known:
            reason, hint = "a group needs an option", f"known: {', '.join(known)}"
            return [error("unknown-option", override.key_or_group, None, reason, hint).at(place(override))]
        names = value if isinstance(value, list) else [value]
        return [
            error(
                "unknown-option",
                override.key_or_group,
                name,
                f"no such option; known: {', '.join(known)}",
                did_you_mean(_option(name), known) if nearest(_option(name), known) else "",
            ).at(place(override))
            for name in names
            if not override.is_delete()
            and known
            and name is not None
            and (isinstance(name, bool) or str(name) not in known)
        ]


def of_hydra(arguments: Sequence[str]) -> list[str]:
    """Settings of Hydra's own, those that cannot be read or are swept left out: `points` tells them."""
    parser, found = OverridesParser.create(), []
    for text in arguments:
        try:
            override = parser.parse_override(text)
        except HydraException:
            continue
        if override.is_hydra_override() and not override.is_sweep_override():
            found.append(text)
    return found


def refused_setting(text: str, exception: BaseException) -> Problem:
    """Why Hydra does not take a setting of its own."""
    key, _, value = text.partition("=")
    inner, hint = innermost(exception), ""
    reason = sentence(inner if isinstance(inner, COMPLAINTS) else exception)
    if key.lstrip("+~").startswith("hydra.sweeper.params"):
        # OmegaConf's own words for this are about its inside.
        reason, hint = "is for files", "on the command line write the sweep itself: key=2,4,8"
    elif isinstance(inner, ConfigAttributeError | ConfigKeyError):
        name = key.lstrip("+~").removeprefix("hydra.launcher.")
        hint = unknown(name) if "launcher." in key else ""
        reason = ABSENT
        if not hint and key.count(".") > 1:
            hint = setting_hint(inner, name.rpartition(".")[2])
    return error("hydra", key.lstrip("+~"), value, reason, hint)


def _option(name: object) -> str:
    """YAML reads on and off as booleans; as an option's name they are words again."""
    if isinstance(name, bool):
        return "on" if name else "off"
    return str(name).removesuffix(".yaml")
