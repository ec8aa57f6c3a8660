"""Moving through the page in a real browser: drag, glide, zoom, pinch; where every node then is.

Positions are compared with ``hyperlm.manifolds`` to 1e-6 of the disk's radius. Skipped with a
message where no Chromium is installed.
"""

import time

import numpy as np
import pytest
import torch
from explorer_pages import (
    BALL,
    disk,
    drag_step,
    in_ball,
    node_positions,
    open_page,
    place,
    state,
    text_of,
)

pytest_plugins = ["explorer_fixtures"]


@pytest.mark.parametrize("layout", [0, 1])
def test_nodes_stand_where_the_ball_has_them(tab, plans, layout):
    tab.call("k => hyperlm.app.setLayout(k)", layout)
    tab.settle()
    np.testing.assert_allclose(node_positions(tab), in_ball(plans, layout), atol=1e-6)


def test_drags_are_moebius_translations(tab, plans):
    want = in_ball(plans)
    centre, radius = disk(tab)
    for start, end in (((100, 40), (-60, 110)), ((-20, -150), (90, -30)), ((5, 5), (160, -90))):
        a, b = (centre + complex(*offset) for offset in (start, end))
        tab.drag((a.real, a.imag), (b.real, b.imag), steps=3)
        w, v = (((z - centre) / radius).conjugate() for z in (a, b))
        want = BALL.mobius_add(drag_step(w, v).expand_as(want), want)
        np.testing.assert_allclose(node_positions(tab), want, atol=1e-6)


def test_the_grabbed_point_stays_under_the_pointer(tab):
    node = tab.evaluate("hyperlm.app.scene.tree.list[0]")
    x, y = place(tab, "nodes", node)
    tab.drag((x, y), (x - 43.5, y + 71.25), steps=5)
    # Events carry float32 pixels.
    assert place(tab, "nodes", node) == pytest.approx((x - 43.5, y + 71.25), abs=1e-4)


def test_dragging_outside_the_disk_turns_it(tab, plans):
    centre, radius = disk(tab)
    a, b = (centre + 1.04 * radius * np.exp(1j * angle) for angle in (0.3, 0.9))
    tab.drag((a.real, a.imag), (b.real, b.imag))
    turned = node_positions(tab) @ [1, 1j]
    flat = in_ball(plans).numpy() @ [1, 1j]
    np.testing.assert_allclose(turned, flat * np.exp(-0.6j), atol=1e-6)


def test_a_click_brings_the_node_to_the_centre(tab, run):
    leaf = int(run.taxonomy.leaves[3])
    before = torch.from_numpy(node_positions(tab))
    tab.click(*place(tab, "nodes", leaf))
    tab.settle()
    assert state(tab, "node") == leaf
    want = BALL.mobius_add(-before[leaf].expand_as(before), before)
    np.testing.assert_allclose(node_positions(tab), want, atol=1e-6)
    for name in run.taxonomy.path(leaf):
        assert name in text_of(tab, "#crumbs")
    tab.key("Home")
    tab.settle()
    np.testing.assert_allclose(node_positions(tab), before, atol=1e-6)


def test_glides_follow_the_geodesic_unless_motion_is_unwelcome(tab, run):
    size = {"width": 1280, "height": 800}
    leaf = int(run.taxonomy.leaves[0])
    tab.emulate(**size, reduced_motion=False)
    try:
        start = node_positions(tab)[leaf]
        way = np.array(
            tab.call(
                """node => new Promise(done => {
                  const { app } = hyperlm, seen = [];
                  app.choose(node, { centre: true });
                  const look = () => {
                    const { wx, wy } = app.scene.nodes;
                    app.scene.project();
                    seen.push([wx[node], wy[node]]);
                    if (app.motion.running) requestAnimationFrame(look); else done(seen);
                  };
                  look();
                })""",
                leaf,
            )
        )
        assert len(way) > 3
        # On the straight line to the centre, ever nearer.
        np.testing.assert_allclose(way @ [start[1], -start[0]], 0, atol=1e-9)
        assert (np.diff(way @ start) <= 1e-12).all()
        assert np.abs(way[-1]).max() < 1e-9
    finally:
        tab.emulate(**size)


@pytest.fixture
def moving(tab):
    """The page where motion is welcome."""
    size = {"width": 1280, "height": 800}
    tab.emulate(**size, reduced_motion=False)
    yield tab
    tab.wait("!hyperlm.app.motion.running")
    tab.emulate(**size)


@pytest.mark.parametrize("interruption", ["wheel", "list"])
def test_a_layout_is_whole_whatever_comes_between(moving, interruption):
    moving.evaluate("hyperlm.app.setLayout(1)")
    moving.wait("hyperlm.app.motion.frames > 0 && hyperlm.app.motion.running.start >= 0")
    if interruption == "wheel":
        moving.wheel(470, 420, -60)
    else:
        moving.evaluate("document.querySelector('#near .node').click()")
    moving.wait("!hyperlm.app.motion.running")
    assert moving.evaluate(
        """(() => {
          const { scene } = hyperlm.app, want = scene.doc.layouts[1].tangents;
          return scene.layoutIndex === 1 && scene.tangents.every((v, i) => v === want[i]);
        })()"""
    )


def test_zooms_add_up_and_a_glide_arrives_first(moving):
    moving.evaluate("for (let i = 0; i < 4; i++) hyperlm.app.zoom(1.3)")
    moving.wait("!hyperlm.app.motion.running")
    assert moving.evaluate("hyperlm.app.scene.zoom") == pytest.approx(1.3**4)
    moving.evaluate("hyperlm.app.choose(0, { centre: true }); hyperlm.app.zoom(1.1)")
    moving.wait("!hyperlm.app.motion.running")
    assert np.abs(node_positions(moving)[0]).max() < 1e-9


def test_a_double_click_on_a_label_brings_it_to_the_centre(moving):
    x, y = place(moving, "nodes", 0)
    for number in (1, 2):  # between them the label glides away from under the pointer
        moving.mouse("mousePressed", x, y, clicks=number)
        moving.mouse("mouseReleased", x, y, clicks=number)
        time.sleep(0.2)
    moving.wait("!hyperlm.app.motion.running")
    assert state(moving, "node") == 0
    assert np.abs(node_positions(moving)[0]).max() < 1e-9
    moving.evaluate("hyperlm.app.reset()")
    moving.wait("!hyperlm.app.motion.running")


def test_wheel_and_buttons_zoom_about_a_fixed_point(tab, run):
    x, y = map(round, place(tab, "nodes", 0))  # wheels turn at whole pixels
    before = node_positions(tab)
    centre, radius = disk(tab)
    under = (complex(x, y) - centre) / radius
    for _ in range(3):
        tab.wheel(x, y, -200)
    centre, zoomed = disk(tab)
    assert zoomed > 1.5 * radius
    assert (complex(x, y) - centre) / zoomed == pytest.approx(under, abs=1e-9)
    np.testing.assert_allclose(node_positions(tab), before, atol=1e-9)
    tab.evaluate("document.getElementById('home').click()")
    tab.settle()
    assert disk(tab)[1] == pytest.approx(radius)
    for name in ("closer", "farther"):
        tab.evaluate(f"document.getElementById('{name}').click()")
        tab.settle()
        assert (disk(tab)[1] > 1.2 * radius) == (name == "closer")


def test_a_double_click_beside_the_nodes_resets(tab, plans):
    tab.drag((500, 400), (560, 330))
    assert not np.allclose(node_positions(tab), in_ball(plans), atol=1e-3)
    tab.click(30, 770, clicks=2)
    tab.settle()
    np.testing.assert_allclose(node_positions(tab), in_ball(plans), atol=1e-6)


def test_a_phone_pans_pinches_and_taps(browser, address, run, plans):
    tab = open_page(browser, address, width=390, height=844, touch=True, ratio=2)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    centre, radius = disk(tab)
    a, b = centre + 60, centre + 20 + 70j
    tab.touch("touchStart", (a.real, a.imag))
    for share in (0.5, 1.0):
        p = a + share * (b - a)
        tab.touch("touchMove", (p.real, p.imag))
    tab.touch("touchEnd")
    tab.settle()
    w, v = (((z - centre) / radius).conjugate() for z in (a, b))
    flat = in_ball(plans)
    want = BALL.mobius_add(drag_step(w, v).expand_as(flat), flat)
    np.testing.assert_allclose(node_positions(tab), want, atol=1e-6)
    x, y = centre.real, centre.imag
    tab.touch("touchStart", (x - 30, y), (x + 30, y))
    tab.touch("touchMove", (x - 60, y), (x + 60, y))
    tab.touch("touchEnd")
    tab.settle()
    assert disk(tab)[1] == pytest.approx(2 * radius, rel=1e-6)
    np.testing.assert_allclose(node_positions(tab), want, atol=1e-6)
    tab.evaluate("hyperlm.app.reset()")
    tab.settle()
    leaf = int(run.taxonomy.leaves[0])
    tab.touch("touchStart", place(tab, "nodes", leaf))
    tab.touch("touchEnd")
    tab.settle()
    assert state(tab, "node") == leaf
    assert tab.problems() == []
    tab.close()
