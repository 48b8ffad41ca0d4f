"""A request, and what the server does not do at the moment."""

from collections.abc import Callable
from dataclasses import dataclass, field

from .kinds import Kind
from .objects import How
from .refusals import Refusal


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    verb: str  # create, get, list, watch, patch, update, delete, deletecollection
    path: str
    query: dict[str, str]
    kind: Kind | None
    version: str
    namespace: str | None
    name: str | None
    subresource: str | None
    agent: str = ""

    @property
    def how(self) -> How:
        manager = self.query.get("fieldManager") or self.agent.split("/")[0] or "unknown"
        dry_run = self.query.get("dryRun")
        if dry_run not in (None, "", "All"):
            raise Refusal(400, f'dryRun: Unsupported value: "{dry_run}": supported values: "All"')
        validation = self.query.get("fieldValidation", "Warn")
        return How(
            manager,
            dry_run == "All",
            self.query.get("force") == "true",
            validation,
            self.version,
            self.subresource,
        )


@dataclass
class Faults:
    """What the server does not do at the moment."""

    # Verb and plural of a request, each may be `*`; then what becomes of the next such request. Of a hook: how many
    # such requests pass before.
    answers: list[tuple[str, str, int, str]] = field(default_factory=list)
    hooks: list[tuple[str, str, Callable[[], object], int]] = field(default_factory=list)
    delay_s: float = 0.0
    warnings: list[str] = field(default_factory=list)
