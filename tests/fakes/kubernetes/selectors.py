"""Label and field selectors of lists and watches."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from .refusals import Refusal
from .store import Object

FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "status.phase",
    "spec.nodeName",
    "involvedObject.name",
    "involvedObject.uid",
)
FIELDS += ("involvedObject.kind", "involvedObject.namespace", "reason", "type")


def selection(query: dict[str, str]) -> Callable[[Object], bool]:
    """Whether a list or watch with this query means an object; a Refusal (400) for what cannot be read."""
    labels = list(_label_tests(query.get("labelSelector", "")))
    fields = list(_field_tests(query.get("fieldSelector", "")))

    def wanted(obj: Object) -> bool:
        own = obj["metadata"].get("labels") or {}
        return all(test(own) for test in labels) and all(test(obj) for test in fields)

    return wanted


def _label_tests(text: str) -> Iterator[Callable[[dict[str, str]], bool]]:
    for part in filter(None, re.split(r",(?![^(]*\))", text)):
        yield _label_test(part.strip())


def _label_test(part: str) -> Callable[[dict[str, str]], bool]:
    if found := re.fullmatch(r"(\S+) (in|notin) ?\(([^)]*)\)", part):
        key, among = found[1], {one.strip() for one in found[3].split(",")}
        wanted = found[2] == "in"
        return lambda own: (own.get(key) in among) is wanted
    if found := re.fullmatch(r"([^=!]+)(==|=|!=)([^=!]*)", part):
        key, value, equal = found[1].strip(), found[3].strip(), found[2] != "!="
        return lambda own: (own.get(key) == value) is equal
    if found := re.fullmatch(r"(!?)([-A-Za-z0-9_./]+)", part):
        key, there = found[2], not found[1]
        return lambda own: (key in own) is there
    raise Refusal(400, f"unable to parse requirement: {part!r}")


def _field_tests(text: str) -> Iterator[Callable[[Object], bool]]:
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if not found or found[1] not in FIELDS:
            raise Refusal(400, f"field label not supported: {part}")
        path, equal, value = found[1].split("."), found[2] != "!=", found[3]
        yield lambda obj, path=path, equal=equal, value=value: (_at(obj, path) == value) is equal


def _at(obj: Any, path: list[str]) -> str:
    for part in path:
        obj = obj.get(part, "") if isinstance(obj, dict) else ""
    return str(obj)
