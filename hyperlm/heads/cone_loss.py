"""Entailment cones inside the head: children in their parents' cones, texts in their labels' cones.

Enters: node points and text points as tangent vectors at the origin. Leaves: a scalar. Angles and
orientation are those of :mod:`hyperlm.manifolds.cones`; the apex is the more general point.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from hyperlm.errors import OptionError
from hyperlm.manifolds import cones
from hyperlm.manifolds.negatives import NegativeSampler
from hyperlm.taxonomy import Taxonomy

__all__ = ["ConeLoss"]

PAIRS_PER_STEP = 2048  # of a large closure; a small one is taken whole
NEGATIVES = 10  # per pair, as in Ganea et al. 2018


class ConeLoss(nn.Module):
    """Weighted cone losses on pairs of nodes and on (text, gold node).

    Args:
        node_weight: on (ancestor, descendant) pairs, with false descendants pushed out.
        text_weight: on every text and the gold nodes of its path, with a node of the same level
            that is not gold pushed away from the text.
        pairs: ``closure`` or ``edges``.
        seed: of the sampled pairs and negatives.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        node_weight: float,
        text_weight: float,
        *,
        pairs: Literal["closure", "edges"] = "closure",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if pairs not in ("closure", "edges"):
            raise OptionError(f"cone_pairs {pairs!r} is unknown; choose closure or edges.")
        self.node_weight, self.text_weight = node_weight, text_weight
        self.taxonomy = taxonomy
        if pairs == "edges":
            child, parent = taxonomy.edges.T
        else:
            child = np.repeat(np.arange(len(taxonomy)), np.diff(taxonomy.ancestor_indptr))
            parent = taxonomy.ancestor_indices
        self._child, self._parent = np.array(child), np.array(parent)
        self._random = np.random.default_rng(seed)
        self._negatives = NegativeSampler(
            taxonomy.ancestor_indptr, taxonomy.ancestor_indices, seed=seed
        )

    def reseed(self, seed: int | Sequence[int]) -> None:
        """Draw pairs and negatives from ``seed`` on, as at the start of an epoch."""
        self._random = np.random.default_rng(seed)
        self._negatives.reseed(seed)

    def forward(
        self,
        nodes: Tensor,
        texts: list[Tensor],
        gold: Tensor,
        c: float | Tensor,
        *,
        marked: Tensor | None = None,
    ) -> Tensor:
        """Weighted sum of the two losses.

        Args:
            nodes: ``(N, d)`` node points, tangent vectors at the origin.
            texts: one ``(B, d)`` per level: the texts as the tap of that level sees them.
            gold: ``(B, L)`` gold node per level, -1 where there is none.
            c: positive; curvature is ``-c``.
            marked: boolean ``(B, N)``, all gold nodes of each text where it has several gold paths.
        """
        loss = nodes.new_zeros(())
        if self.node_weight and len(self._child):
            loss = loss + self.node_weight * self._node_loss(nodes, c)
        if self.text_weight:
            loss = loss + self.text_weight * self._text_loss(nodes, texts, gold, c, marked)
        return loss

    def _node_loss(self, nodes: Tensor, c: float | Tensor) -> Tensor:
        rows = np.arange(len(self._child))
        if len(rows) > PAIRS_PER_STEP:
            rows = self._random.choice(rows, PAIRS_PER_STEP, replace=False)
        parent, child = self._parent[rows], self._child[rows]
        false = self._negatives.false_children(parent, NEGATIVES)
        apart = (false >= 0).all(1)  # a parent of everything has no false child
        loss = nodes.new_zeros(())
        for some, others in ((apart, NEGATIVES), (~apart, 0)):
            if some.any():
                triple = parent[some], child[some], false[some, :others]
                apex, inside, outside = (nodes[torch.as_tensor(x)] for x in triple)
                share = float(some.mean())
                loss = loss + share * cones.cone_margin_loss(apex, inside, outside, c=c)
        return loss

    def _text_loss(
        self,
        nodes: Tensor,
        texts: list[Tensor],
        gold: Tensor,
        c: float | Tensor,
        marked: Tensor | None,
    ) -> Tensor:
        total, count = nodes.new_zeros(()), 0
        for level, part in enumerate(self.taxonomy.level_slices):
            known = gold[:, level] >= part.start
            known &= gold[:, level] < part.stop
            size = part.stop - part.start
            if not bool(known.any()):
                continue
            node, text = gold[known, level], texts[level][known]
            total = total + cones.polar_cone_energy(nodes[node], text, c=c).sum()
            count += len(node)
            if size > 1:
                # Another node of the level, drawn evenly: skip over the gold one.
                shift = torch.as_tensor(self._random.integers(1, size, len(node)))
                other = part.start + (node - part.start + shift.to(node.device)) % size
                out = cones.polar_cone_energy(nodes[other], text, c=c)
                wrong = ~self._is_gold(
                    other, gold[known], marked[known] if marked is not None else None
                )
                total = total + torch.relu(0.01 - out[wrong]).sum()
        return total / max(1, count)

    def _is_gold(self, node: Tensor, gold: Tensor, marked: Tensor | None) -> Tensor:
        """Whether a drawn node is gold after all: on a second path, or by a second parent."""
        if marked is not None:
            return marked.gather(1, node.unsqueeze(1)).squeeze(1)
        if self.taxonomy.is_tree:
            return torch.zeros_like(node, dtype=torch.bool)
        ends = gold.amax(1)  # nodes are numbered by depth: the largest is the deepest
        found = self._negatives.is_ancestor(node.cpu().numpy(), ends.cpu().numpy())
        return torch.as_tensor(found, device=node.device)
