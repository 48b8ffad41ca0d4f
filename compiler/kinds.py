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

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from compiler import hostlist
from compiler.errors import LONGEST_NUMBER

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
WHOLE_NUMBER = re.compile(r"[+-]?\d+\Z")
MOST_DIGITS = 100
HIGHEST_PORT = 65535
UNFIT = re.compile("[\0\ud800-\udfff]")
"""Characters that no process can be given; half a surrogate pair stands for a byte that is no UTF-8."""
_NO_TEXT = "cannot hold a NUL character, or bytes that are not UTF-8"


def whole_number(value: object) -> object:
    """Whole numbers and text of digits pass; booleans, fractions and other text are refused by name."""
    if isinstance(value, bool):
        raise ValueError("should be a whole number, not a boolean")
    if isinstance(value, str) and WHOLE_NUMBER.match(value) and len(value) < MOST_DIGITS:
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
    if isinstance(value, float) or (isinstance(value, int) and not _unfit(value)):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("environment values are text or numbers")
    if UNFIT.search(value):
        raise ValueError(f"an environment value {_NO_TEXT}")
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


def plain_values(value: dict[str, Any]) -> dict[str, Any]:
    """Only what JSON and a command line can hold: the rest could be neither hashed, recorded nor passed on."""
    for path, item in leaves(value):
        reason = _unfit(item)
        if reason:
            # pydantic writes what is in here as text, which not every number has.
            leaf = "0x..." if isinstance(item, int) else _encodable(str(item))
            raise PydanticCustomError(
                "unfit", "{reason}", {"reason": reason, "path": _encodable(path), "leaf": leaf}
            )
    return value


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _unfit(item: Any) -> str:
    """What is wrong with a value at the end of a tree ("" when nothing is)."""
    if isinstance(item, str):
        return _NO_TEXT if UNFIT.search(item) else ""
    if isinstance(item, int):
        return "is a number of too many digits" if item.bit_length() > LONGEST_NUMBER else ""
    if isinstance(item, float):
        return "" if math.isfinite(item) else "should be a finite number"
    return "" if item is None else "should be text, a number, a list or a mapping"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Keys, and values at the ends, of a tree of mappings and lists, with their dotted paths."""
    if isinstance(value, Mapping | list):
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            inner = f"{path}.{name!s}" if path else str(name)
            yield inner, name
            yield from leaves(item, inner)
    else:
        yield path, value


Count = Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=1_000_000)]
Whole = Annotated[int, BeforeValidator(whole_number), Field(ge=0, le=2**53)]
Port = Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=HIGHEST_PORT)]
Positive = Annotated[float, BeforeValidator(number), Field(gt=0, allow_inf_nan=False)]
Duration = Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)]
"""Seconds, 0 or more."""
Fraction = Annotated[float, BeforeValidator(number), Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True, min_length=1, pattern=r"^[^\x00]*$")]
Flag = Annotated[bool, Field(strict=True)]
EnvName = Annotated[str, BeforeValidator(environment_name)]
Env = dict[
    EnvName,
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
NodeCount = Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=4_096)]
"""No cluster serves one deployment on more; planning takes a millisecond per node."""
Arguments = Annotated[dict[str, Any], AfterValidator(plain_values)]
"""Flags of a tool in snake_case: true is a bare flag, null is not passed, a list is several words."""
STRICT = ConfigDict(extra="forbid")
"""Of every section: unknown keys are refused."""
