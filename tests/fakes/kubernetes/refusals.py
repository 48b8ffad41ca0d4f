"""What the API server says when it does not do something: `Status` objects, in the words of the real one."""

from typing import Any

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Refusal(Exception):
    """An answer that is no success; `reason` None takes the usual one of the code, empty gives none."""

    def __init__(
        self, code: int, message: str, reason: str | None = None, causes: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.causes = code, message, causes or []
        self.reason = REASONS.get(code, "") if reason is None else reason

    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body |= {"message": self.message, "code": self.code}
        if self.reason:
            body["reason"] = self.reason
        if self.causes:
            body["details"] = {"causes": self.causes}
        return body


class NoSuchPath(Exception):
    """A path that nothing serves: the answer is plain text, not a Status."""


def not_found(resource: str, name: str) -> Refusal:
    return Refusal(404, f'{resource} "{name}" not found')


def invalid(kind: str, name: str, causes: list[dict[str, str]]) -> Refusal:
    """422 with its causes, each `{reason, message, field}`."""
    said = [f"{cause['field']}: {cause['message']}" for cause in causes]
    listed = said[0] if len(said) == 1 else "[" + ", ".join(said) + "]"
    return Refusal(422, f'{kind} "{name}" is invalid: {listed}', causes=causes)


def cause(field: str, message: str, reason: str = "FieldValueInvalid") -> dict[str, str]:
    return {"reason": reason, "message": message, "field": field}
