"""Kinds of values a user may write, as annotated types: how each is read, and in what range it may be.

Given to: `model`, whose fields are of these kinds. Text forms (`node[001-004]`, `"0,1"`, a command line) are read
here, at the boundary, so that later passes see one form only.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from compiler import hostlist

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
WHOLE_NUMBER = re.compile(r"[+-]?\d+\Z")
HIGHEST_PORT = 65535


def whole_number(value: object) -> object:
    """Whole numbers and text of digits pass; booleans, fractions and other text are refused by name."""
    if isinstance(value, bool):
        raise ValueError("should be a whole number, not a boolean")
    if isinstance(value, str) and WHOLE_NUMBER.match(value):
        return int(value)
    if not isinstance(value, int):
        raise ValueError("should be a whole number")
    return value


def number(value: object) -> object:
    """Numbers pass; booleans and text are refused by name."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("should be a number")
    return value


def environment_text(value: object) -> object:
    """Text and numbers become text; YAML booleans are refused, since `on` and `true` lose their spelling."""
    if isinstance(value, bool):
        raise ValueError("environment values are text or numbers, not YAML booleans; quote the word")
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("environment values are text or numbers")
    if "\0" in value:
        raise ValueError("an environment value cannot hold a NUL character")
    return value


def environment_name(value: object) -> object:
    """A POSIX environment name, so that it can be exported by any shell."""
    if not isinstance(value, str) or not ENV_NAME.match(value):
        raise ValueError("not an environment name: letters, digits and _, not starting with a digit")
    return value


def split_words(value: object) -> object:
    """Text as its shell words; a list stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return shlex.split(value)
    except ValueError as exception:
        raise ValueError(f"cannot be split into words ({str(exception).lower()}); check its quotes") from None


def host_names(value: object) -> object:
    """Text in Slurm's notation as the names it stands for; in a list every entry may use it too."""
    if isinstance(value, str):
        return hostlist.expand(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [name for item in value for name in hostlist.expand(item)]
    return value


def gpu_indices(value: object) -> object:
    """Text such as "0,1" as a list of numbers; a single number is a list of one."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def plain_numbers(value: dict[str, Any]) -> dict[str, Any]:
    """Not-a-number and infinity have no JSON form, so they could be neither hashed nor recorded."""
    for path, item in leaves(value):
        if isinstance(item, float) and not math.isfinite(item):
            raise PydanticCustomError(
                "not_finite", "should be a finite number", {"path": path, "leaf": str(item)}
            )
    return value


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Values at the ends of a tree of mappings and lists, with their dotted paths."""
    if isinstance(value, Mapping | list):
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from leaves(item, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


Count = Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=1_000_000)]
Whole = Annotated[int, BeforeValidator(whole_number), Field(ge=0, le=2**53)]
Port = Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=HIGHEST_PORT)]
Positive = Annotated[float, BeforeValidator(number), Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, BeforeValidator(number), Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True, min_length=1, pattern=r"^[^\x00]*$")]
Flag = Annotated[bool, Field(strict=True)]
Env = dict[
    Annotated[str, BeforeValidator(environment_name)],
    Annotated[str, BeforeValidator(environment_text, json_schema_input_type=str | int | float)],
]
Argv = Annotated[list[Text], Field(min_length=1)]
"""A command as a list of words: a program, then its arguments."""
Words = Annotated[list[Text], BeforeValidator(split_words, json_schema_input_type=list[str] | str)]
"""A command: a list of words taken as they are, or text split as a shell splits words."""
Nodes = Annotated[list[Text], BeforeValidator(host_names, json_schema_input_type=list[str] | str)]
"""Host names: a list, or text in Slurm's notation (`node[001-004,7],login`)."""
GpuIds = Annotated[list[Whole], BeforeValidator(gpu_indices, json_schema_input_type=list[int] | str | int)]
"""GPU indices: a list, or text such as "0,1"."""
NodeCount = Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=10_000)]
Arguments = Annotated[dict[str, Any], AfterValidator(plain_numbers)]
"""Flags of a tool in snake_case: true is a bare flag, null is not passed, a list is several words."""
