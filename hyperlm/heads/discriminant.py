"""Start a head from labelled texts: discriminants become its projection, class means its nodes.

Enters: a head and pooled features of training texts with where their gold paths end, and if wished
those of the labels' names. Leaves: the same head, whose projections look along the directions that
tell the labels apart, in units of the spread inside a label, and whose nodes lie at the means of
their texts. Directions of frozen features differ some sixtyfold in that spread (MiniLM on dbpedia,
layers 4 and 5, largest to first percentile of the standard deviations).

The projection is Fisher's (1936, of many classes: Rao 1948). The covariance inside labels is shrunk
towards the same variance in every direction (by how much: Ledoit and Wolf 2004), and the mean of a
node towards that of its parent and towards its name, so that a label with few texts starts near its
siblings and a label without any at what it is called.

A mean of texts that disagree is short, and a short mean is near to every text: it becomes a hub
(Radovanovic et al., Hubs in space, JMLR 2010). Moving all to one radius repairs that, and spoils
labels that lie in a row, as bad, middling, good; held-out texts can choose (docs/decisions/0024).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hyperlm.cuts import Cuts
from hyperlm.decoding import decode
from hyperlm.errors import DataError, OptionError
from hyperlm.heads.base import HierarchicalHead
from hyperlm.heads.hyperbolic import HyperbolicHead
from hyperlm.heads.linear import LinearHead
from hyperlm.heads.losses import gold_ends

__all__ = ["node_means", "one_radius", "start_from_texts", "whitening"]

_PRIOR = 1.0  # texts that a node's mean borrows from its parent
_ROWS = 1024  # held-out texts that are answered at once


@torch.no_grad()
def start_from_texts(
    head: HierarchicalHead,
    features: Tensor,
    targets: Tensor,
    *,
    names: Tensor | None = None,
    name_weight: float = 1.0,
    radius: float = 1.0,
    temperature: float = 20.0,
    held_out: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Set projections, nodes and temperatures from labelled texts, in place.

    Every tap has discriminants of its own, of the same labels; all are turned into the space of the
    deepest by the rotation that brings the labels' means together, which changes no distance.

    A node of a level lies at the mean of its texts as the tap of that level sees them. A linear
    head starts as the flat twin: its scores are minus half the temperature times the squared
    distance to the same places, up to a term that all nodes share.

    Args:
        head: points of any geometry, or linear.
        features: ``(n, taps, D)`` of training texts; of a head with one tap also ``(n, D)``.
        targets: as :meth:`HierarchicalHead.forward` takes them.
        names: features of a name per node, ``(N, taps, D)`` or ``(N, D)``.
        name_weight: how many texts a name counts for.
        radius: mean distance of the projected texts from the origin.
        temperature: factor on the distances, of every level.
        held_out: features and targets, as above, of other texts. The nodes that paths end at are
            moved to one radius if more of these texts are answered rightly then.
    Raises:
        OptionError: features do not fit the head. DataError: fewer than two labels have texts, or
            no label has texts that differ.
    """
    if not isinstance(head, HyperbolicHead | LinearHead):
        raise OptionError(f"{type(head).__name__}: only the heads of hyperlm start from texts.")
    features = features.unsqueeze(1) if features.dim() == 2 else features
    names = names.unsqueeze(1) if names is not None and names.dim() == 2 else names
    _check_shapes(head, features, names)
    if not (name_weight >= 0 and temperature > 0 and radius > 0):
        raise OptionError(
            f"a start from texts with name_weight {name_weight:g}, temperature {temperature:g} and "
            f"radius {radius:g}: the first must not be negative, the others must be positive."
        )
    _check_rows(features, targets)
    if held_out is not None:
        others = held_out[0].unsqueeze(1) if held_out[0].dim() == 2 else held_out[0]
        _check_shapes(head, others, None)
        _check_rows(others, held_out[1])
        held_out = others, held_out[1]
    cuts = head.cuts(features.device)
    rows, ends, weights = gold_ends(targets, cuts)
    if len(ends.unique()) < 2:
        raise DataError(
            "a start from texts needs training texts of at least 2 labels. Start from the tree or "
            "at random."
        )
    weights = weights.double()
    found = []
    for tap in range(features.shape[1]):
        texts = _normal(features[:, tap])[rows]
        called = None
        if names is not None and name_weight:
            called = _as_texts(_normal(names[:, tap]), texts, weights), name_weight
        found.append(_discriminants(texts, ends, weights, cuts, head.dim, radius, called))
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
    _place(head, nodes, temperature)
    if held_out is not None:
        before = _right(head, *held_out)
        _place(head, _one_radius_at_ends(nodes, cuts), temperature)
        if _right(head, *held_out) <= before:
            _place(head, nodes, temperature)


def _place(head: HyperbolicHead | LinearHead, nodes: Tensor, temperature: float) -> None:
    if isinstance(head, LinearHead):
        head.set_node_places(nodes, temperature)
    else:
        head.set_node_tangents(nodes)
        head.bias.zero_()
        head.log_temperature.fill_(math.log(temperature))


def one_radius(places: Tensor) -> Tensor:
    """All ``(n, d)`` at their mean distance from the origin."""
    radius = places.norm(dim=1, keepdim=True)
    return places * (radius.mean() / radius.clamp(min=torch.finfo(places.dtype).eps))


def _one_radius_at_ends(nodes: Tensor, cuts: Cuts) -> Tensor:
    """The nodes ``(N, d)``, those that paths end at moved to one radius."""
    terminals = torch.as_tensor(cuts.taxonomy.terminals.copy(), device=nodes.device)
    return nodes.index_copy(0, terminals, one_radius(nodes[terminals]))


def _right(head: HierarchicalHead, features: Tensor, targets: Tensor) -> int:
    """How many texts are answered with a path of theirs."""
    device = next(head.parameters()).device  # the features may lie elsewhere
    cuts, training, right = head.cuts(device), head.training, 0
    head.eval()
    for some, gold in zip(features.split(_ROWS), targets.split(_ROWS), strict=True):
        logits = head(some.to(device).unbind(1)).logits
        answers = decode(logits, cuts, loss=head.loss_kind).nodes
        rows, ends, _ = gold_ends(gold.to(device), cuts)
        right += int((answers[rows] == ends).sum())
    head.train(training)
    return right


def _check_shapes(head: HierarchicalHead, features: Tensor, names: Tensor | None) -> None:
    wanted = (len(head.projections), head.hidden_size)
    if features.dim() != 3 or features.shape[1:] != wanted:
        raise OptionError(
            f"features have shape {tuple(features.shape)}; the head reads (n, {wanted[0]}, "
            f"{wanted[1]}): one state per tap."
        )
    if names is not None and names.shape != (len(head.taxonomy), *wanted):
        raise OptionError(
            f"names have shape {tuple(names.shape)}; the head reads one per node, "
            f"({len(head.taxonomy)}, {wanted[0]}, {wanted[1]})."
        )


def _check_rows(features: Tensor, targets: Tensor) -> None:
    if not targets.dim() or len(targets) != len(features):
        raise OptionError(
            f"targets of shape {tuple(targets.shape)} for {len(features)} texts: give one row per "
            "text."
        )


def _normal(states: Tensor) -> Tensor:
    """What a projection makes of states ``(n, D)`` first, in float64."""
    return F.layer_norm(states.float(), states.shape[-1:]).double()


def _as_texts(names: Tensor, texts: Tensor, weights: Tensor) -> Tensor:
    """Names around the middle of the texts, as far from it as they are: a name is far shorter."""
    centre = weights @ texts / weights.sum()
    names = names - names.mean(0)
    length = weights @ (texts - centre).norm(dim=1) / weights.sum()
    return centre + names * length / names.norm(dim=1).mean().clamp(min=1e-12)


def node_means(
    texts: Tensor,
    ends: Tensor,
    weights: Tensor,
    cuts: Cuts,
    called: tuple[Tensor, float] | None = None,
) -> Tensor:
    """Mean of the texts at or below each node, shrunk to its parent's and to its name, ``(N, D)``.

    ``mean = (sum + a mean of the parent + b name) / (count + a + b)`` with a = 1 text; top nodes
    shrink to the mean of all. A node without texts and name lies where its parent does.

    Args:
        texts: ``(P, D)``.
        ends, weights: ``(P,)`` end nodes and how much each text counts.
        called: names ``(N, D)`` and b.
    """
    names, extra = (torch.zeros_like(texts[:1]), 0.0) if called is None else called
    names = names.expand(cuts.num_nodes, -1)
    taxonomy = cuts.taxonomy
    total = texts.new_zeros(cuts.num_nodes, texts.shape[1])
    count = texts.new_zeros(cuts.num_nodes)
    total.index_add_(0, ends, weights[:, None] * texts)
    count.index_add_(0, ends, weights)
    labels = ends.unique().cpu().numpy()
    row, node = taxonomy.at_or_above(labels)
    strict = node != labels[row]
    end = torch.as_tensor(labels[row][strict], device=texts.device)
    above = torch.as_tensor(node[strict], device=texts.device)
    total.index_add_(0, above, total[end])  # copied before anything is added
    count.index_add_(0, above, count[end])
    parent = torch.tensor(taxonomy.parent.copy(), device=texts.device)
    means = torch.empty_like(total)
    centre = (weights @ texts / weights.sum()).expand(1, -1)
    for level, part in enumerate(taxonomy.level_slices):
        over = means[parent[part]] if level else centre
        known = total[part] + _PRIOR * over + extra * names[part]
        means[part] = known / (count[part, None] + _PRIOR + extra)
    return means


def whitening(features: Tensor, targets: Tensor, cuts: Cuts) -> list[tuple[Tensor, Tensor]]:
    """Coordinates in which the texts of a label spread alike in every direction.

    Args:
        features: ``(n, taps, D)`` of training texts.
        targets: as :meth:`HierarchicalHead.forward` takes them.
    Returns:
        Per tap a symmetric, invertible ``A (D, D)`` and a centre ``m (D,)``, float64, for
        ``(x - m) A`` of a layer-normalised state ``x``. ``A^-2`` is the covariance inside the
        labels, shrunk.
    Raises:
        DataError: no label has texts that differ.
    """
    rows, ends, weights = gold_ends(targets, cuts)
    found = []
    for tap in features.unbind(1):
        texts = _normal(tap)[rows]
        means = node_means(texts, ends, weights.double(), cuts)
        found.append(_whitened(texts, ends, weights.double(), means))
    return found


def _whitened(texts: Tensor, ends: Tensor, weights: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    apart = texts - means[ends]
    spread = apart.T @ (weights[:, None] * apart) / weights.sum()
    if not spread.isfinite().all():
        raise DataError(
            "the texts' features hold NaN or infinity. Look at the model they are from, and at "
            "the precision it computes in."
        )
    if not spread.diagonal().mean() > 0:
        raise DataError(
            "no label has texts that differ from one another, so that nothing tells labels from "
            "chance. Is the text column the right one? Otherwise start from names, the tree or at "
            "random."
        )
    share = _shrinkage(apart, weights, spread)
    variances, axes = torch.linalg.eigh(spread)
    variances = (1 - share) * variances.clamp(min=0) + share * variances.mean()
    return (axes / variances.sqrt()) @ axes.T, weights @ texts / weights.sum()


def _shrinkage(rows: Tensor, weights: Tensor, spread: Tensor) -> Tensor:
    """The share of ``spread (D, D)`` to replace: the noise in it over its distance from a sphere.

    Source: Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices,
    Journal of Multivariate Analysis 88, 2004; with a weight per row.
    """
    count = weights.sum()
    square = spread.square().sum()
    distance = square - spread.trace().square() / len(spread)
    noise = (weights @ rows.square().sum(1).square() / count - square) / count
    return (noise / distance.clamp(min=torch.finfo(spread.dtype).tiny)).clamp(0.01, 1.0)


def _discriminants(
    texts: Tensor,
    ends: Tensor,
    weights: Tensor,
    cuts: Cuts,
    dim: int,
    radius: float,
    called: tuple[Tensor, float] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Projection ``(d, D)``, its bias ``(d,)`` and the nodes' places in its space ``(N, d)``."""
    means = node_means(texts, ends, weights, cuts, called)
    whiten, centre = _whitened(texts, ends, weights, means)
    share = torch.zeros(cuts.num_nodes, dtype=texts.dtype, device=texts.device)
    share.index_add_(0, ends, weights)
    if called is not None:
        share[torch.as_tensor(cuts.taxonomy.terminals.copy(), device=texts.device)] += called[1]
    between = (means - centre) @ whiten * share.sqrt()[:, None]  # (N, D); 0 where no path ends
    # All eigenvectors, not only those between labels: a direction that starts at nothing on both
    # sides of a distance has no gradient and would stay so.
    directions = torch.linalg.eigh(between.T @ between)[1].flip(1)[:, :dim]  # (D, min(d, D))
    directions = F.pad(directions, (0, dim - directions.shape[1]))
    weight = (whiten @ directions).T
    bias = -weight @ centre
    scale = radius / (texts @ weight.T + bias).norm(dim=1).mean()
    return scale * weight, scale * bias, scale * (means - centre) @ weight.T
