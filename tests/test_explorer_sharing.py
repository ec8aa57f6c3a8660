"""What leaves the page and comes back: SVG, PNG and links; hostile names and links stay text."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import numpy as np
import pytest
from browser import Browser, Tab
from explorer_pages import (
    disk,
    in_ball,
    node_positions,
    open_page,
    page_of,
    picture,
    state,
    text_of,
)

from hyperlm.taxonomy import Taxonomy
from hyperlm.viz.layout import tree_layout
from hyperlm.viz.rundata import RunData, taxonomy_data

pytest_plugins = ["explorer_fixtures"]


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


def test_files_are_offered_for_download(browser, address, tmp_path):
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


def test_a_link_brings_back_the_view(browser, address, tab):
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


# --- names are data -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    run = taxonomy_data(Taxonomy.from_paths([(name, f"{name} child") for name in HOSTILE]))
    levels, told = (HOSTILE[1], HOSTILE[2]), dict(enumerate(HOSTILE))
    run = RunData(HOSTILE[0], run.taxonomy, levels, "none", 0.0, None, None, descriptions=told)
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
        assert text_of(hostile, "#card .meaning") == shown
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
