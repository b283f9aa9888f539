"""What a client is told when something is wrong: OpenAI's error object, and one exception that carries it."""

import math

import msgspec

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


def rate_limited(limit_per_minute: int, retry_after: float) -> ApiError:
    """A 429 for too many requests a minute; clients read the wait from the text and from the headers."""
    wait = f"{retry_after:.3g}s" if retry_after >= 1 else f"{math.ceil(retry_after * 1000)}ms"
    return ApiError(
        429,
        f"Rate limit reached for requests per minute (RPM): Limit {limit_per_minute}. Please try again in {wait}.",
        kind="requests",
        code="rate_limit_exceeded",
        error_type="rate_limit_exceeded",
        headers={"Retry-After": str(math.ceil(retry_after)), "retry-after-ms": str(math.ceil(retry_after * 1000))},
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


def server_failed(message: str) -> ApiError:
    """A 500: a bug of ours."""
    return ApiError(500, message, kind="server_error", code="internal_error", error_type=OTHER)
