"""Texts through a model: where each one lies, exactly, and the most probable paths.

In: a loaded model and texts. Out: numpy arrays. ``Classifier.points`` gives coordinates of the
geometry, and those of the Poincare ball round to the rim beyond a radius of about 12 in float32;
pictures need the tangent vectors that the coordinates were made from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperlm import decoding
from hyperlm.classifier import Classifier
from hyperlm.classifier_text import TextClassifier
from hyperlm.lm.batches import Collator, tokenise
from hyperlm.several import decode_several

__all__ = ["Read", "read_texts"]

_WINDOW = 4096  # texts whose scores are held at a time


@dataclass(frozen=True)
class Read:
    """What a model says of M texts.

    Attributes:
        tangents: ``(M, d)`` at the origin, Riemannian length, as the deepest tapped layer sees it.
        predicted: ``(M,)`` end node of the best path.
        path_nodes: ``(M, L)`` that path from the top down, -1 beyond its end.
        marginals: ``(M, L)`` probability of each node of that path, 0 beyond its end.
        probability: ``(M,)`` of the whole path.
        top_nodes: ``(M, k)`` end nodes of the best paths, best first.
        top_paths: ``(M, k, L)`` those paths.
        top_probabilities: ``(M, k)``.
        answered: ``(M, k)`` bool, which of them are the answer: the first, and more where the
            model answers several.
    """

    tangents: NDArray[np.float64]
    predicted: NDArray[np.int64]
    path_nodes: NDArray[np.int64]
    marginals: NDArray[np.float64]
    probability: NDArray[np.float64]
    top_nodes: NDArray[np.int64]
    top_paths: NDArray[np.int64]
    top_probabilities: NDArray[np.float64]
    answered: NDArray[np.bool_]


@torch.inference_mode()
def read_texts(model: Classifier, texts: Sequence[str], *, k: int = 5) -> Read:
    """Run ``texts`` through the model; answers as :meth:`Classifier.predict` gives them.

    A model that answers in words has no space where texts lie: its tangents have no columns, and
    where fewer than ``k`` paths were found, what is missing is -1 with probability 0.
    """
    if isinstance(model, TextClassifier):
        return _from_words(model, texts, k)
    head, levels = model.model.head, model.taxonomy.num_levels
    k = min(k, len(model.taxonomy.terminals))
    shapes = (
        (0, head.dim), (0,), (0, levels), (0, levels), (0,), (0, k), (0, k, levels), (0, k), (0, k),
    )  # fmt: skip
    parts = [[np.zeros(shape)] for shape in shapes]
    for start in range(0, len(texts), _WINDOW):
        logits, tangents = _forward(model, texts[start : start + _WINDOW])
        cuts = head.cuts(logits.device)
        kind, heat = head.loss_kind, model.temperature
        best = decoding.top_k(logits, cuts, k, loss=kind, temperature=heat)
        path = best.path_nodes[:, 0]
        marginals = decoding.marginals(logits, cuts, loss=kind, temperature=heat)
        of_path = marginals.gather(1, path.clamp(min=0)).masked_fill(path < 0, 0)
        answers = (
            tangents, best.nodes[:, 0], path, of_path, best.prob[:, 0], best.nodes,
            best.path_nodes, best.prob, _answered(model, logits, best.nodes),
        )  # fmt: skip
        for part, answer in zip(parts, answers, strict=True):
            part.append(answer.double().numpy() if answer.is_floating_point() else answer.numpy())
    wide: list[Any] = [np.concatenate(part) for part in parts]
    for column in (1, 2, 5, 6):  # node numbers, which the empty starts made floats
        wide[column] = wide[column].astype(np.int64)
    wide[8] = wide[8].astype(bool)
    return Read(*wide)


def _answered(model: Classifier, logits: Tensor, nodes: Tensor) -> Tensor:
    """Which of the best end nodes ``(B, k)`` the answer has."""
    if model.several_from is None:
        return torch.arange(nodes.shape[1]).eq(0).expand_as(nodes)
    head = model.model.head
    cuts = head.cuts(logits.device)
    several = decode_several(logits, cuts, model.several_from, loss=head.loss_kind).nodes
    return (nodes.unsqueeze(2) == several.unsqueeze(1)).any(2)


def _from_words(model: TextClassifier, texts: Sequence[str], k: int) -> Read:
    taxonomy = model.taxonomy
    count, levels = len(texts), taxonomy.num_levels
    found = Read(
        tangents=np.zeros((count, 0)),
        predicted=np.full(count, -1),
        path_nodes=np.full((count, levels), -1),
        marginals=np.zeros((count, levels)),
        probability=np.zeros(count),
        top_nodes=np.full((count, k), -1),
        top_paths=np.full((count, k, levels), -1),
        top_probabilities=np.zeros((count, k)),
        answered=np.arange(k)[None].repeat(count, 0) == 0,
    )

    def nodes(path: Sequence[str]) -> list[int]:
        return [taxonomy.index(path[: depth + 1]) for depth in range(len(path))]

    for row, answer in enumerate(model.stream(texts, top_k=k)):
        path = nodes(answer.path)
        found.path_nodes[row, : len(path)] = path
        found.marginals[row, : len(path)] = answer.probabilities
        found.predicted[row], found.probability[row] = path[-1], answer.probabilities[-1]
        for place, other in enumerate(answer.top):
            path = nodes(other.path)
            found.top_paths[row, place, : len(path)] = path
            found.top_nodes[row, place] = path[-1]
            found.top_probabilities[row, place] = other.probability
    return found


def _forward(model: Classifier, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Scores ``(B, N)`` and tangents ``(B, d)`` on the CPU, in the order of the texts."""
    lm = model.model
    head = lm.head
    project = head.each_projection()[head.tap_of_level[-1]]
    ids = tokenise(texts, lm.tokenizer, lm.config.max_length, keep=False)
    collate = Collator(model.taxonomy, lm.tokenizer.pad_token_id)
    logits = torch.empty(len(ids), len(model.taxonomy))
    tangents = torch.empty(len(ids), head.dim)
    # Neighbours in length share a batch.
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), model.batch_size):
        rows = order[start : start + model.batch_size]
        batch = collate([{"input_ids": ids[row]} for row in rows])
        states = lm.pooled_states(**{name: value.to(lm.device) for name, value in batch.items()})
        taps = states.unbind(dim=1)
        logits[rows] = head(taps).logits.float().cpu()
        tangents[rows] = project(taps[head.tap_of_level[-1]]).float().cpu()
    return logits, tangents
