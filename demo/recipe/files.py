"""Writing a checkpoint folder: Hugging Face files, complete or not there at all.

Owns which files a checkpoint has. A hand-written model card in the folder survives a new checkpoint.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Final

from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MODEL_CARD: Final = "README.md"


def save_checkpoint(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes model and tokenizer to a new folder beside `folder`, then puts it in its place.

    A reader that opens files while the folders change places may have to try again, but never sees a mixture.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The same file system, or the rename would not be one step.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        fresh, old = Path(scratch, "fresh"), Path(scratch, "old")
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        (fresh / "model.safetensors").chmod(0o644)  # safetensors leaves it to its owner alone
        if (folder / MODEL_CARD).exists():
            shutil.copy2(folder / MODEL_CARD, fresh / MODEL_CARD)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
