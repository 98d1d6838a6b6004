"""One hierarchy of errors for both sides of the wire.

An error says what went wrong and why (`detail`), what to do next (`hint`), and carries a stable `code` and an HTTP
status. The server renders it as RFC 9457 `application/problem+json`; the client finds the class by its code and
raises the same one.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class MLOpsError(Exception):
    """The root of every error the platform raises on purpose.

    Args:
        detail: What went wrong, and why, in one sentence.
        hint: What the reader can do about it.
        extra: Further members of the problem document, JSON-able.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The request failed"
    default_hint: ClassVar[str] = ""

    _by_code: ClassVar[dict[str, type["MLOpsError"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in cls.__dict__:
            MLOpsError._by_code[cls.code] = cls

    def __init__(self, detail: str, *, hint: str | None = None, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = self.default_hint if hint is None else hint
        self.extra = dict(extra or {})
        self.request_id: str | None = None
        self.retry_after_s = 0.0
        """How long the server asks to wait before the request is repeated."""

    def __str__(self) -> str:
        return f"{self.detail} {self.hint}".strip()

    def problem(self) -> dict[str, Any]:
        """Return the error as the members of an RFC 9457 problem document."""
        return {
            "type": f"urn:modelops:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "hint": self.hint,
            **self.extra,
        }

    @classmethod
    def from_problem(cls, problem: Mapping[str, Any], status: int) -> "MLOpsError":
        """Rebuild the error that a server rendered; an unknown code becomes the class of its HTTP status."""
        known = cls._by_code.get(str(problem.get("code", "")))
        kind = known or _BY_STATUS.get(status, MLOpsError)
        members = {"type", "title", "status", "code", "detail", "hint", "request_id"}
        error = kind(
            str(problem.get("detail") or f"The server answered {status}."),
            hint=str(problem.get("hint") or ""),
            extra={key: value for key, value in problem.items() if key not in members},
        )
        if known is None and "code" in problem:
            vars(error)["code"] = str(problem["code"])  # its class is not loaded here, and its code tells it still
        request_id = problem.get("request_id")
        error.request_id = str(request_id) if request_id else None
        return error


class InvalidInput(MLOpsError):
    """What was sent does not have the form or the values that the operation takes."""

    code, status, title = "invalid_input", 422, "The input is not valid"


class Unauthenticated(MLOpsError):
    """Nobody, or nobody known, is calling."""

    code, status, title = "unauthenticated", 401, "Sign-in needed"
    default_hint = "Sign in with `mops login`, or send a valid token or API key as `Authorization: Bearer …`."


class PermissionDenied(MLOpsError):
    """The caller is known and may see the resource, but lacks the permission."""

    code, status, title = "permission_denied", 403, "Permission denied"
    default_hint = "Ask an administrator of the project for a role that includes this permission."


class NotFound(MLOpsError):
    """There is no such thing in the caller's project, or the caller may not know of it."""

    code, status, title = "not_found", 404, "Not found"
    default_hint = "Check the name or id, and that you are in the right project (`mops status`)."


class Conflict(MLOpsError):
    """The resource's present state does not allow the operation."""

    code, status, title = "conflict", 409, "Conflict with the present state"


class AlreadyExists(Conflict):
    """The name is taken."""

    code, title = "already_exists", "It already exists"
    default_hint = "Choose another name, or use the existing one."


class IdempotencyMismatch(Conflict):
    """An idempotency key came back with another request."""

    code, title = "idempotency_mismatch", "The idempotency key was used for another request"
    default_hint = "Use a new `Idempotency-Key` for a new request."


class PreconditionFailed(MLOpsError):
    """Somebody changed the resource since the caller read it."""

    code, status, title = "precondition_failed", 412, "It changed in the meantime"
    default_hint = "Read it again, apply your change to what you find, and send its new ETag in `If-Match`."


class TooLarge(MLOpsError):
    """The body is larger than the operation takes."""

    code, status, title = "too_large", 413, "Too large"


class RateLimited(MLOpsError):
    """The caller is faster than the limit allows."""

    code, status, title = "rate_limited", 429, "Too many requests"
    default_hint = "Wait for the time in `Retry-After`, then try again."


class Unavailable(MLOpsError):
    """A part that the operation needs does not answer now."""

    code, status, title = "unavailable", 503, "Not available now"
    default_hint = "Try again in a moment; `mops doctor` tells what is wrong."


class StorageFull(MLOpsError):
    """The disk is full; nothing was written."""

    code, status, title = "storage_full", 507, "The storage is full"
    default_hint = "Free disk space, then repeat the request; nothing of it was kept."


class ArtifactCorrupted(MLOpsError):
    """Stored bytes no longer have the digest they were stored under."""

    code, status, title = "artifact_corrupted", 500, "A stored artifact is damaged"
    default_hint = "Upload the artifact again; its digest stays the same and the damaged copy is replaced."


class SignatureInvalid(MLOpsError):
    """A signature is missing, is of an unknown key, or does not fit the content."""

    code, status, title = "signature_invalid", 409, "The signature does not hold"
    default_hint = "Nothing was loaded. Register the content again from a source that you trust."


class MissingExtra(MLOpsError):
    """The installed package lacks an optional part that this needs."""

    code, status, title = "missing_extra", 501, "An optional part is not installed"


class ExperimentError(MLOpsError):
    """An experiment or run is not in the state that the operation needs."""

    code, status, title = "experiment_error", 409, "The experiment refuses"


class ModelRegistryError(MLOpsError):
    """The registry refuses, by a rule of its own."""

    code, status, title = "model_registry_error", 409, "The registry refuses"


class TrainingError(MLOpsError):
    """A training job is not in the state that the operation needs, or it failed."""

    code, status, title = "training_error", 409, "The training job refuses"


class DeploymentError(MLOpsError):
    """A deployment is not in the state that the operation needs, or it failed."""

    code, status, title = "deployment_error", 409, "The deployment refuses"


class MonitoringError(MLOpsError):
    """Monitoring cannot answer, for lack of data or of a reference."""

    code, status, title = "monitoring_error", 409, "Monitoring cannot answer"


_BY_STATUS: dict[int, type[MLOpsError]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: TooLarge,
    422: InvalidInput,
    429: RateLimited,
    503: Unavailable,
    507: StorageFull,
}
