"""Label points without a model: the file that ``hyperlm embed`` writes.

A safetensors file with one tensor ``points``, ``(N, d)`` tangent vectors at the origin in
Riemannian length, and the metadata ``taxonomy`` (JSON of ``Taxonomy.to_dict``), ``c`` (curvature
is ``-c``; 0 where it is flat) and, where it is not ``poincare``, ``geometry``.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from hyperlm.errors import ModelError
from hyperlm.taxonomy import Taxonomy

__all__ = ["Embedding", "read_embedding"]

_REMEDY = "Give a file that 'hyperlm embed' wrote, or write it again."


class Embedding(NamedTuple):
    """A taxonomy, ``(N, d)`` tangent vectors, the geometry and its c (0 where it is flat)."""

    taxonomy: Taxonomy
    points: NDArray[np.float64]
    geometry: str
    c: float


def read_embedding(path: Path) -> Embedding:
    """Read label points; their shape is not checked here.

    Raises:
        ModelError: Not such a file, or a damaged one.
    """
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata, names = stream.metadata() or {}, list(stream.keys())
            points = stream.get_tensor("points") if "points" in names else None
        if points is not None and "taxonomy" in metadata:
            taxonomy = Taxonomy.from_dict(json.loads(metadata["taxonomy"]))
            geometry = metadata.get("geometry", "poincare")
            c = 0.0 if geometry == "euclidean" else float(metadata.get("c", "1"))
            return Embedding(taxonomy, np.asarray(points, dtype=np.float64), geometry, c)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: damaged, or no embedding ({error}). {_REMEDY}") from error
    what = f"tensors {', '.join(names[:5])}" if names else "no tensor"
    raise ModelError(
        f"{path}: no embedding of a taxonomy; it needs a tensor 'points' and the metadata "
        f"'taxonomy', and holds {what}. {_REMEDY}"
    )
