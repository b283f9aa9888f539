"""Each family computes what transformers' own modules compute, whatever the rows it is computed with."""

import pytest
import torch
from families import FAMILIES, LATENTS, ROUTED_EXPERTS, SIZES, run, run_in_chunks, save_random

from outrider.engine.config import BLOCK_SIZE
from outrider.engine.errors import LoadError
from outrider.engine.models.fused_model import FAMILIES as FUSED
from outrider.engine.models.fused_model import FusedModel
from outrider.engine.models.loader import load_model
from outrider.engine.models.paged_model import PagedModel
from outrider.kernels.linear import can_pack

LENGTHS = (3, 75, 40)
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5],
    "long_factor": [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
    "original_max_position_embeddings": 64,
}


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

    packed = run(model, prompts, [0, 0, 0], list(LENGTHS), table).logits
    assert (packed - torch.cat(expected)).abs().max() <= 1e-4

    chunked = run_in_chunks(model, prompts, 7, table + len(prompts) * blocks)
    assert (chunked.logits - torch.cat(expected)).abs().max() <= 1e-4

    # The third request reads the second's first block and computes only what follows.
    table[2, 0] = table[1, 0]
    hit = run(model, [prompts[2]], [BLOCK_SIZE], [LENGTHS[2]], table[2:]).logits
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

    packed = run(model, prompts, [0, 0], list(lengths), table).logits
    one_by_one = [run(model, [prompt], [0], [len(prompt)], table).logits for prompt in prompts]

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

    logits = run(model, [prompt], [0], [len(prompt)], torch.arange(blocks, dtype=torch.int32)[None]).logits
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
    logits = run(model, [prompt], [0], [len(prompt)], torch.tensor([[0, 1]], dtype=torch.int32)).logits

    source = torch.stack((torch.zeros(BLOCK_SIZE, dtype=torch.int64), torch.arange(BLOCK_SIZE)), dim=1)
    model.move_kv(source, source + torch.tensor([3, 0]))

    table = torch.tensor([[3, 2]], dtype=torch.int32)
    again = run(model, [prompt], [BLOCK_SIZE], [len(prompt)], table).logits
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
