"""Plan -> `{path: text}` through the templates: the only module that knows jinja2.

Taken from: a Deployment and the points that share it. Given to: the store and the launchers, as text.
Never does: deciding; writing.

Every expression of a template is quoted for the template's target (shell, YAML, HTML) without being asked.
What a filter has quoted already comes as `Raw`. Quoting does not help inside quotes or comments of the
template, so a template with an expression there is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compiler import late, plan_json, quote
from compiler.plan import Deployment, Node, Point, Probe, Process

if TYPE_CHECKING:
    from jinja2 import Environment

Target = Literal["shell", "yaml", "html"]
TARGETS: Mapping[str, Target] = {".sh": "shell", ".sbatch": "shell", ".yaml": "yaml", ".html": "html"}
"""Ending of a template's name, before `.j2` -> what its expressions are quoted for."""

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


@dataclass(frozen=True, slots=True)
class Raw:
    """Text that is quoted for its target already."""

    text: str


def emit(deployment: Deployment, points: Sequence[Point] = ()) -> dict[str, str]:
    """Files of a deployment: `plan.json`, `run.sh` (not with an image), `lmcache.yaml` (with LMCache).

    Equal plans give equal text, whatever the order of their mappings. Points of other deployments and points
    with errors are left out.
    """
    files = {"plan.json": _plan_text(deployment)}
    if not any(process.image for process in deployment.processes):
        mine = [p for p in points if p.deployment == deployment.digest and p.workload is not None and p.valid]
        files["run.sh"] = _run_text(deployment, mine)
    if deployment.lmcache is not None:
        files["lmcache.yaml"] = _late_lmcache_text(deployment)
    return files


def lmcache_text(deployment: Deployment, values: Mapping[str, str]) -> str:
    """LMCache's YAML with late-bound names filled from `values`, whatever characters they hold.

    Binding the emitted file instead would put quotes and backslashes of a path into YAML text unescaped.
    Raises ValueError for a deployment without LMCache, KeyError for a word without value.
    """
    if deployment.lmcache is None:
        raise ValueError(f"deployment '{deployment.name}' has no LMCache settings")
    return _lmcache_text(deployment, _settings(deployment.lmcache, lambda text: late.bind(text, values), str))


def render(template: str, **values: Any) -> str:
    """A file of `templates/`, quoted for what its name tells: `render("report.html.j2", rows=rows)`."""
    ending = Path(template.removesuffix(".j2")).suffix
    if ending not in TARGETS:
        raise ValueError(f"no target is known for template '{template}'; known endings: {', '.join(TARGETS)}")
    return environment(TARGETS[ending]).get_template(template).render(**values)


@cache
def environment(target: Target) -> Environment:
    """Templates for one target: undefined names are errors, and every expression is quoted."""
    # jinja2 costs 40 ms of start-up, which `action=plan` has no use for.
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    finalize: Mapping[str, Callable[[Any], Any]] = {"shell": _shell, "yaml": _yaml, "html": _html}
    result = Environment(
        loader=FunctionLoader(cache(lambda name: _source(name, target))),
        autoescape=target == "html",
        finalize=finalize[target],
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.filters.update(FILTERS[target])
    return result


def check_template(source: str) -> None:
    """Raises ValueError where an expression stands in quotes, or in a comment without the filter `comment`.

    There a value could end the quotes or the comment, however it is quoted itself.
    """
    state = ""
    for match in _TOKEN.finditer(source):
        token, line = match[0], source.count("\n", 0, match.start()) + 1
        if token.startswith("{{"):
            if state in ("'", '"'):
                raise ValueError(f"line {line}: {token} inside quotes: end them before it")
            if state == "#" and not re.search(r"\|\s*comment\s*-?}}\Z", token):
                raise ValueError(f"line {line}: {token} in a comment: use the filter 'comment'")
        elif not state and token in ("'", '"', "#"):
            state = token
        elif token[-1] == {"#": "\n"}.get(state, state) and (token[0] != "\\" or state != '"'):
            state = ""


# A backslash and what follows are one token: it hides a quote, except from single quotes and comments.
# A # starts a comment only after a blank or at the start of a line.
_TOKEN = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|\\.|['\"\n]|(?:(?<=\s)|^)#", re.DOTALL)


def _source(name: str, target: Target) -> str:
    source = (TEMPLATES / name).read_text(encoding="utf-8")
    if target != "html":
        try:
            check_template(source)
        except ValueError as exception:
            raise ValueError(f"template {name}, {exception}") from None
    return source


def _shell(value: Any) -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        str(value)  # An undefined name says so itself.
        raise TypeError(f"no word of shell: {value!r}")
    return quote.shell(str(value))


def _yaml(value: Any) -> str:
    if isinstance(value, Raw):
        return value.text
    if not isinstance(value, str | int | float | None):
        str(value)
    return quote.yaml_scalar(value)


def _html(value: Any) -> Any:
    from markupsafe import Markup

    # Autoescape quotes the rest; it does not know Raw.
    return Markup(value.text) if isinstance(value, Raw) else value


def _comment(value: object) -> Raw:
    return Raw(quote.comment(str(value)))


def _described(process: Process) -> str:
    gpus = f", GPUs {' '.join(str(gpu) for gpu in process.gpus)}" if process.gpus else ""
    return f"{process.role} on node {process.node}{gpus}"


def _environment(process: Process) -> dict[str, str]:
    """The environment run.sh adds; a process without GPUs sees none."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, process.gpus)), **process.env}


def _probe(probe: Probe) -> Raw:
    """The call of run.sh that sees a probe once."""
    words = [f"seen_{probe.kind}", quote.late_shell(probe.url)]
    if probe.kind == "instances":
        words += [quote.shell(f"{name}={count}") for name, count in sorted(probe.counts.items())]
    if probe.kind == "model":
        words.append(quote.shell(probe.model or ""))
    if probe.kind == "completion":
        message = {"role": "user", "content": "Hi"}
        request = {"model": probe.model, "messages": [message], "max_tokens": 1}
        words.append(quote.shell(json.dumps(request)))
    return Raw(" ".join(words))


FILTERS: Mapping[Target, Mapping[str, Callable[..., Any]]] = {
    "shell": {
        "comment": _comment,
        "late": lambda text: Raw(quote.late_shell(text)),
        "late_bash": lambda text: Raw(quote.late_bash(text)),
        "words": lambda texts: Raw(quote.words(texts)),
        "assignments": lambda env: Raw(quote.assignments(env)),
        "variable": lambda word: Raw(quote.variable(word)),
        "probe": _probe,
        "described": _described,
        "environment": _environment,
        "late_yaml": lambda text: Raw(quote.late_yaml(text)),
        "whole": math.ceil,
    },
    "yaml": {"comment": _comment, "block": lambda data: Raw(quote.yaml_block(data))},
    "html": {},
}
"""Target -> its filters besides jinja2's own. What they give as `Raw` is quoted already."""


def _plan_text(deployment: Deployment) -> str:
    data = plan_json.deployment_to_json(deployment)
    return json.dumps(data, sort_keys=True, indent=2, allow_nan=False) + "\n"


def _lmcache_text(deployment: Deployment, settings: Mapping[str, Any]) -> str:
    return render("lmcache.yaml.j2", deployment=deployment, settings=settings)


def _late_lmcache_text(deployment: Deployment) -> str:
    """The YAML with late-bound words left in. Keys are no plan text, so a look-alike there is protected."""
    return _lmcache_text(deployment, _settings(deployment.lmcache, str, late.literal))


def _settings(value: Any, text: Callable[[str], str], key: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {key(name): _settings(part, text, key) for name, part in value.items()}
    return [_settings(part, text, key) for part in value] if isinstance(value, list | tuple) else value


def _run_text(deployment: Deployment, points: Sequence[Point]) -> str:
    frontends = [process.node for process in deployment.processes if process.role == "frontend"]
    return render(
        "run.sh.j2",
        deployment=deployment,
        points=points,
        hooks=deployment.hooks,
        waits=_waits(deployment.processes),
        addresses=[_address(node) for node in deployment.nodes],
        frontend_node=frontends[0] if frontends else 0,
        grace_s=math.ceil(max((process.stop.grace_s for process in deployment.processes), default=0)),
        completion=next((probe for probe in deployment.ready if probe.kind == "completion"), None),
        lmcache=None if deployment.lmcache is None else _late_lmcache_text(deployment),
    )


def _waits(processes: Sequence[Process]) -> dict[str, list[Process]]:
    """Name -> processes with a probe that must be seen before that one starts, each only once in a script."""
    known = {process.name: process for process in processes}
    seen: set[str] = set()
    result = {}
    for process in processes:
        waits = [name for name in process.after if name not in seen and known[name].ready is not None]
        seen.update(waits)
        result[process.name] = [known[name] for name in waits]
    return result


def _address(node: Node) -> str:
    """Loopback address of a virtual node: 127.0.0.1, 127.0.0.2, ..."""
    return f"127.0.{node.index // 254}.{node.index % 254 + 1}"
