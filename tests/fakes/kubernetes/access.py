"""Who may do what: tokens, refusals by verb and resource, and SelfSubjectAccessReview."""

from dataclasses import dataclass, field
from typing import Any

from .kinds import Kind
from .refusals import Refusal


@dataclass
class Access:
    tokens: dict[str, str]  # token -> user; one that is not here is not known or expired
    forbidden: set[tuple[str, str]] = field(default_factory=set)  # (verb, plural), each may be `*`

    def user(self, header: str) -> str:
        """The user of an Authorization header; 401 otherwise."""
        kind, _, token = header.partition(" ")
        if not header:
            return "system:anonymous" if None in self.tokens else self._refuse()
        return self.tokens[token] if kind == "Bearer" and token in self.tokens else self._refuse()

    def _refuse(self) -> str:
        raise Refusal(401, "Unauthorized")

    def allowed(self, verb: str, resource: str) -> bool:
        asked = {(verb, resource), ("*", resource), (verb, "*"), ("*", "*")}
        return not asked & self.forbidden

    def check(
        self,
        user: str,
        verb: str,
        kind: Kind,
        namespace: str | None,
        name: str | None,
        subresource: str | None,
    ) -> None:
        resource = kind.plural + (f"/{subresource}" if subresource else "")
        if self.allowed(verb, resource):
            return
        own = kind.resource.replace(kind.plural, resource, 1)
        named = f' "{name}"' if name else ""
        where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
        said = f'User "{user}" cannot {verb} resource "{resource}" in API group "{kind.group}"{where}'
        raise Refusal(403, f"{own}{named} is forbidden: {said}")

    def review(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a SelfSubjectAccessReview."""
        asked = (body.get("spec") or {}).get("resourceAttributes") or {}
        sub = asked.get("subresource")
        resource = asked.get("resource", "*") + (f"/{sub}" if sub else "")
        allowed = self.allowed(asked.get("verb", "*"), resource)
        return {
            **body,
            "status": {"allowed": allowed, **({} if allowed else {"reason": "no rule allows it"})},
        }
