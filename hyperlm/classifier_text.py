"""A decoder that answers in words, used like every other classifier.

The probability of a path is the product of the probabilities of its levels, that of an inner node
the product as far as the node; both come from the search, so nothing is summed over the leaves.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from hyperlm.classifier import Alternative, Classifier, Prediction, _Answers
from hyperlm.errors import ModelError, OptionError
from hyperlm.lm.decoder import Answer, HierarchicalDecoder

__all__ = ["TextClassifier"]

_WIDTH = 4  # hypotheses side by side, where fewer paths are asked for


class TextClassifier(Classifier):
    """A :class:`HierarchicalDecoder` with its tokenizer, ready to answer.

    Args:
        model: trained, with a taxonomy.
        batch_size: texts and hypotheses a forward pass.
        width: hypotheses kept for each text; more never make an answer worse, and cost time.
    """

    def __init__(
        self, model: HierarchicalDecoder, *, batch_size: int = 64, width: int = _WIDTH
    ) -> None:
        if model.taxonomy is None:
            raise ModelError(
                "This decoder knows no labels, only free text. Use 'hyperlm generate', or answer()."
            )
        super().__init__(model, batch_size=batch_size)  # type: ignore[arg-type]
        self.decoder, self.width = model, width

    def logits(self, texts: Sequence[str]) -> Tensor:
        raise _speaks()

    def points(self, texts: Sequence[str]) -> Tensor:
        raise _speaks()

    def _answer(
        self, texts: Sequence[str], width: int, **options: Any
    ) -> Iterator[tuple[int, list[Answer]]]:
        """Answers with the number of their text, shortest texts first."""
        size = max(1, self.batch_size // width)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            found = self.decoder.answer([texts[row] for row in rows], width=width, **options)
            yield from zip(rows, found.best, strict=True)

    def _predict_window(
        self, texts: list[str], top_k: int, threshold: float | None
    ) -> Iterator[Prediction]:
        answers = dict(self._answer(texts, max(top_k, self.width)))
        for row, text in enumerate(texts):
            best = answers[row][0]
            path, sure = self.taxonomy.path(best.nodes[-1]), _along(best)
            if threshold is not None:
                kept = sum(probability >= threshold for probability in sure)
                path, sure = path[:kept], sure[:kept]
            yield Prediction(
                path=path,
                probabilities=tuple(sure),
                top=tuple(
                    Alternative(self.taxonomy.path(a.nodes[-1]), a.probability)
                    for a in answers[row][:top_k]
                ),
                empty=not text.strip(),
            )

    def _answers(self, texts: Sequence[str]) -> _Answers:
        n, levels = len(texts), self.taxonomy.num_levels
        nodes = torch.empty(n, dtype=torch.long)
        paths = torch.full((n, levels), -1)
        confidence, consistent = torch.empty(n), torch.zeros(n, dtype=torch.bool)
        for row, answers in self._answer(texts, self.width):
            best = answers[0]
            nodes[row], confidence[row] = best.nodes[-1], best.probability
            paths[row, : len(best.nodes)] = torch.tensor(best.nodes)
        # What the model says with nothing to hold it to the taxonomy.
        ends = set(self.taxonomy.terminals.tolist())
        for row, answers in self._answer(texts, 1, constrained=False):
            said = answers[0].nodes
            consistent[row] = bool(said) and said[-1] in ends
        return _Answers(nodes, paths, confidence, consistent)


def _along(answer: Answer) -> list[float]:
    """Probability at or below each node of the path."""
    return [math.prod(answer.probabilities[: at + 1]) for at in range(len(answer.nodes))]


def _speaks() -> OptionError:
    return OptionError(
        "This model answers in words: it has neither scores of all labels nor points. Train with "
        "--answer points for those."
    )
