"""The plan as plain JSON data, and back: `servix.plan/1`. One deployment alone is written as `servix.deployment/1`.

Taken from: a Plan or a Deployment. Given to: `emit`, the store, `action=plan format=json`, the launchers.
Never does: text or files; the caller dumps and loads.

The dataclasses of `plan` are the schema: their fields and annotations say how every value is written and
read, so a new field needs no line here. Only ports and problems have a form of their own.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from compiler.errors import NOTHING, Problem, json_value
from compiler.plan import SCHEMA, Deployment, Plan, Port

DEPLOYMENT_SCHEMA = "servix.deployment/1"


class PlanFormatError(ValueError):
    """JSON data that is no plan; the message names the place, as in `deployments[0].nodes[1].index: ...`."""

    def __init__(self, reason: str, path: tuple[str | int, ...] = ()) -> None:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
        super().__init__(f"{place.removeprefix('.') or 'plan'}: {reason}")
        self.reason, self.path = reason, path

    def inside(self, part: str | int) -> PlanFormatError:
        """The same error, seen from one level further out."""
        return PlanFormatError(self.reason, (part, *self.path))


def to_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON data: `{"schema", "points", "deployments"}`, keys in the order of the fields."""
    return {"schema": SCHEMA, **_form(Plan).dump(plan)}


def from_json(data: Any) -> Plan:
    """The plan that `to_json` wrote; mappings come back as dicts. Raises PlanFormatError.

    A problem without a value and one with the value null are written alike, and read as without.
    """
    if not isinstance(data, dict):
        raise _expected("an object", data)
    found = data.get("schema")
    if found != SCHEMA:
        raise PlanFormatError(f"{found!r} cannot be read; this servix reads {SCHEMA!r}", ("schema",))
    plan: Plan = _form(Plan).load({key: value for key, value in data.items() if key != "schema"})
    return plan


def deployment_to_json(deployment: Deployment) -> dict[str, Any]:
    """One deployment as JSON data: its schema and its fields."""
    return {"schema": DEPLOYMENT_SCHEMA, **_form(Deployment).dump(deployment)}


@dataclass(frozen=True, slots=True)
class _Form:
    """How one type is written and read. `load` raises PlanFormatError; each level above adds to its path."""

    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


@cache
def _form(hint: Any) -> _Form:
    """The form of an annotation. Cached: a plan has a dozen types and many thousand values."""
    if hint in _OWN:
        return _OWN[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return _object(hint)
    if origin is tuple:
        return _list(_form(arguments[0]))
    if origin is Mapping:
        return _mapping(_form(arguments[1]))
    if origin is Literal:
        return _choice(arguments)
    if origin in (Union, types.UnionType):
        return _optional(_form(next(kind for kind in arguments if kind is not types.NoneType)))
    return _scalar(hint)


def _object(kind: Any) -> _Form:
    hints = get_type_hints(kind)
    forms = {field.name: _form(hints[field.name]) for field in fields(kind)}

    def dump(value: Any) -> dict[str, Any]:
        return {name: form.dump(getattr(value, name)) for name, form in forms.items()}

    def load(data: Any) -> Any:
        if not isinstance(data, dict):
            raise _expected("an object", data)
        if data.keys() != forms.keys():
            raise _wrong_keys(data, forms)
        return kind(**_each(forms.items(), data))

    return _Form(dump, load)


def _each(forms: Any, data: dict[str, Any]) -> dict[str, Any]:
    values = {}
    for name, form in forms:
        try:
            values[name] = form.load(data[name])
        except PlanFormatError as problem:
            raise problem.inside(name) from None
    return values


def _list(item: _Form) -> _Form:
    def dump(value: Any) -> list[Any]:
        return [item.dump(part) for part in value]

    def load(data: Any) -> tuple[Any, ...]:
        if not isinstance(data, list):
            raise _expected("a list", data)
        values = []
        for index, part in enumerate(data):
            try:
                values.append(item.load(part))
            except PlanFormatError as problem:
                raise problem.inside(index) from None
        return tuple(values)

    return _Form(dump, load)


def _mapping(item: _Form) -> _Form:
    def dump(value: Any) -> dict[str, Any]:
        return {key: item.dump(part) for key, part in value.items()}

    def load(data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise _expected("an object", data)
        return _each([(key, item) for key in data], data)

    return _Form(dump, load)


def _choice(known: tuple[Any, ...]) -> _Form:
    def load(data: Any) -> Any:
        if data not in known:
            raise _expected("one of " + ", ".join(f"'{word}'" for word in known), data)
        return data

    return _Form(_same, load)


def _optional(form: _Form) -> _Form:
    return _Form(
        lambda value: None if value is None else form.dump(value),
        lambda data: None if data is None else form.load(data),
    )


def _scalar(kind: Any) -> _Form:
    # bool is an int to Python, not to JSON; 10 may stand for 10.0, as other writers drop the fraction.
    exact = {str: (str,), int: (int,), float: (float, int), bool: (bool,)}[kind]
    word = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[kind]

    def load(data: Any) -> Any:
        if type(data) not in exact:
            raise _expected(word, data)
        return data

    return _Form(_same, load)


def _dump_port(port: Port) -> Any:
    return port.port if port.count == 1 else {"port": port.port, "count": port.count}


def _load_port(data: Any) -> Port:
    if isinstance(data, dict):
        port: Port = _object(Port).load(data)
        return port
    if type(data) is not int:
        raise _expected("a port number or {port, count}", data)
    return Port(data)


def _load_problem(data: Any) -> Problem:
    problem: Problem = _object(Problem).load(data)
    return replace(problem, value=NOTHING) if problem.value is None else problem


def _same(value: Any) -> Any:
    return value


_OWN: Mapping[Any, _Form] = {
    Any: _Form(json_value, _same),
    Port: _Form(_dump_port, _load_port),
    Problem: _Form(Problem.as_json, _load_problem),
}
"""Types whose JSON is not simply that of their fields."""


def _expected(what: str, data: Any) -> PlanFormatError:
    shown = repr(data)
    return PlanFormatError(f"expected {what}, not {shown if len(shown) <= 80 else shown[:77] + '...'}")


def _wrong_keys(data: dict[str, Any], forms: Mapping[str, _Form]) -> PlanFormatError:
    missing, unknown = sorted(forms.keys() - data.keys()), sorted(data.keys() - forms.keys())
    parts = [f"missing {', '.join(missing)}"] if missing else []
    parts += [f"unknown {', '.join(unknown)}"] if unknown else []
    return PlanFormatError(f"wrong keys: {'; '.join(parts)}")
