"""What the page shows when asked: texts, cones, mistakes, levels, names, layouts, dark."""

import numpy as np
from explorer_pages import (
    in_ball,
    labels,
    node_positions,
    open_page,
    page_of,
    picture,
    place,
    state,
    text_of,
)

from hyperlm.taxonomy import Taxonomy
from hyperlm.viz.labels import overlapping
from hyperlm.viz.layout import tree_layout
from hyperlm.viz.rundata import taxonomy_data

pytest_plugins = ["explorer_fixtures"]


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


def test_all_texts_of_a_label_are_listed_and_where_they_lie_is_shown(tab, run):
    gold, predicted = run.texts.gold, run.texts.predicted
    node = run.taxonomy.index(("animal",))
    below = set(map(int, run.taxonomy.descendants(node))) | {node}
    want = [t for t in range(len(gold)) if int(gold[t]) in below]
    wrong = sum(int(gold[t]) != int(predicted[t]) for t in want)
    tab.call("n => hyperlm.app.choose(n)", node)
    assert len(want) > 3
    tab.evaluate("document.querySelector('#card .quiet').click()")
    assert tab.evaluate("document.querySelectorAll('#card .text').length") == len(want)
    told = tab.evaluate("[...document.querySelectorAll('#card .text')].map((e) => e.textContent)")
    assert [words.endswith("mistaken") for words in told] == [True] * wrong + [False] * (
        len(want) - wrong
    )
    shown = """t => {
      const { app } = hyperlm;
      app.scene.project(true);
      const { x, y, scale } = app.scene.texts;
      const named = [...app.labels.node.slice(0, app.labels.count)];
      return [x[t], y[t], app.scene.width - x[t], app.scene.height - y[t], scale[t], named];
    }"""
    for text in want[:: max(1, len(want) // 5)]:
        tab.call("n => hyperlm.app.choose(n, { centre: true })", len(run.taxonomy) - 1)
        tab.settle()
        tab.evaluate("hyperlm.app.zoomTo(6)")
        tab.settle()
        tab.call("t => hyperlm.app.chooseText(t)", text)
        tab.settle()
        *room, scale, named = tab.call(shown, text)
        assert min(room) >= 0
        assert scale > 0
        assert int(predicted[text]) in named
        if int(gold[text]) in below:
            assert int(gold[text]) in named or scale < 1e-3


def test_a_hidden_level_is_gone_and_its_children_hang_on_its_parents(tab, run):
    tab.evaluate("document.querySelectorAll('#levels input')[1].click()")
    tab.evaluate("hyperlm.app.draw()")
    depth = np.asarray(run.taxonomy.depth)
    seen = tab.evaluate("Array.from(hyperlm.app.visible.seen)")[:-1]
    assert [bool(s) for s in seen] == (depth != 2).tolist()
    above = tab.evaluate("Array.from(hyperlm.app.visible.above)")
    for leaf in run.taxonomy.leaves:
        assert above[leaf] == run.taxonomy.path_nodes(int(leaf))[0]


def test_names_never_overlap_and_the_slider_says_how_many(browser, tmp_path):
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


def test_light_and_dark_follow_the_system_until_chosen(browser, address):
    tab = open_page(browser, address, dark=True)
    shown = "getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(shown) == "rgb(18, 20, 27)"
    tab.emulate(1280, 800, dark=False)
    tab.settle()
    assert tab.evaluate(shown) == "rgb(255, 255, 255)"
    tab.evaluate("document.getElementById('theme').click()")
    assert tab.evaluate(shown) == "rgb(18, 20, 27)"
    assert tab.evaluate("document.getElementById('theme').getAttribute('aria-pressed')") == "true"
    # The choice is part of the link, wherever it is opened.
    tab.wait("location.hash.includes('c=dark')")
    other = open_page(browser, address + tab.evaluate("location.hash"), dark=False)
    assert other.evaluate(shown) == "rgb(18, 20, 27)"
    other.close()
    tab.close()


def test_a_theme_that_nobody_chose_is_not_in_the_link(browser, address):
    tab = open_page(browser, address, dark=True)
    assert "c=" not in tab.evaluate("hyperlm.link()")
    tab.call("f => { location.hash = f; }", "#v=1&c=__proto__")
    tab.settle()
    shown = "getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(shown) == "rgb(18, 20, 27)"
    tab.close()
