"""A transformers model whose hidden states can be read and whose output layer can be run alone.

Owns how they are got out of modules that transformers did not make for it; which family it is does not matter.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from outrider.engine.errors import LoadError
from outrider.engine.models.served_model import check_taps
from outrider.kernels.model_output import ModelOutput


class ObservedModule:
    """Takes the place of the `forward` of the model's body: embedding, layers and final norm.

    So it sees what the body gives, and can give something else in its place: then what runs is the output layer
    alone, with whatever the family does before and behind it.
    """

    def __init__(self, module: PreTrainedModel) -> None:
        config = module.config.get_text_config()
        base: Any = module.base_model
        self._module = module
        self._num_layers: int = config.num_hidden_layers
        self._hidden_size: int = config.hidden_size
        self._body: Any = base.get_decoder()
        self._compute = self._body.forward
        self._body.forward = self._forward_body
        self._output_type: Any = None  # of what the body gives; families differ
        self._hidden: torch.Tensor | None = None  # (num_rows, hidden_size) that the body gave
        self._given: torch.Tensor | None = None  # (1, n, hidden_size) to give in the body's place
        self._hooks: list[RemovableHandle] = []
        self._num_taps, self._taps_final = 0, False  # the last of them is behind the final norm
        self._taps: torch.Tensor | None = None  # (num_rows, num_taps, hidden_size) of the pass that runs

    def tap(self, layers: Sequence[int]) -> None:
        """As `ServedModel.tap`."""
        taps = check_taps(layers, self._num_layers)
        inputs = [layer for layer in taps if layer < self._num_layers]
        modules = self._layers() if inputs else nn.ModuleList()
        for hook in self._hooks:
            hook.remove()
        self._hooks = [
            modules[layer].register_forward_pre_hook(partial(self._keep_tap, place), with_kwargs=True)
            for place, layer in enumerate(inputs)
        ]
        self._num_taps, self._taps_final = len(taps), len(inputs) < len(taps)

    def forward(self, token_ids: torch.Tensor, positions: torch.Tensor, logit_rows: torch.Tensor) -> ModelOutput:
        """As `ServedModel.forward`."""
        if self._num_taps:
            size = len(token_ids), self._num_taps, self._hidden_size
            self._taps = torch.empty(size, dtype=self._module.dtype, device=token_ids.device)
        try:
            output = self._module(
                input_ids=token_ids[None], position_ids=positions[None], use_cache=False, logits_to_keep=logit_rows
            )
            assert self._hidden is not None
            if self._taps is not None and self._taps_final:
                self._taps[:, -1] = self._hidden
            taps = None if self._taps is None else self._taps.flatten(1)
            return ModelOutput(output.logits[0].float(), self._hidden[logit_rows], taps)
        finally:
            self._hidden = self._taps = None

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """As `ServedModel.embed`."""
        embedding: Any = self._module.get_input_embeddings()
        rows: torch.Tensor = embedding(token_ids)
        return rows

    def output_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """As `ServedModel.output_logits`; `forward` has run before."""
        self._given = hidden[None]
        try:
            logits: torch.Tensor = self._module(inputs_embeds=self._given, use_cache=False).logits[0].float()
        finally:
            self._given = None
        return logits

    def _forward_body(self, *arguments: Any, **options: Any) -> Any:
        if self._given is not None:
            return self._output_type(last_hidden_state=self._given)
        output = self._compute(*arguments, **options)
        self._output_type, self._hidden = type(output), output.last_hidden_state[0]
        return output

    def _keep_tap(self, place: int, _: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        assert self._taps is not None
        self._taps[:, place] = (arguments[0] if arguments else options["hidden_states"])[0]

    def _layers(self) -> nn.ModuleList:
        lists = [child for child in self._body.children() if isinstance(child, nn.ModuleList)]
        lists = [child for child in lists if len(child) == self._num_layers]
        if len(lists) != 1:
            name = self._module.config.model_type
            raise LoadError(f"model type `{name}` cannot be tapped: which modules are its layers is not known")
        return lists[0]
