"""What a command is about, beside its points.

Taken from: the plan and what was typed. Given to: `command`, `views`. Never does: acting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compiler.plan import Plan, Point
from compiler.secret import masked_override


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command is about, read from the first point that can be read."""

    action: str
    format: str
    output_dir: Path
    arguments: tuple[str, ...]
    on_invalid: str = "error"


def asked(plan: Plan, arguments: Sequence[str]) -> Asked:
    """What the arguments ask for."""
    typed = dict(text.split("=", 1) for text in arguments if "=" in text)
    composed: Mapping[str, Any] = next((point.config for point in plan.points if point.config), {})

    def said(key: str, default: str) -> str:
        return str(composed.get(key, typed.get(key, default)))

    return Asked(
        said("action", "run"),
        said("format", "text"),
        Path(said("output_dir", "outputs")),
        # They are written down with what was measured; points that hold a secret may be left out of it.
        tuple(map(masked_override, arguments)),
        said("on_invalid", "error"),
    )


def without_skipped(plan: Plan, asked: Asked) -> tuple[Plan, tuple[Point, ...]]:
    """The plan without its invalid points that ask to be skipped, and those points."""
    skipped = tuple(
        point
        for point in plan.points
        if not point.valid and point.config.get("on_invalid", asked.on_invalid) == "skip"
    )
    if not skipped:
        return plan, ()
    left_out = set(map(id, skipped))
    return replace(plan, points=tuple(point for point in plan.points if id(point) not in left_out)), skipped
