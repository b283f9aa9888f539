"""Loads a checkpoint folder and proves that the paged model computes what the checkpoint means.

Whatever cannot be served is refused here, with one line that names it; nothing is found out later.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from outrider.engine.batch import make_batch
from outrider.engine.config import BLOCK_SIZE, default_num_threads
from outrider.engine.errors import LoadError, UnsupportedAttentionError, first_line
from outrider.engine.models.fused_model import FusedModel, can_fuse
from outrider.engine.models.paged_model import PagedModel, check_windows
from outrider.engine.models.rope import pin_frequencies
from outrider.engine.models.served_model import ServedModel
from outrider.kernels.linear import can_pack, pack_linears

logger = logging.getLogger("outrider.engine")

# Families that place a token by its place in the batch, where it is not visible from outside.
REFUSED_TYPES = ("llama4", "llama4_text")

# What a checkpoint may set as its sampling defaults, and what is sane.
SAMPLING_RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (1e-6, 1.0),
    "top_k": (0, 2**31 - 1),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
}

# By which share of their own size, as root mean squares, another order of summation may change logits of random tokens.
# Measured: 0.065 in bfloat16 (a trained model of 11 million parameters), 1e-5 in float32; wrong models are near 1.
CHANGE = {torch.float32: 1e-3, torch.bfloat16: 0.2}

# The same for a cache of int8. Measured:
# 0.02 (the embedded model) to 0.13 (random weights at their most chaotic), as much as bfloat16 changes float32's;
# with wrong scales it is above 1.
INT8_CHANGE = 0.25

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run, and what its checkpoint says about generating."""

    model: ServedModel
    dtype: torch.dtype
    eos_token_ids: tuple[int, ...]
    default_sampling: dict[str, float]


def load_model(
    folder: str,
    dtype: str = "auto",
    num_threads: int | None = None,
    device: str = "auto",
    *,
    max_model_len: int | None = None,
    kv_dtype: str = "auto",
) -> LoadedModel:
    """Loads a transformers causal language model from a local folder, for inference.

    Args:
        folder: with config.json, safetensors weights and tokenizer files
        dtype: auto (the checkpoint's own; float16 becomes bfloat16), float32 or bfloat16
        num_threads: of torch; by the size of the model when None
        device: auto (a GPU where torch sees one), cpu, cuda or cuda:N
        max_model_len: the context to serve; where a model's frequencies depend on it, None is its shorter one
        kv_dtype: of the cache: auto (the model's) or int8, on the CPU

    Raises:
        LoadError: missing, incomplete, corrupt or not supported.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    config = _read_config(folder)
    torch_dtype, torch_device = _choose_dtype(config, dtype), _choose_device(device)
    if kv_dtype == "int8" and torch_device.type != "cpu":
        raise LoadError(f"--kv-dtype int8 is not supported on {torch_device} yet: leave it out, or use --device cpu")

    def read() -> tuple[PreTrainedModel, int | None]:
        module = _read_weights(folder, config, torch_dtype, torch_device)
        return module, pin_frequencies(module, config.get_text_config(), max_model_len)

    module, context = read()
    torch.set_num_threads(num_threads or default_num_threads(module.num_parameters()))
    generation = _read_generation_config(folder)
    eos_token_ids = _eos_token_ids(folder, generation, config.get_text_config())
    defaults = _default_sampling(folder, generation)
    model = _fit(folder, module, config, lambda: read()[0])
    if kv_dtype == "int8":
        _make_cache_int8(folder, model)
    if context is not None and context < model.max_model_len:
        logger.info("%s: %d tokens of context; up to %d with --max-model-len", folder, context, model.max_model_len)
        model.max_model_len = context
    return LoadedModel(model, torch_dtype, eos_token_ids, defaults)


def _read_config(folder: str) -> PretrainedConfig:
    if not Path(folder).is_dir():
        raise LoadError(f"there is no checkpoint folder `{folder}`: pass the path of a Hugging Face checkpoint")
    if not (Path(folder) / "config.json").is_file():
        raise LoadError(f"`{folder}` is not a checkpoint folder: it has no config.json")
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file raises anything; each becomes one clear line
        raise LoadError(f"config.json of `{folder}` cannot be read: {first_line(error)}") from error
    if config.model_type in REFUSED_TYPES:
        raise LoadError(f"model type `{config.model_type}` is not supported: its attention depends on the batch")
    return config


def _choose_dtype(config: PretrainedConfig, dtype: str) -> torch.dtype:
    if dtype != "auto":
        return _DTYPES[dtype]
    own = config.dtype or config.get_text_config().dtype
    return torch.bfloat16 if own in (torch.bfloat16, torch.float16, "bfloat16", "float16") else torch.float32


def _choose_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise LoadError(f"--device {name}: torch {torch.__version__} sees {count} GPUs; leave it out to use the CPU")
    return device


def _read_weights(folder: str, config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    try:
        loaded: tuple[PreTrainedModel, dict[str, set[str]]] = AutoModelForCausalLM.from_pretrained(  # type: ignore[assignment]  # with loading info it is a pair
            folder,
            config=config,
            dtype=dtype,
            attn_implementation="eager",
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # a damaged checkpoint raises anything; each becomes one clear line
        raise LoadError(f"the weights in `{folder}` cannot be loaded: {first_line(error)}") from error
    module, report = loaded
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise LoadError(f"the weights in `{folder}` lack {len(missing)} tensors, the first is `{missing[0]}`")
    try:
        module.to(device)  # type: ignore[arg-type]  # transformers hides its signature behind a decorator
    except torch.OutOfMemoryError as error:
        raise LoadError(f"`{folder}` does not fit {device}: {first_line(error)}") from error
    module.eval()
    return module


def _read_generation_config(folder: str) -> GenerationConfig:
    if not (Path(folder) / "generation_config.json").is_file():
        return GenerationConfig()
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as above
        raise LoadError(f"generation_config.json of `{folder}` cannot be read: {first_line(error)}") from error


def _default_sampling(folder: str, generation: GenerationConfig) -> dict[str, float]:
    """The checkpoint's sampling defaults, where it has any."""
    defaults: dict[str, float] = {}
    for name, (lowest, highest) in SAMPLING_RANGES.items():
        value = getattr(generation, name, None)
        if value is None:
            continue
        if not isinstance(value, (int, float)) or not lowest <= value <= highest:
            raise LoadError(
                f"generation_config.json of `{folder}` has `{name}` {value!r}: between {lowest} and {highest}"
            )
        defaults[name] = value
    return defaults


def _eos_token_ids(folder: str, generation: GenerationConfig, config: PretrainedConfig) -> tuple[int, ...]:
    eos = generation.eos_token_id if generation.eos_token_id is not None else config.eos_token_id
    token_ids = tuple(eos) if isinstance(eos, (list, tuple)) else () if eos is None else (eos,)
    for token_id in token_ids:
        if not isinstance(token_id, int) or not 0 <= token_id < config.vocab_size:
            raise LoadError(f"`{folder}` names the end token {token_id!r}, which its vocabulary does not have")
    return token_ids


def _fit(
    folder: str, module: PreTrainedModel, config: PretrainedConfig, reread: Callable[[], PreTrainedModel]
) -> ServedModel:
    """The fastest form of the model that computes what the checkpoint means; `reread` makes `module` anew.

    Raises:
        LoadError: there is none.
    """
    refusal = f"model type `{config.model_type}` is not supported"
    prompts = _random_prompts(config.get_text_config().vocab_size, module.device)
    share = CHANGE[module.dtype]
    try:
        with torch.inference_mode():
            expected = torch.cat([module(prompt[None], use_cache=False).logits[0].float() for prompt in prompts])
            if not bool(expected.isfinite().all()):
                raise LoadError(
                    f"the weights in `{folder}` give no numbers, even in transformers: they hold NaN or overflow "
                    f"{str(module.dtype).removeprefix('torch.')}; try --dtype float32 or another copy"
                )
            if can_fuse(module):
                fused = FusedModel(module)
                if _computes(fused, prompts, expected, share):
                    return fused
                logger.warning("the decoder kernel does not compute what this checkpoint means; running its modules")
                module = reread()
            paged = PagedModel(module)
            if module.device.type == "cpu" and can_pack(module.dtype):
                pack_linears(module)
            is_same = _computes(paged, prompts, expected, share)
            check_windows(config.get_text_config(), paged.attention.windows)
    except LoadError:
        raise
    except UnsupportedAttentionError as error:
        raise LoadError(f"{refusal}: it uses {error}") from error
    except Exception as error:  # an unknown architecture raises anything; each becomes one clear line
        raise LoadError(f"{refusal}: {first_line(error)}") from error
    attention = paged.attention
    if not is_same or attention.num_calls != paged.num_layers * attention.num_forwards:
        raise LoadError(f"{refusal}: its attention does not run through the paged cache")
    return paged


@torch.inference_mode()
def _make_cache_int8(folder: str, model: ServedModel) -> None:
    """Has the model keep keys and values in int8, where that changes its logits by little.

    Raises:
        LoadError: it changes them by much, or is not possible.
    """
    if isinstance(model, PagedModel) and model.attention.latents is not None:
        raise LoadError(f"--kv-dtype int8 is not supported for the latent attention of `{folder}`: leave it out")
    prompts = _random_prompts(model.vocab_size, model.device)
    full = _run_whole(model, prompts)
    model.kv_dtype = torch.int8
    small = _run_whole(model, prompts)
    model.is_batch_invariant = _is_batch_invariant(model, prompts, small)
    expected = torch.cat(full)
    change = float((torch.cat(small) - expected).norm() / expected.norm())
    if not change <= INT8_CHANGE:
        raise LoadError(
            f"--kv-dtype int8 changes the logits of `{folder}` by {change:.0%} of their size, more than "
            f"{INT8_CHANGE:.0%}: leave it out"
        )


def _random_prompts(vocab_size: int, device: torch.device) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, vocab_size, (length,), generator=generator).to(device) for length in (101, 37)]


def _computes(model: ServedModel, prompts: list[torch.Tensor], expected: torch.Tensor, share: float) -> bool:
    """Whether the model's logits are the expected ones, up to a share of their size; finds out its invariance, too."""
    actual = _run_whole(model, prompts)
    model.is_batch_invariant = _is_batch_invariant(model, prompts, actual)
    return bool((torch.cat(actual) - expected).norm() <= share * expected.norm())


def _run_whole(model: ServedModel, prompts: list[torch.Tensor]) -> list[torch.Tensor]:
    """All logits of each prompt, (length, vocab_size), computed at once, in a new cache that holds no more."""
    longest = max(map(len, prompts))
    model.allocate_cache(len(prompts) * -(-longest // BLOCK_SIZE), BLOCK_SIZE)
    return _run_in_chunks(model, prompts, longest)


def _is_batch_invariant(paged: ServedModel, prompts: list[torch.Tensor], packed: list[torch.Tensor]) -> bool:
    """Whether prefill in one piece, in chunks, alone and token by token give the same bits; `packed` is the first."""
    beginnings = [prompt[:6] for prompt in prompts]
    return (
        all(map(torch.equal, packed, _run_in_chunks(paged, prompts, 23)))
        and all(
            torch.equal(whole, _run_in_chunks(paged, [p], len(p))[0]) for whole, p in zip(packed, prompts, strict=True)
        )
        and all(
            torch.equal(whole[:6], part)
            for whole, part in zip(packed, _run_in_chunks(paged, beginnings, 1), strict=True)
        )
    )


def _run_in_chunks(paged: ServedModel, prompts: list[torch.Tensor], size: int) -> list[torch.Tensor]:
    """All logits of each prompt, (length, vocab_size), computed packed, so many tokens of each prompt at a time."""
    blocks_each = -(-max(map(len, prompts)) // BLOCK_SIZE)
    block_ids = [list(range(index * blocks_each, (index + 1) * blocks_each)) for index in range(len(prompts))]
    pieces: list[list[torch.Tensor]] = [[] for _ in prompts]
    for start in range(0, max(map(len, prompts)), size):
        chunks = [prompt[start : start + size] for prompt in prompts]
        spans = [range(start, start + len(chunk)) for chunk in chunks]
        batch, positions = make_batch(block_ids, spans, paged.device, paged.tile_size)
        every = torch.arange(len(positions), device=paged.device)
        output = paged.forward(torch.cat(chunks), positions, batch, every)
        for mine, piece in zip(pieces, output.logits.split([len(chunk) for chunk in chunks]), strict=True):
            mine.append(piece)
    return [torch.cat(mine) for mine in pieces]
