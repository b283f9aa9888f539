"""A stack of Llama-like decoder layers as one C call: the CPU's fast path.

Most of a decode step of a small model goes to what stands between its matrix products: hundreds of short operations,
each of which wakes and joins threads. Here one team of threads walks through all layers (`decoder.c`), with the matrix
products of `matmul.h`, which read packed weights at the speed of memory.

Every row's result has the same bits whatever rows it is computed with.
"""

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from outrider.kernels.build import load_library
from outrider.kernels.decoder_structs import Chains, DecoderWeights, Layer, Matrix, Rows
from outrider.kernels.draft_chains import CHOICES, Chain
from outrider.kernels.linear import LinearWeights, Projection, gate_and_up, project
from outrider.kernels.model_output import ModelOutput
from outrider.kernels.paged_attention import DTYPES, AttentionBatch, AttentionShape, KvCache, tree_addresses
from outrider.kernels.sample import Draw, draw_structs, several_kernel


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """What all layers share. Sizes are numbers of values; `frequency` is in radians a position."""

    dtype: torch.dtype
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    norm_epsilon: float
    attention_scale: float
    frequency: torch.Tensor  # (rotary_dim / 2,) float32
    rotary_scale: float = 1.0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """One layer's weights; norms are float32. `window` as in `AttentionOptions`."""

    attention_norm: torch.Tensor  # (hidden_size,)
    query_key_value: LinearWeights  # the outputs of queries, then keys, then values
    attention_output: LinearWeights
    mlp_norm: torch.Tensor  # (hidden_size,)
    gate: torch.Tensor  # (intermediate_size, hidden_size)
    up: torch.Tensor  # (intermediate_size, hidden_size)
    down: LinearWeights
    query_norm: torch.Tensor | None = None  # (head_dim,)
    key_norm: torch.Tensor | None = None
    window: int | None = None
    rotates: bool = True


def can_decode(head_dim: int, rotary_dim: int, hidden_size: int, intermediate_size: int) -> bool:
    """Whether the kernel takes such sizes and can be built here."""
    return (
        head_dim % 16 == 0
        and head_dim <= 256
        and rotary_dim <= head_dim
        and not (rotary_dim % 2 or hidden_size % 2 or intermediate_size % 2)
        and load_library("decoder") is not None
    )


class Decoder:
    """A model's layers, embedding and output, bound to a KV cache. `can_decode` tells which models it takes.

    Its scratch memory serves one caller at a time.
    """

    def __init__(
        self,
        shape: DecoderShape,
        layers: Iterable[DecoderLayer],
        *,
        embedding: torch.Tensor,
        final_norm: torch.Tensor,
        output: LinearWeights,
        block_size: int,
    ) -> None:
        """Packs the weights of one layer after the other, so that each can be released before the next is read."""
        library = load_library("decoder")
        assert library is not None
        self._run = library.outrider_decoder_run
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        self._run.restype = None
        self._scratch_bytes = library.outrider_decoder_scratch
        self._scratch_bytes.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
        self._scratch_bytes.restype = ctypes.c_int64
        self._output = library.outrider_decoder_output
        self._output.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 2
        self._output.restype = None
        chains, several = load_library("draft_chains"), several_kernel()
        assert chains is not None
        assert several is not None
        self._walk = chains.outrider_draft_chains
        self._walk.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_int64]
        self._walk.restype = ctypes.c_int
        # C calls these by their addresses: the libraries know nothing of each other.
        self._functions = [ctypes.cast(function, ctypes.c_void_p) for function in (self._run, several)]
        # OpenMP keeps its number of threads by calling thread; a model keeps the one that it was made with, so that a
        # small one beside a large one has its own.
        self._num_threads = torch.get_num_threads()
        self._shape = shape
        self._embedding = embedding
        # C holds addresses only: these live as long as the decoder.
        self._tensors: list[object] = [final_norm]
        packed = [self._packed(layer) for layer in layers]
        self._layers = (Layer * len(packed))(*packed)
        self._decoder = DecoderWeights(
            dtype=DTYPES[shape.dtype],
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_layers=len(packed),
            rotary_dim=2 * len(shape.frequency),
            vocab_size=shape.vocab_size,
            final_tap=-1,
            norm_epsilon=shape.norm_epsilon,
            rotary_scale=shape.rotary_scale,
            embedding_scale=shape.embedding_scale,
            residual_scale=shape.residual_scale,
            logit_scale=shape.logit_scale,
            attention=AttentionShape(
                num_heads=shape.num_heads,
                num_kv_heads=shape.num_kv_heads,
                head_dim=shape.head_dim,
                block_size=block_size,
                scale=shape.attention_scale,
            ),
            embedding=embedding.data_ptr(),
            frequency=shape.frequency.data_ptr(),
            final_norm=final_norm.data_ptr(),
            output=self._matrix(project(output)),
            layers=ctypes.addressof(self._layers),
        )
        self._caches: tuple[KvCache, ...] = ()
        self._scratch = torch.empty(0, dtype=torch.uint8)

    def bind_caches(self, caches: Sequence[KvCache]) -> None:
        """Takes one cache per layer, as `allocate_kv` makes them, of the model's dtype or all of int8."""
        for layer, cache in zip(self._layers, caches, strict=True):
            layer.key_cache, layer.value_cache = cache.keys.data_ptr(), cache.values.data_ptr()
        self._decoder.attention.is_int8 = caches[0].keys.dtype == torch.int8
        self._caches = tuple(caches)

    def tap(self, layers: Sequence[int]) -> None:
        """Has `forward` give the inputs of these layers, in ascending order.

        Behind the last of them is the final norm: their number stands for what is behind it.
        """
        for index, layer in enumerate(self._layers):
            layer.tap = layers.index(index) if index in layers else -1
        self._decoder.final_tap = layers.index(len(self._layers)) if len(self._layers) in layers else -1
        self._decoder.num_taps = len(layers)

    def forward(self, token_ids: torch.Tensor, batch: AttentionBatch, logit_rows: torch.Tensor) -> ModelOutput:
        """Runs the rows and writes their keys and values.

        Args:
            token_ids: (num_rows,) int64
            batch: where the rows belong
            logit_rows: (num_logit_rows,) int64, the rows whose logits are wanted, at most num_rows
        """
        num_rows = len(token_ids)
        self._make_room(num_rows)
        shape, num_taps = self._shape, self._decoder.num_taps
        logits = torch.empty(len(logit_rows), shape.vocab_size, dtype=torch.float32)
        hidden = torch.empty(len(logit_rows), shape.hidden_size, dtype=shape.dtype)
        taps = torch.empty(num_rows, num_taps * shape.hidden_size, dtype=shape.dtype) if num_taps else None
        self._decoder.attention.max_blocks = batch.block_table.shape[1]
        rows = Rows(
            num_rows,
            len(logit_rows),
            token_ids.data_ptr(),
            logit_rows.data_ptr(),
            batch.row_position.data_ptr(),
            batch.row_sequence.data_ptr(),
            batch.block_table.data_ptr(),
            *tree_addresses(batch),
            batch.write_block.data_ptr(),
            batch.write_offset.data_ptr(),
            logits.data_ptr(),
            hidden.data_ptr(),
            None if taps is None else taps.data_ptr(),
            self._scratch.data_ptr(),
        )
        self._run(ctypes.byref(self._decoder), ctypes.byref(rows), self._num_threads)
        return ModelOutput(logits, hidden, taps)

    def draft_chains(
        self,
        logits: torch.Tensor,
        draws: Sequence[Draw],
        most: Sequence[int],
        min_probability: float,
        batch: AttentionBatch,
    ) -> list[Chain]:
        """As `draft_chains.draft_chains`, on a decoder that nothing is tapped of.

        Args:
            logits: (num_chains, vocab_size) float32, contiguous; overwritten
            draws: of each chain's first token
            most: tokens of each chain, at least 1
            min_probability: of a chain that goes on
            batch: one row for each chain, the newest place that was read; its tensors are overwritten

        Raises:
            MemoryError: there is none for the scores of a row.
        """
        assert not self._decoder.num_taps
        num_chains, shape = len(draws), self._shape
        self._make_room(num_chains)
        ids, rows = torch.empty(num_chains, dtype=torch.int64), torch.arange(num_chains)
        hidden = torch.empty(num_chains, shape.hidden_size, dtype=shape.dtype)
        found = np.empty((num_chains, max(most), CHOICES), dtype=np.int64)
        found.fill(-1)
        chances = np.empty(found.shape, dtype=np.float32)
        limits, structs = np.array(most, dtype=np.int64), draw_structs(draws)
        self._decoder.attention.max_blocks = batch.block_table.shape[1]
        step = Rows(
            num_chains,
            num_chains,
            ids.data_ptr(),
            rows.data_ptr(),
            batch.row_position.data_ptr(),
            batch.row_sequence.data_ptr(),
            batch.block_table.data_ptr(),
            None,
            None,
            batch.write_block.data_ptr(),
            batch.write_offset.data_ptr(),
            logits.data_ptr(),
            hidden.data_ptr(),
            None,
            self._scratch.data_ptr(),
        )
        chains = Chains(
            num_chains,
            max(most),
            CHOICES,
            min_probability,
            limits.ctypes.data,
            found.ctypes.data,
            chances.ctypes.data,
            ctypes.addressof(structs),
            ids.data_ptr(),
            batch.write_block.data_ptr(),
            batch.write_offset.data_ptr(),
            batch.row_position.data_ptr(),
            batch.block_table.data_ptr(),
            self._decoder.attention.block_size,
            batch.block_table.shape[1],
            shape.vocab_size,
        )
        pointers = [ctypes.addressof(one) for one in (self._decoder, step, chains)]
        if self._walk(*self._functions, *pointers, self._num_threads):
            raise MemoryError(f"drafting has no memory for {shape.vocab_size} scores a thread")
        return [
            [
                [(token, chance) for token, chance in zip(*place, strict=True) if token >= 0]
                for place in zip(tokens, mine, strict=True)
                if place[0][0] >= 0
            ]
            for tokens, mine in zip(found.tolist(), chances.tolist(), strict=True)
        ]

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Rows (n, hidden_size) of the embedding for token ids (n,) int64, without the shape's `embedding_scale`."""
        return nn.functional.embedding(token_ids, self._embedding)

    def output_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`forward`'s logits (n, vocab_size) float32 of its hidden states (n, hidden_size), in the model's dtype."""
        assert hidden.dtype == self._shape.dtype
        hidden = hidden.contiguous()
        logits = torch.empty(len(hidden), self._shape.vocab_size, dtype=torch.float32)
        self._output(ctypes.byref(self._decoder), hidden.data_ptr(), logits.data_ptr(), len(hidden), self._num_threads)
        return logits

    def _make_room(self, num_rows: int) -> None:
        """Has scratch memory for so many rows."""
        needed = self._scratch_bytes(ctypes.byref(self._decoder), num_rows, None, None)
        if needed > len(self._scratch):
            self._scratch = torch.empty(needed, dtype=torch.uint8)

    def _packed(self, layer: DecoderLayer) -> Layer:
        return Layer(
            attention_norm=self._address(layer.attention_norm),
            mlp_norm=self._address(layer.mlp_norm),
            query_norm=self._address(layer.query_norm),
            key_norm=self._address(layer.key_norm),
            query_key_value=self._matrix(project(layer.query_key_value)),
            attention_output=self._matrix(project(layer.attention_output)),
            gate_up=self._matrix(gate_and_up(layer.gate, layer.up)),
            down=self._matrix(project(layer.down)),
            window=layer.window or 0,
            rotates=layer.rotates,
            tap=-1,
        )

    def _matrix(self, projection: Projection) -> Matrix:
        panels, bias = self._address(projection.panels), self._address(projection.bias)
        return Matrix(panels, bias, projection.num_inputs, projection.num_outputs)

    def _address(self, tensor: torch.Tensor | None) -> int | None:
        if tensor is None:
            return None
        self._tensors.append(tensor)
        return tensor.data_ptr()
