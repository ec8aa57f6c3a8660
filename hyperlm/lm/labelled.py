"""Start a model's head from labelled texts, as its backbone sees them before any training.

Enters: a model, training texts with where their gold paths end. Leaves: the same model, whose head
already answers: discriminants for projections, means of texts and names for nodes
(:func:`hyperlm.heads.start_from_texts`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from hyperlm.heads import start_from_texts
from hyperlm.lm.batches import pooled_features, targets_of, tokenise
from hyperlm.lm.model import HierarchicalLM
from hyperlm.lm.names import name_features

__all__ = ["start_from_labelled"]

_TEXTS = 20_000  # a mean of some hundred texts does not get better by more of them


def start_from_labelled(
    model: HierarchicalLM,
    texts: Sequence[str],
    gold: Sequence[np.ndarray],
    *,
    descriptions: Mapping[int, str] | None = None,
    val: tuple[Sequence[str], Sequence[np.ndarray]] | None = None,
    precision: torch.dtype = torch.float32,
    temperature: float = 20.0,
    seed: int = 0,
    progress: bool = False,
) -> None:
    """Set projections, nodes and temperatures from training texts and label names, in place.

    Args:
        texts: of many, a seeded sample is used.
        gold: end nodes of each text's gold paths.
        descriptions: of nodes, see :func:`~hyperlm.lm.names.name_features`.
        val: held-out texts and their gold, by which some of the start is chosen; see ``held_out``
            of :func:`~hyperlm.heads.start_from_texts`.
        precision: arithmetic of the backbone; features of all texts are those that a run on frozen
            features reads, and are computed once for both.
        temperature: see :func:`~hyperlm.heads.start_from_texts`.
        progress: show a bar.
    Raises:
        DataError: fewer than two labels have texts, or no label has texts that differ.
    """
    rows = list(range(len(texts)))
    if len(rows) > _TEXTS:
        rows = sorted(np.random.default_rng([seed, 2]).permutation(len(rows))[:_TEXTS].tolist())
    ids = tokenise([texts[row] for row in rows], model.tokenizer, model.config.max_length)
    of_texts = pooled_features(model, ids, precision=precision, progress=progress)
    of_names = name_features(
        model, descriptions=descriptions, precision=precision, progress=progress
    )
    targets = targets_of([gold[row] for row in rows], model.taxonomy)
    held_out = None
    if val is not None:
        ids = tokenise(list(val[0]), model.tokenizer, model.config.max_length)
        of_val = pooled_features(model, ids, precision=precision, progress=progress)
        held_out = of_val, targets_of(list(val[1]), model.taxonomy)
    start_from_texts(
        model.head,
        of_texts,
        targets,
        names=of_names,
        temperature=temperature,
        held_out=held_out,
    )
