"""What speculators read of a model is what transformers' own modules compute, whatever the rows it is computed with."""

import pytest
import torch
from families import FAMILIES, run, run_in_chunks, save_random
from inline_engine import submit
from torch import nn

from outrider.engine.config import BLOCK_SIZE
from outrider.engine.errors import LoadError
from outrider.engine.models.fused_model import FusedModel
from outrider.engine.models.loader import load_model
from outrider.engine.models.paged_model import PagedModel
from outrider.engine.models.served_model import ServedModel
from outrider.kernels.linear import can_pack

LENGTHS = (3, 75, 40)
BLOCKS = -(-max(LENGTHS) // BLOCK_SIZE)
TABLE = torch.arange(len(LENGTHS) * BLOCKS, dtype=torch.int32).view(len(LENGTHS), BLOCKS)


def load(folder, dtype: str = "float32") -> ServedModel:
    model = load_model(str(folder), dtype, num_threads=1).model
    model.allocate_cache(TABLE.numel(), BLOCK_SIZE)
    return model


def draw_prompts() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randint(3, 128, (length,)) for length in LENGTHS]


def is_close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((actual - expected).abs().max() <= 1e-4 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_features_are_those_of_separate_eager_runs(family, tmp_path) -> None:
    """Inputs of layers and what is behind the final norm, in one piece and in chunks; reading them changes no logit."""
    reference, prompts = save_random(family, tmp_path), draw_prompts()
    model = load(tmp_path)
    taps = (0, model.num_layers // 2, model.num_layers - 1, model.num_layers)
    bodies = [reference.base_model(prompt[None], use_cache=False, output_hidden_states=True) for prompt in prompts]
    expected_hidden = torch.cat([body.last_hidden_state[0] for body in bodies])
    inputs = [torch.cat([body.hidden_states[tap][0] for tap in taps[:-1]], dim=1) for body in bodies]
    expected_taps = torch.cat((torch.cat(inputs), expected_hidden), dim=1)

    untapped = run(model, prompts, [0, 0, 0], list(LENGTHS), TABLE)
    model.tap(taps)
    packed = run(model, prompts, [0, 0, 0], list(LENGTHS), TABLE)
    chunked = run_in_chunks(model, prompts, 7, TABLE)

    assert model.tap_layers == taps
    assert untapped.taps is None
    assert torch.equal(packed.logits, untapped.logits)
    for output in (packed, chunked):
        assert is_close(output.hidden, expected_hidden)
        assert is_close(output.taps, expected_taps)
        assert torch.equal(output.taps[:, -expected_hidden.shape[1] :], output.hidden)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_the_output_layer_alone_gives_the_logits_of_the_forward_pass(family, tmp_path) -> None:
    """With what a family does to its scores: Granite and Cohere scale them, Gemma 2 caps them."""
    save_random(family, tmp_path)
    model = load(tmp_path)

    output = run(model, draw_prompts(), [0, 0, 0], list(LENGTHS), TABLE)

    assert torch.equal(model.output_logits(output.hidden), output.logits)


@pytest.mark.skipif(not can_pack(torch.float32), reason="the promise is that of the C kernels")
@pytest.mark.parametrize("family", ["granite", "gemma2", "minicpm3", "qwen3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@torch.inference_mode()
def test_the_output_layer_does_not_depend_on_the_batch(family, dtype, tmp_path) -> None:
    """A drafted row has the target's bits for it, however many rows are drafted at once."""
    save_random(family, tmp_path)
    model = load(tmp_path, dtype)

    output = run(model, draw_prompts(), [0, 0, 0], list(LENGTHS), TABLE)

    for rows in (slice(5, 6), slice(2, 19), slice(0, None, 3)):
        assert torch.equal(model.output_logits(output.hidden[rows]), output.logits[rows])


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_embeddings_are_those_that_speculators_are_trained_on(family, tmp_path) -> None:
    """What the module of the input embeddings gives, as in training: Granite's multiplier comes later."""
    embedding = save_random(family, tmp_path).get_input_embeddings()
    token_ids = torch.tensor([7, 127, 0, 7])

    assert torch.equal(load(tmp_path).embed(token_ids), embedding(token_ids))


@pytest.mark.skipif(not can_pack(torch.float32), reason="the promise is that of the C kernels")
@pytest.mark.parametrize(("family", "kind"), [("llama", FusedModel), ("qwen3", FusedModel), ("olmo", PagedModel)])
@torch.inference_mode()
def test_features_have_the_same_bits_alone_and_beside_others(family, kind, tmp_path) -> None:
    """In one piece or in chunks: what is drafted from them cannot depend on the neighbours either."""
    save_random(family, tmp_path)
    prompts, model = draw_prompts(), load(tmp_path)
    assert isinstance(model, kind)
    model.tap((1, 3, 4))

    packed = run(model, prompts, [0, 0, 0], list(LENGTHS), TABLE)
    chunked = run_in_chunks(model, prompts, 7, TABLE)
    alone = [run(model, [prompt], [0], [len(prompt)], TABLE) for prompt in prompts]

    for name in ("logits", "hidden", "taps"):
        assert torch.equal(getattr(chunked, name), getattr(packed, name))
        assert torch.equal(torch.cat([getattr(output, name) for output in alone]), getattr(packed, name))


@pytest.mark.parametrize("family", ["llama", "olmo", "opt"])
@torch.inference_mode()
def test_hidden_states_are_those_of_the_logits_and_taps_those_of_all_rows(family, tmp_path) -> None:
    """In the order in which logits are asked for; what is behind the final norm can be had of all rows, too."""
    save_random(family, tmp_path)
    prompts, model = draw_prompts(), load(tmp_path)
    model.tap((1, model.num_layers))
    wanted = torch.tensor([77, 2, 40])

    whole = run(model, prompts, [0, 0, 0], list(LENGTHS), TABLE)
    some = run(model, prompts, [0, 0, 0], list(LENGTHS), TABLE, wanted)

    assert is_close(some.logits, whole.logits[wanted])
    assert torch.equal(some.hidden, whole.hidden[wanted])
    assert torch.equal(some.taps, whole.taps)
    assert torch.equal(whole.taps[:, whole.hidden.shape[1] :], whole.hidden)


@pytest.mark.parametrize("family", ["llama", "granite", "gemma2"])
@torch.inference_mode()
def test_features_have_the_dtype_of_the_model(family, tmp_path) -> None:
    """As speculators have it, though logits are float32."""
    save_random(family, tmp_path)
    model = load(tmp_path, "bfloat16")
    model.tap((1, 2))

    output = run(model, draw_prompts(), [0, 0, 0], list(LENGTHS), TABLE)

    assert output.logits.dtype == torch.float32
    assert {output.hidden.dtype, output.taps.dtype, model.embed(torch.tensor([5])).dtype} == {torch.bfloat16}


@pytest.mark.parametrize("family", ["llama", "olmo"])
@torch.inference_mode()
def test_taps_can_be_taken_back(family, tmp_path) -> None:
    """The last call counts; a refused one changes nothing."""
    save_random(family, tmp_path)
    prompts, model = draw_prompts(), load(tmp_path)

    def tapped() -> torch.Tensor | None:
        return run(model, prompts, [0, 0, 0], list(LENGTHS), TABLE).taps

    model.tap((0, 2))
    both = tapped()
    model.tap((2,))
    with pytest.raises(LoadError):
        model.tap((5,))
    assert torch.equal(tapped(), both[:, both.shape[1] // 2 :])
    model.tap(())
    assert model.tap_layers == ()
    assert tapped() is None


@pytest.mark.parametrize("family", ["llama", "olmo"])
@pytest.mark.parametrize("layers", [(5,), (-1, 2), (2, 1), (1, 1)])
def test_layers_that_cannot_be_tapped_are_refused(family, layers, tmp_path) -> None:
    """With the range that can; their order is that of the features, so it is never changed silently."""
    save_random(family, tmp_path)
    model = load(tmp_path)

    with pytest.raises(LoadError, match=r"tap layers \[.*\]: name each once, in ascending order, from 0 to 4"):
        model.tap(layers)


def test_a_model_whose_layers_are_not_known_is_tapped_behind_them_alone(tmp_path) -> None:
    """Of two lists of modules of the right length, neither is guessed to be the layers."""
    module = save_random("olmo", tmp_path)
    module.model.others = nn.ModuleList([nn.Identity()] * 4)
    model = PagedModel(module)
    model.allocate_cache(TABLE.numel(), BLOCK_SIZE)

    model.tap((4,))
    output = run(model, draw_prompts(), [0, 0, 0], list(LENGTHS), TABLE)
    assert torch.equal(output.taps, output.hidden)
    with pytest.raises(
        LoadError, match="model type `olmo` cannot be tapped: which modules are its layers is not known"
    ):
        model.tap((1,))


@torch.inference_mode()
def test_a_step_gives_taps_of_all_rows_and_hidden_states_of_those_that_end(make_core) -> None:
    """A prompt's beginning, computed in chunks, has features but nothing is drawn behind it."""
    core = make_core(max_num_seqs=2, max_num_batched_tokens=40)
    core._runner._model.tap((0, 1))
    core.add(submit("short", [5, 6, 7]))
    core.add(submit("long", [5 + index % 50 for index in range(90)]))
    rows = core.scheduler.schedule()
    output = core._runner.run(rows)
    ending = sum(row.reaches_end for row in rows)

    assert (ending, len(rows)) == (1, 2)
    assert output.taps.shape == (40, 2 * 64)
    assert output.hidden.shape == (1, 64)
    assert torch.equal(core._runner._model.output_logits(output.hidden), output.logits)
