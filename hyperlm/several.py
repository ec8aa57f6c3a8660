"""Answers of several paths: every path with enough of a share, for texts with several labels.

The paths of a text share a probability of 1, and training gives each of several gold paths its part
of it. So one number, a *cut*, decides how many paths a text is given: the best one, and every other
whose share reaches the cut. The cut is chosen where it makes the F1 of labels with their ancestors
highest on texts with known labels; at 1 every text has one answer.

Shares are those that training leaves, at temperature 1. The fitted temperature makes the first path
as probable as it is right, and where it nearly always is, little is left for a second one.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hyperlm.cuts import Cuts, Loss, cuts_of
from hyperlm.decoding import Decoded, decode_threshold, top_k
from hyperlm.errors import OptionError
from hyperlm.label_sets import (
    Labels,
    LabelSets,
    mean,
    node_f1s,
    overlap,
    ratio,
    same_length,
)
from hyperlm.taxonomy import Taxonomy

__all__ = ["decode_several", "fit_cut", "several_scores", "stopped", "whole_paths"]

_LOWEST, _STEPS = 0.02, 99  # cuts that are tried: 50 paths of a text are the most


def decode_several(
    logits: Tensor,
    taxonomy: Taxonomy | Cuts,
    cut: float,
    *,
    loss: Loss = "level",
) -> Decoded:
    """The best path of each text and every further one whose share is at least ``cut``.

    Of two paths of which one ends above the other the more probable is answered.

    Args:
        logits: ``(B, N)``; -inf masks a node.
        cut: In (0, 1]. At most 1 / cut paths can reach it.
        loss: The loss the logits were trained with.
    Returns:
        ``Decoded`` of shapes ``(B, k)`` and ``(B, k, L)``, best first; what is not answered has
        -1 in ``nodes`` and ``path_nodes`` and -inf in ``log_prob``. k depends on the cut and the
        taxonomy alone.
    Raises:
        OptionError: A cut outside (0, 1]. ModelError, OptionError: As ``decode``.
    """
    if not 0 < cut <= 1:
        raise OptionError(f"decode_several: the cut is {cut:g}; give a share above 0, up to 1.")
    cuts = cuts_of(taxonomy)
    # So many can reach the cut, and one more by a rounding.
    k = min(len(cuts.terminals), int(1 / cut) + 1)
    best = top_k(logits, cuts, k, loss=loss)
    out = (best.prob < cut) | _said_by_others(best, cuts)
    out[:, :1] = False
    return replace(
        best,
        nodes=best.nodes.masked_fill(out, -1),
        path_nodes=best.path_nodes.masked_fill(out.unsqueeze(2), -1),
        log_prob=best.log_prob.masked_fill(out, -torch.inf),
    )


def _said_by_others(best: Decoded, cuts: Cuts) -> Tensor:
    """Which paths ``(B, k)`` end above or below a more probable one that is answered."""
    out = torch.zeros_like(best.nodes, dtype=torch.bool)
    if len(cuts.terminals) == len(cuts.taxonomy.leaves):
        return out  # no path ends above another
    cuts = cuts.to(best.nodes.device)
    for at in range(1, best.nodes.shape[1]):
        node, others = best.nodes[:, at, None], best.nodes[:, :at]
        if cuts.taxonomy.is_tree:
            above = (best.path_nodes[:, :at] == node.unsqueeze(2)).any(2)
            below = (best.path_nodes[:, at, None] == others.unsqueeze(2)).any(2)
        else:  # a label stands below all its parents, whichever its path passes
            above, below = cuts.above(node, others), cuts.above(others, node)
        out[:, at] = ((above | below) & ~out[:, :at]).any(1)
    return out


def stopped(several: Decoded, marginals: Tensor, threshold: float) -> Decoded:
    """Each path of several ended at its deepest node that is sure enough.

    Args:
        several: from :func:`decode_several`.
        marginals, threshold: as for :func:`~hyperlm.decoding.decode_threshold`.
    Returns:
        The same shapes.
    """
    columns = zip(*(part.unbind(1) for part in _fields(several)), strict=True)
    short = [decode_threshold(marginals, Decoded(*column), threshold) for column in columns]
    return Decoded(*(torch.stack(parts, 1) for parts in zip(*map(_fields, short), strict=True)))


def whole_paths(
    first: tuple[str, ...], others: Sequence[tuple[str, ...]]
) -> tuple[tuple[str, ...], ...]:
    """The first path and those of the others that are no part of another one, none empty."""
    longest = list(dict.fromkeys((first, *others)))
    return tuple(
        path
        for path in longest
        if path
        and (
            path == first
            or not any(other[: len(path)] == path for other in longest if other != path)
        )
    )


def fit_cut(
    logits: Tensor,
    gold: Labels,
    taxonomy: Taxonomy | Cuts,
    *,
    loss: Loss = "level",
) -> float:
    """The cut at which :func:`decode_several` has the highest F1 of labels with their ancestors.

    Args:
        logits: ``(n, N)`` of texts the model was not trained on.
        gold: for each text the end nodes of its gold paths, in any form that
            :mod:`hyperlm.metrics` takes; texts without any say nothing.
        loss: the loss the logits were trained with.
    Returns:
        In [0.02, 1]; of equally good cuts the highest, which answers least.
    Raises:
        OptionError: no text has a label, or not one entry for each row. ModelError: see
            :mod:`hyperlm.decoding`.
    """
    cuts = cuts_of(taxonomy)
    tree = cuts.taxonomy
    ends = LabelSets.of(tree, gold, "gold")
    if ends.texts != len(logits):
        raise OptionError(
            f"fit_cut: {ends.texts} entries of gold for {len(logits)} rows of logits."
        )
    known = np.unique(ends.rows).tolist()
    if not known:
        raise OptionError("fit_cut: no text has a label. Give texts that are labelled.")
    most = decode_several(logits[known], cuts, _LOWEST, loss=loss)
    nodes, prob = most.nodes.cpu().numpy(), most.prob.cpu().numpy()
    of_row = np.split(ends.nodes, np.searchsorted(ends.rows, np.arange(1, ends.texts)))
    golds = LabelSets.of(tree, [of_row[row] for row in known], "gold").augmented()
    best, found = -1.0, 1.0
    for cut in np.linspace(1.0, _LOWEST, _STEPS).round(2).tolist():
        said = np.where(prob >= cut, nodes, -1)
        said[:, 0] = nodes[:, 0]
        f1 = overlap(golds, LabelSets.of(tree, said, "answers").augmented())["f1"] or 0.0
        if f1 > best:
            best, found = f1, cut
    return found


def several_scores(taxonomy: Taxonomy, gold: Labels, answers: Labels) -> dict[str, float | None]:
    """What sets of paths are worth, as one JSON-ready document.

    Args:
        gold: Gold labels, at least one node per text; see :mod:`hyperlm.metrics`.
        answers: End nodes of the paths answered, ``(n, k)`` padded with -1 or a list per text.
    Returns:
        ``micro_f1`` and ``macro_f1`` of labels with their ancestors (macro over the labels that
        occur in the gold ones), ``p_f1`` of whole paths, ``exact`` (share of texts whose paths are
        the gold paths), ``paths_per_text`` and ``gold_paths_per_text``.
    Raises:
        DataError: Lengths that differ, numbers that are no nodes, a text without a gold node.
    """
    golds = LabelSets.of(taxonomy, gold, "gold", needed=True)
    said = LabelSets.of(taxonomy, answers, "answers")
    same_length(said.texts, golds.texts)
    nodes = node_f1s(golds.augmented(), said.augmented())
    n = golds.texts
    counts = [np.bincount(sets.rows, minlength=n) for sets in (golds, said, golds.common(said))]
    exact = (counts[0] == counts[2]) & (counts[1] == counts[2])
    return {
        "micro_f1": nodes["micro"],
        "macro_f1": nodes["macro"],
        "p_f1": overlap(golds, said)["f1"],
        "exact": mean(exact),
        "paths_per_text": ratio(len(said.keys), n),
        "gold_paths_per_text": ratio(len(golds.keys), n),
    }


def _fields(decoded: Decoded) -> tuple[Tensor, Tensor, Tensor]:
    return decoded.nodes, decoded.path_nodes, decoded.log_prob
