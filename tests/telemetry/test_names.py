"""The vocabulary: names that dashboards and backends read."""

import ast
import re
import warnings
from pathlib import Path

import pytest

from outrider.telemetry import names

FOLDER = Path(__file__).parents[2] / "telemetry"
OURS = {value for name, value in vars(names).items() if isinstance(value, str) and not name.startswith("_")}


def test_gen_ai_names_are_those_of_the_conventions() -> None:
    """Nothing is invented below gen_ai, and none of its legacy names is used."""
    with warnings.catch_warnings(action="ignore"):
        from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    known = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}
    legacy = {"gen_ai.system", "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"}

    # Of the conventions since they left the core repository, which no package holds.
    later = {"gen_ai.client.inference.operation.details", "gen_ai.usage.cache_write.input_tokens"}

    assert {name for name in OURS if name.startswith("gen_ai.")} <= known - legacy | later


def test_the_vocabulary_changes_only_on_purpose() -> None:
    """A renamed attribute breaks every saved query."""
    expected = """
        client.address error.type http.request.method http.response.status_code http.route server.address server.port
        service.name service.version url.path url.scheme user_agent.original
        gen_ai.conversation.id gen_ai.operation.name gen_ai.output.type gen_ai.provider.name
        gen_ai.request.choice.count gen_ai.request.frequency_penalty gen_ai.request.max_tokens gen_ai.request.model
        gen_ai.request.presence_penalty gen_ai.request.seed gen_ai.request.stop_sequences gen_ai.request.stream
        gen_ai.request.temperature gen_ai.request.top_k gen_ai.request.top_p
        gen_ai.response.finish_reasons gen_ai.response.id gen_ai.response.model gen_ai.response.time_to_first_chunk
        gen_ai.client.inference.operation.details gen_ai.input.messages gen_ai.output.messages
        gen_ai.system_instructions gen_ai.usage.cache_creation.input_tokens gen_ai.usage.cache_write.input_tokens
        gen_ai.usage.cache_read.input_tokens gen_ai.usage.input_tokens gen_ai.usage.output_tokens
        gen_ai.usage.reasoning.output_tokens
        session.id user.id
        outrider.admission outrider.admission.decision outrider.admission.retry_after_ms outrider.choice.index
        outrider.decode outrider.decode.itl_ms_max outrider.decode.itl_ms_p50 outrider.decode.itl_ms_p99
        outrider.decode.steps outrider.decode.tokens outrider.grammar.compile
        outrider.prefill outrider.prefill.cached_tokens outrider.prefill.chunks outrider.prefill.tokens
        outrider.queue outrider.queue.depth_at_enqueue outrider.queue.reason outrider.scheduler.preemptions
        outrider.decode.seconds outrider.first_token outrider.grammar.cache_hit outrider.grammar.compile_ms
        outrider.gateway_queue.position outrider.gateway_queue.seconds
        outrider.grammar.backend outrider.grammar.backend_reason
        outrider.grammar.route outrider.grammar.validation_retries
        outrider.grammar.kind outrider.prefill.seconds outrider.queue.seconds
        outrider.resumed outrider.resumed.from outrider.resumed.on outrider.resumed.output_tokens
        outrider.resumed.reason outrider.resumed.seconds
        outrider.spec.accepted_tokens outrider.spec.acceptance_rate outrider.spec.drafted_tokens
        outrider.spec.accept_len_histogram outrider.spec.dropped outrider.spec.dropped_drafts
        outrider.spec.k_max outrider.spec.k_mean
        outrider.spec.emitted_tokens outrider.spec.mean_accepted_len outrider.spec.method outrider.spec.steps
    """

    assert set(expected.split()) == {name for name in OURS if re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)+", name)}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_attribute_names_are_written_in_one_file(path: Path) -> None:
    """A name spelt twice is a name that will differ."""
    strings = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }

    assert path.name == "names.py" or strings & {name for name in OURS if "." in name} == set()
