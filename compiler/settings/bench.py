"""What is asked of a deployment: load generators, accuracy runs, and what counts. Part of `model`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from compiler.kinds import STRICT, Argv, Env, EnvName, Flag, Fraction, Positive, Text, Whole, Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A load generator as data. Only the reading of its results is code."""

    __pydantic_config__ = STRICT

    name: Literal["aiperf", "genai_perf"]
    version: Text
    """Release the flags belong to; recorded and part of the digest."""
    command: Argv
    words: list[Text]
    """Words servix itself gives (`{model}`, `{url}`, `{tokenizer}`, `{artifact_dir}`)."""
    revision: list[Text] = field(default_factory=list)
    """Words that pin the model's tokenizer (`{revision}`), given where `model.revision` is set."""
    when_null: dict[str, list[Text]] = field(default_factory=dict)
    """Words given where an argument is null."""
    catalogue: Text | None = None
    """File of catalogues/ that knows the tool's flags; null: they are not checked."""
    reserved: list[Text] = field(default_factory=list)
    """Arguments that would contradict what the plan sets."""
    extra_args: Words = field(default_factory=list)
    env: Env = field(default_factory=dict)
    unset_env: list[EnvName] = field(default_factory=list)
    """Variables the tool must not inherit."""
    needs: list[Text] = field(default_factory=list)
    """Programs that must be there, beside the command itself."""
    needs_hint: Text | None = None
    """What to do where one is missing."""
    timeout_s: Positive = 3600
    """Longest time one phase may take, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The accuracy run, which asks the live deployment after its phases and leaves a CSV with a row OVERALL.

    Words of `entrypoint` and `cli` may hold `{model}`, `{url}`, `{endpoint}`, `{tokenizer}`, `{artifact_dir}` and
    `{result_dir}`.
    """

    __pydantic_config__ = STRICT

    name: Text
    """Shown in plans and results."""
    entrypoint: Words
    """What is started."""
    cli: Words = field(default_factory=list)
    """Its arguments: `entrypoint` and `cli` are one command."""
    endpoint: Text
    """What `{endpoint}` stands for: the path of the API below `{url}`."""
    setup_command: Text | None = None
    """Run by `bash -c` before it."""
    results: Text
    """The CSV it leaves, below its artifact folder."""
    timeout_s: Positive
    """Longest time of the run, and of its setup command, in seconds."""
    catalogue: Text | None = None
    """File of catalogues/ that knows the flags of `cli`; null: they are not checked."""
    required: dict[str, Text | None] = field(default_factory=dict)
    """Flags that `cli` has to hold, with the one word they may have; null: any."""
    synthetic: list[Text] = field(default_factory=list)
    """Flags that have no place in `cli`, because the data set supplies the prompts."""
    env: Env = field(default_factory=dict)
    unset_env: list[EnvName] = field(default_factory=list)
    """Variables the run must not inherit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BetweenPhases:
    """What happens on the live deployment after each phase but the last."""

    __pydantic_config__ = STRICT

    command: list[Text] | Text | None = None
    """Text is run by `bash -c` as it is; a list is one command, its words taken as they are."""
    health_check: Flag = True
    """Ask for one token before the next phase."""
    continue_on_failure: Flag = False
    """Run the next phase although one failed."""
    timeout_s: Positive = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a sweep looks for."""

    __pydantic_config__ = STRICT

    metric: Text | None = None
    direction: Literal["minimize", "maximize"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """Limits a measurement must keep to count as valid."""

    __pydantic_config__ = STRICT

    max_error_rate: Fraction = 0.0
    output_length_tolerance: Fraction | None = 0.1
    """Allowed relative difference between the mean output length and the one asked for; null: not checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Workload parameters drawn at random. Read before points are composed: each draw is then an override."""

    __pydantic_config__ = STRICT

    count: Whole = 0
    """Rows that are drawn; 0: none."""
    seed: Whole = 1
    params: dict[str, Any] | None = None
    """Dotted key of a load generator's argument -> values, or `{values, weights}`."""
