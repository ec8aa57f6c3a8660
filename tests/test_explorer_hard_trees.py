"""Trees that are hard to draw, and data that is no page, in the browser."""

import numpy as np
import pytest
from explorer_pages import labels, node_positions, open_page, page_of, text_of

from hyperlm.taxonomy import Taxonomy
from hyperlm.viz.explorer import explorer_html
from hyperlm.viz.layout import tree_layout
from hyperlm.viz.rundata import taxonomy_data

pytest_plugins = ["explorer_fixtures"]


@pytest.mark.parametrize(
    "taxonomy",
    [
        Taxonomy.from_paths([("alone",)]),
        Taxonomy.from_paths([(f"leaf {i}",) for i in range(5000)]),
        Taxonomy.from_paths([[f"level {i}" for i in range(200)]]),
    ],
    ids=["one", "star", "chain"],
)
def test_hard_trees_can_be_explored(browser, tmp_path, taxonomy):
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


def test_data_that_is_no_page_is_said_in_words(browser, tmp_path):
    path = tmp_path / "broken.html"
    tree = Taxonomy.from_paths([("a", "b")])
    page = explorer_html(taxonomy_data(tree), [tree_layout(tree)])
    path.write_text(page.replace('"parent":[-1,0]', '"parent":[-1,7]'), encoding="utf-8")
    tab = open_page(browser, path.as_uri())
    assert "Node 1 has the parent 7" in text_of(tab, "#broken")
    assert tab.evaluate("!document.getElementById('broken').hidden")
    tab.close()
