"""Random backbones of every architecture the README names: width 32, two to four layers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from conftest import save_tokenizer, vocabulary

ENCODERS = ("bert", "roberta", "modernbert", "deberta-v2", "t5")
DECODERS = ("gpt2", "llama", "qwen3", "mamba")
ARCHITECTURES = ENCODERS + DECODERS
LAYERS = 3

_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 130,
    # Wider than usual: states of different layers and texts then differ visibly.
    "initializer_range": 0.1,
}


def _config(architecture: str) -> Any:
    common = {"vocab_size": 5 + len(vocabulary()), **_SIZE, **_IDS}
    grouped = {**common, "num_key_value_heads": 1}
    make: dict[str, Callable[[], Any]] = {
        "bert": lambda: transformers.BertConfig(**common),
        "roberta": lambda: transformers.RobertaConfig(**common),
        "modernbert": lambda: transformers.ModernBertConfig(
            **common, cls_token_id=2, sep_token_id=3, global_attn_every_n_layers=2,
            local_attention=8,
        ),
        "deberta-v2": lambda: transformers.DebertaV2Config(
            **common, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"],
            norm_rel_ebd="layer_norm", share_att_key=True,
        ),
        # As on the hub: saved with its decoder.
        "t5": lambda: transformers.T5Config(
            vocab_size=common["vocab_size"], d_model=32, d_kv=16, d_ff=48, num_layers=LAYERS,
            num_heads=2, initializer_factor=1.0, pad_token_id=0, eos_token_id=3,
            decoder_start_token_id=0,
        ),
        "gpt2": lambda: transformers.GPT2Config(
            vocab_size=common["vocab_size"], n_embd=32, n_layer=LAYERS, n_head=2, n_inner=48,
            n_positions=130, initializer_range=0.1, **_IDS,
        ),
        "llama": lambda: transformers.LlamaConfig(**grouped),
        "qwen3": lambda: transformers.Qwen3Config(**grouped, head_dim=16),
        "mamba": lambda: transformers.MambaConfig(
            vocab_size=common["vocab_size"], hidden_size=32, num_hidden_layers=LAYERS,
            state_size=4, time_step_rank=2, initializer_range=0.1, **_IDS,
        ),
        # Encoders whose blocks hand on something else than a state for each token.
        "albert": lambda: transformers.AlbertConfig(**common, embedding_size=32),
        "longformer": lambda: transformers.LongformerConfig(**common, attention_window=8),
        "squeezebert": lambda: transformers.SqueezeBertConfig(**common, embedding_size=32),
        "xlnet": lambda: transformers.XLNetConfig(
            vocab_size=common["vocab_size"], d_model=32, n_layer=LAYERS, n_head=2, d_inner=48,
            **_IDS,
        ),
    }  # fmt: skip
    return make[architecture]()


def save_backbone(architecture: str, folder: Path) -> Path:
    """Write a random model and its tokenizer into ``folder``."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(_config(architecture)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder
