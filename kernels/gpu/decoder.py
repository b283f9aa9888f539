"""A stack of Llama-like decoder layers on a GPU: products by torch, all that stands between them in Triton.

The same interface as the CPU's `kernels/decoder.py`. Steps in which each sequence has one row, the decode steps, are
replayed as CUDA graphs: a launch from Python costs more than many of these kernels take.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import embedding as embedding_rows
from torch.nn.functional import linear

from outrider.kernels.decoder import DecoderLayer, DecoderShape
from outrider.kernels.linear import LinearWeights
from outrider.kernels.model_output import ModelOutput
from outrider.kernels.paged_attention import AttentionBatch, AttentionOptions, KvCache, paged_attention
from outrider.kernels.rows import RotaryOptions, add_rms_norm, rotate_and_write, silu_and_multiply
from outrider.kernels.tiles import Tiles

MAX_GRAPH_ROWS = 256  # larger steps keep the GPU busy without


class GpuDecoder:
    """A model's layers, embedding and output, bound to a KV cache in the layout of `allocate_kv_rows`.

    Its graphs have buffers of their own, so it serves one caller at a time, on one thread.
    """

    def __init__(
        self,
        shape: DecoderShape,
        layers: Iterable[DecoderLayer],
        *,
        embedding: torch.Tensor,
        final_norm: torch.Tensor,
        output: LinearWeights,
        block_size: int,  # noqa: ARG002 - the cache has it
    ) -> None:
        """Takes the weights as they are, but for those of gate and up, which become one matrix."""
        self._shape = shape
        self._layers = [_gpu_layer(shape, layer) for layer in layers]
        self._embedding = embedding
        self._final_norm = final_norm
        self._output = output
        self._tap_layers: tuple[int, ...] = ()
        self._caches: list[KvCache] = []
        self._graphs: dict[tuple[int, int], _DecodeGraph] = {}

    def bind_caches(self, caches: Sequence[KvCache]) -> None:
        """Takes one cache per layer; graphs of the former ones are dropped."""
        self._caches = list(caches)
        assert len(self._caches) == len(self._layers)
        self._graphs = {}

    def tap(self, layers: Sequence[int]) -> None:
        """As `Decoder.tap`; graphs that give others are dropped."""
        self._tap_layers = tuple(layers)
        self._graphs = {}

    def forward(self, token_ids: torch.Tensor, batch: AttentionBatch, logit_rows: torch.Tensor) -> ModelOutput:
        """As `Decoder.forward`, all tensors on the GPU."""
        num_rows = len(token_ids)
        is_decode = batch.tiles is not None and batch.tiles.max_rows == 1 and batch.tree is None
        if not token_ids.is_cuda or not is_decode or num_rows > MAX_GRAPH_ROWS:
            return self.compute(token_ids, batch, logit_rows)
        key = graph_rows(num_rows), 1 << (batch.block_table.shape[1] - 1).bit_length()
        if key not in self._graphs:
            self._graphs[key] = _DecodeGraph(self, *key)
        every = self._graphs[key].replay(token_ids, batch)
        taps = None if every.taps is None else every.taps[:num_rows].clone()
        return ModelOutput(every.logits[logit_rows], every.hidden[logit_rows], taps)

    def compute(self, token_ids: torch.Tensor, batch: AttentionBatch, logit_rows: torch.Tensor) -> ModelOutput:
        """`forward`, kernel by kernel."""
        shape = self._shape
        num_rows, epsilon, dtype = len(token_ids), shape.norm_epsilon, shape.dtype
        residual = self._embedding[token_ids].float() * shape.embedding_scale  # (num_rows, hidden_size)
        x: torch.Tensor | None = None  # what is still to be added to it
        num_taps = len(self._tap_layers)
        taps = residual.new_empty(num_rows, num_taps, shape.hidden_size, dtype=dtype) if num_taps else None
        for index, (one, cache) in enumerate(zip(self._layers, self._caches, strict=True)):
            layer = one.weights
            normed = add_rms_norm(
                x, residual, layer.attention_norm, epsilon, residual_scale=shape.residual_scale, dtype=dtype
            )
            if taps is not None and index in self._tap_layers:
                taps[:, self._tap_layers.index(index)] = residual
            heads = linear(normed, layer.query_key_value.weight, layer.query_key_value.bias)
            query = normed.new_empty(num_rows, shape.num_heads, shape.head_dim)
            rotate_and_write(heads, query, cache.keys, cache.values, batch, one.rotary)
            attended = paged_attention(query, cache, batch, one.attention).flatten(1)
            x = linear(attended, layer.attention_output.weight, layer.attention_output.bias)
            normed = add_rms_norm(
                x, residual, layer.mlp_norm, epsilon, residual_scale=shape.residual_scale, dtype=dtype
            )
            x = linear(silu_and_multiply(linear(normed, one.gate_and_up)), layer.down.weight, layer.down.bias)
        assert x is not None
        is_tapped = len(self._layers) in self._tap_layers
        if not is_tapped:
            x, residual = x[logit_rows], residual[logit_rows]
        hidden = add_rms_norm(x, residual, self._final_norm, epsilon, residual_scale=shape.residual_scale, dtype=dtype)
        if taps is not None and is_tapped:
            taps[:, -1] = hidden
            hidden = hidden[logit_rows]
        return ModelOutput(self.output_logits(hidden), hidden, None if taps is None else taps.flatten(1))

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """As `Decoder.embed`."""
        return embedding_rows(token_ids, self._embedding)

    def output_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """As `Decoder.output_logits`."""
        logits = linear(hidden, self._output.weight, self._output.bias).float()
        return logits if self._shape.logit_scale == 1.0 else logits * self._shape.logit_scale


def graph_rows(num_rows: int) -> int:
    """The size of the graph that so many rows take: 1, 2, 4, then multiples of 8."""
    small = next((size for size in (1, 2, 4) if num_rows <= size), None)
    return small or -(-num_rows // 8) * 8


@dataclass(frozen=True, slots=True)
class _GpuLayer:
    weights: DecoderLayer
    gate_and_up: torch.Tensor  # (2 * intermediate_size, hidden_size)
    rotary: RotaryOptions
    attention: AttentionOptions


class _DecodeGraph:
    """One decode step of a fixed number of rows, recorded. Rows beyond those of a step write nothing."""

    def __init__(self, decoder: GpuDecoder, num_rows: int, max_blocks: int) -> None:
        device = decoder._embedding.device

        def zeros(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
            return torch.zeros(*shape, dtype=dtype, device=device)

        self._token_ids = zeros(num_rows, dtype=torch.int64)
        rows = torch.arange(num_rows, dtype=torch.int32, device=device)
        self._batch = AttentionBatch(
            block_table=zeros(num_rows, max_blocks),
            row_sequence=rows,
            row_position=zeros(num_rows),
            write_block=torch.full((num_rows,), -1, dtype=torch.int64, device=device),
            write_offset=zeros(num_rows, dtype=torch.int64),
            tiles=Tiles(first_row=rows, num_rows=zeros(num_rows), max_rows=1),
        )
        every = torch.arange(num_rows, device=device)
        # Once without recording: kernels are compiled, and libraries take their work space.
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            decoder.compute(self._token_ids, self._batch, every)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = decoder.compute(self._token_ids, self._batch, every)

    def replay(self, token_ids: torch.Tensor, batch: AttentionBatch) -> ModelOutput:
        """Of all rows of the graph; the next replay overwrites it."""
        num_rows, num_blocks = batch.block_table.shape
        mine, tiles = self._batch, self._batch.tiles
        assert tiles is not None
        self._token_ids[:num_rows].copy_(token_ids)
        mine.block_table[:num_rows, :num_blocks].copy_(batch.block_table)
        mine.row_position[:num_rows].copy_(batch.row_position)
        mine.write_block[:num_rows].copy_(batch.write_block)
        mine.write_block[num_rows:].fill_(-1)
        mine.write_offset[:num_rows].copy_(batch.write_offset)
        tiles.num_rows[:num_rows].fill_(1)
        tiles.num_rows[num_rows:].fill_(0)
        self._graph.replay()
        return self._output


def _gpu_layer(shape: DecoderShape, layer: DecoderLayer) -> _GpuLayer:
    gate_and_up = torch.cat((layer.gate, layer.up))
    gate, up = gate_and_up.chunk(2)  # the same memory, so that the layer's own can be released
    rotary = RotaryOptions(
        shape.frequency,
        scale=shape.rotary_scale,
        query_norm=layer.query_norm,
        key_norm=layer.key_norm,
        epsilon=shape.norm_epsilon,
        rotates=layer.rotates,
    )
    attention = AttentionOptions(scale=shape.attention_scale, window=layer.window)
    return _GpuLayer(replace(layer, gate=gate, up=up), gate_and_up, rotary, attention)
