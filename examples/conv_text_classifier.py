"""HyperbolicHead on a model that has nothing to do with transformers.

Hashed word stems, one convolution, a mean over the text: some forty lines of plain torch, and the
four that make its answers paths of a label tree. Runs in some ten seconds on one core::

    python examples/conv_text_classifier.py

The demo set has eight texts a class, few to learn words from nothing: about 0.4 of the top classes
and 0.1 of the whole paths come out right (always the largest class: 0.26 and 0.01). What a
pretrained backbone adds, ``hyperlm train --data demo`` shows. The points of the head are the same.
"""

import argparse
import re
import zlib

import torch
from torch import Tensor, nn

from hyperlm import HyperbolicHead, Taxonomy, build_optimizer, load_data
from hyperlm.heads import HeadOutput

WORDS = 4096  # buckets that stems are hashed into; bucket 0 is padding
LENGTH = 64  # stems of a text that are read


class ConvTextClassifier(nn.Module):
    """Embeddings, a convolution over three neighbours, the mean, and a hyperbolic head."""

    def __init__(self, taxonomy: Taxonomy, width: int = 256) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, width, padding_idx=0)
        # Near zero, so that words never seen in training say little.
        nn.init.normal_(self.embed.weight, std=0.01)
        self.conv = nn.Conv1d(width, width, kernel_size=3, padding=1)
        # The head: one point per class of the tree, in the Poincare ball.
        self.head = HyperbolicHead(hidden_size=width, taxonomy=taxonomy, dim=32)

    def forward(self, words: Tensor, targets: Tensor | None = None) -> HeadOutput:
        """``words`` (B, T) bucket numbers; ``targets`` (B,) node numbers, or None."""
        real = words.ne(0).unsqueeze(1)  # (B, 1, T)
        embedded = self.embed(words).transpose(1, 2)  # (B, D, T)
        states = embedded + torch.relu(self.conv(embedded))
        hidden = (states * real).sum(2) / real.sum(2).clamp(min=1)  # (B, D)
        return self.head(hidden, targets)  # .logits (B, N), .points (B, 32), .loss


def encode(texts: tuple[str, ...]) -> Tensor:
    """Texts as bucket numbers, (B, LENGTH). crc32 gives the same numbers in every run."""
    rows = torch.zeros(len(texts), LENGTH, dtype=torch.long)
    for row, text in enumerate(texts):
        stems = [word[:5] for word in re.findall(r"\w{4,}", text.lower())][:LENGTH]
        numbers = [1 + zlib.crc32(stem.encode()) % (WORDS - 1) for stem in stems]
        rows[row, : len(numbers)] = torch.tensor(numbers, dtype=torch.long)
    return rows


def main(steps: int = 150, batch_size: int = 64, seed: int = 0) -> float:
    """Train, print a few answers, and give back the accuracy at the top level on the test texts."""
    torch.manual_seed(seed)
    data = load_data("demo")
    taxonomy = data.taxonomy
    words = {split: encode(data.split(split).texts) for split in ("train", "test")}
    # Every text of this data set has one gold path: the number of the node where it ends.
    ends = {split: torch.tensor([g[0] for g in data.gold(split)]) for split in ("train", "test")}

    model = ConvTextClassifier(taxonomy)
    # Riemannian Adam moves the head's points, AdamW everything else.
    optimizer = build_optimizer(model, learning_rate=3e-3, point_learning_rate=1e-2)
    for step in range(1, steps + 1):
        rows = torch.randint(len(words["train"]), (batch_size,))
        loss = model(words["train"][rows], ends["train"][rows]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step == steps:
            print(f"step {step:4d}  loss {loss.item():.3f}")

    model.eval()
    with torch.no_grad():
        answers = model.head.decode(model(words["test"]).logits)
    gold = [taxonomy.path(int(end)) for end in ends["test"]]
    for text, answer, truth in list(zip(data.split("test").texts, answers, gold, strict=True))[:3]:
        print(f"\n{text}\n  answer {' > '.join(answer)}\n  gold   {' > '.join(truth)}")
    print()
    for level in range(taxonomy.num_levels):
        right = [a[: level + 1] == g[: level + 1] for a, g in zip(answers, gold, strict=True)]
        print(f"accuracy down to level {level + 1}: {sum(right) / len(right):.3f}")
    return sum(a[0] == g[0] for a, g in zip(answers, gold, strict=True)) / len(gold)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(options.steps, seed=options.seed)
