"""The exposition that Prometheus scrapes."""

from typing import Any

import prometheus_client
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from outrider.telemetry.engine_totals import EngineLevels, EngineTotals
from outrider.telemetry.figures import InferenceResult
from outrider.telemetry.metrics import FINE_TOKEN_BUCKETS, TOKEN_BUCKETS, Metrics

# What Prometheus 2.42 and 3.x send.
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"

NAMES = """
    gen_ai_server_request_duration_seconds:histogram gen_ai_server_time_per_output_token_seconds:histogram
    gen_ai_server_time_to_first_token_seconds:histogram outrider_accepted_draft_tokens:counter
    outrider_accepted_draft_tokens_per_position:counter outrider_build:info outrider_draft_steps:counter
    outrider_dropped_drafts:counter outrider_tokens_by_origin:counter
    outrider_cached_prompt_tokens:counter outrider_client_disconnects:counter outrider_draft_tokens:counter
    outrider_engine_resident_memory_bytes:gauge outrider_engine_step_seconds:counter outrider_engine_steps:counter
    outrider_gateway_resident_memory_bytes:gauge outrider_generated_tokens:counter
    outrider_grammar_compile_seconds:histogram outrider_kv_blocks:gauge outrider_kv_blocks_used:gauge
    outrider_preemptions:counter outrider_validation_retries:counter outrider_validations:counter
    outrider_prompt_tokens:counter outrider_rate_limited:counter
    outrider_requests:counter outrider_requests_running:gauge outrider_requests_waiting:gauge
    http_server_active_requests:gauge http_server_request_duration_seconds:histogram
    gen_ai_client_token_usage:histogram outrider_answers:counter outrider_batch_size:histogram
    outrider_decode_seconds:histogram outrider_draining:gauge outrider_engine_step_duration_seconds:histogram
    outrider_grammar_mask_seconds:counter outrider_prefill_seconds:histogram outrider_queue_seconds:histogram
    process_cpu_seconds:counter process_max_fds:gauge process_open_fds:gauge process_resident_memory_bytes:gauge
    process_start_time_seconds:gauge process_virtual_memory_bytes:gauge
    outrider_queue_requests:gauge outrider_queue_prompt_tokens:gauge outrider_queue_wait_seconds:histogram
    outrider_queue_position:histogram outrider_queue_refused:counter outrider_resumed_requests:counter
"""


def new_metrics() -> Metrics:
    return Metrics(routes=["/v1/chat/completions"], models=["tiny"])


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and label values, in the order of the labels' names."""
    families = parse_text(metrics.render("")[0].decode())
    found = [sample for family in families for sample in family.samples]
    return {(sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value for sample in found}


def observe(metrics: Metrics, **overrides: Any) -> None:
    metrics.observe_inference(
        **(
            {
                "operation": "chat",
                "model": "tiny",
                "duration_seconds": 1.1,
                "time_to_first_token_seconds": 0.1,
                "output_tokens": 101,
            }
            | overrides
        )
    )


def test_the_names_change_only_on_purpose() -> None:
    """A renamed metric empties dashboards and silences alerts."""
    families = parse_openmetrics(new_metrics().render(OPENMETRICS)[0].decode())

    assert {f"{family.name}:{family.type}" for family in families} == set(NAMES.split())


def test_both_formats_hold_the_same() -> None:
    """The Accept header chooses the words, not the content."""
    metrics = new_metrics()
    observe(metrics)
    text, text_type = metrics.render("text/plain")
    body, body_type = metrics.render(OPENMETRICS)

    def values(families: Any) -> dict[Any, float]:
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if "memory" not in sample.name and not sample.name.startswith("process_")
        }

    assert text_type == "text/plain; version=0.0.4; charset=utf-8"
    assert body_type.startswith("application/openmetrics-text; version=1.0.0")
    assert values(parse_text(text.decode())) == values(parse_openmetrics(body.decode()))


@pytest.mark.parametrize("accept", ["", "*/*", "text/html", "text/plain;version=x", "\udcff", "application/json,,;;="])
def test_whatever_is_accepted_gets_an_answer(accept: str) -> None:
    """A browser and a broken scraper read text."""
    body, content_type = new_metrics().render(accept)

    assert content_type.startswith("text/plain; version=0.0.4")
    assert list(parse_text(body.decode()))


def test_requests_are_counted_by_route_and_status() -> None:
    """Neither takes a value that a client made up."""
    metrics = new_metrics()
    metrics.observe_request(route="/v1/chat/completions", status=200)
    metrics.observe_request(route="/v1/chat/completions", status=429)
    metrics.observe_request(route="/wp-login.php", status=404)
    metrics.observe_request(route=None, status=404)
    metrics.observe_request(route=None, status=12345)

    assert {
        labels: value for (name, labels), value in samples(metrics).items() if name == "outrider_requests_total"
    } == {
        ("/v1/chat/completions", "200"): 1,
        ("/v1/chat/completions", "429"): 1,
        ("other", "404"): 2,
        ("other", "other"): 1,
    }


def test_an_inference_falls_into_three_histograms() -> None:
    """Time per token is measured between tokens, so the first one does not count."""
    metrics = new_metrics()
    observe(metrics)
    found = samples(metrics)
    labels = ("chat", "outrider", "tiny")

    assert found["gen_ai_server_request_duration_seconds_sum", ("", *labels)] == 1.1
    assert found["gen_ai_server_time_to_first_token_seconds_sum", labels] == 0.1
    assert found["gen_ai_server_time_per_output_token_seconds_sum", labels] == pytest.approx(0.01)


def test_latencies_are_those_of_successes() -> None:
    """A failure keeps its duration, under its kind."""
    metrics = new_metrics()
    observe(metrics, error_type="engine_error")
    observe(metrics, error_type="KeyError: 'secret'")
    observe(metrics, time_to_first_token_seconds=None, output_tokens=0)
    observe(metrics, output_tokens=1)
    counts = {
        (name.removeprefix("gen_ai_server_"), labels[:-3]): value
        for (name, labels), value in samples(metrics).items()
        if name.startswith("gen_ai") and name.endswith("_count")
    }

    assert counts == {
        ("request_duration_seconds_count", ("engine_error",)): 1,
        ("request_duration_seconds_count", ("_OTHER",)): 1,
        ("request_duration_seconds_count", ("",)): 2,
        ("time_to_first_token_seconds_count", ()): 1,
    }


def test_a_model_is_a_label_only_when_it_is_known() -> None:
    """Else each typing error of a client would be a new time series, for ever."""
    metrics = new_metrics()
    metrics.add_model("adapter")
    for model in ("tiny", "adapter", "gpt-4", "gpt-5"):
        observe(metrics, model=model)
    counts = {
        labels[-1]: value
        for (name, labels), value in samples(metrics).items()
        if name == "gen_ai_server_request_duration_seconds_count"
    }

    assert counts == {"tiny": 1, "adapter": 1, "other": 2}


def test_an_exemplar_leads_from_a_bucket_to_its_trace() -> None:
    """Only OpenMetrics has them."""
    metrics = new_metrics()
    observe(metrics, trace_id="4bf92f3577b34da6a3ce929d0e0e4736")
    families = parse_openmetrics(metrics.render(OPENMETRICS)[0].decode())
    exemplars = {
        (family.name, sample.labels["le"]): sample.exemplar.labels
        for family in families
        for sample in family.samples
        if sample.exemplar
    }

    assert exemplars["gen_ai_server_request_duration_seconds", "1.28"] == {
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"
    }


def test_the_buckets_of_the_conventions_are_kept() -> None:
    """Finer ones are added below, so that a fast model is not one bar."""
    specified = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

    assert (*FINE_TOKEN_BUCKETS, *specified) == TOKEN_BUCKETS
    assert tuple(sorted(TOKEN_BUCKETS)) == TOKEN_BUCKETS


def test_plain_counters() -> None:
    """Each has one method, and starts at zero rather than absent."""
    metrics = new_metrics()
    before = samples(metrics)
    metrics.count_tokens(prompt=7, generated=3)
    metrics.count_tokens(generated=2)
    metrics.count_rate_limited()
    metrics.count_client_disconnect()
    metrics.observe_grammar_compile(0.02, "xgrammar")
    metrics.count_validation_retry()
    after = samples(metrics)

    expected = {
        "outrider_prompt_tokens_total": 7,
        "outrider_generated_tokens_total": 5,
        "outrider_rate_limited_total": 1,
        "outrider_client_disconnects_total": 1,
        "outrider_validation_retries_total": 1,
    }
    assert {name: before[name, ()] for name in expected} == dict.fromkeys(expected, 0)
    assert {name: after[name, ()] for name in expected} == expected
    assert 1 == after["outrider_grammar_compile_seconds_count", ("xgrammar",)]


def test_engines_are_summed_and_survive_their_restarts() -> None:
    """A counter never falls, a gauge shows only engines that are there."""
    metrics = new_metrics()
    metrics.set_engine_stats(
        "a",
        EngineLevels(running=2, waiting=1, kv_blocks_total=100, kv_blocks_used=40, resident_memory_bytes=1000),
        EngineTotals(
            steps=50,
            step_seconds=2.5,
            preemptions=1,
            cached_tokens=64,
            draft_tokens={"ngram": 30},
            accepted_draft_tokens={"ngram": 20},
            draft_steps={("ngram", 0): 3, ("ngram", 1): 4, ("ngram", 2): 8},
            dropped_drafts={"ngram": 2},
            tokens_by_origin={"ngram": 20, "bonus": 15},
        ),
    )
    metrics.set_engine_stats("b", EngineLevels(running=3, kv_blocks_total=100), EngineTotals(steps=1))
    metrics.set_engine_stats("a", EngineLevels(), EngineTotals(steps=4, step_seconds=0.5, draft_tokens={"ngram": 5}))
    metrics.remove_engine("b")
    found = samples(metrics)

    assert {
        ("outrider_engine_steps_total", ()): 55,
        ("outrider_engine_step_seconds_total", ()): 3.0,
        ("outrider_preemptions_total", ()): 1,
        ("outrider_cached_prompt_tokens_total", ()): 64,
        ("outrider_draft_tokens_total", ("ngram",)): 35,
        ("outrider_accepted_draft_tokens_total", ("ngram",)): 20,
        ("outrider_draft_steps_total", ("ngram",)): 15,
        ("outrider_accepted_draft_tokens_per_position_total", ("ngram", "0")): 12,
        ("outrider_accepted_draft_tokens_per_position_total", ("ngram", "1")): 8,
        ("outrider_dropped_drafts_total", ("ngram",)): 2,
        ("outrider_tokens_by_origin_total", ("ngram",)): 20,
        ("outrider_tokens_by_origin_total", ("bonus",)): 15,
        ("outrider_requests_running", ()): 0,
        ("outrider_kv_blocks", ()): 0,
    }.items() <= found.items()


def test_gauges_show_the_engines_that_are_there() -> None:
    """Levels add up over replicas."""
    metrics = new_metrics()
    for engine in ("a", "b"):
        levels = EngineLevels(running=2, waiting=1, kv_blocks_total=100, kv_blocks_used=40, resident_memory_bytes=1000)
        metrics.set_engine_stats(engine, levels, EngineTotals())

    assert {
        ("outrider_requests_running", ()): 4,
        ("outrider_requests_waiting", ()): 2,
        ("outrider_kv_blocks", ()): 200,
        ("outrider_kv_blocks_used", ()): 80,
        ("outrider_engine_resident_memory_bytes", ()): 2000,
    }.items() <= samples(metrics).items()


def test_the_process_tells_its_memory_and_its_version() -> None:
    """A leak shows without another exporter."""
    found = samples(new_metrics())
    build = next(labels for name, labels in found if name == "outrider_build_info")

    assert 1e6 < found["outrider_gateway_resident_memory_bytes", ()] < 1e11
    assert len(build) == 2


def test_two_servers_in_one_process_do_not_meet() -> None:
    """The library's global registry would refuse the second."""
    first, second = new_metrics(), new_metrics()
    first.count_rate_limited()

    assert samples(second)["outrider_rate_limited_total", ()] == 0
    assert b"outrider" not in prometheus_client.generate_latest()


def test_the_profile_says_whose_token_metrics_there_are() -> None:
    """The conventions renamed them; "both" has both."""
    told = {}
    for profile in ("v1.41", "latest", "both"):
        metrics = Metrics(routes=[], models=["tiny"], profile=profile)
        observe(metrics, result=InferenceResult(input_tokens=5, output_tokens=101, finish_reasons=("stop",)))
        told[profile] = {name for name, _ in samples(metrics) if name.startswith("gen_ai_client") and "_sum" in name}

    old = {"gen_ai_client_token_usage_sum"}
    new = {f"gen_ai_client_inference_operation_{one}_tokens_sum" for one in ("input", "output")}
    assert {"v1.41": old, "latest": new, "both": old | new} == told


def test_vllms_names_say_the_same() -> None:
    """Without its labels' differences: a dashboard of vLLM's works as it is."""
    metrics = Metrics(routes=[], models=["tiny"], vllm_names=True)
    observe(metrics, result=InferenceResult(queue_seconds=0.5, finish_reasons=("stop",)))
    metrics.count_tokens(prompt=40, generated=2)
    levels = EngineLevels(running=3, kv_blocks_total=8, kv_blocks_used=2)
    drafted = EngineTotals(draft_tokens={"ngram": 4, "eagle": 6}, cached_tokens=16)
    metrics.set_engine_stats("e", levels, drafted)
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_openmetrics(metrics.render(OPENMETRICS)[0].decode())
        for sample in family.samples
        if sample.name.startswith("vllm:")
    }
    common = (("engine", "0"), ("model_name", "tiny"))

    assert {
        ("vllm:num_requests_running", common): 3.0,
        ("vllm:kv_cache_usage_perc", common): 0.25,
        ("vllm:prefix_cache_queries_total", common): 40.0,
        ("vllm:prefix_cache_hits_total", common): 16.0,
        ("vllm:spec_decode_num_draft_tokens_total", common): 10.0,
        ("vllm:e2e_request_latency_seconds_count", common): 1.0,
        ("vllm:request_queue_time_seconds_sum", common): 0.5,
        ("vllm:request_success_total", (*common[:1], ("finished_reason", "stop"), *common[1:])): 1.0,
    }.items() <= found.items()
