"""The explorer in a real browser: every way to use it, by the events a user causes.

The page shows a tiny untrained model with its texts, and labels whose names try to become more than
text. Positions are compared with ``hyperlm.manifolds`` to 1e-6 of the disk's radius. Skipped with a
message where no Chromium is installed.
"""

import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Browser, Tab
from explorer_pages import browser, node_positions, open_page, page_of  # noqa: F401
from numpy.typing import NDArray

from hyperlm import Classifier, HierarchicalLM
from hyperlm.data import load_data
from hyperlm.manifolds import PoincareBall
from hyperlm.taxonomy import Taxonomy
from hyperlm.viz.answering import answerer
from hyperlm.viz.explorer import explorer_html, page_layouts
from hyperlm.viz.labels import overlapping
from hyperlm.viz.layout import Layout, tree_layout
from hyperlm.viz.rundata import RunData, collect_model, taxonomy_data
from hyperlm.viz.serve import PageServer

HOSTILE = (
    "</script><img src=x onerror=\"window.hit=1\">",
    "<svg onload=window.hit=1>",
    "\"><b>bold</b>",
    "__DATA__ ${1} \\u003c",
    "שלום עולם",
    "👩‍👩‍👧 family",
    "n" * 500,
    "\u202eevil\u202c",
)  # fmt: skip
BALL = PoincareBall(1.0)


# --- pages ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tiny_backbone: Path, demo_like: Path) -> Classifier:
    bundle = load_data(demo_like)
    torch.manual_seed(0)
    return Classifier(
        HierarchicalLM.from_backbone(
            str(tiny_backbone), bundle.taxonomy, head={"dim": 4}, level_names=bundle.level_names
        )
    )


@pytest.fixture(scope="module")
def run(model: Classifier, demo_like: Path) -> RunData:
    found = collect_model(model, "demo-like", data=demo_like, say=lambda line: None)
    assert found.texts is not None
    assert (found.texts.gold != found.texts.predicted).any()
    return found


@pytest.fixture(scope="module")
def plans(run: RunData) -> list[Layout]:
    found = page_layouts(run)
    assert len(found) > 1
    return found


@pytest.fixture(scope="module")
def address(run: RunData, plans: list[Layout], tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(run, tmp_path_factory.mktemp("page"), plans)


@pytest.fixture(scope="module")
def shared(browser: Browser, address: str) -> Iterator[Tab]:  # noqa: F811
    tab = open_page(browser, address)
    yield tab
    # Whatever the tests did to it: nothing on the console, nobody asked for anything.
    assert tab.problems() == []
    assert tab.requests() == []


@pytest.fixture
def tab(shared: Tab) -> Tab:
    """The page as it is when it opens."""
    shared.show()
    shared.evaluate(
        """(() => {
          const { app } = hyperlm;
          Object.assign(app.state, { texts: false, cones: false, errors: false, density: 0.5 });
          document.querySelectorAll('#levels input').forEach(b => b.checked || b.click());
          app.search.input.value = '';
          app.search.close();
          app.motion.stop();
          app.scene.base = app.scene.tree.root;
          app.scene.setLayout(0);
          app.reset();
        })()"""
    )
    shared.settle()
    return shared


def in_ball(plans: list[Layout], layout: int = 0) -> torch.Tensor:
    return BALL.from_polar(torch.from_numpy(plans[layout].tangents.copy()))


def place(tab: Tab, kind: str, number: int) -> tuple[float, float]:
    """Where a node or text is on the screen, in CSS pixels."""
    x, y = tab.call(
        """(kind, i) => {
          const box = hyperlm.app.canvas.getBoundingClientRect();
          const points = hyperlm.app.scene[kind];
          hyperlm.app.scene.project();
          return [box.left + points.x[i], box.top + points.y[i]];
        }""",
        kind,
        number,
    )
    return x, y


def disk(tab: Tab) -> tuple[complex, float]:
    """Centre of the disk on the screen, and its radius, in CSS pixels."""
    x, y, r = tab.evaluate(
        """(() => {
          const { app } = hyperlm, box = app.canvas.getBoundingClientRect();
          return [box.left + app.scene.centreX, box.top + app.scene.centreY, app.scene.radius];
        })()"""
    )
    return complex(x, y), r


def state(tab: Tab, name: str) -> Any:
    return tab.evaluate(f"hyperlm.app.state.{name}")


def text_of(tab: Tab, selector: str) -> str:
    return str(tab.call("s => document.querySelector(s).textContent", selector))


def drag_step(w: complex, v: complex) -> torch.Tensor:
    """The ball point ``a`` with ``a + w = v`` (Moebius): solved as two real equations."""
    k = w * v
    # a - k conj(a) = v - w
    matrix = np.array([[1 - k.real, -k.imag], [-k.imag, 1 + k.real]])
    return torch.from_numpy(np.linalg.solve(matrix, [(v - w).real, (v - w).imag]))


# --- positions ------------------------------------------------------------------------------------


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


# --- finding one's way ----------------------------------------------------------------------------


def test_search_completes_and_the_keyboard_chooses(tab, run):
    tab.evaluate("hyperlm.app.canvas.focus()")
    tab.key("/")
    assert tab.evaluate("document.activeElement.id") == "search"
    tab.type("i")
    options = tab.evaluate("[...document.querySelectorAll('#found [role=option]')].length")
    box = "document.getElementById('search')"
    assert options > 2
    assert tab.evaluate(f"{box}.getAttribute('aria-expanded')") == "true"
    first = tab.evaluate(f"{box}.getAttribute('aria-activedescendant')")
    tab.key("ArrowDown")
    second = tab.evaluate(f"{box}.getAttribute('aria-activedescendant')")
    assert (first, second) == ("found-0", "found-1")
    assert (
        tab.evaluate(f"document.getElementById('{second}').getAttribute('aria-selected')") == "true"
    )
    tab.key("Escape")
    assert tab.evaluate("document.getElementById('found').hidden")
    tab.evaluate(f"{box}.value = ''")
    tab.type("PLANT mint")  # a word of the path and one of the name
    tab.key("Enter")
    tab.settle()
    node = run.taxonomy.index(("plant", "herb", "mint"))
    assert state(tab, "node") == node
    assert np.abs(node_positions(tab)[node]).max() < 1e-9
    assert tab.evaluate("document.activeElement.id") == "map"


def test_a_search_for_nothing_says_so(tab):
    tab.evaluate("document.getElementById('search').focus()")
    tab.type("<img src=x onerror=window.hit=1>")
    assert "No label" in text_of(tab, "#found")
    tab.key("Enter")
    assert state(tab, "node") == -1


def test_arrows_walk_the_tree_and_every_step_is_said(tab, run):
    tree = run.taxonomy
    tab.evaluate("hyperlm.app.canvas.focus()")
    root = len(tree)
    here = root
    steps = [
        ("ArrowDown", root), ("ArrowDown", 0), ("ArrowRight", 1), ("ArrowLeft", 0),
        ("ArrowDown", int(tree.children(0)[0])), ("ArrowUp", 0), ("ArrowLeft", 1),
    ]  # fmt: skip
    for key, here in steps:
        tab.key(key)
        assert state(tab, "node") == here
        name = run.title if here == root else tree.name(here)
        assert text_of(tab, "#live").startswith(name)
        assert name in text_of(tab, "#card h2")
    tab.key("Enter")
    tab.settle()
    assert np.abs(node_positions(tab)[here]).max() < 1e-9
    radius = disk(tab)[1]
    tab.key("+")
    tab.settle()
    assert disk(tab)[1] > radius
    tab.key("Escape")
    assert state(tab, "node") == -1


def test_path_neighbours_and_confusions_lead_on(tab, run):
    assert run.texts is not None
    taken = next(
        n for n, rows in enumerate(tab.evaluate("hyperlm.app.scene.tree.confused")) if rows
    )
    tab.call("n => hyperlm.app.choose(n)", taken)
    other, count = tab.call("n => hyperlm.app.scene.tree.confused[n][0]", taken)
    button = "document.querySelector('#card .nodes .node')"
    assert run.taxonomy.name(other) in tab.evaluate(f"{button}.textContent")
    assert str(count) in tab.evaluate(f"{button}.textContent")
    tab.evaluate(f"{button}.click()")
    assert state(tab, "node") == other
    tab.evaluate("document.querySelector('#crumbs .node').click()")
    assert state(tab, "node") == len(run.taxonomy)
    tab.evaluate("document.querySelectorAll('#near .node')[1].click()")
    assert state(tab, "node") == 1
    tab.evaluate("document.querySelector('#card .examples button').click()")
    text = state(tab, "text")
    assert text >= 0
    assert run.texts.texts[text] in text_of(tab, "#card")


def test_the_card_beside_the_pointer_tells_what_is_known(tab, run):
    leaf = int(run.taxonomy.leaves[1])
    x, y = place(tab, "nodes", leaf)
    tab.mouse("mouseMoved", x, y, button="none")
    tab.wait("!document.getElementById('hover').hidden")
    card = text_of(tab, "#hover")
    assert run.texts is not None
    assert run.taxonomy.name(leaf) in card
    assert "Accuracy" in card
    assert f"Texts{(run.texts.gold == leaf).sum()}" in card
    tab.mouse("mouseMoved", 20, 780, button="none")
    tab.wait("document.getElementById('hover').hidden")


# --- layers ---------------------------------------------------------------------------------------


def picture(tab: Tab) -> str:
    tab.evaluate("hyperlm.app.draw()")
    return str(tab.evaluate("hyperlm.app.canvas.toDataURL()"))


def test_each_layer_can_be_switched_on_and_off(tab):
    plain = picture(tab)
    for name in ("texts", "cones", "errors"):
        tab.evaluate(f"document.getElementById('show-{name}').click()")
        assert state(tab, name) is True
        assert picture(tab) != plain
        tab.evaluate(f"document.getElementById('show-{name}').click()")
        assert picture(tab) == plain


def test_every_mistake_is_marked(tab, run):
    assert run.texts is not None
    tab.evaluate("document.getElementById('show-errors').click()")
    tab.evaluate("hyperlm.app.draw()")
    wrong = int((run.texts.gold != run.texts.predicted).sum())
    assert tab.evaluate("hyperlm.app.doc.texts.mistakes") == wrong
    # Crosses less than three pixels apart are one.
    assert 0 < tab.evaluate("hyperlm.app.painter.errorCount") <= wrong


def test_a_text_shows_what_was_stored_of_it(tab, run):
    assert run.texts is not None
    tab.evaluate("document.getElementById('show-texts').click()")
    tab.settle()
    tab.call("t => hyperlm.app.chooseText(t)", 5)
    card = text_of(tab, "#card")
    assert run.texts.texts[5] in card
    for node in (int(run.texts.gold[5]), int(run.texts.predicted[5])):
        assert run.taxonomy.name(node) in card
    x, y = place(tab, "texts", 5)
    tab.evaluate("hyperlm.app.choose(-1)")
    tab.click(x, y)
    # Another one may lie on the same spot; nodes lie in front.
    assert state(tab, "text") >= 0 or state(tab, "node") >= 0


def test_a_hidden_level_is_gone_and_its_children_hang_on_its_parents(tab, run):
    tab.evaluate("document.querySelectorAll('#levels input')[1].click()")
    tab.evaluate("hyperlm.app.draw()")
    depth = np.asarray(run.taxonomy.depth)
    seen = tab.evaluate("Array.from(hyperlm.app.visible.seen)")[:-1]
    assert [bool(s) for s in seen] == (depth != 2).tolist()
    above = tab.evaluate("Array.from(hyperlm.app.visible.above)")
    for leaf in run.taxonomy.leaves:
        assert above[leaf] == run.taxonomy.path_nodes(int(leaf))[0]


def labels(tab: Tab) -> list[tuple[int, NDArray[np.float64]]]:
    """Node and corners of every name on the screen."""
    tab.evaluate("hyperlm.app.draw()")
    rows = tab.evaluate(
        """(() => { const l = hyperlm.app.labels; return Array.from({ length: l.count }, (_, k) =>
          [l.node[k], l.x[k], l.y[k], l.width[k], l.size[k], l.angle[k]]); })()"""
    )
    found = []
    for node, x, y, width, size, angle in rows:
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-np.sin(angle), np.cos(angle)])
        ends = ((0, -0.72), (1, -0.72), (1, 0.22), (0, 0.22))
        corners = [np.array([x, y]) + a * width * along + b * size * across for a, b in ends]
        found.append((int(node), np.array(corners)))
    return found


def test_names_never_overlap_and_the_slider_says_how_many(browser, tmp_path):  # noqa: F811
    tree = Taxonomy.from_paths(
        [(f"class {a}", f"family {a} {b}", f"leaf {a}{b}{c}") for a in range(7) for b in range(6)
         for c in range(5)]
    )  # fmt: skip
    tab = open_page(
        browser, page_of(taxonomy_data(tree, title="names"), tmp_path, [tree_layout(tree)])
    )
    counts = []
    for density in (0, 20, 45, 100):
        tab.call(
            """v => { const s = document.getElementById('density'); s.value = v;
                      s.dispatchEvent(new Event('input')); }""",
            density,
        )
        tab.settle()
        counts.append(len(labels(tab)))
        for _ in range(3):
            boxes = labels(tab)
            corners = np.array([box for _, box in boxes]).reshape(-1, 4, 2)
            for k in range(len(boxes)):
                assert not overlapping(corners[k], corners[k + 1 :]).any()
            tab.drag((500, 420), (540, 370))
        tab.evaluate("hyperlm.app.reset()")
        tab.settle()
    assert counts[0] == 0
    assert counts == sorted(set(counts))
    tab.close()


def test_layouts_say_how_they_came_about(tab, run, plans):
    tab.call(
        """k => { const s = document.getElementById('layout'); s.value = k;
                  s.dispatchEvent(new Event('change')); }""",
        1,
    )
    tab.settle()
    assert text_of(tab, "#note") == " ".join(plans[1].note)
    assert "Distortion" in text_of(tab, "#quality")
    np.testing.assert_allclose(node_positions(tab), in_ball(plans, 1), atol=1e-6)


# --- names are data -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:  # noqa: F811
    run = taxonomy_data(Taxonomy.from_paths([(name, f"{name} child") for name in HOSTILE]))
    run = RunData(HOSTILE[0], run.taxonomy, (HOSTILE[1], HOSTILE[2]), "none", 0.0, None, None)
    tab = open_page(
        browser, page_of(run, tmp_path_factory.mktemp("hostile"), [tree_layout(run.taxonomy)])
    )
    yield tab
    assert tab.problems() == []
    assert tab.requests() == []


def test_hostile_names_show_as_text(hostile):
    hostile.show()
    for node in range(len(HOSTILE)):
        hostile.call("n => hyperlm.app.choose(n, { centre: true })", node)
        hostile.settle()
        shown = text_of(hostile, "#card h2")
        assert shown == HOSTILE[node].replace("\u202e", "").replace("\u202c", "")
        hostile.call("q => { const s = hyperlm.app.search; s.input.value = q; s.update(); }", shown)
        assert hostile.evaluate("document.querySelectorAll('#found [role=option]').length") >= 1
    added = "img, svg[onload], main b, header b, script:not([type])"
    assert hostile.call("s => document.querySelectorAll(s).length", added) == 0
    assert hostile.evaluate("window.hit") is None


def test_hostile_names_leave_as_text_in_svg(hostile):
    hostile.show()
    tree = ElementTree.fromstring(hostile.evaluate("hyperlm.svg()").encode())
    space = "{http://www.w3.org/2000/svg}"
    kinds = {element.tag.removeprefix(space) for element in tree.iter()}
    assert kinds <= {"svg", "title", "desc", "rect", "circle", "g", "path", "text"}
    assert not any(key.startswith("on") for element in tree.iter() for key in element.attrib)
    words = [element.text or "" for element in tree.iter(f"{space}text")]
    assert any("<svg onload=window.hit=1>" in word for word in words)
    assert max(map(len, words)) <= 30


# --- taking things away ---------------------------------------------------------------------------


def test_the_svg_has_true_arcs(tab, run):
    tab.drag((500, 420), (560, 360))
    tree = ElementTree.fromstring(tab.evaluate("hyperlm.svg()").encode())
    space = "{http://www.w3.org/2000/svg}"
    edges = next(g for g in tree.iter(f"{space}g") if g.get("class") == "edges")
    centre, radius = tab.evaluate("(s => [[s.centreX, s.centreY], s.radius])(hyperlm.app.scene)")
    arcs = 0
    for path in edges:
        for part in (path.get("d") or "").split("M")[1:]:
            start, _, rest = part.partition("A")
            if not rest:
                continue
            p = complex(*map(float, start.split()))
            r, _, _, large, sweep, x, y = map(float, rest.split())
            q = complex(x, y)
            assert large == 0
            # Centre of the arc's circle: it must meet the boundary at right angles.
            chord = q - p
            height = np.sqrt(max(r**2 - abs(chord) ** 2 / 4, 0))
            side = 1 if sweep else -1
            m = (p + q) / 2 + side * 1j * chord / abs(chord) * height
            assert abs(m - complex(*centre)) ** 2 == pytest.approx(radius**2 + r**2, rel=0.02)
            arcs += 1
    assert arcs >= len(run.taxonomy) // 3
    names = {element.text for element in tree.iter(f"{space}text")}
    assert {"animal", "plant"} <= names


def test_files_are_offered_for_download(browser, address, tmp_path):  # noqa: F811
    tab = open_page(browser, address)
    tab.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    for kind in ("svg", "png"):
        tab.evaluate(f"document.getElementById('save-{kind}').click()")
    names = [tmp_path / f"demo-like-tree.{kind}" for kind in ("svg", "png")]
    for _ in range(100):
        if all(name.exists() and name.stat().st_size for name in names):
            break
        browser.pump(0.05)
    svg, png = (name.read_bytes() for name in names)
    assert svg.startswith(b"<?xml")
    assert png.startswith(b"\x89PNG")
    size = tab.evaluate("[hyperlm.app.scene.width, hyperlm.app.scene.height]")
    assert [int.from_bytes(png[k : k + 4], "big") for k in (16, 20)] == [2 * v for v in size]
    assert tab.problems() == []
    tab.close()


def test_a_link_brings_back_the_view(browser, address, tab):  # noqa: F811
    leaf = tab.evaluate("hyperlm.app.scene.tree.list.at(-1)")
    for name in ("texts", "cones"):
        tab.evaluate(f"document.getElementById('show-{name}').click()")
    tab.evaluate("document.querySelectorAll('#levels input')[1].click()")
    tab.call("k => hyperlm.app.setLayout(k)", 1)
    tab.settle()
    tab.call("n => hyperlm.app.choose(n, { centre: true })", leaf)
    tab.settle()
    tab.drag((500, 420), (440, 350))
    tab.wheel(600, 300, -300)
    tab.wait("location.hash.length > 20")
    tab.evaluate("hyperlm.app.writeLink()")
    other = open_page(browser, address + tab.evaluate("location.hash"))
    np.testing.assert_allclose(node_positions(other), node_positions(tab), atol=1e-9)
    parts = "[s.texts, s.cones, s.errors, s.node, s.density]"
    script = f"(s => {parts})(hyperlm.app.state)"
    assert other.evaluate(script) == tab.evaluate(script)
    assert disk(other) == pytest.approx(disk(tab), abs=1e-6)
    assert other.evaluate("hyperlm.link() === location.hash")
    assert picture(other) == picture(tab)
    assert other.problems() == []
    other.close()


@pytest.mark.parametrize(
    "fragment",
    [
        "#v=1&l=tree&b=99999&n=-7&t=1e9&z=1e99&p=nan,inf&m=1,2,3",
        "#v=1&m=5,5,5,5&z=-3&d=7&h=0,99,x,,1e3&s=<script>",
        "#v=1&b=2&m=1e400,0,1e400,0&l=%E0%A4%A",
        "#v=1&l=__proto__&n=__proto__&constructor=1&b=0x10",
        "#<img src=x onerror=window.hit=1>",
        "#v=2&n=1",
        "#v=1&z=" + "9" * 5000,
    ],
)
def test_hostile_links_are_ignored(tab, run, fragment, plans):
    tab.call("f => { location.hash = f; }", fragment)
    tab.settle()
    positions = node_positions(tab)
    assert np.isfinite(positions).all()
    assert (np.linalg.norm(positions, axis=1) <= 1).all()
    if "&b=2" not in fragment:  # which is a node of this page
        np.testing.assert_allclose(positions, in_ball(plans), atol=1e-6)
    assert 0.4 <= tab.evaluate("hyperlm.app.scene.zoom") <= 40
    assert -1 <= state(tab, "node") <= len(run.taxonomy)
    assert tab.evaluate("window.hit") is None


# --- looks ----------------------------------------------------------------------------------------


def test_light_and_dark_follow_the_system_until_chosen(browser, address):  # noqa: F811
    tab = open_page(browser, address, dark=True)
    shown = "getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(shown) == "rgb(18, 20, 27)"
    tab.emulate(1280, 800, dark=False)
    tab.settle()
    assert tab.evaluate(shown) == "rgb(255, 255, 255)"
    tab.evaluate("document.getElementById('theme').click()")
    assert tab.evaluate(shown) == "rgb(18, 20, 27)"
    assert tab.evaluate("document.getElementById('theme').getAttribute('aria-pressed')") == "true"
    tab.close()


def test_a_phone_pans_pinches_and_taps(browser, address, run, plans):  # noqa: F811
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


def test_everything_that_can_be_operated_has_a_name(tab):
    nodes = tab.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "checkbox", "slider", "textbox", "searchbox", "application"}
    seen = 0
    for node in nodes:
        if node.get("ignored") or node["role"]["value"] not in roles:
            continue
        seen += 1
        assert node["name"]["value"].strip(), node
    assert seen > 12


# --- hard trees -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "taxonomy",
    [
        Taxonomy.from_paths([("alone",)]),
        Taxonomy.from_paths([(f"leaf {i}",) for i in range(5000)]),
        Taxonomy.from_paths([[f"level {i}" for i in range(200)]]),
    ],
    ids=["one", "star", "chain"],
)
def test_hard_trees_can_be_explored(browser, tmp_path, taxonomy):  # noqa: F811
    tab = open_page(
        browser, page_of(taxonomy_data(taxonomy, title="hard"), tmp_path, [tree_layout(taxonomy)])
    )
    last = len(taxonomy) - 1
    tab.call("n => hyperlm.app.choose(n, { centre: true })", last)
    tab.settle()
    positions = node_positions(tab)
    assert np.isfinite(positions).all()
    assert np.abs(positions[last]).max() < 1e-9
    assert taxonomy.name(last) in text_of(tab, "#card h2")
    assert tab.evaluate("document.querySelectorAll('#near .node').length") <= 80
    assert last in [node for node, _ in labels(tab)]
    tab.evaluate("hyperlm.app.reset()")
    tab.evaluate("hyperlm.svg().length")
    assert tab.problems() == []
    tab.close()


def test_data_that_is_no_page_is_said_in_words(browser, tmp_path):  # noqa: F811
    path = tmp_path / "broken.html"
    tree = Taxonomy.from_paths([("a", "b")])
    page = explorer_html(taxonomy_data(tree), [tree_layout(tree)])
    path.write_text(page.replace('"parent":[-1,0]', '"parent":[-1,7]'), encoding="utf-8")
    tab = open_page(browser, path.as_uri())
    assert "Node 1 has the parent 7" in text_of(tab, "#broken")
    assert tab.evaluate("!document.getElementById('broken').hidden")
    tab.close()


# --- with a server behind it ----------------------------------------------------------------------


@pytest.fixture
def served(model: Classifier, run: RunData, plans: list[Layout]) -> Iterator[PageServer]:
    server = PageServer("127.0.0.1", 0)
    page = explorer_html(run, plans, served=True)
    thread = threading.Thread(target=server.serve, args=(page, answerer(model, plans)))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()


def test_a_typed_text_lands_where_the_model_puts_it(browser, served, model, run, plans):  # noqa: F811
    tab = open_page(browser, served.url)
    text = "owl0 bird1 <b>word3</b> animal0"
    tab.evaluate("document.getElementById('ask-text').focus()")
    tab.type(text)
    tab.key("Enter")
    tab.wait("hyperlm.app.state.answer && !document.querySelector('#ask[aria-busy]')")
    tab.settle()
    want = answerer(model, plans)(text)
    answer = tab.evaluate("hyperlm.app.state.answer")
    assert answer["nodes"] == want["nodes"]
    shown = text_of(tab, "#answer")
    for name in want["path"]:
        assert name in shown
    tab.evaluate("hyperlm.app.reset()")  # forgets the answer, so put it back
    tab.settle()
    tab.call("a => hyperlm.app.predict.show(hyperlm.app.predict.checked(a))", want)
    tab.settle()
    end = want["nodes"][-1]
    tab.call("n => { hyperlm.app.choose(n, { centre: true }); }", end)
    tab.settle()
    at = BALL.from_polar(torch.tensor(want["positions"]["tree"], dtype=torch.float64))
    centre = in_ball(plans)[end]
    found = tab.evaluate("hyperlm.app.scene.locate(...hyperlm.app.state.answer.place)")
    moved = BALL.mobius_add(-centre, at)
    assert np.hypot(*found) == pytest.approx(float(moved.norm()), abs=1e-6)
    assert tab.problems() == []
    asked = {url.removeprefix(served.url) for url in tab.requests()}
    assert asked <= {"", "predict", "favicon.ico"}
    tab.close()


def test_an_answer_that_fits_no_page_is_refused(browser, served):  # noqa: F811
    tab = open_page(browser, served.url)
    script = """async body => {
      window.fetch = async () => ({ ok: body.ok !== false, status: 500, json: async () => body });
      const p = hyperlm.app.predict;
      p.input.value = 'x';
      await p.send();
      return p.result.textContent;
    }"""
    assert "labels that this page does not have" in tab.call(script, {"nodes": [10**6]})
    assert "too busy" in tab.call(script, {"ok": False, "error": "too busy <b>"})
    assert tab.evaluate("document.querySelectorAll('#answer b').length") == 0
    empty = "(p => { p.input.value = ' '; p.send(); return p.result.textContent; })"
    assert "Type a text" in tab.evaluate(f"{empty}(hyperlm.app.predict)")
    tab.close()
