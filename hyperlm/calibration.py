"""How sure to be: one temperature for the probabilities of all paths, fitted to labelled texts.

Heads that have learned their training texts by heart are surer than they are right. Dividing the
scores of all paths by one number T, chosen so that answers hold as often as their probability says,
mends most of that and changes no answer (after Guo et al. 2017, who fit the probability of the gold
class; asking of the answer alone is the same to the second digit where a text has one gold path,
and stays right where it has several).
"""

import math
import numbers
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from hyperlm import decoding
from hyperlm.cuts import Cuts, Loss, cuts_of
from hyperlm.errors import ModelError, OptionError
from hyperlm.heads.losses import gold_ends
from hyperlm.taxonomy import Taxonomy

__all__ = ["enough_rows", "fit_temperature", "path_nll"]

Gold = Tensor | np.ndarray | Sequence[int] | Sequence[Sequence[int]] | Sequence[np.ndarray]

# log T is sought here: probabilities that are 50 times flatter, or steeper, say nothing.
_RANGE, _STEPS = (-4.0, 4.0), 33
# Scores worked on at once: with 100,000 paths, 335 texts fix one number well enough.
_MOST = 1 << 25


def fit_temperature(
    logits: Tensor,
    gold: Gold,
    taxonomy: Taxonomy | Cuts,
    *,
    loss: Loss = "level",
) -> float:
    """The temperature at which the probabilities of answers best tell which of them hold.

    Lowest log loss of "this answer holds", by the probability of the answer. A standard normal
    prior on log T keeps it near 1 where there are too few texts to tell, or where a handful of them
    are all right.

    Args:
        logits: ``(n, N)`` of texts the model was not trained on.
        gold: targets as the heads take them, such as the node numbers at which the gold paths
            end, ``(n,)``, below 0 for none; or for each text a list of the end nodes of all its
            gold paths. An answer holds if it ends at one of them; texts whose labels end no path
            say nothing.
        loss: the loss the logits were trained with.
    Returns:
        T > 0; more than 1 where the model was too sure.
    Raises:
        OptionError: no text has a label that ends a path; gold that is no node numbers, or not one
            for each text. ModelError: see :mod:`hyperlm.decoding`.
    """
    cuts, logits = cuts_of(taxonomy), decoding.as_scores(logits)
    gold = _end_nodes(gold, len(logits), cuts)
    terminals = set(cuts.terminals.tolist())
    known = [row for row, ends in enumerate(gold) if terminals.intersection(ends)]
    if not known:
        raise OptionError(
            "fit_temperature: no text has a label that ends a path. Give texts that are labelled "
            "down to where paths end."
        )
    known = [known[at] for at in enough_rows(len(known), cuts)]
    x = logits.detach()[known].cpu()
    ends = decoding.decode(x, cuts, loss=loss).nodes.tolist()
    holds = torch.tensor([end in gold[row] for end, row in zip(ends, known, strict=True)])
    scores = _scores(x, cuts, loss)
    scores -= scores.amax(1, keepdim=True)

    def cost(log_t: float) -> float:
        # An answer is never quite certain: with one path, or far apart, 1 - p would be 0.
        sure = -(scores * np.exp(-log_t)).logsumexp(1).clamp(min=1e-12)
        told = torch.where(holds, sure, (-sure.expm1()).log())
        return float(0.5 * log_t**2 - told.sum())

    # The prior may make a second valley: a grid finds the lower one, its neighbours enclose it.
    grid = np.linspace(*_RANGE, _STEPS)
    at = int(np.argmin([cost(value) for value in grid]))
    bounds = grid[max(0, at - 1)], grid[min(_STEPS - 1, at + 1)]
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-3})
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
    gold: Gold,
    taxonomy: Taxonomy | Cuts,
    *,
    loss: Loss = "level",
    temperature: float = 1.0,
) -> float | None:
    """Mean negative log-likelihood that a gold path holds, in nats.

    Args:
        gold: As for :func:`fit_temperature`; texts whose labels end no path are left out.
        temperature: Of the path posterior.
    Returns:
        None where no text is left.
    Raises:
        OptionError: As for :func:`fit_temperature`, gold that is no node numbers; a temperature
            that is not positive. ModelError: As for :func:`hyperlm.decoding.decode`.
    """
    if not 0 < temperature < math.inf:
        raise OptionError(f"temperature {temperature:g}: it must be positive and finite.")
    cuts, logits = cuts_of(taxonomy), decoding.as_scores(logits)
    gold = _end_nodes(gold, len(logits), cuts)
    place = {node: at for at, node in enumerate(cuts.terminals.tolist())}
    columns = [[place[int(end)] for end in ends if int(end) in place] for ends in gold]
    known = [row for row, at in enumerate(columns) if at]
    if not known:
        return None
    posterior = (_scores(logits.detach()[known].cpu(), cuts, loss) / temperature).log_softmax(1)
    told = [posterior[at, columns[row]].logsumexp(0) for at, row in enumerate(known)]
    return -float(torch.stack(told).mean())


def _end_nodes(gold: Gold, texts: int, cuts: Cuts) -> list[list[int]]:
    """End nodes of each text's gold paths; what is no node number is refused."""
    if not isinstance(gold, Tensor | np.ndarray | Sequence) or isinstance(gold, str):
        raise OptionError(f"gold: {reprlib.repr(gold)} is not one entry for each text.")
    array = torch.as_tensor(gold) if isinstance(gold, Tensor | np.ndarray) else None
    count = len(gold) if array is None or array.dim() else 1
    if count != texts or (array is not None and not array.dim()):
        raise OptionError(f"gold: {count} entries for {texts} rows of logits.")
    if array is not None:
        rows, nodes, _ = gold_ends(array, cuts)
        of_row: list[list[int]] = [[] for _ in range(texts)]
        for row, node in zip(rows.tolist(), nodes.tolist(), strict=True):
            of_row[row].append(node)
        return of_row
    found = []
    for row, given in enumerate(gold):
        ends = given.tolist() if isinstance(given, Tensor | np.ndarray) else given
        if isinstance(ends, numbers.Integral) and ends < 0:
            ends = []
        listed: list[Any] = list(ends) if isinstance(ends, list | tuple | set) else [ends]
        if not all(_is_node(node, cuts.num_nodes) for node in listed):
            raise OptionError(
                f"gold[{row}] is {reprlib.repr(given)}: give the number of the node at which the "
                f"path ends, taxonomy.index(path), below {cuts.num_nodes:,}, or a list of such "
                "numbers."
            )
        found.append(listed)
    return found


def _is_node(value: object, nodes: int) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        return False
    return 0 <= int(value) < nodes


def _scores(logits: Tensor, cuts: Cuts, loss: Loss) -> Tensor:
    """Log-scores of all paths, ``(n, T)`` float64."""
    scores = decoding.path_scores(logits, cuts, loss=loss)[:, cuts.terminals].double()
    if masked := scores.amax(1).eq(-torch.inf).nonzero()[:, 0].tolist():
        raise ModelError(
            f"{len(masked)} rows of logits mask every path with -inf. Leave at least one terminal "
            "reachable."
        )
    return scores
