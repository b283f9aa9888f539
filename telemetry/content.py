"""What was said, in the conventions' message format: only where the operator opted in."""

import json
from dataclasses import dataclass
from typing import Any

from outrider.telemetry import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The texts of one request and its answers.

    Attributes:
        messages: The role and the text of each message but the system's; a completion's prompt is the user's.
        system: The system's instructions.
        answers: The text and the finish reason of each choice.
    """

    messages: tuple[tuple[str, str], ...]
    system: tuple[str, ...] = ()
    answers: tuple[tuple[str, str], ...] = ()

    def structured(self, profile: names.Profile) -> dict[str, list[dict[str, Any]]]:
        """As an event carries it; later conventions say the finish reason on the span alone."""
        with_reason = profile != "latest"
        return {
            names.GEN_AI_INPUT_MESSAGES: [{"role": role, "parts": [_text(text)]} for role, text in self.messages],
            names.GEN_AI_OUTPUT_MESSAGES: [
                {"role": "assistant", "parts": [_text(text)], **({"finish_reason": reason} if with_reason else {})}
                for text, reason in self.answers
            ],
            **({names.GEN_AI_SYSTEM_INSTRUCTIONS: [_text(text) for text in self.system]} if self.system else {}),
        }

    def as_json(self, profile: names.Profile) -> dict[str, str]:
        """As a span carries it: backends read strings there. ASCII alone, so that nothing in it cannot be encoded."""
        return {name: json.dumps(value) for name, value in self.structured(profile).items()}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "content": text.encode("utf-8", "replace").decode()}
