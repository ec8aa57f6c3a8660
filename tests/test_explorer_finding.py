"""Finding one's way on the page: search, keyboard, card and path; names for who does not see it."""

import numpy as np
from explorer_pages import disk, node_positions, open_page, place, state, text_of

from hyperlm import Taxonomy
from hyperlm.viz.explorer import write_explorer
from hyperlm.viz.rundata import taxonomy_data

pytest_plugins = ["explorer_fixtures"]


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


def test_a_second_search_begins_anew_and_the_first_can_be_opened_again(browser, tmp_path):
    names = ["n" * 300, "rtl\u202eoverride", "ze\u200bro", "किताब", "काताब", "Café"]
    labels = taxonomy_data(Taxonomy.from_paths([(name,) for name in names]))
    write_explorer(labels, tmp_path / "page.html")
    page = open_page(browser, (tmp_path / "page.html").as_uri())
    for typed, name in (("nnn", names[0]), ("rtlo", names[1]), ("zero", names[2]), ("cafe", "Café"),
                        ("किताब", "किताब")):  # fmt: skip
        page.evaluate("hyperlm.app.canvas.focus()")
        page.key("/")
        page.type(typed)  # in place of what the box holds
        found = page.evaluate("hyperlm.app.search.found.map((thing) => thing.node)")
        assert [names[node] for node in found] == [name]
        page.key("Enter")
        again = page.evaluate("hyperlm.app.search.matches(hyperlm.app.search.input.value)")
        assert [names[node] for node in again] == [name]
    page.close()


def test_keys_work_wherever_nobody_types(browser, address, run):
    tab = open_page(browser, address)
    assert tab.evaluate("document.activeElement === document.body")
    tab.key("ArrowDown")  # nothing has been clicked yet
    assert state(tab, "node") == len(run.taxonomy)
    tab.key("+")
    tab.settle()
    assert tab.evaluate("hyperlm.app.scene.zoom") > 1
    chosen = state(tab, "node")
    x, y = tab.evaluate(
        "(b => [b.left + 3, b.top + 3])(document.querySelector('#card').getBoundingClientRect())"
    )
    tab.click(x, y)  # who reads there moves the page with the same keys
    tab.key("ArrowDown")
    assert state(tab, "node") == chosen
    for box in ("show-texts", "density", "layout"):
        tab.call("n => hyperlm.app.choose(n)", 0)
        tab.call("id => document.getElementById(id).focus()", box)
        tab.key("Escape")
        assert state(tab, "node") == -1
        tab.key("/")
        assert tab.evaluate("document.activeElement.id") == "search"
    tab.evaluate("document.getElementById('density').focus()")
    tab.key("?")
    assert tab.evaluate("document.getElementById('help').open")
    tab.close()


def test_long_lists_are_read_to_their_end(browser, tmp_path):
    star = taxonomy_data(Taxonomy.from_paths([(f"star {i}",) for i in range(2500)]))
    write_explorer(star, tmp_path / "page.html")
    page = open_page(browser, (tmp_path / "page.html").as_uri())
    page.call("n => hyperlm.app.choose(n)", 1200)
    press = "document.querySelector('#near section .quiet').click()"
    listed = "[...document.querySelectorAll('#near li .name')].map((e) => e.textContent)"
    page.evaluate(press)
    seen = set(page.evaluate(listed))
    assert len(seen) == 1000
    assert "star 1200" in seen
    while page.evaluate("document.querySelector('#near .quiet').textContent").startswith("Prev"):
        page.evaluate(press)
        assert page.evaluate("document.activeElement.closest('#near') !== null")
        seen |= set(page.evaluate(listed))
    for _ in range(3):
        page.evaluate("[...document.querySelectorAll('#near .quiet')].at(-1).click()")
        seen |= set(page.evaluate(listed))
    assert len(seen) == 2500
    page.close()


def test_names_that_hold_the_signs_of_paths_are_found(browser, tmp_path):
    names = ["I/O", "input", "A > B", "and b", "a/b", "n\u00b0 I", "o"]
    labels = taxonomy_data(Taxonomy.from_paths([(name,) for name in names]))
    write_explorer(labels, tmp_path / "page.html")
    page = open_page(browser, (tmp_path / "page.html").as_uri())
    for query, name in (("i/o", "I/O"), ("A > B", "A > B"), ("a/b", "a/b"), ("  a >  b ", "A > B")):
        found = page.call("q => hyperlm.app.search.matches(q)", query)
        assert names[found[0]] == name
    page.close()


def test_a_label_with_two_parents_is_found_below_both(browser, tmp_path):
    dag = Taxonomy.from_edges([("b", "a"), ("c", "a"), ("d", "b"), ("d", "c")])
    write_explorer(taxonomy_data(dag), tmp_path / "page.html")
    page = open_page(browser, (tmp_path / "page.html").as_uri())
    d = dag.index("d")
    for name, other in (("b", "Children"), ("c", "Also below")):
        page.call("node => hyperlm.app.choose(node)", dag.index(name))
        assert other in text_of(page, "#near")
        assert "d" in text_of(page, "#near")
    page.call("node => hyperlm.app.choose(node)", d)
    assert "Also under" in text_of(page, "#near")
    page.evaluate("hyperlm.app.reset()")
    page.settle()
    svg = page.evaluate("hyperlm.svg()")
    assert svg.count("stroke-dasharray") == 1
    page.close()


def test_the_focus_stays_where_one_walks(tab):
    tab.evaluate("document.querySelector('#near .node').focus()")
    tab.key("Enter")
    assert tab.evaluate("document.activeElement.closest('#near') !== null")
    tab.evaluate("document.querySelector('.skip').click()")
    assert tab.evaluate("document.activeElement.id") == "near-heading"
    assert tab.evaluate("location.hash") != "#near-heading"


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
