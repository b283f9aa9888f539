"""Our metrics once more under vLLM's names, for dashboards, autoscalers and routers that know those."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_MODEL = "gen_ai_request_model"

# Ours -> vLLM's, of the same type and unit.
NAMES = {
    "outrider_requests_running": "vllm:num_requests_running",
    "outrider_requests_waiting": "vllm:num_requests_waiting",
    "outrider_prompt_tokens": "vllm:prompt_tokens",
    "outrider_generated_tokens": "vllm:generation_tokens",
    "outrider_preemptions": "vllm:num_preemptions",
    "outrider_cached_prompt_tokens": "vllm:prefix_cache_hits",
    "outrider_draft_steps": "vllm:spec_decode_num_drafts",
    "outrider_draft_tokens": "vllm:spec_decode_num_draft_tokens",
    "outrider_accepted_draft_tokens": "vllm:spec_decode_num_accepted_tokens",
    "outrider_accepted_draft_tokens_per_position": "vllm:spec_decode_num_accepted_tokens_per_pos",
    "outrider_queue_seconds": "vllm:request_queue_time_seconds",
    "outrider_prefill_seconds": "vllm:request_prefill_time_seconds",
    "outrider_decode_seconds": "vllm:request_decode_time_seconds",
    "outrider_answers": "vllm:request_success",
    "gen_ai_server_request_duration_seconds": "vllm:e2e_request_latency_seconds",
    "gen_ai_server_time_to_first_token_seconds": "vllm:time_to_first_token_seconds",
    "gen_ai_server_time_per_output_token_seconds": "vllm:request_time_per_output_token_seconds",
}
_DROPPED = {"gen_ai_operation_name", "gen_ai_provider_name", _MODEL, "error_type", "method"}
_LABELS = {"finish_reason": "finished_reason"}


class VllmNames(Collector):
    """Copies at each scrape what our own metrics say then."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._is_collecting = False
        registry.register(self)

    def __repr__(self) -> str:
        return f"VllmNames({len(NAMES)} metrics)"

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families under their other names; called by the registry, which we ask for the rest."""
        if self._is_collecting:
            return
        self._is_collecting = True
        try:
            families = list(self._registry.collect())
        finally:
            self._is_collecting = False
        model = next((s.labels[_MODEL] for one in families for s in one.samples if _MODEL in s.labels), "")
        levels: dict[str, float] = {}
        for family in families:
            if family.name in NAMES:
                yield _renamed(family, NAMES[family.name], model)
            levels |= {sample.name: sample.value for sample in family.samples if not sample.labels}
        labels = {"model_name": model, "engine": "0"}
        usage = GaugeMetricFamily("vllm:kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.", labels=list(labels))
        total = levels.get("outrider_kv_blocks", 0.0)
        usage.add_metric(list(labels.values()), levels.get("outrider_kv_blocks_used", 0.0) / total if total else 0.0)
        yield usage
        queries = CounterMetricFamily("vllm:prefix_cache_queries", "Prompt tokens looked up.", labels=list(labels))
        queries.add_metric(list(labels.values()), levels.get("outrider_prompt_tokens_total", 0.0))
        yield queries


def _renamed(family: Metric, name: str, model: str) -> Metric:
    """Sums what differs by labels that vLLM does not have."""
    copy = Metric(name, family.documentation, family.type)
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in family.samples:
        if sample.name.endswith("_created"):
            continue
        kept = {_LABELS.get(key, key): value for key, value in sample.labels.items() if key not in _DROPPED}
        labels = {"model_name": sample.labels.get(_MODEL, model), "engine": "0", **kept}
        place = (name + sample.name.removeprefix(family.name), tuple(labels.items()))
        sums[place] = sums.get(place, 0.0) + sample.value
    copy.samples = [Sample(sample, dict(labels), value, None, None) for (sample, labels), value in sums.items()]
    return copy
