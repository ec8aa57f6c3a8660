"""Answers without training: the nearest texts in the ball, class means, names alone.

Enters: features of the drawn texts, of label names and of the texts to answer. Leaves: node scores
``(B, N)`` that :func:`hyperlm.experiments.measure.measure` reads. (Logistic regression, which
scikit-learn trains, stands here as well.)
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hyperlm.decoding import Cuts, Loss, cuts_of, path_scores
from hyperlm.errors import OptionError
from hyperlm.experiments.few_shot_heads import Draw
from hyperlm.experiments.measure import node_logits
from hyperlm.heads import HyperbolicHead, start_from_texts
from hyperlm.manifolds.search import nearest
from hyperlm.taxonomy import Taxonomy

__all__ = [
    "class_mean_scores",
    "discriminant_scores",
    "logistic_scores",
    "mixed_scores",
    "name_scores",
    "retrieved",
]

_SCALE = 20.0  # a usual factor on cosines; probabilities depend on it, answers do not


@torch.no_grad()
def retrieved(
    head: HyperbolicHead, draw: Draw, queries: Tensor, *, neighbours: int, temperature: float
) -> Tensor:
    """What the nearest training texts say: probabilities ``(B, T)`` over the terminals.

    A neighbour at geodesic distance r votes for its class with ``exp(-temperature r)``.

    Args:
        queries: ``(B, D)``.
        neighbours: at most so many.
    Raises:
        OptionError: the head is flat.
    """
    if head.geometry == "euclidean":
        raise OptionError("retrieved() searches hyperbolic space; this head is Euclidean.")
    project, terminals = head.each_projection()[-1], cuts_of(head.taxonomy).terminals
    head.eval()
    dist, at = nearest(
        project(queries), project(draw.features), min(neighbours, len(draw.ends)), c=float(head.c)
    )
    votes = (-temperature * dist).softmax(1)
    column = torch.searchsorted(terminals, draw.ends)[at]  # (B, k)
    return votes.new_zeros(len(queries), len(terminals)).scatter_add(1, column, votes).float()


def discriminant_scores(
    draw: Draw,
    queries: Sequence[Tensor],
    taxonomy: Taxonomy,
    *,
    names: Tensor,
    held_out: tuple[Tensor, Tensor],
    **settings: float,
) -> list[Tensor]:
    """Scores of Poincaré points that start from texts and names, and stay there.

    Args:
        queries: ``(B, D)`` each.
        names: ``(N, D)`` features of the label names.
        held_out: features ``(n, D)`` and end nodes of texts by which the radius is chosen.
        settings: ``dim`` and ``name_weight``; see :func:`hyperlm.heads.start_from_texts`.
    """
    head = HyperbolicHead(draw.features.shape[1], taxonomy, int(settings["dim"]))
    start_from_texts(
        head,
        draw.features.unsqueeze(1),
        draw.ends,
        names=names.unsqueeze(1),
        name_weight=settings["name_weight"],
        held_out=held_out,
    )
    return [node_logits(head, part.unsqueeze(1)) for part in queries]


def mixed_scores(
    logits: Tensor, votes: Tensor, cuts: Cuts, *, share: float, decoding: Loss
) -> Tensor:
    """Node scores, to be read as ``leaf``, of the posterior mixed with votes.

    Args:
        logits: ``(B, N)`` of a head. votes: ``(B, T)`` from :func:`retrieved`.
        share: of the votes, in [0, 1].
    """
    if not 0 <= share <= 1:
        raise OptionError(f"share {share:g}: must lie in [0, 1].")
    own = path_scores(logits, cuts, loss=decoding)[:, cuts.terminals].softmax(1)
    both = (1 - share) * own + share * votes
    scores = both.clamp(min=1e-30).log()
    return torch.zeros_like(logits).index_copy(1, cuts.terminals, scores)


def class_mean_scores(
    draw: Draw,
    queries: Tensor,
    taxonomy: Taxonomy,
    *,
    names: Tensor | None = None,
    name_weight: float = 0.0,
) -> Tensor:
    """Cosine of each query to the mean of each node's texts (Rocchio 1971), times 20, ``(B, N)``.

    Directions are averaged, over all texts at or below a node; -inf where there is none.

    Args:
        queries: ``(B, D)``.
        names, name_weight: ``(N, D)`` features of the names, each counted as so many texts.
    """
    below = torch.zeros(len(taxonomy), len(draw.ends))
    for row, end in enumerate(draw.ends.tolist()):
        below[[end, *map(int, taxonomy.ancestors(end))], row] = 1
    total = below @ F.normalize(draw.features, dim=1)
    known = below.sum(1) > 0
    if names is not None and name_weight > 0:
        total, known = total + name_weight * F.normalize(names, dim=1), known | True
    scores = _SCALE * F.normalize(queries, dim=1) @ F.normalize(total, dim=1).T
    return scores.masked_fill(~known, -torch.inf)


def logistic_scores(
    draw: Draw, queries: Sequence[Tensor], taxonomy: Taxonomy, *, strength: float
) -> list[Tensor]:
    """Log-probabilities, to be read as ``leaf``, of scikit-learn's logistic regression.

    One linear map from unit features to the classes, without the bottleneck of a head.

    Args:
        queries: ``(B, D)`` each.
        strength: C, the reverse of the ridge penalty.
    Returns:
        ``(B, N)`` each; -inf where a class has no text.
    """
    from sklearn.linear_model import LogisticRegression

    ends = draw.ends.numpy()
    directions = F.normalize(draw.features, dim=1).numpy()
    with warnings.catch_warnings():
        # One text a class makes scikit-learn ask whether the labels are numbers to regress on.
        warnings.filterwarnings("ignore", message="The number of unique classes is greater")
        model = LogisticRegression(C=strength, max_iter=1000).fit(directions, ends)
    out = []
    for part in queries:
        scores = torch.full((len(part), len(taxonomy)), -torch.inf)
        log_prob = model.predict_log_proba(F.normalize(part, dim=1).numpy())
        scores[:, model.classes_] = torch.from_numpy(log_prob).float()
        out.append(scores)
    return out


def name_scores(queries: Tensor, names: Tensor) -> Tensor:
    """Cosine of each query ``(B, D)`` to each label name ``(N, D)``, times 20: no training text."""
    return _SCALE * F.normalize(queries, dim=1) @ F.normalize(names, dim=1).T
