"""From a run to two dimensions: every projection by name, each with its note and its measure.

In: a :class:`RunData`. Out: a :class:`Layout` in the hyperbolic plane of ``c = 1``. All keep
the root at the origin and are the same for the same seed. Text points go through the same map as
label points, which is fitted on the labels alone; only UMAP, which has no map, lays both out at
once.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hyperlm.errors import OptionError
from hyperlm.viz.hyperbolic_pca import fit_plane, onto_plane, principal_plane
from hyperlm.viz.layout import Layout, as_points, tree_layout
from hyperlm.viz.quality import picture_quality
from hyperlm.viz.rundata import RunData, TextData
from hyperlm.viz.umap_plane import umap_plane

__all__ = ["PROJECTIONS", "applicable", "default_projection", "project"]

PROJECTIONS = ("tree", "pca", "horopca", "umap")
# 95 per cent of the labels are drawn within a radius between these; outside, all radii are
# multiplied by one factor, which the caption names. 2.5 is 0.85 of the disk's radius, 5 is 0.99.
_NEAR, _FAR = 2.5, 5.0


@dataclass(frozen=True)
class _Radii:
    """How radii of labels and texts alike are drawn: ``factor * r ** power``."""

    factor: float
    power: float = 1.0

    def __call__(self, flat: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.power == 1:
            return flat * self.factor
        radius = np.linalg.norm(flat, axis=1, keepdims=True)
        drawn: NDArray[np.float64] = self.factor * radius**self.power
        return flat / np.where(radius > 0, radius, 1) * drawn

    def note(self) -> str:
        if self.power != 1:
            return f"Radii r are drawn as {self.factor:.2g} r^{self.power:.2f}."
        if abs(self.factor - 1) < 1e-12:
            return "Radii are to scale."
        return f"All radii times {self.factor:.2g}."


def _fitting(labels: NDArray[np.float64], texts: NDArray[np.float64] | None) -> _Radii:
    """To scale if that can be read; else by one factor; else, for texts far out, by a power.

    Trained texts may lie ten times as far out as labels: no factor shows both.
    """
    near = _outer(labels)
    if not near > 0:
        return _Radii(1.0)
    factor = min(max(near, _NEAR), _FAR) / near
    far = _outer(texts) if texts is not None else 0.0
    if far * factor <= _FAR or far <= near * 1.01:
        return _Radii(factor)
    power = math.log(_FAR / _NEAR) / math.log(far / near)
    if power >= 1:
        return _Radii(_FAR / far)
    return _Radii(_NEAR / near**power, power)


def _outer(flat: NDArray[np.float64]) -> float:
    """The radius that 95 per cent stay within."""
    return float(np.quantile(np.linalg.norm(flat, axis=1), 0.95)) if len(flat) else 0.0


def applicable(run: RunData) -> tuple[str, ...]:
    """Names of the projections that this run has the data for; UMAP, which is slow, left out."""
    if run.points is None:
        return ("tree",)
    return ("tree", "pca") if run.c == 0 else ("tree", "horopca", "pca")


def default_projection(run: RunData) -> str:
    """Hyperbolic PCA; tangent PCA for flat points; without points the tree's construction."""
    return "tree" if run.points is None else "horopca" if run.c else "pca"


def project(run: RunData, how: str, *, seed: int = 0) -> Layout:
    """Bring a run's labels, and its texts if it has any, to two dimensions.

    Args:
        run: What to show.
        how: ``tree``: the taxonomy's own construction, without any points; texts lie at the
            weighted mean of their most probable labels. ``pca``: tangent PCA. ``horopca``:
            hyperbolic PCA, see :mod:`hyperlm.viz.hyperbolic_pca`. ``umap``: neighbourhoods, see
            :mod:`hyperlm.viz.umap_plane`.
        seed: Of the sample, of random starts, of UMAP.
    Raises:
        OptionError: An unknown projection; one that this run lacks the points for; umap-learn is
            not installed. OffManifoldError: Points that are NaN or infinite.
    """
    if how not in PROJECTIONS:
        raise OptionError(f"projection {how!r}; choose one of {', '.join(PROJECTIONS)}.")
    if how == "tree":
        plan = _tree(run)
        points = None
    else:
        if run.points is None:
            raise OptionError(
                f"the projection {how} needs label points; {run.title or 'this'} has none. Use the "
                "projection tree."
            )
        if run.c == 0 and how == "horopca":
            raise OptionError("horopca needs hyperbolic points, these are flat; use pca or umap.")
        points = as_points(run.points, len(run.taxonomy))
        plan = _umap(run, points, seed) if how == "umap" else _linear(run, points, how, seed)
    quality = picture_quality(plan.tangents, run.taxonomy, points, c=run.c, seed=seed)
    return replace(plan, quality=quality)


def _tree(run: RunData) -> Layout:
    plan = tree_layout(run.taxonomy)
    positions = np.concatenate([plan.tangents, np.zeros((1, 2))])  # -1 is the root

    def place(texts: TextData) -> NDArray[np.float64]:
        return _means(positions[texts.top_nodes], texts.top_probabilities)

    if run.texts is None:
        return replace(plan, place=place)
    note = (*plan.note, "Texts: mean of their most probable labels.")
    return replace(plan, place=place, note=note, texts=place(run.texts))


def _means(u: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, 2) hyperbolic centroids of (M, k, 2) tangents: weighted sums on the hyperboloid."""
    radius = np.linalg.norm(u, axis=2)
    direction = u / np.where(radius > 0, radius, 1)[..., None]
    time = (weights * np.cosh(radius)).sum(1)
    space = ((weights * np.sinh(radius))[..., None] * direction).sum(1)
    length = np.linalg.norm(space, axis=1)
    # atanh(length / time) without the difference that cancels far out is asinh of this.
    norm = np.sqrt(np.maximum((time - length) * (time + length), 1e-300))
    far: NDArray[np.float64] = np.arcsinh(length / norm)
    return space / np.where(length > 0, length, 1)[:, None] * far[:, None]


def _linear(run: RunData, points: NDArray[np.float64], how: str, seed: int) -> Layout:
    scale = math.sqrt(run.c or 1.0)
    if how == "pca":
        basis = principal_plane(points)

        def flat(u: NDArray[np.float64]) -> NDArray[np.float64]:
            return u @ basis * scale
    else:
        basis = fit_plane(points, c=run.c, seed=seed)

        def flat(u: NDArray[np.float64]) -> NDArray[np.float64]:
            return onto_plane(u, basis, c=run.c) * scale

    drawn = flat(points)
    radii = _fitting(drawn, None if run.texts is None else flat(run.texts.tangents))

    def place(texts: TextData) -> NDArray[np.float64]:
        return radii(flat(texts.tangents))

    total = float((points**2).sum())
    held = float(((points @ basis) ** 2).sum()) / total if total > 0 else 1.0
    name = "tangent PCA" if how == "pca" else "hyperbolic PCA"
    space = "flat points" if run.c == 0 else "points"
    note = (f"Learned {space} by {name} ({held:.0%} of", "their squared length). " + radii.note())
    texts = None if run.texts is None else place(run.texts)
    return Layout(how, radii(drawn), None, note, texts, None, place)


def _umap(run: RunData, points: NDArray[np.float64], seed: int) -> Layout:
    count = len(points)
    if run.texts is not None:
        points = np.concatenate([points, run.texts.tangents])
    flat = umap_plane(points, c=run.c, seed=seed) * math.sqrt(run.c or 1.0)
    texts = flat[count:] if run.texts is not None else None
    radii = _fitting(flat[:count], texts)
    with_texts = " with the texts" if texts is not None else ""
    note = (
        f"Learned points by UMAP on the hyperboloid{with_texts}:",
        "who is near whom, not how far. " + radii.note(),
    )
    placed = None if texts is None else radii(texts)
    return Layout("umap", radii(flat[:count]), None, note, placed)
