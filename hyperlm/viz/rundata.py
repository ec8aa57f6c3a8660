"""Everything a picture or a page shows of a run, as plain arrays: no model, no torch.

Points are tangent vectors at the origin of the run's own space in Riemannian length; curvature is
``-c``. :mod:`hyperlm.viz.sources` reads them from runs and files.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.taxonomy import Taxonomy

__all__ = ["RunData", "TextData", "level_names", "taxonomy_data"]

_GEOMETRIES = ("poincare", "lorentz", "euclidean", "none")


@dataclass(frozen=True)
class TextData:
    """M texts, where they lie and what the model says of them.

    Attributes:
        texts: M texts.
        tangents: ``(M, d)`` at the origin, Riemannian length, in the space of ``RunData.points``.
        gold: ``(M,)`` end node of the gold path, -1 where there is none; of several the one that
            was answered, or else the first.
        predicted: ``(M,)`` end node of the decoded path.
        probability: ``(M,)`` of the whole decoded path.
        top_nodes: ``(M, k)`` end nodes of the most probable paths, best first.
        top_probabilities: ``(M, k)``.
        split: Where the texts are from: ``train``, ``val``, ``test``, or the name of a file.
        right: ``(M,)`` bool, whether the answer is any of the gold paths; None where each text has
            one at most.
    """

    texts: tuple[str, ...]
    tangents: NDArray[np.float64]
    gold: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]
    top_nodes: NDArray[np.int64]
    top_probabilities: NDArray[np.float64]
    split: str
    right: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        count = len(self.texts)
        rows = {
            name: len(value)
            for name, value in vars(self).items()
            if name != "split" and value is not None
        }
        if set(rows.values()) != {count} or self.tangents.ndim != 2:
            raise OptionError(
                f"TextData: {count} texts, but {rows} rows; tangents of shape "
                f"{self.tangents.shape}. Give one row per text."
            )
        _refuse_infinite(self.tangents, "text")

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class RunData:
    """What there is to see of a run.

    Attributes:
        title: What to call it.
        taxonomy: The labels.
        level_names: One per level, coarse to fine.
        geometry: ``poincare``, ``lorentz``, ``euclidean``; ``none`` without label points.
        c: Curvature is ``-c``; 0 for ``euclidean`` and ``none``.
        points: ``(N, d)`` label points as tangent vectors at the origin, Riemannian length, or None
            for a taxonomy alone and for a linear head, which has weights but no points.
        texts: Texts with their predictions, or None.
        log: Rows of the training log, oldest first.
        notes: What the reader must know: what was left out, and why.
        descriptions: What labels mean, by node, where the run was told.
        counts: ``(N,)`` texts at or below each node, where labels are shown without a model.
    """

    title: str
    taxonomy: Taxonomy
    level_names: tuple[str, ...]
    geometry: str
    c: float
    points: NDArray[np.float64] | None
    texts: TextData | None
    log: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    descriptions: Mapping[int, str] = field(default_factory=dict)
    counts: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count, points = len(self.taxonomy), self.points
        if self.geometry not in _GEOMETRIES:
            raise OptionError(
                f"geometry {self.geometry!r}: choose one of {', '.join(_GEOMETRIES)}."
            )
        if not (math.isfinite(self.c) and self.c >= 0):
            raise OptionError(f"c = {self.c}: it must be finite and not negative.")
        if len(self.level_names) != self.taxonomy.num_levels:
            raise OptionError(
                f"{len(self.level_names)} level names for {self.taxonomy.num_levels} levels."
            )
        if points is not None:
            if points.ndim != 2 or len(points) != count or not points.shape[1]:
                raise OptionError(
                    f"points have the shape {points.shape}, the taxonomy has {count} nodes: give "
                    "one row per node, (N, d), in the taxonomy's numbering and without the root."
                )
            _refuse_infinite(points, "node")
        if self.texts is not None:
            nodes = (self.texts.gold, self.texts.predicted, self.texts.top_nodes)
            if any(len(n) and (n.min() < -1 or n.max() >= count) for n in nodes):
                raise OptionError(f"texts name nodes outside -1..{count - 1}.")
            if points is not None and self.texts.tangents.shape[1] != points.shape[1]:
                raise OptionError(
                    f"texts have {self.texts.tangents.shape[1]} dimensions, label points "
                    f"{points.shape[1]}; they must lie in one space."
                )


def taxonomy_data(taxonomy: Taxonomy, *, title: str | None = None) -> RunData:
    """A taxonomy without a model."""
    name = taxonomy.title if title is None else title
    return RunData(name, taxonomy, level_names(taxonomy), "none", 0.0, None, None)


def level_names(taxonomy: Taxonomy) -> tuple[str, ...]:
    return tuple(f"L{level}" for level in range(1, taxonomy.num_levels + 1))


def _refuse_infinite(points: NDArray[np.float64], what: str) -> None:
    bad = ~np.isfinite(points).all(1)
    if bad.any():
        raise OffManifoldError(
            f"{int(bad.sum())} of {len(points)} {what} points hold NaN or infinity, first {what} "
            f"{int(bad.argmax())}. The training has diverged; lower its learning rate."
        )
