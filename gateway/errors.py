"""What a client is told when something is wrong: OpenAI's error object, and one exception that carries it."""

import math

import msgspec

from outrider.gateway.limits import Decision, Kind
from outrider.telemetry.names import OTHER


class ErrorBody(msgspec.Struct, frozen=True):
    """OpenAI's error object. `param` names the field, as a path; `code` is a string or null."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ApiError(Exception):
    """A request that is answered with an error.

    `error_type` is the name that traces and metrics know the error by.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        error_type: str = "invalid_request",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(message, kind, param, code)
        self.error_type = error_type
        self.headers = headers or {}

    def json(self) -> bytes:
        """The response body."""
        return msgspec.json.encode({"error": self.body})


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400: the request itself is wrong. The message names the field and the way out."""
    return ApiError(400, message, param=param, code=code)


def context_exceeded(message: str, param: str) -> ApiError:
    """A 400: more tokens than the model's context."""
    code = "context_length_exceeded"
    return ApiError(400, message, param=param, code=code, error_type=code)


def unknown_model(model: str) -> ApiError:
    """A 404 for a model that is not served here."""
    message = f"The model `{model}` does not exist: GET /v1/models lists what is served"
    return ApiError(404, message, param="model", code="model_not_found", error_type="model_not_found")


def rate_limited(decision: Decision, model: str, rate_headers: dict[str, str]) -> ApiError:
    """A 429 for a limit that refuses a request; clients read the wait from the text and from the headers."""
    reading = decision.denied_by
    assert reading is not None
    claim = reading.claim
    kind, code, what = _REFUSALS[claim.kind]
    told = (
        f"Rate limit reached for `{model}` in {_SCOPES.get(claim.scope, claim.scope.replace(':', ' '))} on {what}: "
        f"Limit {claim.limit}, Used {math.ceil(reading.used)}, Requested {claim.amount}."
    )
    if not reading.can_ever_fit:
        return ApiError(
            *(429, f"{told} No wait makes room for so many: shorten the prompt."),
            kind=kind,
            code=code,
            error_type="rate_limit_exceeded",
            headers={**rate_headers, "x-should-retry": "false"},
        )
    headers = {**rate_headers, **retry_headers(decision.retry_after)}
    if claim.kind is Kind.DAILY:
        headers["x-should-retry"] = "false"
    return ApiError(
        *(429, f"{told} Please try again in {_wait_text(decision.retry_after)}."),
        kind=kind,
        code=code,
        error_type="rate_limit_exceeded",
        headers=headers,
    )


_SCOPES = {"global": "the whole server"}

# kind of limit -> (type and code of the error, what clients know the limit by)
_REFUSALS = {
    Kind.REQUESTS: ("requests", "rate_limit_exceeded", "requests per minute (RPM)"),
    Kind.INPUT: ("tokens", "rate_limit_exceeded", "input tokens per minute (ITPM)"),
    Kind.OUTPUT: ("tokens", "rate_limit_exceeded", "output tokens per minute (OTPM)"),
    Kind.CONCURRENCY: ("concurrency", "rate_limit_exceeded", "requests at once"),
    Kind.DAILY: ("insufficient_quota", "insufficient_quota", "tokens per day (TPD)"),
}


def model_not_allowed(model: str, allowed: tuple[str, ...]) -> ApiError:
    """A 403 for a model that a key is not good for, whether it exists or not."""
    message = f"This key may not use the model `{model}`: it may use {', '.join(f'`{name}`' for name in allowed)}"
    return ApiError(403, message, param="model", code="model_not_allowed", error_type="model_not_found")


def retry_headers(seconds: float) -> dict[str, str]:
    """The wait, in whole seconds and in milliseconds, never rounded down."""
    return {"Retry-After": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}


def _wait_text(seconds: float) -> str:
    """As OpenAI writes it, `1.78s` or `120ms`, never rounded down."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    return f"{math.ceil(seconds * 100) / 100:.2f}".rstrip("0").rstrip(".") + "s"


def queue_full(num_waiting: int, seconds: float) -> ApiError:
    """A 429: as many requests wait as may; `seconds` is when there will presumably be room."""
    seconds = max(1.0, seconds)
    return ApiError(
        *(
            429,
            f"The server is busy and {num_waiting} requests wait already. Please try again in {_wait_text(seconds)}.",
        ),
        kind="server_overloaded",
        code="queue_full",
        error_type="queue_full",
        headers=retry_headers(seconds),
    )


def queue_timeout(waited: float, seconds: float) -> ApiError:
    """A 503: the request waited as long as it may; `seconds` is what another one would presumably wait."""
    seconds = max(1.0, seconds)
    return ApiError(
        *(503, f"The request waited {waited:.1f} s and had no turn. Please try again in {_wait_text(seconds)}."),
        kind="server_error",
        code="queue_timeout",
        error_type="queue_timeout",
        headers=retry_headers(seconds),
    )


def deadline_exceeded(seconds: float) -> ApiError:
    """A 504: the answer took longer than the client gave it."""
    return ApiError(
        *(504, f"The answer was not ready within the `timeout` of {seconds:g} s: allow more, or ask for less"),
        kind="server_error",
        param="timeout",
        code="deadline_exceeded",
        error_type="deadline_exceeded",
        headers={"x-should-retry": "false"},
    )


def engine_failed(message: str, *, status: int = 500) -> ApiError:
    """A 5xx: the engine could not finish the request."""
    return ApiError(status, message, kind="server_error", code="engine_error", error_type="engine_error")


def invalid_answer(message: str) -> ApiError:
    """The end of a stream whose answer differs from its schema."""
    return ApiError(
        500,
        message,
        kind="server_error",
        param="response_format",
        code="validation_failed",
        error_type="validation_failed",
    )


def unavailable(message: str) -> ApiError:
    """A 503: not now, or not here."""
    return ApiError(
        503, message, kind="server_error", code="overloaded", error_type="engine_error", headers={"Retry-After": "1"}
    )


def draining(message: str) -> ApiError:
    """A 503: the server is about to stop."""
    return ApiError(
        503, message, kind="server_error", code="draining", error_type="engine_error", headers={"Retry-After": "1"}
    )


def server_failed(message: str) -> ApiError:
    """A 500: a bug of ours."""
    return ApiError(500, message, kind="server_error", code="internal_error", error_type=OTHER)
