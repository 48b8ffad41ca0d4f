"""Overrides -> plain data. The only compiler module that knows Hydra and OmegaConf.

Takes what a user typed; gives one composed configuration per point, with every problem of composing it.
A group selection (`backend=vllm topology=shared`) is composed once by Hydra; value overrides are then applied one
by one to a copy with Hydra's own function, so that each wrong one is told and the others still count.
Never does: knowing what the keys mean.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from compiler.complaint import problem_of, sentence
from compiler.errors import NOTHING, Problem, did_you_mean, error, nearest
from compiler.renamed import RENAMED

T = TypeVar("T")
CONFIG_NAME = "config"
COMPLAINTS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)
"""What composing raises for a configuration that is wrong (a file that is not UTF-8 is a ValueError)."""
OPEN = ("args", "env", "frontend_args", "aiperf", "genai_perf", "lmcache", "extra_config")
"""Mappings that take new keys with Hydra's `+`."""
_PLAIN_INTERPOLATION = re.compile(r"\$\{([A-Za-z_][\w.]*)\}\Z")
TOOLS = ("aiperf", "genai_perf")
"""Keys that only the `bench` option of their name brings."""


@dataclass(frozen=True, slots=True)
class Composed:
    """One point: plain data (null when it cannot be composed at all) and what went wrong on the way."""

    overrides: tuple[str, ...]
    data: Mapping[str, Any] | None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration file that took part, and the package its keys live in ("" for the top)."""

    path: Path
    package: str


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


class Loader(ConfigLoaderImpl):
    """Hydra's loader, which remembers the files it merged: `origin` needs them, and finding them is slow."""

    merged: list[ResultDefault]

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: Any) -> DictConfig:
        self.merged = defaults
        return super()._compose_config_from_defaults_list(defaults, repo)


class Composer:
    """Composes points against one configuration directory tree; keeps what points have in common."""

    def __init__(self, loader: Loader, hydra_overrides: Sequence[str] = ()) -> None:
        self.loader = loader
        self.hydra_overrides = tuple(hydra_overrides)
        self._bases: dict[tuple[str, ...], Base] = {}
        self._parser = OverridesParser.create(config_loader=loader)
        # Points of a sweep share most of their overrides, and all of their groups.
        self._read: dict[str, tuple[Override | None, Problem | None]] = {}
        self._options: dict[str, list[str]] = {}
        self._kept: dict[Any, Any] = {}

    def master(self, arguments: Sequence[str]) -> DictConfig:
        """The configuration that is the same for all points, Hydra's own part included.

        Groups that are swept or wrong are left out. Raises what Hydra raises when it cannot be composed.
        """
        parsed = [override for text in arguments if (override := self._parsed(text)[0]) is not None]
        fixed = [
            o.input_line or "" for o in parsed if not o.is_sweep_override() and not o.is_hydra_override()
        ]
        return self._base(self.selection(fixed)).config

    def points(self, arguments: Sequence[str]) -> tuple[list[tuple[str, ...]], list[Problem]]:
        """Overrides of every point of a sweep, in Hydra's order, and the arguments that cannot be read."""
        parsed: list[Override] = []
        problems: list[Problem] = []
        for argument in arguments:
            override, problem = self._parsed(argument)
            if problem is None and override is not None:
                problem = _refused_sweep(override)
            if problem is not None:
                problems.append(problem)
            elif override is not None and not override.is_hydra_override():
                parsed.append(override)
        # As Hydra does it: the last override of a key counts, and the product follows the order of the arguments.
        choices = {override.get_key_element(): _choices(override) for override in parsed}
        return [tuple(point) for point in itertools.product(*choices.values())], problems

    def compose(self, overrides: Sequence[str]) -> Composed:
        """The configuration of one point; wrong overrides are left out of it and told."""
        problems: list[Problem] = []
        groups: list[str] = []
        values: list[Override] = []
        for text in overrides:
            override, problem = self._parsed(text)
            if override is None:
                problems.append(cast(Problem, problem))
            elif self._is_group(override):
                wrong = self._wrong_option(override)
                problems += wrong
                groups += [] if wrong else [text]
            else:
                values.append(override)
        selection = (*self.hydra_overrides, *groups)
        try:
            base = self._base(selection)
        except COMPLAINTS as exception:
            return Composed(tuple(overrides), None, (*problems, self.complaint(exception)))
        if base.plain is not None and all(_is_simple(value, base) for value in values):
            return Composed(tuple(overrides), _with_values(base.plain, values), tuple(problems))
        config = copy.deepcopy(base.config)
        for value in values:
            problems += _apply(value, config)
        data, unresolved = _plain(config)
        return Composed(tuple(overrides), data, (*problems, *unresolved))

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
                inner = _innermost(exception)
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
        parsed = [override for text in overrides if (override := self._parsed(text)[0]) is not None]
        groups = [o.input_line or "" for o in parsed if self._is_group(o) and not self._wrong_option(o)]
        return (*self.hydra_overrides, *groups)

    def kept(self, make: Callable[[Composer, tuple[str, ...]], T], selection: tuple[str, ...]) -> T:
        """What `make` gives for a selection, made once: all points of it have it in common."""
        key = (make, selection)
        if key not in self._kept:
            self._kept[key] = make(self, selection)
        return cast(T, self._kept[key])

    def sources(self, selection: Sequence[str]) -> list[Source]:
        """Files of a group selection in merge order; files of Hydra's own are left out."""
        result: list[Source] = []
        for default in self._base(tuple(selection)).merged:
            loaded = self.loader.repository.load_config(default.config_path) if default.config_path else None
            if loaded is not None and loaded.path.startswith("file://"):
                path = Path(loaded.path.removeprefix("file://")) / f"{default.config_path}.yaml"
                package = "" if default.package in (None, "_global_") else str(default.package)
                result.append(Source(path, package))
        return result

    def is_group(self, text: str) -> bool:
        """True for an override that chooses an option of a group."""
        override, _ = self._parsed(text)
        return override is not None and self._is_group(override)

    def options(self, group: str) -> list[str]:
        """Options of a group, sorted; empty when there is no such group."""
        if group not in self._options:
            self._options[group] = sorted(self.loader.get_group_options(group, ObjectType.CONFIG))
        return self._options[group]

    def groups(self) -> list[str]:
        """Names of the project's groups."""
        return [name for name in self.loader.list_groups("") if name != "hydra" and self.options(name)]

    def _parsed(self, text: str) -> tuple[Override | None, Problem | None]:
        if text not in self._read:
            self._read[text] = self._parse(text)
        return self._read[text]

    def _parse(self, text: str) -> tuple[Override | None, Problem | None]:
        try:
            override = self._parser.parse_override(text)
            override.config_loader = self.loader
            if override.key_or_group:
                return override, None
            reason = "has no key"
        except (HydraException, OmegaConfBaseException) as exception:
            reason = f"cannot be read as an override ({sentence(exception)})"
        key = text.partition("=")[0].lstrip("+~")
        hint = "write key=value; quote what the shell or Hydra would read: 'key=\"a, b\"'"
        return None, error("override-syntax", key, NOTHING, reason, hint).at(f"override '{text}'")

    def _is_group(self, override: Override) -> bool:
        key = override.key_or_group
        return override.package is not None or key.startswith("hydra/") or bool(self.options(key))

    def _wrong_option(self, override: Override) -> list[Problem]:
        if override.is_add() or override.is_force_add():
            plain = (override.input_line or "").lstrip("+")
            reason = "a group has one option, and there is a place for it"
            return [
                error(
                    "override", override.key_or_group, override.value(), reason, f"write {plain}, without +"
                ).at(_place(override))
            ]
        value, known = override.value(), self.options(override.key_or_group)
        names = value if isinstance(value, list) else [value]
        return [
            error(
                "unknown-option",
                override.key_or_group,
                name,
                f"no such option; known: {', '.join(known)}",
                did_you_mean(str(name), known) if nearest(str(name), known) else "",
            ).at(_place(override))
            for name in names
            if not override.is_delete() and known and name is not None and _option(name) not in known
        ]

    def _base(self, selection: tuple[str, ...]) -> Base:
        if selection not in self._bases:
            try:
                config = self.loader.load_configuration(
                    CONFIG_NAME, list(selection), RunMode.RUN, validate_sweep_overrides=False
                )
            except (AttributeError, TypeError, AssertionError) as exception:
                # OmegaConf trips over values of a kind it does not expect, such as a mapping in place of null.
                raise ConfigCompositionException("a value of this kind does not fit here") from exception
            plain, unresolved = _plain(config)
            watched = _watched(config)
            simple = None if unresolved or watched is None else plain
            self._bases[selection] = Base(config, self.loader.merged, simple, watched or frozenset())
        return self._bases[selection]


@contextmanager
def composer(
    config_dir: Path, extra_dir: Path | None = None, arguments: Sequence[str] = ()
) -> Iterator[Composer]:
    """A composer for `config_dir`; `extra_dir` adds options of a user's own, as Hydra's --config-dir does.

    Settings of Hydra's own among `arguments` (`hydra.launcher.partition=gpu`) hold for every point.
    """
    search_path = create_config_search_path(str(config_dir.absolute()))
    if extra_dir is not None:
        anchor = SearchPathQuery(provider="schema")
        search_path.prepend(provider="command-line", path=f"file://{extra_dir.absolute()}", anchor=anchor)
    setbase("1.3")
    hydra = Hydra(task_name="servix", config_loader=Loader(search_path))
    GlobalHydra.instance().initialize(hydra)
    try:
        yield Composer(cast(Loader, hydra.config_loader), _of_hydra(arguments))
    finally:
        GlobalHydra.instance().clear()


def _of_hydra(arguments: Sequence[str]) -> list[str]:
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


def _option(name: object) -> str:
    """YAML reads on and off as booleans; as an option's name they are words again."""
    return {True: "on", False: "off"}.get(name, str(name)) if isinstance(name, bool) else str(name)


def _choices(override: Override) -> list[str]:
    """The overrides that one argument stands for; one that is not swept stays as it was typed."""
    if not override.is_sweep_override():
        return [override.input_line or ""]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _refused_sweep(override: Override) -> Problem | None:
    """What cannot be swept. Hydra would silently take the base value of some of these for every point."""
    if not override.is_sweep_override():
        return None
    key, value = override.key_or_group, (override.input_line or "").partition("=")[2]
    if key in ("action", "format", "output_dir"):
        reason, hint = "cannot be swept: it is about the whole command", "run one command for each"
    elif key == "system" or key.startswith("hydra"):
        reason, hint = (
            "cannot be swept: the launcher is chosen once for the whole command",
            "run one command per system",
        )
    elif not override.is_discrete_sweep():
        reason, hint = (
            "a continuous range needs a sweeper that samples",
            "list the values, or use range(start,stop,step)",
        )
    else:
        return None
    return error("swept", key, value, reason, hint).at(_place(override))


def _watched(config: DictConfig) -> frozenset[str] | None:
    """Keys that interpolations outside Hydra's part refer to; null when one needs more than a key to be read."""
    found: set[str] = set()
    nodes: list[Any] = [config._get_node(key) for key in config if key != "hydra"]
    while nodes:
        node = nodes.pop()
        if OmegaConf.is_config(node) and not node._is_interpolation() and not node._is_none():
            children = node._content
            nodes += children.values() if isinstance(children, dict) else children
        elif node._is_interpolation():
            match = _PLAIN_INTERPOLATION.match(str(node._value()))
            if match is None:
                return None
            found.add(match[1])
    return frozenset(found)


def _is_simple(override: Override, base: Base) -> bool:
    """True where setting the value in plain data gives what Hydra and OmegaConf would: see the test of both."""
    if override.is_add() or override.is_force_add() or override.is_delete() or override.package is not None:
        return False
    key, value = override.key_or_group, override.value()
    if "[" in key or not _is_data(value) or isinstance(value, dict):
        return False
    node: Any = base.plain
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    if isinstance(node, Mapping):
        return False
    return not any(key == w or key.startswith(w + ".") or w.startswith(key + ".") for w in base.watched)


def _is_data(value: Any) -> bool:
    """Data without interpolations and without the mark of a missing value."""
    if isinstance(value, str):
        return "$" not in value and value != "???"
    if isinstance(value, list):
        return all(_is_data(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_data(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float)


def _with_values(plain: Mapping[str, Any], values: Sequence[Override]) -> dict[str, Any]:
    """Plain data with values set; what is not changed is shared with the base, so nobody may write to it."""
    data = dict(plain)
    for override in values:
        *parents, last = override.key_or_group.split(".")
        node = data
        for name in parents:
            node[name] = dict(node[name])
            node = node[name]
        node[last] = override.value()
    return data


def _apply(override: Override, config: DictConfig) -> list[Problem]:
    """Applies one value override in place; gives the problem when it cannot be."""
    plain = not (override.is_add() or override.is_force_add() or override.is_delete())
    parent, missing, known = _where_it_ends(override.key_or_group, config)
    if plain and missing is not None:
        # Asked before Hydra is: its update leaves a half-made mapping behind when it refuses.
        return [_unknown_key(override, parent, missing, known)]
    try:
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
    except (HydraException, OmegaConfBaseException) as exception:
        return [_refused_value(override, exception)]
    return []


def _innermost(exception: BaseException) -> BaseException:
    while exception.__cause__ is not None:
        exception = exception.__cause__
    return exception


def _refused_value(override: Override, exception: BaseException) -> Problem:
    """What OmegaConf says below Hydra's wrapper; a new key inside a mapping is added one by one."""
    exception = _innermost(exception)
    key, value, hint = override.key_or_group, override.value(), ""
    reason = sentence(exception)
    if isinstance(exception, ConfigAttributeError | ConfigKeyError) and isinstance(value, dict):
        reason, hint = "sets keys that are not there", f"add them one by one: +{key}.{next(iter(value))}=..."
    elif isinstance(value, dict | list):
        reason = f"a {'mapping' if isinstance(value, dict) else 'list'} does not fit here"
    return error("override", key, value, reason, hint).at(_place(override))


def _place(override: Override) -> str:
    return f"override '{override.input_line}'"


def _unknown_key(override: Override, parent: str, missing: str, known: list[str] | None) -> Problem:
    """`known` are the names beside the missing one; null when its parent holds no keys at all."""
    key, value = override.key_or_group, override.value()
    reason, hint = "unknown key", ""
    if missing in RENAMED and key != "experiment":
        hint = RENAMED[missing]
    elif known is None:
        reason = f"'{parent}' holds no keys here"
        hint = {"lmcache": "lmcache=on turns it on"}.get(parent, "")
    elif parent.rpartition(".")[2] in OPEN:
        guess = nearest(missing, known)
        reason = f"'{parent}' has no '{missing}' yet"
        hint = (f"did you mean '{guess[0]}'? " if guess else "") + f"to add it write +{override.input_line}"
    elif missing in TOOLS:
        hint = f"bench={missing} brings it"
    elif key.lstrip("+") == "experiment":
        reason, hint = (
            "there are no experiments here",
            f"put experiment/{value}.yaml into a folder named by --config-dir",
        )
    else:
        hint = did_you_mean(missing, known)
    return error("unknown-key", key, value, reason, hint).at(_place(override))


def _where_it_ends(key: str, config: DictConfig) -> tuple[str, str | None, list[str] | None]:
    """Deepest parent of `key` that exists, the first name missing below it, and the names there are."""
    node: Any = config
    walked: list[str] = []
    for name in re.split(r"[.\[]", key.replace("]", "")):
        if not isinstance(node, DictConfig) or node._is_none():
            return ".".join(walked), name, None
        if name not in node:
            return ".".join(walked), name, [str(k) for k in node if k != "hydra"]
        node = node._get_node(name)
        walked.append(name)
    return ".".join(walked), None, None


def _plain(config: DictConfig) -> tuple[dict[str, Any] | None, list[Problem]]:
    """The configuration without Hydra's part, interpolations resolved; else every one that cannot be."""
    own = {str(key): config._get_node(key) for key in config if key != "hydra"}
    try:
        return {key: _resolved(config, key) for key in own}, []
    except OmegaConfBaseException:
        problems = [problem for key, node in own.items() for problem in _unresolved(node, str(key))]
        return None, problems or [error("interpolation", "", NOTHING, "an interpolation cannot be resolved")]


def _resolved(config: DictConfig, key: str) -> Any:
    value = config[key]
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    return value


def _unresolved(node: Any, key: str) -> Iterator[Problem]:
    """Every value below `node` that cannot be resolved."""
    if OmegaConf.is_config(node) and not node._is_interpolation() and not node._is_none():
        children = node._content
        items = children.items() if isinstance(children, dict) else enumerate(children)
        for name, child in items:
            yield from _unresolved(child, f"{key}.{name}")
        return
    if node._is_missing():
        yield error("missing", key, "???", "has no value and none by default", f"set it: {key}=...")
        return
    try:
        if node._is_interpolation():
            node._dereference_node()
    except (OmegaConfBaseException, RecursionError) as exception:
        reason = "the interpolation names a key that does not exist"
        if isinstance(exception, InterpolationResolutionError) and "not found" not in str(exception):
            reason = f"the interpolation cannot be resolved ({sentence(exception)})"
        yield error("interpolation", key, str(node._value()), reason)
