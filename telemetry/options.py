"""What an operator decides about traces: where they go, which are kept, and what they may hold."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from outrider.telemetry.names import PROFILES, Profile

ContextTrust: TypeAlias = Literal["trust", "link", "ignore"]
Capture: TypeAlias = Literal["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"]

CONTEXT_TRUSTS: tuple[ContextTrust, ...] = ("trust", "link", "ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """Checked once.

    Attributes:
        trace_file: Each span is appended to it, None for no file.
        recent: How many of the last requests `GET /traces` can show; 0 keeps none.
        context: What a caller's `traceparent` is worth. "trust": our spans are its children and its sampling flag
            decides; "link": a trace of our own with a link to the caller's; "ignore": a trace of our own.
        share: Of the requests that went well and were not slow, the share whose traces are sent, 0 to 1.
        slow_seconds: A request that took longer is sent whatever the share, and so is every error.
        profile: Whose names are sent where the GenAI conventions have renamed some.
    """

    trace_file: Path | None = None
    recent: int = 0
    context: ContextTrust = "trust"
    share: float = 1.0
    slow_seconds: float = 10.0
    profile: Profile = "v1.41"

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"trace_share must lie between 0 and 1, not {self.share}")
        if not self.slow_seconds > 0:
            raise ValueError(f"trace_slow must be more than 0 seconds, not {self.slow_seconds}")
        if not 0 <= self.recent <= 100_000:
            raise ValueError(f"recent_traces must lie between 0 and 100000, not {self.recent}")
        if self.context not in CONTEXT_TRUSTS:
            raise ValueError(f"trace_context must be one of {', '.join(CONTEXT_TRUSTS)}, not `{self.context}`")
        if self.profile not in PROFILES:
            raise ValueError(f"genai_names must be one of {', '.join(PROFILES)}, not `{self.profile}`")


def variable(name: str) -> str:
    """A variable of the environment, in lower case; empty where it is not set."""
    return os.environ.get(name, "").strip().lower()


def profile_of_environment(asked: Profile) -> Profile:
    """As asked, or the latest where OTEL_SEMCONV_STABILITY_OPT_IN holds `gen_ai_latest_experimental`."""
    opted_in = {item.strip() for item in variable("OTEL_SEMCONV_STABILITY_OPT_IN").split(",")}
    return "latest" if asked == "v1.41" and "gen_ai_latest_experimental" in opted_in else asked


def capture_of_environment() -> tuple[Capture, str | None]:
    """Where the texts of requests and answers may be told, by the standard variables, and what is wrong with them."""
    asked = variable("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT")
    modes: dict[str, Capture] = {
        "": "NO_CONTENT",
        "false": "NO_CONTENT",
        "no_content": "NO_CONTENT",
        "true": "SPAN_ONLY",
        "span_only": "SPAN_ONLY",
        "event_only": "EVENT_ONLY",
        "span_and_event": "SPAN_AND_EVENT",
    }
    if asked not in modes:
        return "NO_CONTENT", (
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is none of NO_CONTENT, SPAN_ONLY, EVENT_ONLY and "
            "SPAN_AND_EVENT: no content is recorded"
        )
    return modes[asked], None
