"""How sure to be: one temperature for the probabilities of all paths, fitted to labelled texts.

Heads that have learned their training texts by heart are surer than they are right. Dividing the
scores of all paths by one number T, chosen so that texts with known labels are most likely, mends
most of that and changes no answer (Guo et al. 2017, there for the logits of a flat classifier).
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from hyperlm import decoding
from hyperlm.cuts import Cuts, Loss, cuts_of
from hyperlm.errors import OptionError
from hyperlm.taxonomy import Taxonomy

__all__ = ["enough_rows", "fit_temperature", "path_nll"]

# log T is sought here: probabilities that are 50 times flatter, or steeper, say nothing.
_RANGE = (-4.0, 4.0)
# Scores worked on at once: with 100,000 paths, 335 texts fix one number well enough.
_MOST = 1 << 25


def fit_temperature(
    logits: Tensor,
    gold: Sequence[np.ndarray],
    taxonomy: Taxonomy | Cuts,
    *,
    loss: Loss = "level",
) -> float:
    """The temperature that makes the gold paths most likely.

    A standard normal prior on log T keeps the answer near 1 where there are too few texts to tell,
    or where a handful of them are all right.

    Args:
        logits: ``(n, N)`` of texts the model was not trained on.
        gold: end nodes of each text's gold paths; several count in equal parts. Texts whose label
            ends no path of the taxonomy say nothing here.
        loss: the loss the logits were trained with.
    Returns:
        T > 0; more than 1 where the model was too sure.
    Raises:
        OptionError: no text has a label that ends a path. ModelError: see :mod:`hyperlm.decoding`.
    """
    cuts = cuts_of(taxonomy)
    ends = _path_ends(gold, cuts)
    known = [row for row, at in enumerate(ends) if at]
    if not known:
        raise OptionError(
            "fit_temperature: no text has a label at which a path of the taxonomy ends. Give texts "
            "with labels of the deepest level."
        )
    known = [known[at] for at in enough_rows(len(known), cuts)]
    scores, right = _scores(logits, known, ends, cuts, loss)

    def cost(log_t: float) -> float:
        return len(known) * _nll(scores, right, float(np.exp(log_t))) + 0.5 * log_t**2

    # Along log T the cost falls to one valley; the search is told to 1e-3 of T.
    found = minimize_scalar(cost, bounds=_RANGE, method="bounded", options={"xatol": 1e-3})
    return round(float(np.exp(found.x)), 3)


def enough_rows(count: int, taxonomy: Taxonomy | Cuts) -> list[int]:
    """Rows out of ``count`` that :func:`fit_temperature` makes do with; nothing is drawn.

    All of them, unless there are so many paths that their scores would fill the memory; then some
    hundred, evenly spaced. Whoever has to compute the logits first can leave out the others.
    """
    most = max(1, _MOST // len(cuts_of(taxonomy).terminals))
    if count <= most:
        return list(range(count))
    return [at * count // most for at in range(most)]


def path_nll(
    logits: Tensor,
    gold: Sequence[np.ndarray],
    taxonomy: Taxonomy | Cuts,
    *,
    loss: Loss = "level",
    temperature: float = 1.0,
) -> float | None:
    """Mean negative log-likelihood of the gold paths, in nats; None where no text has one.

    Args:
        logits, gold, loss: As for :func:`fit_temperature`.
        temperature: Of the path posterior.
    """
    cuts = cuts_of(taxonomy)
    ends = _path_ends(gold, cuts)
    known = [row for row, at in enumerate(ends) if at]
    return _nll(*_scores(logits, known, ends, cuts, loss), temperature) if known else None


def _path_ends(gold: Sequence[np.ndarray], cuts: Cuts) -> list[list[int]]:
    """Columns of each text's gold paths among the terminals; none for labels that end no path."""
    place = {node: at for at, node in enumerate(cuts.terminals.tolist())}
    return [sorted({place[int(end)] for end in ends if int(end) in place}) for ends in gold]


def _scores(
    logits: Tensor, rows: Sequence[int], ends: Sequence[Sequence[int]], cuts: Cuts, loss: Loss
) -> tuple[Tensor, Tensor]:
    """Log-scores of all paths, ``(n, T)``, and of the gold ones, ``(n,)``; float64 on the CPU."""
    x = logits.detach()[list(rows)].cpu()
    scores = decoding.path_scores(x, cuts, loss=loss)[:, cuts.terminals].double()
    right = [scores[at, list(ends[row])].mean() for at, row in enumerate(rows)]
    return scores, torch.stack(right)


def _nll(scores: Tensor, right: Tensor, temperature: float) -> float:
    return float(((scores / temperature).logsumexp(1) - right / temperature).mean())
