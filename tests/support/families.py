"""Families of transformers' models in small, and packed steps of them."""

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from outrider.engine.config import BLOCK_SIZE
from outrider.engine.models.served_model import ServedModel
from outrider.kernels.model_output import ModelOutput
from outrider.kernels.paged_attention import AttentionBatch

SIZES = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
NARROW_EXPERTS = EXPERTS | {"moe_intermediate_size": 32}
ROUTED_EXPERTS = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
}
LATENTS = {
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 24,
    "head_dim": 8,
}
WINDOW = {"sliding_window": 8}
# Family, and what its configuration needs beside the sizes.
FAMILIES: dict[str, dict[str, Any]] = {
    "apertus": {},
    "arcee": {},
    "axk1": ROUTED_EXPERTS | LATENTS,
    "cohere": {},
    "cohere2": WINDOW,
    "deepseek_v2": ROUTED_EXPERTS | LATENTS,
    "deepseek_v3": ROUTED_EXPERTS | LATENTS,
    "ernie4_5": {},
    "exaone4": WINDOW,
    "gemma": {},
    "gemma2": WINDOW | {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0},
    "gemma3_text": WINDOW | {"query_pre_attn_scalar": 16},
    "glm": {},
    "glm4": {},
    "glm4_moe": ROUTED_EXPERTS,
    "glm4_moe_lite": ROUTED_EXPERTS | LATENTS,
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "num_key_value_heads": 4},
    "gpt_neox": {"num_key_value_heads": 4},
    "gpt_oss": LOCAL_EXPERTS | WINDOW,
    "granite": {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    "granitemoe": LOCAL_EXPERTS,
    "helium": {},
    "hunyuan_v1_dense": {},
    "llama": {},
    "minicpm3": LATENTS,
    "minimax_m2": LOCAL_EXPERTS | {"rotary_dim": 8},
    "mistral": WINDOW,
    "mixtral": LOCAL_EXPERTS,
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": WINDOW,
    "olmoe": EXPERTS,
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64, "num_key_value_heads": 4},
    "phi": {},
    "phi3": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    "phimoe": LOCAL_EXPERTS,
    "qwen2": {"use_sliding_window": True, "max_window_layers": 2} | WINDOW,
    "qwen2_moe": NARROW_EXPERTS | {"shared_expert_intermediate_size": 32},
    "qwen3": {},
    "qwen3_moe": NARROW_EXPERTS,
    "seed_oss": {},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0]},
    "stablelm": {},
    "starcoder2": {},
    "youtu": LATENTS,
}


def save_random(family: str, folder: Path, **options: Any) -> PreTrainedModel:
    """A checkpoint of random weights, biases and norms included, and its model as transformers runs it."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](**SIZES | FAMILIES.get(family, {}) | options)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape))
            assert parameter.isfinite().all(), name
    model.save_pretrained(folder)
    return model


def run(
    model: ServedModel,
    prompts: list[torch.Tensor],
    starts: list[int],
    stops: list[int],
    table: torch.Tensor,
    logit_rows: torch.Tensor | None = None,
) -> ModelOutput:
    """Of all tokens from start to stop of each prompt, computed together; logits of all rows by default."""
    positions = torch.cat([torch.arange(start, stop) for start, stop in zip(starts, stops, strict=True)])
    counts = torch.tensor(stops) - torch.tensor(starts)
    sequence = torch.repeat_interleave(torch.arange(len(prompts)), counts)
    batch = AttentionBatch(
        block_table=table,
        row_sequence=sequence.int(),
        row_position=positions.int(),
        write_block=table[sequence, positions // BLOCK_SIZE].long(),
        write_offset=positions % BLOCK_SIZE,
    )
    token_ids = torch.cat([p[start:stop] for p, start, stop in zip(prompts, starts, stops, strict=True)])
    wanted = torch.arange(len(positions)) if logit_rows is None else logit_rows
    return model.forward(token_ids, positions, batch, wanted)


def run_in_chunks(model: ServedModel, prompts: list[torch.Tensor], size: int, table: torch.Tensor) -> ModelOutput:
    """As `run` of the whole prompts, but so many tokens of each at a time."""
    pieces: list[list[tuple[torch.Tensor, ...]]] = [[] for _ in prompts]
    for start in range(0, max(map(len, prompts)), size):
        starts = [min(start, len(prompt)) for prompt in prompts]
        stops = [min(start + size, len(prompt)) for prompt in prompts]
        output = run(model, prompts, starts, stops, table)
        taps = output.hidden[:, :0] if output.taps is None else output.taps
        counts = [stop - begin for begin, stop in zip(starts, stops, strict=True)]
        chunks = zip(*(tensor.split(counts) for tensor in (output.logits, output.hidden, taps)), strict=True)
        for mine, chunk in zip(pieces, chunks, strict=True):
            mine.append(chunk)
    every = [chunk for mine in pieces for chunk in mine]
    return ModelOutput(*(torch.cat(tensors) for tensors in zip(*every, strict=True)))
