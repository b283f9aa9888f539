"""A tiny random target with a tokenizer of its own, and speculators that know it a little: often right, often wrong."""

from pathlib import Path

import torch
from inline_engine import run, submit
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.speculative.eagle3 import Eagle3Config, Eagle3Head
from outrider.speculative.eagle_checkpoint import save_eagle3
from outrider.speculative.files import write_checkpoint
from outrider.speculative.medusa_checkpoint import WEIGHTS

VOCAB_SIZE = 360
DRAFT_VOCAB_SIZE = 300
NUM_HEADS = 3
EOS = 2
TAPS = (1, 2, 3)
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
NUM_TEXTS, TEXT_LENGTH = 96, 40
CORPUS = (
    '{"name": "Ada Lovelace", "age": 36, "tags": ["math", "engine"], "ok": true, "next": null}',
    '{"id":12,"price":3.50,"date":"2024-02-29T10:00:00Z","text":"a line\\nand \\"quotes\\""},[],{}',
    "The quick brown fox jumps over the lazy dog, twice.",
)


def write_family(folder: Path) -> dict[str, str]:
    """The folders of a target and of its speculators, as options of an EngineConfig."""
    folders = {name: folder / name for name in ("model", "draft", "eagle", "medusa")}
    torch.manual_seed(0)
    target = LlamaForCausalLM(
        LlamaConfig(
            **SHAPE,
            vocab_size=VOCAB_SIZE,
            num_hidden_layers=4,
            max_position_embeddings=256,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=EOS,
            initializer_range=0.08,
        )
    )
    with torch.no_grad():  # what follows a token depends on it more than on all before it, so that it can be learned
        target.model.embed_tokens.weight.normal_()
        target.lm_head.weight.normal_(std=0.5)
    target.save_pretrained(folders["model"])
    _save_tokenizer(folders["model"])
    texts = _texts(str(folders["model"]))
    with torch.no_grad():
        found = target.model(texts, output_hidden_states=True)
    taps = torch.cat([found.hidden_states[layer] for layer in TAPS], dim=-1)
    _save_medusa(folders["medusa"], texts, found.last_hidden_state)
    save_eagle3(_eagle(target, texts, taps), folders["eagle"], "A test's.")
    with torch.no_grad():
        for weight in target.parameters():
            weight.add_(0.05 * weight.std() * torch.randn_like(weight))
    target.save_pretrained(folders["draft"])
    _save_tokenizer(folders["draft"])
    return {name: str(path) for name, path in folders.items()}


def _save_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<pad>", "<begin>", "<end>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)


def _texts(model: str) -> torch.Tensor:
    """What the target says behind a word or two, (num_texts, TEXT_LENGTH)."""
    core = EngineCore(EngineConfig(model=model, num_threads=1, dtype="float32", speculation_allowed=False))
    generator = torch.Generator().manual_seed(3)
    prompts = torch.randint(3, VOCAB_SIZE, (NUM_TEXTS, 2), generator=generator).tolist()
    options = {"max_tokens": TEXT_LENGTH - 2, "ignore_eos": True}
    items = [
        submit(str(index), prompt, seed=index, temperature=0.7 * (index % 2), **options)
        for index, prompt in enumerate(prompts)
    ]
    answers = run(core, items)
    return torch.tensor([item.prompt_ids + answers[item.request_id] for item in items])


def _save_medusa(folder: Path, texts: torch.Tensor, hidden: torch.Tensor) -> None:
    """Heads that know behind which hidden states each token came: blocks that change nothing, and an output layer."""
    tensors = {}
    for head in range(NUM_HEADS):
        states, following = hidden[:, : -2 - head].flatten(0, 1), texts[:, 2 + head :].flatten()
        sums = torch.zeros(VOCAB_SIZE, hidden.shape[-1]).index_add_(0, following, states)
        counts = torch.bincount(following, minlength=VOCAB_SIZE).clamp(min=1)
        tensors[f"{head}.0.linear.weight"] = torch.zeros(hidden.shape[-1], hidden.shape[-1])
        tensors[f"{head}.0.linear.bias"] = torch.zeros(hidden.shape[-1])
        tensors[f"{head}.1.weight"] = 0.25 * sums / counts[:, None]
    write_checkpoint(folder, {"medusa_num_heads": NUM_HEADS, "medusa_num_layers": 1}, tensors, "A test's.", WEIGHTS)


def _eagle(target: LlamaForCausalLM, texts: torch.Tensor, taps: torch.Tensor) -> Eagle3Head:
    head = Eagle3Head(
        Eagle3Config(
            **SHAPE,
            target_hidden_size=SHAPE["hidden_size"],
            vocab_size=VOCAB_SIZE,
            draft_vocab_size=DRAFT_VOCAB_SIZE,
            tap_layers=TAPS,
        )
    )
    head.use_vocabulary(torch.bincount(texts.flatten(), minlength=VOCAB_SIZE).topk(DRAFT_VOCAB_SIZE).indices.sort()[0])
    places = torch.full((VOCAB_SIZE,), -100)  # what a loss leaves out
    places[head.target_ids] = torch.arange(DRAFT_VOCAB_SIZE)
    embeds = target.model.embed_tokens(texts[:, 1:]).detach()
    positions = torch.arange(TEXT_LENGTH - 1)

    def loss() -> torch.Tensor:
        output = head(embeds, head.fuse(taps[:, :-1]), positions, _causal)
        return cross_entropy(head.logits(output)[:, :-1].flatten(0, 1), places[texts[:, 2:]].flatten())

    _descend(head, loss)
    return head


def _causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    q, k, v = (x.transpose(-2, -3) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(-2, -3)


def _descend(module: torch.nn.Module, loss) -> None:
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
