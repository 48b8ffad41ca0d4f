"""How plans are realised and what is cleaned up. Part of `model`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from compiler.kinds import STRICT, Count, Duration, Flag, Positive, Whole, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things are taken to last, in seconds, for the estimate of a plan."""

    __pydantic_config__ = STRICT

    start_s: Duration
    """Start of a deployment until it is ready."""
    phase_s: Duration
    """Start and end of the load generator, once per phase."""
    request_s: Duration
    """One request, where nothing else bounds a phase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How plans are realised. None of this is part of a digest."""

    __pydantic_config__ = STRICT

    ready_timeout_s: Positive = 600
    stop_timeout_s: Positive = 10
    """Seconds between the signal that stops a process and KILL."""
    max_restarts: Whole = 3
    """Fresh starts of a stack that died, or no longer answered, while a sweep was measured on it."""
    parallel: Count = 1
    """Deployments that run at the same time, as far as the nodes suffice."""
    detach: Flag = False
    """Leave the work to a process of its own and return at once."""
    single_allocation: Flag = False
    """On Slurm: one job for all deployments of a command, one after the other, with the nodes of the largest."""
    hook_timeout_s: Positive = 600
    """Longest time of each hook: the setup of a node, the command before a worker, `pre_test` and `post_test`."""
    prefetch: Literal["none", "login", "job"] = "none"
    """On Slurm, what downloads models and images before nodes with GPUs are asked for: nothing, the command itself, or
    a job without GPUs that the others wait for."""
    reset_timeout_s: Positive = 60
    """Longest time that emptying the caches between two points may take, in seconds."""
    estimate: Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Gc:
    """What `action=gc` lists, beside what no recorded sweep refers to."""

    __pydantic_config__ = STRICT

    older_than_days: Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)] = 14
    """Age from which failed attempts at points that stay are listed."""
    valid: Flag = False
    """Valid results that no sweep refers to are listed, too."""
