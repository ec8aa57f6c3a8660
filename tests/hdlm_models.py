"""Random causal language models of every architecture tried, and a byte-pair tokenizer for them."""

from pathlib import Path
from typing import Any

import torch
import transformers

from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.taxonomy import Taxonomy

ARCHITECTURES = (
    "gpt2",
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gpt-neox",
    "gpt-neo",
    "mpt",
    "mamba",
)
LAYERS = 4

# Names that begin with one another, a path that may end at an inner node, branches of two depths.
PATHS = [
    ("art", "art history", "modern"),
    ("art", "art history", "modern times"),
    ("art", "art", "oil"),
    ("art history", "modern"),
    ("art history", "modern", "late"),
    ("sport",),
    ("science", "physics", "optics"),
    ("science", "physical chemistry", "kinetics"),
]
TEXTS = ["a b c d e f g", "oil", "the physics of late modern times seen by art", "x y"]
CONTEXT = 96


def tree() -> Taxonomy:
    return Taxonomy.from_paths(PATHS)


def tokenizer() -> Any:
    """Byte-pair tokens trained on the label names, with line breaks as tokens of their own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([" " + name for path in PATHS for name in path], trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|end|>", bos_token="<|end|>", pad_token="<|end|>"
    )


def _config(architecture: str, vocabulary: int) -> Any:
    ids = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    # Wide enough that layers and tokens differ visibly.
    common = {"vocab_size": vocabulary, "initializer_range": 0.25, **ids}
    block = {
        **common, "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
        "intermediate_size": 48, "max_position_embeddings": CONTEXT,
    }  # fmt: skip
    grouped = {**block, "num_key_value_heads": 1}
    # Every second one ties its output matrix to the embedding.
    if architecture == "gpt2":
        return transformers.GPT2Config(
            **common, n_embd=32, n_layer=LAYERS, n_head=2, n_positions=CONTEXT,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip
    if architecture == "llama":
        return transformers.LlamaConfig(**grouped, tie_word_embeddings=True)
    if architecture == "qwen2":
        return transformers.Qwen2Config(**grouped, tie_word_embeddings=False)
    if architecture == "qwen3":
        return transformers.Qwen3Config(**grouped, head_dim=16, tie_word_embeddings=True)
    if architecture == "mistral":
        return transformers.MistralConfig(**grouped, sliding_window=5, tie_word_embeddings=False)
    if architecture == "gpt-neox":
        return transformers.GPTNeoXConfig(**block, tie_word_embeddings=False)
    if architecture == "gpt-neo":  # a window that is in no cache
        return transformers.GPTNeoConfig(
            **common, hidden_size=32, num_layers=LAYERS, num_heads=2, intermediate_size=48,
            max_position_embeddings=CONTEXT, window_size=5, tie_word_embeddings=True,
            attention_types=[[["global", "local"], LAYERS // 2]],
            resid_dropout=0.0, embed_dropout=0.0, attention_dropout=0.0,
        )  # fmt: skip
    if architecture == "mpt":  # counts places between tokens, holes too
        return transformers.MptConfig(
            **common, d_model=32, n_layers=LAYERS, n_heads=2, expansion_ratio=2,
            max_seq_len=CONTEXT, tie_word_embeddings=True,
        )  # fmt: skip
    assert architecture == "mamba"
    return transformers.MambaConfig(
        **common, hidden_size=32, num_hidden_layers=LAYERS, state_size=4, time_step_rank=2,
    )  # fmt: skip


def save_causal(architecture: str, folder: Path) -> Path:
    """Write a random causal language model and its tokenizer into ``folder``."""
    words = tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(_config(architecture, len(words)))
        # Norms of one and biases of zero would hide a norm that is not copied.
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "A_log" not in name and "dt_proj" not in name:
                torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.2)
        model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def made(folder: Path, **options: Any) -> HierarchicalDecoder:
    options = {"layers": "2,3,4", "cue": " :", "max_length": 40, **options}
    taxonomy = options.pop("taxonomy", tree())
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return HierarchicalDecoder.from_backbone(str(folder), taxonomy, **options).eval()
