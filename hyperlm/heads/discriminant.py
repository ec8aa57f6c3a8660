"""Start a head from labelled texts: discriminants become its projection, class means its nodes.

Enters: a head and pooled features of training texts with where their gold paths end. Leaves: the
same head, whose projections look along the directions that tell the labels apart, in units of the
spread inside a label, and whose nodes lie at the means of their texts. Directions of frozen
features differ some sixtyfold in that spread (MiniLM on dbpedia, layers 4 and 5, largest to first
percentile of the standard deviations).

The projection is Fisher's (1936, of many classes: Rao 1948). A share of the covariance inside
labels is replaced by its mean variance in every direction, and the mean of a node is shrunk to that
of its parent, so that a label with few texts starts near its siblings.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from hyperlm.cuts import Cuts
from hyperlm.errors import DataError, OptionError
from hyperlm.heads.base import HierarchicalHead
from hyperlm.heads.hyperbolic import HyperbolicHead
from hyperlm.heads.linear import LinearHead
from hyperlm.heads.losses import gold_ends

__all__ = ["node_means", "start_from_texts", "whitening"]

_SHRINK = 0.1  # of the spread inside labels, towards the same in every direction
_PRIOR = 1.0  # texts that a node's mean borrows from its parent
_TEMPERATURE = 20.0  # a linear head has none to read


@torch.no_grad()
def start_from_texts(
    head: HierarchicalHead, features: Tensor, targets: Tensor, *, radius: float = 1.0
) -> None:
    """Set projections and nodes from labelled texts, in place.

    Every tap has discriminants of its own, of the same labels; all are turned into the space of the
    deepest by the rotation that brings the labels' means together, which changes no distance.

    A node of a level lies at the mean of its texts as the tap of that level sees them. A linear
    head starts as the flat twin: its scores are minus half the temperature times the squared
    distance to the same places, up to a term that all nodes share.

    Args:
        head: points of any geometry, or linear.
        features: ``(n, taps, D)`` of training texts.
        targets: as :meth:`HierarchicalHead.forward` takes them.
        radius: mean distance of the projected texts from the origin.
    Raises:
        OptionError: features do not fit the head. DataError: fewer than two labels have texts, or
            no label has texts that differ.
    """
    if not isinstance(head, HyperbolicHead | LinearHead):
        raise OptionError(f"{type(head).__name__}: only the heads of hyperlm start from texts.")
    if features.dim() != 3 or features.shape[1:] != (len(head.projections), head.hidden_size):
        raise OptionError(
            f"features have shape {tuple(features.shape)}; the head reads (n, "
            f"{len(head.projections)}, {head.hidden_size}): one state per tap."
        )
    cuts = head.cuts(features.device)
    rows, ends, weights = gold_ends(targets, cuts)
    if len(ends.unique()) < 2:
        raise DataError(
            "a start from texts needs training texts of at least 2 labels. Use --init tree."
        )
    found = []
    for tap in range(features.shape[1]):
        texts = F.layer_norm(features[:, tap].float(), (head.hidden_size,)).double()[rows]
        found.append(_discriminants(texts, ends, weights.double(), cuts, head.dim, radius))
    _, _, goal = found[head.tap_of_level[-1]]
    labels = ends.unique()
    nodes = goal.new_zeros(cuts.num_nodes, head.dim)
    for tap, (weight, bias, means) in enumerate(found):
        left, _, right = torch.linalg.svd(means[labels].T @ goal[labels])
        turn = left @ right
        linear = head.each_projection()[tap].linear
        linear.weight.copy_(turn.T @ weight)
        linear.bias.copy_(bias @ turn)
        for level, part in enumerate(head.level_slices):
            if head.tap_of_level[level] == tap:
                nodes[part] = means[part] @ turn
    nodes = nodes.float()
    if isinstance(head, LinearHead):
        head.weight.copy_(_TEMPERATURE * nodes)
        head.bias.copy_(-_TEMPERATURE / 2 * nodes.square().sum(1))
    else:
        head.set_node_tangents(nodes)


def node_means(texts: Tensor, ends: Tensor, weights: Tensor, cuts: Cuts) -> Tensor:
    """Mean of the texts at or below each node, shrunk to its parent's, ``(N, D)``.

    ``mean = (sum + a mean of the parent) / (count + a)`` with a = 1 text; top nodes shrink to the
    mean of all. A node without texts lies where its parent does.

    Args:
        texts: ``(P, D)``.
        ends, weights: ``(P,)`` end nodes and how much each text counts.
    """
    taxonomy = cuts.taxonomy
    total = texts.new_zeros(cuts.num_nodes, texts.shape[1])
    count = texts.new_zeros(cuts.num_nodes)
    parent = torch.tensor(taxonomy.parent.copy(), device=texts.device)
    node = ends
    while (inside := node >= 0).any():
        total.index_add_(0, node[inside], (weights[inside, None] * texts[inside]))
        count.index_add_(0, node[inside], weights[inside])
        node = torch.where(inside, parent[node], -1)
    means = torch.empty_like(total)
    centre = (weights @ texts / weights.sum()).expand(1, -1)
    for level, part in enumerate(taxonomy.level_slices):
        above = means[parent[part]] if level else centre
        means[part] = (total[part] + _PRIOR * above) / (count[part, None] + _PRIOR)
    return means


def whitening(features: Tensor, targets: Tensor, cuts: Cuts) -> list[tuple[Tensor, Tensor]]:
    """Coordinates in which the texts of a label spread alike in every direction.

    Args:
        features: ``(n, taps, D)`` of training texts.
        targets: as :meth:`HierarchicalHead.forward` takes them.
    Returns:
        Per tap a symmetric, invertible ``A (D, D)`` and a centre ``m (D,)``, float64, for
        ``(x - m) A`` of a layer-normalised state ``x``. ``A^-2`` is the covariance inside the
        labels, a tenth of it replaced by its mean variance in every direction.
    Raises:
        DataError: no label has texts that differ.
    """
    rows, ends, weights = gold_ends(targets, cuts)
    found = []
    for tap in features.unbind(1):
        texts = F.layer_norm(tap.float(), tap.shape[-1:]).double()[rows]
        means = node_means(texts, ends, weights.double(), cuts)
        found.append(_whitened(texts, ends, weights.double(), means))
    return found


def _whitened(texts: Tensor, ends: Tensor, weights: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    apart = texts - means[ends]
    spread = apart.T @ (weights[:, None] * apart) / weights.sum()
    if not spread.diagonal().mean() > 0:
        raise DataError(
            "the spread inside labels is nothing: no label has texts that differ from one another. "
            "Start from the tree or at random, without whitening."
        )
    variances, axes = torch.linalg.eigh(spread)
    variances = (1 - _SHRINK) * variances.clamp(min=0) + _SHRINK * variances.mean()
    return (axes / variances.sqrt()) @ axes.T, weights @ texts / weights.sum()


def _discriminants(
    texts: Tensor, ends: Tensor, weights: Tensor, cuts: Cuts, dim: int, radius: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Projection ``(d, D)``, its bias ``(d,)`` and the nodes' places in its space ``(N, d)``."""
    means = node_means(texts, ends, weights, cuts)
    whiten, centre = _whitened(texts, ends, weights, means)
    share = torch.zeros(cuts.num_nodes, dtype=texts.dtype, device=texts.device)
    share.index_add_(0, ends, weights)
    between = (means - centre) @ whiten * share.sqrt()[:, None]  # (N, D); 0 where no path ends
    # All eigenvectors, not only those between labels: a direction that starts at nothing on both
    # sides of a distance has no gradient and would stay so.
    directions = torch.linalg.eigh(between.T @ between)[1].flip(1)[:, :dim]  # (D, min(d, D))
    directions = F.pad(directions, (0, dim - directions.shape[1]))
    weight = (whiten @ directions).T
    bias = -weight @ centre
    scale = radius / (texts @ weight.T + bias).norm(dim=1).mean()
    return scale * weight, scale * bias, scale * (means - centre) @ weight.T
