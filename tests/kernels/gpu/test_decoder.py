"""The GPU's decoder computes what the CPU's does: on plain torch, and with its Triton kernels interpreted."""

import pytest
import torch

from outrider.kernels.decoder import Decoder, DecoderLayer, DecoderShape
from outrider.kernels.gpu import attention, decoder, rows
from outrider.kernels.gpu.decoder import GpuDecoder, graph_rows
from outrider.kernels.linear import LinearWeights
from outrider.kernels.paged_attention import AttentionBatch, allocate_kv, allocate_kv_rows
from outrider.kernels.tiles import tile_rows

BLOCK_SIZE, NUM_BLOCKS = 32, 6
HIDDEN, INNER, HEADS, KV_HEADS, DIM, VOCAB = 48, 72, 6, 2, 16, 130  # few of these are powers of two


def shape() -> DecoderShape:
    return DecoderShape(
        dtype=torch.float32,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_heads=HEADS,
        num_kv_heads=KV_HEADS,
        head_dim=DIM,
        vocab_size=VOCAB,
        norm_epsilon=1e-6,
        attention_scale=0.25,
        frequency=torch.logspace(0, -3, DIM // 2),
        rotary_scale=0.9,
        embedding_scale=1.5,
        residual_scale=0.7,
        logit_scale=0.5,
    )


def make_decoder(kind: type[Decoder | GpuDecoder]) -> Decoder | GpuDecoder:
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator) * 0.2

    num_outputs = (HEADS + 2 * KV_HEADS) * DIM
    layers = [
        DecoderLayer(
            attention_norm=draw(HIDDEN) + 1,
            query_key_value=LinearWeights(draw(num_outputs, HIDDEN), draw(num_outputs)),
            attention_output=LinearWeights(draw(HIDDEN, HEADS * DIM)),
            mlp_norm=draw(HIDDEN) + 1,
            gate=draw(INNER, HIDDEN),
            up=draw(INNER, HIDDEN),
            down=LinearWeights(draw(HIDDEN, INNER)),
            query_norm=None if index == 0 else draw(DIM) + 1,
            key_norm=None if index == 0 else draw(DIM) + 1,
            window=window,
            rotates=index != 2,
        )
        for index, window in enumerate((None, 20, None))
    ]
    made = kind(
        shape(),
        layers,
        embedding=draw(VOCAB, HIDDEN) * 5,
        final_norm=draw(HIDDEN) + 1,
        output=LinearWeights(draw(VOCAB, HIDDEN)),
        block_size=BLOCK_SIZE,
    )
    allocate = allocate_kv if kind is Decoder else allocate_kv_rows
    made.tap([0, 2, 3])
    made.bind_caches([allocate(NUM_BLOCKS, KV_HEADS, BLOCK_SIZE, DIM, torch.float32) for _ in layers])
    return made


def run(made: Decoder | GpuDecoder) -> torch.Tensor:
    """Of two prompts, then of one token of each behind them: (37 + 4 + 2, vocab_size + 4 * hidden_size).

    Logits, hidden states and three taps, side by side.
    """
    table = torch.tensor([[4, 1], [2, 0]], dtype=torch.int32)
    outputs = []
    for spans in ((range(37), range(4)), (range(37, 38), range(4, 5))):
        counts = [len(span) for span in spans]
        sequence = torch.repeat_interleave(torch.arange(2), torch.tensor(counts))
        position = torch.tensor([place for span in spans for place in span])
        batch = AttentionBatch(
            table,
            sequence.int(),
            position.int(),
            table[sequence, position // BLOCK_SIZE].long(),
            position % BLOCK_SIZE,
            tiles=tile_rows(counts, 8),
        )
        token_ids = (position * 7 + sequence * 3) % VOCAB
        output = made.forward(token_ids, batch, torch.arange(len(position)))
        outputs.append(torch.cat((output.logits, output.hidden, output.taps), dim=1))
    return torch.cat(outputs)


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    """By the CPU's decoder."""
    return run(make_decoder(Decoder))


def test_in_plain_torch(expected) -> None:
    """All that a layer may have: biases, norms of heads, windows, layers without positions, scales."""
    assert torch.allclose(run(make_decoder(GpuDecoder)), expected, atol=2e-5, rtol=1e-4)


def test_in_triton(expected, monkeypatch) -> None:
    """The same with each kernel interpreted."""

    def paged_attention(query, cache, batch, options):
        return attention.paged_attention_triton(query, cache.keys, cache.values, batch, options)

    for name, kernel in (
        ("add_rms_norm", rows.add_rms_norm),
        ("rotate_and_write", rows.rotate_and_write),
        ("silu_and_multiply", rows.silu_and_multiply),
        ("paged_attention", paged_attention),
    ):
        monkeypatch.setattr(decoder, name, kernel)

    assert torch.allclose(run(make_decoder(GpuDecoder)), expected, atol=2e-5, rtol=1e-4)


def test_embeddings_and_the_output_layer_alone(expected) -> None:
    """As speculators use them: rows of the table without a scale, and logits with theirs."""
    theirs, ours = make_decoder(Decoder), make_decoder(GpuDecoder)
    logits, hidden, _ = expected.split((VOCAB, HIDDEN, 3 * HIDDEN), dim=1)
    token_ids = torch.tensor([3, 129, 0])

    assert torch.equal(ours.embed(token_ids), theirs.embed(token_ids))
    assert torch.allclose(ours.output_logits(hidden), logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("taps", [[], [1], [3]])
def test_logits_do_not_depend_on_what_is_tapped(taps, expected) -> None:
    """Of any rows, in any order; what is behind the final norm is `hidden`, of all rows."""
    theirs, ours = make_decoder(Decoder), make_decoder(GpuDecoder)
    wanted = torch.tensor([5, 0, 20])
    place = torch.arange(37)
    batch = AttentionBatch(
        torch.tensor([[4, 1]], dtype=torch.int32),
        torch.zeros(37, dtype=torch.int32),
        place.int(),
        torch.tensor([4, 1])[place // BLOCK_SIZE],
        place % BLOCK_SIZE,
        tiles=tile_rows([37], 8),
    )
    outputs = []
    for made in (theirs, ours):
        made.tap(taps)
        outputs.append(made.forward(place * 7 % VOCAB, batch, wanted))

    for output in outputs:
        assert torch.allclose(output.logits, expected[wanted, :VOCAB], atol=2e-5, rtol=1e-4)
        assert torch.allclose(output.hidden, expected[wanted, VOCAB : VOCAB + HIDDEN], atol=2e-5, rtol=1e-4)
    if taps == [3]:
        assert torch.equal(outputs[1].taps[wanted], outputs[1].hidden)
        assert torch.allclose(outputs[1].taps, outputs[0].taps, atol=2e-5, rtol=1e-4)


def test_without_taps_there_are_none() -> None:
    """Nothing is copied for them."""
    made = make_decoder(GpuDecoder)
    made.tap([])
    batch = AttentionBatch(
        torch.zeros(1, 1, dtype=torch.int32),
        torch.zeros(1, dtype=torch.int32),
        torch.zeros(1, dtype=torch.int32),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        tiles=tile_rows([1], 8),
    )

    assert made.forward(torch.tensor([5]), batch, torch.arange(1)).taps is None


def test_gate_and_up_are_not_kept_twice() -> None:
    """A large model would not fit."""
    made = make_decoder(GpuDecoder)

    for layer in made._layers:
        assert layer.weights.up.untyped_storage().data_ptr() == layer.gate_and_up.untyped_storage().data_ptr()


def test_graphs_come_in_few_sizes() -> None:
    """Never smaller than the step, and at most seven rows larger."""
    assert [graph_rows(count) for count in (1, 2, 3, 4, 5, 8, 9, 64, 250)] == [1, 2, 4, 4, 8, 8, 16, 64, 256]
