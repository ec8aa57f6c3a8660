"""How near generated texts come to those that were wanted: BLEU, ROUGE-L, distinct-n, perplexity.

In: texts, or the log-probabilities of tokens. Out: plain floats, shares between 0 and 1 except for
perplexity. No torch.

All but perplexity count the same words: the text in lower case, cut into runs of letters, digits
and underscores (an apostrophe inside a run belongs to it: "don't" is one word) and single other
signs; white space only separates. Figures of other tokenisations cannot be compared with these.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from hyperlm.errors import OptionError

__all__ = ["corpus_bleu", "distinct", "perplexity", "rouge_l", "words_of"]

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def words_of(text: str) -> list[str]:
    """The words that the metrics of this module count, in order."""
    return _WORD.findall(text.lower())


def corpus_bleu(said: Sequence[str], wanted: Sequence[str], *, order: int = 2) -> float:
    """BLEU of a corpus with one reference per text; ``order=2`` is BLEU-2.

    The geometric mean, with equal weights, of the clipped precisions of 1- to ``order``-grams, each
    counted over the whole corpus, times the brevity penalty ``exp(1 - r / c)`` where the c words
    said are fewer than the r wanted. Nothing is smoothed: 0 where an order has no match, also
    where no text has so many words. Source: Papineni et al. 2002.

    Raises:
        OptionError: not one text wanted for each one said; no text at all; an order below 1.
    """
    _check_pairs(said, wanted)
    if order < 1:
        raise OptionError(f"BLEU of order {order}: at least 1.")
    pairs = [(words_of(a), words_of(b)) for a, b in zip(said, wanted, strict=True)]
    logarithms = []
    for n in range(1, order + 1):
        counts = [(_grams(a, n), _grams(b, n)) for a, b in pairs]
        matches = sum((mine & theirs).total() for mine, theirs in counts)
        if not matches:
            return 0.0
        logarithms.append(math.log(matches / sum(mine.total() for mine, _ in counts)))
    long, longer = sum(len(a) for a, _ in pairs), sum(len(b) for _, b in pairs)
    brevity = min(0.0, 1 - longer / long)
    return math.exp(sum(logarithms) / order + brevity)


def rouge_l(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Mean over the texts of the F1 of their longest common subsequences of words.

    ``2 P R / (P + R)`` with P = LCS / words said and R = LCS / words wanted; a text is one
    sequence, whatever sentences it has. 0 for an empty text. Source: Lin 2004, with beta = 1.

    Raises:
        OptionError: not one text wanted for each one said; no text at all.
    """
    _check_pairs(said, wanted)
    return sum(_rouge_l(*map(words_of, pair)) for pair in zip(said, wanted, strict=True)) / len(
        said
    )


def distinct(texts: Sequence[str], n: int = 2) -> float | None:
    """Different n-grams over all n-grams of all texts together; None where there are none.

    Falls with the number of texts: compare only sets of equal size. Source: Li et al. 2016.
    """
    if n < 1:
        raise OptionError(f"distinct-{n}: n-grams have at least 1 word.")
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts.update(_grams(words_of(text), n))
    return len(counts) / counts.total() if counts else None


def perplexity(log_probs: Iterable[float]) -> float | None:
    """``exp`` of minus the mean of the tokens' natural log-probabilities; None without a token.

    The tokens are the model's own: models with other tokenizers have other tokens.
    """
    values = list(log_probs)
    return _exp(-math.fsum(values) / len(values)) if values else None


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))


def _rouge_l(said: Sequence[str], wanted: Sequence[str]) -> float:
    common = _common(said, wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0  # P and R put in


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, by the usual table, one row at a time."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = row
        row = [0]
        for at, against in enumerate(other):
            row.append(before[at] + 1 if word == against else max(before[at + 1], row[at]))
    return row[-1]


def _check_pairs(said: Sequence[str], wanted: Sequence[str]) -> None:
    if isinstance(said, str) or isinstance(wanted, str) or len(said) != len(wanted) or not said:
        raise OptionError(
            f"{len(said)} texts said and {len(wanted)} wanted: give two lists of equal length, "
            "with at least one text."
        )
