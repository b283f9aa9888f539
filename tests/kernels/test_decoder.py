"""The decoder kernel's promise: a row's bits depend on nothing but its own sequence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.kernels.decoder import Decoder, DecoderLayer, DecoderShape
from outrider.kernels.linear import LinearWeights
from outrider.kernels.paged_attention import AttentionBatch, TreeMask, allocate_kv, quantise

BLOCK_SIZE = 32
# Of the model, then of its cache.
DTYPES = [(dtype, kv_dtype) for dtype in (torch.float32, torch.bfloat16) for kv_dtype in (dtype, torch.int8)]
HIDDEN, INNER, HEADS, KV_HEADS, DIM, VOCAB = 48, 72, 3, 1, 16, 130  # widths that no vector divides


def make_decoder(dtype: torch.dtype, kv_dtype: torch.dtype | None = None) -> Decoder:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * 0.2).to(dtype)

    layers = [
        DecoderLayer(
            attention_norm=draw(HIDDEN).float() + 1,
            query_key_value=LinearWeights(
                draw((HEADS + 2 * KV_HEADS) * DIM, HIDDEN), draw((HEADS + 2 * KV_HEADS) * DIM)
            ),
            attention_output=LinearWeights(draw(HIDDEN, HEADS * DIM)),
            mlp_norm=draw(HIDDEN).float() + 1,
            gate=draw(INNER, HIDDEN),
            up=draw(INNER, HIDDEN),
            down=LinearWeights(draw(HIDDEN, INNER)),
            query_norm=draw(DIM).float() + 1,
            key_norm=draw(DIM).float() + 1,
            window=window,
        )
        for window in (None, 20)
    ]
    shape = DecoderShape(
        dtype=dtype,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_heads=HEADS,
        num_kv_heads=KV_HEADS,
        head_dim=DIM,
        vocab_size=VOCAB,
        norm_epsilon=1e-6,
        attention_scale=0.25,
        frequency=torch.logspace(0, -3, DIM // 2),
    )
    decoder = Decoder(
        shape,
        layers,
        embedding=draw(VOCAB, HIDDEN) * 5,
        final_norm=torch.ones(HIDDEN),
        output=LinearWeights(draw(VOCAB, HIDDEN)),
        block_size=BLOCK_SIZE,
    )
    decoder.tap([0, 1, 2])
    decoder.bind_caches([allocate_kv(8, KV_HEADS, BLOCK_SIZE, DIM, kv_dtype or dtype) for _ in layers])
    return decoder


def step(decoder: Decoder, prompts: list[torch.Tensor], starts: list[int], stops: list[int]) -> list[torch.Tensor]:
    """All that `forward` gives of the tokens from start to stop of each prompt; each prompt has two blocks."""
    table = torch.arange(2 * len(prompts), dtype=torch.int32).view(len(prompts), 2)
    counts = torch.tensor(stops) - torch.tensor(starts)
    sequence = torch.repeat_interleave(torch.arange(len(prompts)), counts)
    position = torch.cat([torch.arange(start, stop) for start, stop in zip(starts, stops, strict=True)])
    batch = AttentionBatch(
        table, sequence.int(), position.int(), table[sequence, position // BLOCK_SIZE].long(), position % BLOCK_SIZE
    )
    ids = torch.cat([prompt[start:stop] for prompt, start, stop in zip(prompts, starts, stops, strict=True)])
    return list(run(decoder, ids, batch).split(counts.tolist()))


def first_rows(length: int) -> tuple[torch.Tensor, AttentionBatch]:
    """The tokens 0, 1, 2 ... of one prompt from its beginning on, in the first two blocks."""
    place = torch.arange(length)
    table = torch.tensor([[0, 1]], dtype=torch.int32)
    sequence = torch.zeros(length, dtype=torch.int32)
    return place, AttentionBatch(table, sequence, place.int(), place // BLOCK_SIZE, place % BLOCK_SIZE)


def run(decoder: Decoder, ids: torch.Tensor, batch: AttentionBatch) -> torch.Tensor:
    """Logits, hidden states and taps side by side, (num_rows, vocab_size + 4 * hidden_size) float32."""
    output = decoder.forward(ids, batch, torch.arange(len(ids)))
    return torch.cat((output.logits, output.hidden.float(), output.taps.float()), dim=1)


@pytest.mark.parametrize("dtypes", DTYPES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_row_has_the_same_bits_however_it_is_computed(dtypes, data) -> None:
    """Alone in one piece, or beside others in chunks of any sizes."""
    decoder = make_decoder(*dtypes)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    lengths = data.draw(st.lists(st.integers(1, 2 * BLOCK_SIZE), min_size=1, max_size=4))
    prompts = [torch.randint(0, VOCAB, (length,), generator=generator) for length in lengths]
    alone = [step(decoder, [prompt], [0], [len(prompt)])[0] for prompt in prompts]

    pieces: list[list[torch.Tensor]] = [[] for _ in prompts]
    done = [0] * len(prompts)
    while done != lengths:
        stops = [data.draw(st.integers(begin, length)) for begin, length in zip(done, lengths, strict=True)]
        if stops == done:
            stops = lengths
        for mine, piece in zip(pieces, step(decoder, prompts, done, stops), strict=True):
            mine.append(piece)
        done = list(stops)

    assert all(torch.equal(torch.cat(mine), whole) for mine, whole in zip(pieces, alone, strict=True))


@pytest.mark.parametrize("kv_dtype", [torch.bfloat16, torch.int8])
def test_a_request_of_no_numbers_harms_no_other(kv_dtype) -> None:
    """Blocks that held NaN are used again: what lies beside the last token of an odd length is never read."""
    decoder = make_decoder(torch.bfloat16, kv_dtype)
    prompt = torch.arange(37)
    expected = step(decoder, [prompt], [0], [37])[0]
    for cache in decoder._caches:
        for tensor in (cache.keys, cache.values, cache.key_scales, cache.value_scales):
            if tensor is not None:
                tensor.fill_(float("nan") if tensor.is_floating_point() else -128)

    assert torch.equal(step(decoder, [prompt], [0], [37])[0], expected)


@pytest.mark.parametrize("dtypes", DTYPES)
def test_branches_of_a_tree_are_computed_as_if_alone(dtypes) -> None:
    """A text, then nodes of two branches in one step: each node has the bits of its branch drafted as a chain."""
    decoder = make_decoder(*dtypes)
    text, nodes = torch.arange(30), torch.tensor([7, 99, 3, 50])
    branches = [[0], [0, 1], [0, 2], [0, 2, 3]]
    step(decoder, [text], [0], [30])
    table = torch.tensor([[0, 1]], dtype=torch.int32)
    place = torch.arange(30, 34)
    ancestors = torch.tensor([sum(1 << node for node in branch) for branch in branches])
    batch = AttentionBatch(
        table,
        torch.zeros(4, dtype=torch.int32),
        torch.tensor([29 + len(branch) for branch in branches], dtype=torch.int32),
        table[0, place // BLOCK_SIZE].long(),
        place % BLOCK_SIZE,
        tree=TreeMask(torch.full((4,), 30, dtype=torch.int32), ancestors),
    )
    outputs = run(decoder, nodes, batch)

    for node, branch in enumerate(branches):
        alone = step(decoder, [torch.cat((text, nodes[branch]))], [0], [30 + len(branch)])[0]
        assert torch.equal(outputs[node], alone[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cache_of_int8_holds_what_the_definition_makes_of_keys_and_values(dtype) -> None:
    """The decoder rounds as `quantise` does, and its logits change by little."""
    full, small = make_decoder(dtype), make_decoder(dtype, torch.int8)
    prompt = torch.arange(2 * BLOCK_SIZE - 3)
    expected, actual = (step(decoder, [prompt], [0], [len(prompt)])[0][:, :VOCAB] for decoder in (full, small))

    assert 0 < (actual - expected).norm() / expected.norm() < 0.05
    keys, values, key_scales, value_scales = (
        [getattr(decoder._caches[0], name) for decoder in (full, small)]
        for name in ("keys", "values", "key_scales", "value_scales")
    )
    for row in range(len(prompt)):
        block, offset, pair = row // BLOCK_SIZE, row % BLOCK_SIZE, keys[0].shape[-1]
        exact = keys[0][block, 0, :, offset].flatten().float()
        integers, scale = keys[1][block, 0, :, offset].flatten(), key_scales[1][block, 0, offset]
        assert (integers * scale - exact).abs().max() <= 0.51 * scale + exact.abs().max() * 2**-8
        exact = values[0][block, 0, offset // pair, :, offset % pair].float()
        integers, scale = values[1][block, 0, offset // 2, :, offset % 2], value_scales[1][block, 0, offset]
        assert (integers * scale - exact).abs().max() <= 0.51 * scale + exact.abs().max() * 2**-8
        if dtype == torch.float32:
            assert torch.equal(integers, quantise(exact)[0])
            assert torch.equal(scale, quantise(exact)[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_output_layer_alone_gives_the_same_bits(dtype) -> None:
    """Of any of the rows, in any number, on any number of threads."""
    decoder = make_decoder(dtype)
    logits, hidden, _ = step(decoder, [torch.arange(40)], [0], [40])[0].split((VOCAB, HIDDEN, 3 * HIDDEN), dim=1)
    hidden = hidden.to(dtype)
    for num_threads in (1, 3):
        decoder._num_threads = num_threads
        for rows in (slice(0, 40), slice(7, 8), slice(1, None, 3), slice(0, 0)):
            assert torch.equal(decoder.output_logits(hidden[rows]), logits[rows])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_layer_is_tapped_before_it_adds_anything(dtype) -> None:
    """Its input is the embedding; the layers' taps stand side by side in their order."""
    decoder = make_decoder(dtype)
    ids = torch.tensor([3, 129, 0])
    first, second, _ = step(decoder, [ids], [0], [3])[0][:, VOCAB + HIDDEN :].chunk(3, dim=1)

    assert torch.equal(first, decoder.embed(ids).float())
    assert not torch.equal(first, second)
    decoder.tap([1])
    assert torch.equal(step(decoder, [ids], [0], [3])[0][:, VOCAB + HIDDEN :], second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("taps", [[0, 1, 2], [1, 2], [2]])
def test_the_tap_behind_the_last_layer_is_what_the_output_layer_reads(dtype, taps) -> None:
    """Of every row, the last of the taps, whichever rows have logits."""
    decoder = make_decoder(dtype)
    expected = step(decoder, [torch.arange(40)], [0], [40])[0][:, VOCAB : VOCAB + HIDDEN]
    decoder.tap(taps)
    output = decoder.forward(*first_rows(40), torch.tensor([39]))

    assert torch.equal(output.taps[:, -HIDDEN:].float(), expected)
    assert torch.equal(output.hidden, output.taps[39:, -HIDDEN:])
