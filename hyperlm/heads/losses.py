"""The likelihood of the gold path, under the very scores that decoding maximises.

Enters: logits ``(B, N)`` and targets. Leaves: a scalar, the mean over the batch of minus the
logarithm of the gold path's score. Three kinds, which differ in what a score is:

* ``level``: cross-entropy per level, summed over the levels of the path;
* ``path``: the product of a softmax among the children of each parent;
* ``leaf``: one softmax over the places where paths may end; an inner node has what lies below it.

A text whose path ends early counts where its label is known: at a terminal the path is complete
and stays there through the deeper levels; at any other inner node the deeper levels are masked.
Several gold paths of one text count with equal weight. In a DAG the likelihood is that of the best
path to the gold node.
"""

import torch
from torch import Tensor

from hyperlm.decoding import Cuts, Loss
from hyperlm.errors import OptionError

__all__ = ["gold_ends", "path_loss"]


def gold_ends(targets: Tensor, cuts: Cuts) -> tuple[Tensor, Tensor, Tensor]:
    """Where the gold paths of a batch end.

    Args:
        targets: ``(B,)`` end nodes, ``(B, L)`` nodes per level (-100 where there is none), or a
            boolean ``(B, N)`` that marks gold nodes with their ancestors.
    Returns:
        Rows, end nodes and weights, each ``(P,)``; the weights of a row sum to 1. A row without
        any label has no entry.
    """
    if targets.is_floating_point() or targets.is_complex() or targets.dim() not in (1, 2):
        raise OptionError(
            f"targets are {targets.dtype} of shape {tuple(targets.shape)}; give integers (B,) or "
            f"(B, {cuts.num_levels}), or booleans (B, {cuts.num_nodes})."
        )
    if targets.dtype == torch.bool:
        if targets.dim() != 2 or targets.shape[1] != cuts.num_nodes:
            raise OptionError(
                f"boolean targets have shape {tuple(targets.shape)}; give (B, {cuts.num_nodes}), "
                "one column per node."
            )
        ends = targets & ~_has_gold_child(targets, cuts)
        rows, nodes = ends.nonzero(as_tuple=True)
        return rows, nodes, 1 / ends.sum(1)[rows].float()
    given = None
    targets = targets.long()  # smaller integers are no index, and uint8 would be taken for a mask
    if targets.dim() == 2:
        if targets.shape[1] != cuts.num_levels:
            raise OptionError(
                f"targets per level have shape {tuple(targets.shape)}; the taxonomy has "
                f"{cuts.num_levels} levels. A single column is given as (B,)."
            )
        known = targets >= 0
        last = known.long().cumsum(1).argmax(1, keepdim=True)  # the first maximum: last known level
        given, targets = targets, targets.gather(1, last).squeeze(1)
    rows = (targets >= 0).nonzero().squeeze(1)
    nodes = targets[rows]
    if not torch.compiler.is_compiling() and len(nodes) and int(nodes.max()) >= cuts.num_nodes:
        raise OptionError(
            f"target {int(nodes.max())} is not a node: the taxonomy has nodes 0 to "
            f"{cuts.num_nodes - 1}. Use taxonomy.index(path) to number labels."
        )
    if given is not None and not torch.compiler.is_compiling():
        _check_path(given, targets, cuts)
    return rows, nodes, torch.ones(len(rows), device=targets.device)


def _check_path(given: Tensor, ends: Tensor, cuts: Cuts) -> None:
    """Refuse nodes per level that are no path, as class numbers counted from 0 on every level.

    Args:
        given: ``(B, L)``.
        ends: ``(B,)``, the deepest of each row.
    """
    wrong = (given >= 0) & (ends >= 0).unsqueeze(1) & ~cuts.passes(given, ends.clamp_min(0))
    if wrong.any():
        row, level = wrong.nonzero()[0].tolist()
        node = int(given[row, level])
        raise OptionError(
            f"targets per level, row {row}: node {node} on level {level + 1} is not on a path to "
            f"node {int(ends[row])}. Give node numbers of the taxonomy (taxonomy.index(path)), not "
            "classes counted from 0 on each level; a single column of end nodes, (B,), is enough."
        )


def _has_gold_child(gold: Tensor, cuts: Cuts) -> Tensor:
    child, parent = torch.tensor(cuts.taxonomy.edges.T.copy(), device=gold.device)
    counts = torch.zeros(gold.shape, dtype=torch.int32, device=gold.device)
    return counts.index_add(1, parent, gold[:, child].int()) > 0


def path_loss(logits: Tensor, cuts: Cuts, targets: Tensor, *, kind: Loss) -> Tensor:
    """Mean negative log-likelihood of the gold paths.

    Args:
        logits: ``(B, N)``.
        targets: see :func:`gold_ends`.
        kind: ``level``, ``path`` or ``leaf``.
    Returns:
        Scalar; 0 with a gradient of zeros when no row has a label.
    """
    if not isinstance(targets, Tensor):
        raise OptionError(
            f"targets are a {type(targets).__name__}: give a tensor, torch.as_tensor(targets)."
        )
    if targets.dim() and len(targets) != len(logits):
        raise OptionError(f"{len(targets)} targets for {len(logits)} texts: give one row per text.")
    rows, nodes, weights = gold_ends(targets, cuts)
    partial, complete, _ = cuts.path_scores(logits, kind)  # (B, N), (B, T)
    column = torch.searchsorted(cuts.terminals, nodes).clamp(max=len(cuts.terminals) - 1)
    ended = cuts.terminals[column] == nodes
    score = torch.where(ended, complete[rows, column], partial[rows, nodes])
    return -(weights * score).sum() / weights.sum().clamp(min=1)
