"""All ways of writing calls, and how the one that a model uses is found."""

from typing import Final

from outrider.structured.tools.format import ToolFormat
from outrider.structured.tools.hermes import DEMO, HERMES
from outrider.structured.tools.llama import Llama
from outrider.structured.tools.mistral import Mistral
from outrider.structured.tools.mistral_args import MistralArgs

# The first one that fits a template is taken.
FORMATS: Final[dict[str, ToolFormat]] = {one.name: one for one in (DEMO, HERMES, MistralArgs(), Mistral(), Llama())}


def format_of(template: str | None) -> ToolFormat | None:
    """The format of the calls in a chat template, None where there is none that is known."""
    if template is None:
        return None
    return next((one for one in FORMATS.values() if one.is_used_by(template)), None)
