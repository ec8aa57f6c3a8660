"""What several test files share: no network, an own cache, a tiny backbone, a small data set.

The data set is synthetic on purpose: every label has words of its own, so that a random two-layer
BERT learns it in some 40 steps of 16 texts at learning rate 1e-2; a test can ask for accuracy.
"""

import csv
import os
from pathlib import Path

# Read by huggingface_hub when it is imported, so before anything of this package is.
os.environ["HF_HUB_OFFLINE"] = "1"
# Workers side by side have one core each; read by torch when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
# A test that asks for progress bars or warnings of its own sets these itself.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest

# Top class -> middle class -> leaves; of one depth, tests of ragged trees bring their own.
TREE = {
    "animal": {"bird": ("owl", "wren"), "fish": ("carp", "pike")},
    "plant": {"tree": ("oak", "pine"), "herb": ("mint", "sage")},
}
FILLER = tuple(f"word{number}" for number in range(24))


def tree_paths() -> list[tuple[str, ...]]:
    """The eight label paths of the data set."""
    return [(a, b, c) for a, middle in TREE.items() for b, leaves in middle.items() for c in leaves]


def cues(name: str) -> tuple[str, ...]:
    """Words that betray a label without being its name."""
    return tuple(f"{name}{number}" for number in range(3))


def vocabulary() -> list[str]:
    """Every word a text can hold."""
    names = {name for path in tree_paths() for name in path}
    return [*FILLER, *(cue for name in sorted(names) for cue in cues(name)), *sorted(names)]


def synthetic_text(path: tuple[str, ...], random: np.random.Generator) -> str:
    """One to five filler words with two cues of each level of ``path`` between them."""
    words = [str(word) for word in random.choice(FILLER, random.integers(1, 6))]
    words += [str(random.choice(cues(name))) for name in path for _ in range(2)]
    random.shuffle(words)
    return " ".join(words)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Token ids and features of test runs stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def save_tokenizer(folder: Path, words: list[str] | None = None) -> None:
    """A WordPiece tokenizer over ``words`` (by default those of ``demo_like``), BERT's way."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *(words or vocabulary())]
    tokenizer = Tokenizer(
        models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random BERT (width 32, 2 layers) and a tokenizer that knows ``demo_like``."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny_backbone")
    save_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=5 + len(vocabulary()),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=128,
            # Wider than the usual 0.02, which makes a net this small nearly constant.
            initializer_range=0.05,
        )
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def demo_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of train, val, test.csv (text, l1, l2, l3): 16 + 4 + 4 texts a leaf."""
    folder = tmp_path_factory.mktemp("demo_like")
    random = np.random.default_rng(0)
    for split, each in (("train", 16), ("val", 4), ("test", 4)):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "l1", "l2", "l3"])
            for _ in range(each):
                for path in tree_paths():
                    writer.writerow([synthetic_text(path, random), *path])
    return folder
