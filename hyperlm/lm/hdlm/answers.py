"""From what the search found to answers: words, nodes and probabilities of every level."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hyperlm.lm.hdlm.format import SequenceFormat
from hyperlm.lm.hdlm.search import Cost, Hypothesis

__all__ = ["Answer", "Answers", "read_answer"]


@dataclass(frozen=True)
class Answer:
    """One answer to one text.

    Attributes:
        words: what each level says; "" for a level with nothing to say.
        nodes: label nodes from the top down.
        probabilities: of each level, given those above it.
        tokens: token ids of each level.
    """

    words: tuple[str, ...]
    nodes: tuple[int, ...]
    probabilities: tuple[float, ...]
    tokens: tuple[tuple[int, ...], ...]

    @property
    def probability(self) -> float:
        """Of the whole answer."""
        return math.prod(self.probabilities)


@dataclass(frozen=True)
class Answers:
    """Answers to a batch.

    Attributes:
        best: answers of each text, best first.
        certain: for each text how many of its answers, from the best on, are surely the best there
            are: nothing the search left out can be more probable.
        cost: blocks and seconds that it took.
    """

    best: list[list[Answer]]
    certain: list[int]
    cost: Cost

    @classmethod
    def read(
        cls,
        found: Sequence[Sequence[Hypothesis]],
        left_out: Sequence[float],
        cost: Cost,
        form: SequenceFormat,
        *,
        drawn: bool,
    ) -> "Answers":
        """Put what :func:`~hyperlm.lm.hdlm.search.search` returns into words.

        Args:
            left_out: ``(B,)``, log-probability of the most probable thing that was not followed.
            drawn: whether the answers were sampled; they are then the best of nothing.
        """
        certain = [
            0 if drawn else sum(h.log_prob >= bound for h in of_text)
            for of_text, bound in zip(found, left_out, strict=True)
        ]
        return cls([[read_answer(h, form) for h in each] for each in found], certain, cost)


def read_answer(hypothesis: Hypothesis, form: SequenceFormat) -> Answer:
    """One finished hypothesis in words."""
    return Answer(
        words=tuple(form.words(tokens) for tokens in hypothesis.tokens),
        nodes=tuple(hypothesis.nodes),
        probabilities=tuple(math.exp(p) for p in hypothesis.log_probs),
        tokens=hypothesis.tokens,
    )
