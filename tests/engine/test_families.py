"""Each family computes what transformers' own modules compute, whatever the rows it is computed with."""

from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from outrider.engine.config import BLOCK_SIZE
from outrider.engine.errors import LoadError
from outrider.engine.models.fused_model import FAMILIES as FUSED
from outrider.engine.models.fused_model import FusedModel
from outrider.engine.models.loader import load_model
from outrider.engine.models.paged_model import PagedModel
from outrider.engine.models.served_model import ServedModel
from outrider.kernels.linear import can_pack
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
LENGTHS = (3, 75, 40)
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5],
    "long_factor": [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
    "original_max_position_embeddings": 64,
}


def save_random(family: str, folder, **options: Any) -> AutoModelForCausalLM:
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


def run(model: ServedModel, prompts: list[torch.Tensor], starts: list[int], stops: list[int], table) -> torch.Tensor:
    """Logits of the tokens from start to stop of each prompt, computed together, in order of prompts."""
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
    return model.forward(token_ids, positions, batch, torch.arange(len(positions)))


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_logits_are_those_of_separate_eager_runs(family, tmp_path) -> None:
    """Long beside short, in one piece and in chunks, with and without a prefix that another request computed."""
    reference = save_random(family, tmp_path)
    prompts = [torch.randint(3, 128, (length,)) for length in LENGTHS]
    prompts[2][:BLOCK_SIZE] = prompts[1][:BLOCK_SIZE]
    expected = [reference(prompt[None], use_cache=False).logits[0] for prompt in prompts]
    model = load_model(str(tmp_path), "float32", num_threads=1).model
    blocks = -(-max(LENGTHS) // BLOCK_SIZE)
    model.allocate_cache(2 * len(prompts) * blocks, BLOCK_SIZE)
    table = torch.arange(len(prompts) * blocks, dtype=torch.int32).view(len(prompts), blocks)

    packed = run(model, prompts, [0, 0, 0], list(LENGTHS), table)
    assert (packed - torch.cat(expected)).abs().max() <= 1e-4

    pieces: list[list[torch.Tensor]] = [[], [], []]
    for start in range(0, max(LENGTHS), 7):
        starts = [min(start, length) for length in LENGTHS]
        stops = [min(start + 7, length) for length in LENGTHS]
        logits = run(model, prompts, starts, stops, table + len(prompts) * blocks)
        counts = [stop - begin for begin, stop in zip(starts, stops, strict=True)]
        for mine, piece in zip(pieces, logits.split(counts), strict=True):
            mine.append(piece)
    chunked = torch.cat([torch.cat(mine) for mine in pieces])
    assert (chunked - torch.cat(expected)).abs().max() <= 1e-4

    # The third request reads the second's first block and computes only what follows.
    table[2, 0] = table[1, 0]
    hit = run(model, [prompts[2]], [BLOCK_SIZE], [LENGTHS[2]], table[2:])
    assert (hit - expected[2][BLOCK_SIZE:]).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("family", "rope", "max_model_len", "lengths"),
    [
        ("llama", DYNAMIC, None, (3, 250)),
        ("llama", LONG, None, (3, 64)),
        ("phi3", LONG, 64, (64, 5)),
        ("phi3", LONG, 200, (200, 70)),  # both beyond what the short factors are for
    ],
)
@torch.inference_mode()
def test_frequencies_do_not_depend_on_the_neighbour(family, rope, max_model_len, lengths, tmp_path) -> None:
    """Of rope types whose frequencies follow the longest position: long beside short, packed and one by one."""
    reference = save_random(family, tmp_path, rope_parameters=rope, original_max_position_embeddings=64)
    prompts = [torch.randint(3, 128, (length,)) for length in lengths]
    expected = torch.cat([reference(prompt[None], use_cache=False).logits[0] for prompt in prompts])
    model = load_model(str(tmp_path), "float32", num_threads=1, max_model_len=max_model_len).model
    blocks = -(-max(lengths) // BLOCK_SIZE)
    model.allocate_cache(2 * blocks, BLOCK_SIZE)
    table = torch.arange(2 * blocks, dtype=torch.int32).view(2, blocks)

    packed = run(model, prompts, [0, 0], list(lengths), table)
    one_by_one = [run(model, [prompt], [0], [len(prompt)], table) for prompt in prompts]

    assert (packed - expected).abs().max() <= 1e-4
    assert torch.equal(torch.cat(one_by_one), packed)


@torch.inference_mode()
def test_the_shorter_context_of_two_is_served_unless_more_is_asked_for(tmp_path) -> None:
    """Then the long factors hold for every request, short ones too."""
    save_random("phi3", tmp_path, rope_parameters=LONG, original_max_position_embeddings=64)

    assert load_model(str(tmp_path), "float32").model.max_model_len == 64
    assert load_model(str(tmp_path), "float32", max_model_len=50).model.max_model_len == 64
    assert load_model(str(tmp_path), "float32", max_model_len=65).model.max_model_len == 256


@pytest.mark.parametrize("family", sorted(FUSED))
@torch.inference_mode()
def test_the_decoder_kernel_runs_its_families(family, tmp_path) -> None:
    """Windows too, though they are longer than what the load compares."""
    reference = save_random(family, tmp_path, sliding_window=150)
    prompt = torch.randint(3, 128, (250,))
    model = load_model(str(tmp_path), "float32", num_threads=1).model
    assert isinstance(model, FusedModel)
    blocks = -(-len(prompt) // BLOCK_SIZE)
    model.allocate_cache(blocks, BLOCK_SIZE)

    logits = run(model, [prompt], [0], [len(prompt)], torch.arange(blocks, dtype=torch.int32)[None])
    assert (logits - reference(prompt[None], use_cache=False).logits[0]).abs().max() <= 1e-4


@pytest.mark.parametrize(
    "family", [family for family, options in FAMILIES.items() if LATENTS.items() <= options.items()]
)
@torch.inference_mode()
def test_latent_attention_caches_latents(family, tmp_path) -> None:
    """A latent and a rotary key per token for all heads together, and not keys and values of each."""
    save_random(family, tmp_path)
    model = load_model(str(tmp_path), "float32", num_threads=1).model
    assert isinstance(model, PagedModel)
    latents = model.attention.latents
    assert latents is not None
    model.allocate_cache(3, BLOCK_SIZE)

    assert model.kv_bytes(10) == 4 * SIZES["num_hidden_layers"] * (16 + 8) * 10
    assert sum(cache.nbytes for cache in latents.caches.values()) == model.kv_bytes(3 * BLOCK_SIZE)
    assert not any(name.endswith("kv_b_proj.weight") for name in model.module.state_dict())  # its halves took its place


@torch.inference_mode()
def test_moved_latents_are_read_where_they_are(tmp_path) -> None:
    """As an accepted branch of a tree is moved behind the text before it."""
    save_random("youtu", tmp_path)
    model = load_model(str(tmp_path), "float32", num_threads=1).model
    model.allocate_cache(4, BLOCK_SIZE)
    prompt = torch.randint(3, 128, (BLOCK_SIZE + 8,))
    logits = run(model, [prompt], [0], [len(prompt)], torch.tensor([[0, 1]], dtype=torch.int32))

    source = torch.stack((torch.zeros(BLOCK_SIZE, dtype=torch.int64), torch.arange(BLOCK_SIZE)), dim=1)
    model.move_kv(source, source + torch.tensor([3, 0]))

    table = torch.tensor([[3, 2]], dtype=torch.int32)
    again = run(model, [prompt], [BLOCK_SIZE], [len(prompt)], table)
    assert (again - logits[BLOCK_SIZE:]).abs().max() <= 1e-4


@pytest.mark.skipif(not can_pack(torch.float32), reason="the promise is that of the C kernels")
@pytest.mark.parametrize("family", ["minicpm3", "youtu"])  # without experts, whose products depend on the batch
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_absorbed_attention_does_not_depend_on_the_batch(family, dtype, tmp_path) -> None:
    """Not one bit, because its products with halves of `kv_b_proj` do not either."""
    save_random(family, tmp_path)

    assert load_model(str(tmp_path), dtype, num_threads=1).model.is_batch_invariant


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("deepseek_v32", "it uses a sparse indexer"),  # its index_topk is far beyond what the load compares
        ("glm_moe_dsa", "it uses a sparse indexer"),
        ("longcat_flash", ""),
    ],
)
def test_latent_attention_that_cannot_be_absorbed_is_refused(family, reason, tmp_path) -> None:
    """By name, where tokens are picked or the layers are not the known ones."""
    save_random(family, tmp_path, **ROUTED_EXPERTS, **LATENTS)

    with pytest.raises(LoadError, match=f"model type `{family}` is not supported: {reason}"):
        load_model(str(tmp_path), "float32")


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("qwen2_moe", {"sliding_window": 200, "use_sliding_window": True, "layer_types": ["sliding_attention"] * 4}),
        ("phimoe", {"sliding_window": 200}),
        ("llama4_text", {"attention_chunk_size": 200}),
    ],
)
def test_what_only_a_mask_would_hide_is_refused(family, options, tmp_path) -> None:
    """No mask is built, so such a layer would read more than it should: wrong tokens are never served."""
    save_random(family, tmp_path, **options)

    with pytest.raises(LoadError, match=f"model type `{family}` is not supported: "):
        load_model(str(tmp_path), "float32")


def test_latents_are_not_kept_in_int8(tmp_path) -> None:
    """Their kernel takes the model's dtype only."""
    save_random("youtu", tmp_path)

    with pytest.raises(LoadError, match="--kv-dtype int8 is not supported for the latent attention"):
        load_model(str(tmp_path), "float32", kv_dtype="int8")
