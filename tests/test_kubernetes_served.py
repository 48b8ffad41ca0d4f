"""What is deleted of a deployment when another command has applied it anew meanwhile."""

import asyncio
from typing import Any

import clusters
import pytest

from launchers.kubernetes.served import Served


class Objects:
    """A namespace with the owner only: it goes when it is deleted, and may be followed by another of its name."""

    namespace = "bench"

    def __init__(self, uid: str | None, then: str | None = None) -> None:
        self.uid, self._then, self.deleted = uid, then, list[str | None]()

    async def get(self, *_: str) -> dict[str, Any] | None:
        return None if self.uid is None else {"metadata": {"name": "x", "uid": self.uid}}

    async def delete(self, _: str, kind: str, name: str) -> None:
        self.deleted.append(name if kind == "Job" else self.uid)
        if kind != "Job":
            self.uid = self._then

    async def gone(self, *asked: Any) -> bool:
        return asked[1] == "Job" or self.uid is None or (len(asked) > 4 and asked[4] != self.uid)

    async def find(self, _: str, kind: str, *__: Any) -> list[dict[str, Any]]:
        return [{"metadata": {"name": "job"}}] if kind == "Job" else []


CASES = [
    ("ours", "ours", None, ["ours", "job"]),
    ("gone already", None, None, [None, "job"]),
    ("another's before", "another's", None, []),
    ("another's meanwhile", "ours", "another's", ["ours"]),
]


@pytest.mark.parametrize(("now", "then", "deleted"), [row[1:] for row in CASES], ids=[r[0] for r in CASES])
def test_what_others_have_applied_anew_is_left_to_them(
    now: str | None, then: str | None, deleted: list[str | None]
) -> None:
    objects = Objects("ours", then)
    served = Served(objects, *clusters.deployment())  # type: ignore[arg-type]

    async def down() -> list[str]:
        await served.found()
        objects.uid = now
        return await served.down()

    assert (asyncio.run(down()), objects.deleted) == ([], deleted)
