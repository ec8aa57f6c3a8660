"""Hyperbolic PCA: the totally geodesic plane through the origin that shows the points best.

In: tangent vectors at the origin, Riemannian length, curvature ``-c``. Out: a basis of the plane,
and the points' images in it, again as tangent vectors at the origin.

The objective is HoroPCA's (Chami et al. 2021, arXiv 2106.03306): the mean squared distance between
the images is largest. The map is its two-sided form. HoroPCA keeps each point's Busemann functions
``B`` towards two ideal points; what lies beyond the geodesic between these is folded back, and a
point off the plane is thrown away from both. Here a point keeps, for *every* unit vector ``q`` of
the plane, ``(exp B_{-q} - exp B_q) / 2``, which in Lorentz coordinates is ``<q, x>``: the image of
``(x_0, x)`` is ``(sqrt(1 + |Px|^2), Px)``. The root stays at the origin, points of the plane do not
move at all, and no distance grows.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperlm.manifolds import polar

__all__ = ["fit_plane", "onto_plane", "principal_plane"]

_SAMPLE = 400  # points whose distances are maximised
_STEPS, _STARTS = 60, 2  # of L-BFGS


def onto_plane(
    u: NDArray[np.float64], basis: NDArray[np.float64], *, c: float = 1.0
) -> NDArray[np.float64]:
    """Images of points in the plane.

    Args:
        u: ``(N, d)`` tangent vectors at the origin, Riemannian length.
        basis: ``(d, 2)`` with orthonormal columns.
        c: Positive; curvature is ``-c``.
    Returns:
        ``(N, 2)`` likewise, in the plane of the same curvature; for points of the plane ``u @
        basis``.
    """
    flat = _onto(torch.from_numpy(u * math.sqrt(c)), torch.from_numpy(basis))
    image: NDArray[np.float64] = flat.numpy() / math.sqrt(c)
    return image


def fit_plane(u: NDArray[np.float64], *, c: float = 1.0, seed: int = 0) -> NDArray[np.float64]:
    """The plane in which the mean squared distance between the images is largest.

    L-BFGS over orthonormal bases, from the plane of tangent PCA and from a random one. Above 400
    points, a sample is fitted.

    Args:
        u: ``(N, d)`` tangent vectors at the origin, Riemannian length.
        c: Positive; curvature is ``-c``.
        seed: Of the sample and the random start.
    Returns:
        ``(d, 2)`` orthonormal; the axes are those of the images' spread, the first the larger.
    """
    first = principal_plane(u)
    dim = u.shape[1]
    if dim <= 2:
        return first
    random = np.random.default_rng(seed)
    some = u
    if len(u) > _SAMPLE:
        some = u[np.sort(random.choice(len(u), _SAMPLE, replace=False))]
    points = torch.from_numpy(some * math.sqrt(c))
    starts = [first]
    starts += [np.linalg.qr(random.normal(size=(dim, 2)))[0] for _ in range(_STARTS - 1)]
    best = max((_climb(points, torch.from_numpy(start)) for start in starts), key=lambda x: x[0])
    plane = best[1].numpy()
    # Any basis of the plane would do: take the axes along which the images spread.
    images = onto_plane(u, plane, c=c)
    return _signed(plane @ np.linalg.eigh(images.T @ images)[1][:, ::-1])


def principal_plane(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(d, 2)``: the plane through the origin that holds most of the squared length of ``u``."""
    axes = np.linalg.eigh(u.T @ u)[1][:, ::-1][:, :2]
    return _signed(np.pad(axes, ((0, 0), (0, 2 - axes.shape[1]))))


def _onto(u: Tensor, basis: Tensor) -> Tensor:
    radius = torch.linalg.vector_norm(u, dim=1, keepdim=True)
    inside = (u / radius.clamp_min(1e-300)) @ basis
    share = torch.linalg.vector_norm(inside, dim=1, keepdim=True).clamp_min(1e-30)
    # sinh overflows at 710; there the image differs from the point by log(share) alone.
    near = torch.asinh(torch.sinh(radius.clamp_max(300)) * share)
    return inside / share * (near + (radius - 300).clamp_min(0))


def _climb(points: Tensor, start: Tensor) -> tuple[float, Tensor]:
    """Objective and basis at a local optimum."""
    free = start.contiguous().clone().requires_grad_()
    optimiser = torch.optim.LBFGS([free], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        flat = _onto(points, torch.linalg.qr(free)[0])
        return -polar.pairwise_dist(flat, flat).square().mean()

    def closure() -> float:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return float(value.detach())

    with torch.enable_grad():
        optimiser.step(closure)
    with torch.no_grad():
        return -float(loss()), torch.linalg.qr(free)[0].detach()


def _signed(basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sign of an axis is arbitrary: its largest component is made positive."""
    lead = basis[np.abs(basis).argmax(0), np.arange(2)]
    return basis * np.where(lead < 0, -1.0, 1.0)
