"""Constant-curvature geometry that stays exact in float32; begin at `polar`."""

from hyperlm.manifolds import cones, construct, fidelity, polar
from hyperlm.manifolds.base import Geometry, ManifoldParameter, RiemannianAdam
from hyperlm.manifolds.candidates import FaissIndex
from hyperlm.manifolds.construct import sarkar
from hyperlm.manifolds.euclidean import Euclidean
from hyperlm.manifolds.fidelity import (
    ancestor_retrieval,
    distortion,
    mean_average_precision,
)
from hyperlm.manifolds.lorentz import Lorentz
from hyperlm.manifolds.models import lorentz_to_poincare, poincare_to_lorentz
from hyperlm.manifolds.negatives import NegativeSampler
from hyperlm.manifolds.poincare import PoincareBall
from hyperlm.manifolds.refinement import refine
from hyperlm.manifolds.row_adam import RowAdam
from hyperlm.manifolds.search import nearest
from hyperlm.manifolds.tangent import TangentBall, curved

__all__ = [
    "Euclidean",
    "FaissIndex",
    "Geometry",
    "Lorentz",
    "ManifoldParameter",
    "NegativeSampler",
    "PoincareBall",
    "RiemannianAdam",
    "RowAdam",
    "TangentBall",
    "ancestor_retrieval",
    "cones",
    "construct",
    "curved",
    "distortion",
    "fidelity",
    "lorentz_to_poincare",
    "mean_average_precision",
    "nearest",
    "poincare_to_lorentz",
    "polar",
    "refine",
    "sarkar",
]
