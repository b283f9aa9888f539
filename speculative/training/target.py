"""The target as a teacher: its features, its distributions and its own answers.

Owns how a transformers model is asked for them. Nothing here trains it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from outrider.speculative.files import CheckpointError
from outrider.speculative.fit import TargetShape


@dataclass(frozen=True, slots=True)
class Features:
    """What one forward pass saw; `taps` are inputs of layers, `last` is behind the final norm: (batch, length, ...)."""

    taps: torch.Tensor
    last: torch.Tensor


class Target:
    """A frozen causal language model with its tokenizer."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.model = model.requires_grad_(requires_grad=False)
        self.model.eval()
        self.tokenizer = tokenizer
        self.name = name
        config = model.config.get_text_config()
        self.hidden_size: int = config.hidden_size
        self.vocab_size: int = config.vocab_size
        self.num_layers: int = config.num_hidden_layers
        self.max_length: int = getattr(config, "max_position_embeddings", None) or 2048
        # Some families bend their logits behind the output layer: Gemma 2 caps them, Granite and Cohere scale them.
        self._cap: float | None = getattr(config, "final_logit_softcapping", None)
        self._scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)

    @property
    def device(self) -> torch.device:
        """Where the target runs, and where everything trained for it should be."""
        device: torch.device = self.model.device
        return device

    @property
    def shape(self) -> TargetShape:
        """What a speculator must fit."""
        return TargetShape(self.name, self.hidden_size, self.vocab_size, self.num_layers)

    @property
    def output_layer(self) -> nn.Module:
        """Hidden states behind the final norm to logits."""
        layer: nn.Module = self.model.get_output_embeddings()
        return layer

    @property
    def embedding(self) -> nn.Module:
        """Token ids to the first layer's input."""
        layer: nn.Module = self.model.get_input_embeddings()
        return layer

    @property
    def fingerprint(self) -> str:
        """Tells targets apart: of the configuration and of some of every weight."""
        digest = hashlib.sha256(self.model.config.to_json_string().encode())
        for parameter in self.model.parameters():
            digest.update(str(parameter.flatten()[:64].tolist()).encode())
        return digest.hexdigest()

    @torch.no_grad()
    def observe(self, ids: torch.Tensor, tap_layers: Sequence[int] = ()) -> Features:
        """Features of right-padded ids (batch, length), in the target's dtype; taps are side by side, low to high."""
        output = self.model.base_model(input_ids=ids, use_cache=False, output_hidden_states=bool(tap_layers))
        last: torch.Tensor = output.last_hidden_state
        if not tap_layers:
            return Features(last[..., :0], last)
        return Features(torch.cat([output.hidden_states[layer] for layer in tap_layers], dim=-1), last)

    @torch.no_grad()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits in float32 of hidden states behind the final norm, in any dtype: (..., vocab_size)."""
        return self.scores(hidden.to(self.model.dtype))

    def scores(self, hidden: torch.Tensor) -> torch.Tensor:
        """As `logits`, with gradients to the hidden states."""
        scores: torch.Tensor = self.output_layer(hidden).float() * self._scale
        return scores if self._cap is None else torch.tanh(scores / self._cap) * self._cap

    def generate(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        batch_size: int = 32,
    ) -> list[list[int]]:
        """Answers to the prompts with their end token, in order; greedy unless the temperature is above 0."""
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        # Prompts of like length share a batch, longest first: what does not fit in memory shows at once.
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        answers: list[list[int]] = [[] for _ in prompts]
        ends = self._end_ids()
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            width = len(prompts[chosen[0]])
            ids = torch.full((len(chosen), width), pad, device=self.device)
            attended = torch.zeros_like(ids)
            for row, index in enumerate(chosen):
                ids[row, width - len(prompts[index]) :] = torch.tensor(prompts[index])
                attended[row, width - len(prompts[index]) :] = 1
            with torch.no_grad():
                output = self.model.generate(  # type: ignore[operator]  # a mixin that the checker does not see
                    input_ids=ids,
                    attention_mask=attended,
                    max_new_tokens=max(1, min(max_new_tokens, self.max_length - width)),
                    generation_config=GenerationConfig(
                        do_sample=temperature > 0,
                        temperature=temperature or None,
                        # What the checkpoint would set for itself must not bend the distribution.
                        top_k=0,
                        top_p=1.0,
                        repetition_penalty=1.0,
                        no_repeat_ngram_size=0,
                        pad_token_id=pad,
                        eos_token_id=sorted(ends) or None,
                    ),
                )
            for row, index in enumerate(chosen):
                answers[index] = _until_end(output[row, width:].tolist(), ends)
        return answers

    def write_prompts(self, count: int, max_new_tokens: int = 256) -> list[list[int]]:
        """Prompts that the target makes up itself: it goes on where the chat template opens the user's turn.

        The method of Magpie (Xu et al., 2024). Without a chat template the text begins with nothing.

        Raises:
            ValueError: the chat template does not show where the user's words stand.
        """
        if self.tokenizer.chat_template is None:
            start = self.tokenizer.bos_token_id
            if start is None:
                raise ValueError("the target has neither a chat template nor a first token: pass --data")
            return [[int(start)] for _ in range(count)]
        mark = "\u2402"
        rendered: str = self.tokenizer.apply_chat_template(  # type: ignore[assignment]  # a string unless it tokenizes
            [{"role": "user", "content": mark}], add_generation_prompt=True, tokenize=False
        )
        before, found, after = rendered.partition(mark)
        if not found:
            raise ValueError("the chat template drops the user's words: pass --data")
        opening = self.tokenizer.encode(before, add_special_tokens=False)
        closing = self.tokenizer.encode(after, add_special_tokens=False)
        ends = self._end_ids()
        written = self.generate([opening] * count, max_new_tokens, temperature=1.0)
        return [[*opening, *(token for token in words if token not in ends), *closing] for words in written]

    def _end_ids(self) -> set[int]:
        config = self.model.generation_config
        ends = config.eos_token_id if config is not None else None
        if ends is None:
            ends = self.tokenizer.eos_token_id
        return set() if ends is None else {int(end) for end in (ends if isinstance(ends, list) else [ends])}


def load_target(folder: str) -> Target:
    """The model of a checkpoint folder, in its own dtype, on a GPU if there is one.

    Raises:
        CheckpointError: it cannot be loaded; one line says why.
    """
    model, tokenizer = load_model(folder)
    return Target(model, tokenizer, folder)


def load_model(folder: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer from a local folder.

    Raises:
        CheckpointError: it cannot be loaded; one line says why.
    """
    if not (Path(folder) / "config.json").is_file():
        raise CheckpointError(f"`{folder}` is not a checkpoint folder: it has no config.json")
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype="auto")
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if torch.cuda.is_available():
            model.to("cuda")  # type: ignore[arg-type]  # its signature is that of a decorator
    except Exception as error:  # a damaged checkpoint raises anything; each becomes one clear line
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise CheckpointError(f"the model `{folder}` cannot be loaded: {reason}") from error
    return model, tokenizer


def _until_end(token_ids: list[int], ends: set[int]) -> list[int]:
    for index, token in enumerate(token_ids):
        if token in ends:
            return token_ids[: index + 1]
    return token_ids
