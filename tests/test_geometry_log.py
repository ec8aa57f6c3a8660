"""What the training log says of the geometry, and when it warns."""

import warnings

import pytest
import torch

from hyperlm import HyperbolicHead
from hyperlm.errors import CurvatureWarning
from hyperlm.heads.hyperbolic import CURVATURE_BOUNDS
from hyperlm.taxonomy import Taxonomy
from hyperlm.training import _geometry_log


def head(**options) -> HyperbolicHead:
    tree = Taxonomy.from_paths([(a, a + b) for a in "xy" for b in "pqr"])
    return HyperbolicHead(8, tree, 4, **options)


@pytest.mark.parametrize("logit", [-12.0, 12.0])
def test_a_curvature_that_sits_on_a_bound_is_logged_and_warned_about(logit):
    stuck = head(learn_curvature=True)
    with torch.no_grad():
        stuck.curvature_logit.fill_(logit)
    with pytest.warns(CurvatureWarning, match=r"sits on a bound .*--curvature"):
        figures = _geometry_log(stuck)
    assert figures["curvature"] == pytest.approx(CURVATURE_BOUNDS[logit > 0], rel=1e-3)


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
def test_a_curvature_inside_its_bounds_is_logged_alone(c):
    free = head(curvature=c, learn_curvature=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = _geometry_log(free)
    assert figures["curvature"] == pytest.approx(c, rel=1e-5)
    # However the points are scaled, the log gives their radius in units of the curvature.
    radius = free.node_tangents().norm(dim=1).mean().item()
    assert figures["node_radius"] == pytest.approx(radius * c**0.5, rel=1e-5)
    assert figures["temperature_2"] == pytest.approx(10.0)


def test_a_fixed_curvature_is_not_logged():
    assert "curvature" not in _geometry_log(head(curvature=CURVATURE_BOUNDS[1] + 1))
