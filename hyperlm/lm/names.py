"""Start a head from what its labels are called.

The names of the nodes, with those of their parents, go through the backbone like any text. One
principal-component projection of texts and names becomes the head's projection, and the projected
names become the node points, so that before any training a text already lies nearest to the labels
it resembles. A linear head starts as their flat twin. Helps most where texts per class are few.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hyperlm.errors import OptionError
from hyperlm.heads import HierarchicalHead, HyperbolicHead, LinearHead
from hyperlm.heads.discriminant import one_radius
from hyperlm.lm.batches import pooled_features, tokenise
from hyperlm.lm.model import HierarchicalLM
from hyperlm.taxonomy import Taxonomy

__all__ = ["name_features", "name_texts", "start_from_features", "start_from_names"]

_TEXTS = 2000  # enough for the principal components of a few hundred dimensions
_NODE_RADIUS = 0.5
_TEMPERATURE = 20.0  # of a linear head, on half the squared distance
_RIDGE = 0.1  # of the mean variance: as many texts as dimensions must not be fitted exactly


def name_texts(taxonomy: Taxonomy, *, parents: bool = True) -> list[str]:
    """A phrase per node: its name and its parent's, in words.

    ``("Place", "BodyOfWater")`` reads ``body of water, place``.

    Args:
        parents: name the parent always; else only where nodes of several parents share a name.
    """
    paths = [taxonomy.path(node) for node in range(len(taxonomy))]
    shared = Counter(path[-1] for path in paths)
    return [
        ", ".join(
            _in_words(name)
            for name in reversed(path[-2:] if parents or shared[path[-1]] > 1 else path[-1:])
        )
        for path in paths
    ]


def name_features(
    model: HierarchicalLM,
    *,
    parents: bool = True,
    descriptions: Mapping[int, str] | None = None,
    precision: torch.dtype = torch.float32,
    progress: bool = False,
) -> Tensor:
    """Pooled features ``(N, taps, D)`` of what the nodes are called.

    Where a node has a description, the mean of two phrases: the name, and the name with what it
    means. Either alone is worse on some data (docs/decisions/0022).

    Args:
        parents: see :func:`name_texts`.
        descriptions: by node.
        precision: arithmetic of the backbone.
        progress: show a bar.
    """
    described = sorted(descriptions or {})
    bare = name_texts(model.taxonomy, parents=False)
    phrases = name_texts(model.taxonomy, parents=parents)
    meant = [f"{bare[node]}: {descriptions[node]}" for node in described] if descriptions else []
    ids = tokenise(phrases + meant, model.tokenizer, model.config.max_length)
    features = pooled_features(model, ids, precision=precision, progress=progress)
    names, both = features[: len(phrases)].clone(), features[len(phrases) :]
    names[described] = (names[described] + both) / 2
    return names


def _in_words(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.sub(r"[_\s]+", " ", spaced).strip().lower()


def start_from_names(
    model: HierarchicalLM,
    texts: Sequence[str],
    *,
    descriptions: Mapping[int, str] | None = None,
    frozen: torch.dtype | None = None,
    temperature: float = _TEMPERATURE,
    seed: int = 0,
    progress: bool = False,
) -> None:
    """Set projection and nodes from the label names, in place.

    Args:
        model: with a head of points or a linear one.
        texts: training texts, for the principal components; a seeded sample is used.
        descriptions: of nodes, see :func:`name_features`.
        frozen: arithmetic of a run on frozen features. It reads those of all texts: they are
            computed here, once for both.
        temperature: see :func:`start_from_features`.
        progress: show a bar.
    """
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))
    rows = order[:_TEXTS].tolist()
    read = list(texts) if frozen is not None else [texts[row] for row in rows]
    precision = frozen or torch.float32
    ids = tokenise(read, model.tokenizer, model.config.max_length)
    of_texts = pooled_features(model, ids, precision=precision, progress=progress)
    of_names = name_features(
        model, descriptions=descriptions, precision=precision, progress=progress
    )
    learnt = of_texts if frozen is None else of_texts[rows]
    start_from_features(model.head, learnt, of_names, temperature=temperature)


@torch.no_grad()
def start_from_features(
    head: HierarchicalHead,
    texts: Tensor,
    names: Tensor,
    *,
    ends: Tensor | None = None,
    name_weight: float = 1.0,
    temperature: float = _TEMPERATURE,
) -> None:
    """The same from pooled features, and if wished from what is known of the classes.

    Args:
        head: points of any geometry, or linear.
        texts: ``(n, taps, D)``, for the principal components.
        names: ``(N, taps, D)``, one name per node.
        ends: ``(n,)`` end nodes of the texts. A node then starts at the mean of its texts and its
            name, lengthened to a text's, instead of its name alone; terminals all at one radius.
        name_weight: how many texts a name counts for; positive.
        temperature: of a linear head, whose scores start as minus half of it times the squared
            distance to where the points would be, up to a term that all nodes share. Points keep
            the temperature they were made with.
    Raises:
        OptionError: another head, or a number that is not positive.
    """
    if not isinstance(head, HyperbolicHead | LinearHead):
        raise OptionError(f"{type(head).__name__}: only the heads of hyperlm start from names.")
    if not name_weight > 0:
        raise OptionError(f"name_weight {name_weight:g}: must be greater than 0.")
    if not temperature > 0:
        raise OptionError(f"temperature {temperature:g}: must be greater than 0.")
    text = F.layer_norm(texts, (head.hidden_size,))  # (n, taps, D)
    name = F.layer_norm(names, (head.hidden_size,))  # (N, taps, D)
    # A name is far shorter than a text: each kind is centred on its own mean.
    text_mean, name_mean = text.mean(0), name.mean(0)
    text, name = text - text_mean, name - name_mean
    # The deepest tap sets the space, and the others are fitted to it: one space for all levels.
    deepest = head.tap_of_level[-1]
    components = _principal(torch.cat([text[:, deepest], name[:, deepest]]), head.dim)
    place = name[:, deepest] @ components.T  # (N, d)
    if ends is not None:
        terminals = torch.as_tensor(head.taxonomy.terminals.copy(), device=place.device)
        place = _with_texts(place, text[:, deepest] @ components.T, ends, name_weight)
        # The mean of scattered texts is short, so that it would be near to every text.
        place[terminals] = one_radius(place[terminals])
    place = _gather(place, head.taxonomy)
    scale = _NODE_RADIUS / place.norm(dim=1).mean().clamp(min=torch.finfo(place.dtype).eps)
    goal = torch.cat([text[:, deepest], name[:, deepest]]) @ components.T
    for tap, projection in enumerate(head.each_projection()):
        weight = (
            components
            if tap == deepest
            else _regression(torch.cat([text[:, tap], name[:, tap]]), goal)
        )
        projection.linear.weight.copy_(scale * weight)
        projection.linear.bias.copy_(-scale * weight @ text_mean[tap])
    if isinstance(head, LinearHead):
        head.set_node_places(scale * place, temperature)
    else:
        head.set_node_tangents(scale * place)


def _with_texts(names: Tensor, texts: Tensor, ends: Tensor, weight: float) -> Tensor:
    """Means ``(N, d)`` of the texts of each node and its name, which counts ``weight`` texts."""
    length = texts.norm(dim=1).mean() / names.norm(dim=1).mean().clamp(min=1e-12)
    total = (weight * length * names).index_add(0, ends, texts)
    return total / (weight + torch.bincount(ends, minlength=len(names))).unsqueeze(1)


def _gather(place: Tensor, taxonomy: Taxonomy) -> Tensor:
    """Move every inner node to the mean of its own name and its children, from the leaves up.

    Means are shorter than what they are taken over, so general labels come to lie nearer the
    origin than the special ones around them.
    """
    child, parent = torch.tensor(taxonomy.edges.T.copy(), device=place.device)
    place = place.clone()
    for level in reversed(taxonomy.level_slices[:-1]):
        here = (parent >= level.start) & (parent < level.stop)
        total = torch.zeros_like(place).index_add(0, parent[here], place[child[here]])
        count = torch.bincount(parent[here], minlength=len(place)).unsqueeze(1)
        place[level] = ((place + total) / (1 + count))[level]
    return place


def _regression(rows: Tensor, goal: Tensor) -> Tensor:
    """Ridge regression ``(d, D)`` of ``goal (n, d)`` on ``rows (n, D)``."""
    rows, goal = rows.double(), goal.double()
    gram = rows.T @ rows
    ridge = (
        _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    )
    return torch.linalg.solve(gram + ridge, rows.T @ goal).T.float()


def _principal(rows: Tensor, dim: int) -> Tensor:
    """The first principal directions, ``(dim, D)``; zeros where there are fewer than ``dim``."""
    _, _, directions = torch.linalg.svd(rows.double(), full_matrices=False)
    found = directions[:dim].to(rows.dtype)
    return torch.cat([found, found.new_zeros(dim - len(found), found.shape[1])])
