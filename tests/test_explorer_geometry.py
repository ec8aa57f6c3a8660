"""The page's own geometry, evaluated in the browser, against mpmath and ``hyperlm.manifolds``.

Oracle: 200-digit arithmetic on the very float64 tangents that the page is given. Skipped with a
message where no Chromium is installed.
"""

import json
import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from browser import Tab
from explorer_pages import node_positions, open_page, page_of
from numpy.typing import NDArray

from hyperlm.manifolds import PoincareBall
from hyperlm.manifolds.construct import sarkar
from hyperlm.taxonomy import Taxonomy
from hyperlm.viz import palette
from hyperlm.viz.disk import arc_circles
from hyperlm.viz.layout import Layout, tree_layout
from hyperlm.viz.rundata import taxonomy_data

pytest_plugins = ["explorer_fixtures"]

TINY = Taxonomy.from_paths([("a", "b"), ("a", "c")])


@pytest.fixture(scope="module")
def tab(browser, tmp_path_factory):
    run = taxonomy_data(TINY, title="tiny")
    return open_page(
        browser, page_of(run, tmp_path_factory.mktemp("geometry"), [tree_layout(TINY)])
    )


@pytest.fixture(autouse=True)
def _digits():
    with mpmath.workdps(400):
        yield


def ball(tangent: Any) -> mpmath.mpc:
    """Disk coordinate of a tangent vector, from exactly these two floats."""
    x, y = (mpmath.mpf(float(v)) for v in tangent)
    r = mpmath.hypot(x, y)
    return mpmath.mpc(x, y) * (mpmath.tanh(r / 2) / r if r else mpmath.mpf(1) / 2)


def seen_from(b: mpmath.mpc, p: mpmath.mpc) -> mpmath.mpc:
    return (p - b) / (1 - mpmath.conj(b) * p)


def pairs(random: np.random.Generator) -> list[tuple[list[float], list[float]]]:
    """Near and far, and such that lie close together at radius up to 35."""
    found = [([0.0, 0.0], [0.0, 0.0]), ([0.0, 0.0], [1.5, -2.0]), ([3.0, 1.0], [0.0, 0.0])]
    found += [([1.0, 2.0], [1.0, 2.0]), ([2.0, 0.0], [-3.0, 0.0]), ([4.0, -1.0], [8.0, -2.0])]
    for radius in (0.001, 0.5, 2.0, 8.0, 20.0, 30.0, 35.0):
        for _ in range(4):
            angle = random.uniform(0, 2 * math.pi)
            b = radius * np.array([math.cos(angle), math.sin(angle)])
            found.append((b.tolist(), random.normal(size=2).tolist()))
            # About one unit away, whatever the radius.
            near = b * (1 + random.normal() / max(radius, 1))
            across = np.array([-b[1], b[0]]) / radius * random.normal() * radius
            near = near + across / max(math.sinh(radius), 1)
            found.append((b.tolist(), near.tolist()))
    return found


def test_where_a_point_is_seen_from_another(tab: Tab):
    cases = pairs(np.random.default_rng(0))
    found = tab.call("cases => cases.map(([b, p]) => hyperlm.geometry.relative(b, p))", cases)
    for (b, p), (ux, uy, square) in zip(cases, found, strict=True):
        want = seen_from(ball(b), ball(p))
        length = math.sqrt(square / (1 + square))
        assert abs(complex(ux, uy)) == pytest.approx(1, abs=1e-14)
        # The screen shows this: a millionth of the disk's radius is asked for.
        assert abs(mpmath.mpc(ux, uy) * length - want) < 1e-12
        distance = 2 * mpmath.atanh(abs(want))
        assert 2 * math.asinh(math.sqrt(square)) == pytest.approx(float(distance), abs=1e-9)


def test_far_beyond_what_disk_coordinates_hold(tab: Tab):
    # One ray of a chain, at radii where exp(r) overflows float32, and others that overflow all.
    radii = [50.0 + 2 * k for k in range(150)]
    ray = [[0.6 * r, 0.8 * r] for r in radii]
    found = tab.call("ray => ray.slice(1).map((p, k) => hyperlm.geometry.relative(ray[k], p))", ray)
    for ux, uy, square in found:
        assert math.hypot(ux - 0.6, uy - 0.8) < 1e-9
        assert 2 * math.asinh(math.sqrt(square)) == pytest.approx(2, rel=1e-9)
    wild = [[1e6, 0.0], [-1e100, 1e-300], [0.0, 5e-324]]
    for b in wild:
        for p in wild:
            ux, uy, square = tab.call("(b, p) => hyperlm.geometry.relative(b, p)", b, p)
            assert math.hypot(ux, uy) == pytest.approx(1)
            assert square is not None
            assert square >= 0


def test_a_change_of_base_agrees_with_both_frames(tab: Tab):
    random = np.random.default_rng(1)
    for radius in (0.0, 1.0, 10.0, 30.0):
        angle = random.uniform(0, 2 * math.pi)
        a = radius * np.array([math.cos(angle), math.sin(angle)])
        b = a + (random.normal(size=2) if radius < 2 else 0.03 * a)
        p = a * 1.02
        script = """(a, b, p) => {
          const g = hyperlm.geometry;
          const [x, y, s] = g.relative(b, p);
          const r = Math.sqrt(s / (1 + s));
          return g.applied(g.changeOfBase(a, b), r * x, r * y);
        }"""
        found = complex(*tab.call(script, a.tolist(), b.tolist(), p.tolist()))
        assert abs(seen_from(ball(a), ball(p)) - found) < 1e-10


def test_isometries_are_those_of_the_ball(tab: Tab):
    random = np.random.default_rng(2)
    points = random.uniform(-0.6, 0.6, (6, 2))
    space = PoincareBall(1.0)
    for w, v in zip(points[:3], points[3:], strict=True):
        m = tab.call("(w, v) => hyperlm.geometry.dragTranslation(w, v)", w.tolist(), v.tolist())
        # A translation moves the origin to b / conj(a) and turns nothing there.
        assert m[1] == 0
        step = torch.tensor([m[2] / m[0], m[3] / m[0]], dtype=torch.float64)
        moved = space.mobius_add(step.expand(6, 2), torch.from_numpy(points))
        at = space.mobius_add(step, torch.from_numpy(w))
        np.testing.assert_allclose(at, v, atol=1e-13)
        script = "(m, ps) => ps.map(p => hyperlm.geometry.applied(m, ...p))"
        found = tab.call(script, m, points.tolist())
        np.testing.assert_allclose(found, moved, atol=1e-13)


def test_composition_and_image_of_the_origin(tab: Tab):
    script = """(d, x, y, e) => {
      const g = hyperlm.geometry;
      const both = g.compose(g.translation(d, x, y), g.translation(e, x, y));
      return [both, g.imageOfOrigin(both)];
    }"""
    both, (ux, uy, far) = tab.call(script, 1.5, 0.6, -0.8, 2.25)
    assert far == pytest.approx(3.75, abs=1e-13)
    assert (ux, uy) == pytest.approx((0.6, -0.8), abs=1e-13)
    assert both[0] ** 2 + both[1] ** 2 - both[2] ** 2 - both[3] ** 2 == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("radius", [0.0, 0.7, 4.0, 12.0, 25.0])
def test_cones_end_where_their_rays_do(tab: Tab, radius):
    base, psi = [radius, 0.0], 0.4
    for apex in ([1.0, 0.5], [-2.0, 0.1], [radius + 1.0, 0.0], [max(radius - 3, 0.2), 0.0]):
        found = tab.call("(b, p, psi) => hyperlm.geometry.coneEnds(b, p, psi)", base, apex, psi)
        p, b = ball(apex), ball(base)
        outward = p / abs(p)
        for k, turn in enumerate((-psi, psi)):
            ray = outward * mpmath.expj(turn)  # its end, seen from the apex
            end = (ray + p) / (1 + mpmath.conj(p) * ray)
            assert abs(seen_from(b, end) - complex(*found[2 * k : 2 * k + 2])) < 1e-9


def test_arcs_lie_on_the_same_circles_as_in_figures(tab: Tab):
    random = np.random.default_rng(3)
    a, b = random.uniform(-0.7, 0.7, (2, 20, 2))
    centre, radius = arc_circles(a, b)
    script = "(a, b) => a.map((p, k) => hyperlm.geometry.geodesicCircle(p, b[k]))"
    found = np.array(tab.call(script, a.tolist(), b.tolist()))
    np.testing.assert_allclose(found[:, :2], centre, rtol=1e-9)
    np.testing.assert_allclose(found[:, 2], radius, rtol=1e-9)
    assert tab.call(script, [[0.1, 0.2]], [[0.3, 0.6]])[0][2] == 0  # through the centre: straight


def test_colours_are_those_of_figures(tab: Tab):
    found = tab.evaluate("JSON.stringify([hyperlm.palettes, hyperlm.markers])")
    palettes, markers = json.loads(found)
    assert tuple(markers) == palette.MARKERS
    for name, theme in (("light", palette.LIGHT), ("dark", palette.DARK)):
        assert tuple(palettes[name]["classes"]) == theme.classes
        for part in ("paper", "disk", "rim", "ink", "muted"):
            assert palettes[name][part] == getattr(theme, part)


# --- deep trees -----------------------------------------------------------------------------------


def deep_layout() -> tuple[Taxonomy, NDArray[np.float64]]:
    """Seven levels five units apart: the last lie at radius 35."""
    paths = [
        [f"{level}-{'ab'[branch >> level & 1]}" for level in range(7)] for branch in range(128)
    ]
    taxonomy = Taxonomy.from_paths(paths)
    return taxonomy, sarkar(taxonomy, 2, 5.0).numpy()


def test_a_node_at_radius_35_opens_up_in_the_centre(browser, tmp_path):
    taxonomy, tangents = deep_layout()
    assert np.linalg.norm(tangents, axis=1).max() > 33
    plan = Layout("tree", tangents, None, ("far out",))
    tab = open_page(browser, page_of(taxonomy_data(taxonomy, title="deep"), tmp_path, [plan]))
    deep = [int(n) for n in taxonomy.path_nodes(int(taxonomy.leaves[77]))]
    tab.evaluate("hyperlm.app.canvas.focus()")
    for node in [*deep, *deep[::-1], *deep]:  # down, up and down again: nothing piles up
        tab.call("n => hyperlm.app.choose(n, { centre: true })", node)
        tab.settle()
        found = node_positions(tab)
        around = [int(n) for n in taxonomy.children(node)] + [int(taxonomy.parent[node])]
        around = [n for n in around if n >= 0]
        assert abs(complex(*found[node])) < 1e-9
        want = [seen_from(ball(tangents[node]), ball(tangents[n])) for n in around]
        have = [mpmath.mpc(*found[n]) for n in around]
        # The plane may have been turned on the way: one turn for all of them.
        turn = have[0] / want[0]
        turn /= abs(turn)
        for one, other in zip(have, want, strict=True):
            assert abs(one - turn * other) < 1e-6
    tab.close()


_DISK = """(({ scene, canvas }) => {
  const box = canvas.getBoundingClientRect();
  return [box.left + scene.centreX, box.top + scene.centreY, scene.radius];
})(hyperlm.app)"""


def test_dragging_far_into_the_tree_piles_up_no_error(browser, tmp_path):
    taxonomy, tangents = deep_layout()
    plan = Layout("tree", tangents, None, ("far out",))
    tab = open_page(browser, page_of(taxonomy_data(taxonomy, title="deep"), tmp_path, [plan]))
    goal = int(taxonomy.leaves[77])
    bases = set()
    for _ in range(30):
        tab.evaluate("hyperlm.app.scene.project()")
        at = complex(*node_positions(tab)[goal])
        if abs(at) < 0.9:
            break
        # Grab the plane towards the goal and pull it over, nearly 6 units at a time.
        box = tab.evaluate(_DISK)
        way = (0.88 * at / abs(at)).conjugate() * box[2]
        centre = complex(box[0], box[1])
        a, b = centre + way, centre - way
        tab.drag((a.real, a.imag), (b.real, b.imag), steps=3)
        bases.add(tab.evaluate("hyperlm.app.scene.base"))
    assert abs(at) < 0.9
    assert len(bases) > 3  # it was not all done in the frame of the origin
    found = node_positions(tab) @ [1, 1j]
    near = [int(n) for n in np.flatnonzero(np.abs(found) < 0.995)]
    assert len(near) >= 2
    for a in near:
        for b in near:
            want = 2 * mpmath.atanh(abs(seen_from(ball(tangents[a]), ball(tangents[b]))))
            p, q = mpmath.mpc(complex(found[a])), mpmath.mpc(complex(found[b]))
            have = 2 * mpmath.atanh(abs(seen_from(p, q)))
            assert abs(have - want) < 1e-6
    tab.close()
