"""What a draft model learns: the target's distributions, with the same tokenizer and a fraction of its size."""

import tempfile
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from outrider.speculative.files import replace_files
from outrider.speculative.training.copying import HEAD_DIM, ROPE_THETA, install_copying
from outrider.speculative.training.distillation import distil
from outrider.speculative.training.loop import Outcome
from outrider.speculative.training.steps import Batch
from outrider.speculative.training.target import Target


class DraftObjective:
    """Soft cross-entropy to the target at every learned place; the model can copy before it learns."""

    def __init__(self, target: Target, hidden_size: int, num_layers: int, seed: int) -> None:
        torch.manual_seed(seed)
        self._target = target
        config = target.model.config.get_text_config()
        num_heads = hidden_size // HEAD_DIM
        self.module = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=target.vocab_size,
                hidden_size=hidden_size,
                intermediate_size=hidden_size * 2,
                num_hidden_layers=num_layers,
                num_attention_heads=num_heads,
                num_key_value_heads=1 if num_heads % 2 else num_heads // 2,
                head_dim=HEAD_DIM,
                max_position_embeddings=target.max_length,
                rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
                tie_word_embeddings=True,
                pad_token_id=config.pad_token_id,
                bos_token_id=config.bos_token_id,
                eos_token_id=config.eos_token_id,
            )
        )
        install_copying(self.module, seed)
        self.module.to(target.device)  # type: ignore[arg-type]  # its signature is that of a decorator

    def outcome(self, batch: Batch) -> Outcome:
        """The loss; hits and trials of shape (1,)."""
        device = self._target.device
        ids, learned = batch.ids.to(device), batch.learned.to(device)
        wanted = learned[:, 1:].nonzero(as_tuple=True)
        taught = self._target.observe(ids).last[wanted]
        with torch.autocast(device.type, dtype=torch.bfloat16):
            hidden = self.module.model(input_ids=ids, use_cache=False).last_hidden_state
            distilled = distil(self._target, taught, self.module.lm_head, hidden[wanted])
        return Outcome(distilled.mean, distilled.hits[None].float(), torch.tensor([len(taught)], device=device).float())

    def save(self, folder: Path, card: str) -> None:
        """Writes a Hugging Face folder with the target's tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        config = self.module.config
        self.module.generation_config = GenerationConfig(
            bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
        )
        # The same file system, or the renames would not be one step each.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch:
            self.module.bfloat16().save_pretrained(scratch)
            self._target.tokenizer.save_pretrained(scratch)
            Path(scratch, "README.md").write_text(card)
            replace_files(Path(scratch), folder)
