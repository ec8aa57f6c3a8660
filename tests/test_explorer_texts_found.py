"""Searching the texts of the page: what is found, shown, marked and kept."""

import unicodedata
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import Browser, Tab
from explorer_documents import flat, named, with_texts
from explorer_pages import open_page, page_of, place, state, text_of

pytest_plugins = ["explorer_fixtures"]

TEXTS = [
    "The old castle stands above the river",
    "A river and an old mill",
    "CAFÉ by the River: \U0001f980 crabs",
    "Cafe\u0301s close early, old habits",
    "한국의 강 위에 한국의 다리",
    "नदी पर पुराना पुल",
    "ze\u200bro river",
    "nothing of it, ing\u2026",
    "ΟΔΟΣΑ και οδός",
]
FOUND = "[...document.querySelectorAll('#card mark')].map((e) => e.textContent)"


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory):
    data = with_texts(named(["castle", "mill", "bridge"]), TEXTS)
    tab = open_page(browser, page_of(data, tmp_path_factory.mktemp("found"), [flat(data)]))
    yield tab
    assert tab.problems() == []
    tab.close()


def search(tab: Tab, query: str) -> dict[str, list[int]]:
    """Labels and texts among what is offered."""
    tab.evaluate("document.getElementById('search').focus()")
    tab.call("q => { const s = hyperlm.app.search; s.input.value = q; s.update(); }", query)
    found = tab.evaluate("hyperlm.app.search.found.map(({node, text}) => ({node, text}))")
    return {kind: [f[kind] for f in found if kind in f] for kind in ("node", "text")}


def plain(text: str) -> str:
    """Lower case without accents of Latin letters and signs that are not seen."""
    kept = (c for c in unicodedata.normalize("NFD", text) if not "\u0300" <= c <= "\u036f")
    seen = "".join(c for c in kept if unicodedata.category(c) != "Cf")
    return seen.lower().replace("\u03c2", "\u03c3")


@pytest.mark.parametrize(
    "query",
    ["river", "RIVER", "old river", "the river", "cafe", "café", "한국", "강", "नदी", "zero",
     "castle", "\U0001f980", "of it", "पुल", "o", "?", "ver", "ing", "[river", "ΟΔΟΣ"],
)  # fmt: skip
def test_texts_are_found_by_all_words_of_a_query(page, query):
    words = plain(query).split()
    want = {i for i, text in enumerate(TEXTS) if all(word in plain(text) for word in words)}
    if query in ("o", "?"):
        want = set()  # alone they are in all of them
    found = search(page, query)
    assert set(found["text"]) == want
    ranks = []
    for i in found["text"]:
        text = plain(TEXTS[i])
        at = [k for k in range(len(text)) if text.startswith(plain(query), k)]
        begins = any(k == 0 or unicodedata.category(text[k - 1])[0] not in "LMN" for k in at)
        ranks.append(0 if begins else 1 if at else 2)
    assert ranks == sorted(ranks)
    assert found["node"] == [i for i, n in enumerate(("castle", "mill", "bridge")) if query in n]


@pytest.mark.parametrize(
    ("query", "text", "marks"),
    [
        ("river", 0, ["river"]),
        ("old river", 0, ["old", "river"]),
        ("cafe", 2, ["CAFÉ"]),
        ("cafe", 3, ["Cafe\u0301"]),
        ("crab", 2, ["crab"]),
        ("한국", 4, ["한국", "한국"]),
        ("नदी", 5, ["नदी"]),
        ("zero", 6, ["ze\u200bro"]),
        ("by the river", 2, ["by the River"]),
    ],
)
def test_what_was_searched_is_marked_as_it_is_written(page, query, text, marks):
    search(page, query)
    page.call(
        """(q, t) => {
          const { app } = hyperlm;
          app.state.found = app.search.textMatches(q);
          app.chooseText(t);
        }""",
        query,
        text,
    )
    assert page.evaluate(FOUND) == marks
    assert text_of(page, "#card blockquote") == TEXTS[text]


def test_what_enter_would_take_is_marked_whatever_stands_between(page):
    """Lines that tell of labels and texts are no options."""
    for query in ("river", "castle", "old"):
        search(page, query)
        for key in ("", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp", "ArrowUp"):
            if key:
                page.key(key)
            marked = page.evaluate(
                "[...document.querySelectorAll('#found [aria-selected=true]')].map((e) => e.id)"
            )
            wanted = page.evaluate("`found-${hyperlm.app.search.active}`")
            assert marked == [wanted]
            at = "document.getElementById('search').getAttribute('aria-activedescendant')"
            assert page.evaluate(at) == wanted


def test_queries_of_nothing_find_nothing(page):
    for query in ("", "  ", "\u0301", "\u0301 \u0301", "\u200b\u200b"):
        assert search(page, query) == {"node": [], "text": []}
    assert search(page, "zeppelin") == {"node": [], "text": []}
    assert "No label of that name, no text with it" in text_of(page, "#found")
    alone = search(page, "\u0301 river")  # an accent that stands alone is no word
    assert alone == search(page, "river")


def test_all_texts_found_are_listed_and_marked_on_the_map(tab, run):
    assert run.texts is not None
    word = plain(run.texts.texts[0]).split()[0]
    want = {i for i, text in enumerate(run.texts.texts) if word in plain(text)}
    assert 6 < len(want) < len(run.texts.texts)
    tab.evaluate("hyperlm.app.canvas.focus()")
    tab.key("/")
    tab.type(word)
    tab.key("ArrowUp")  # the last line: all of them
    tab.key("Enter")
    tab.settle()
    assert set(state(tab, "found.texts")) == want
    wrong = sum(run.texts.gold[i] != run.texts.predicted[i] for i in want)
    assert f"{len(want)} texts, {wrong} mistaken" in text_of(tab, "#card")
    assert tab.evaluate("document.activeElement.closest('#card') !== null")
    assert not state(tab, "texts")
    svg = ElementTree.fromstring(tab.evaluate("hyperlm.svg()"))
    assert len(svg.findall(".//*[@class='marks']//*")) >= 1

    # What lies on the map can be pressed, over labels too: what was found, and nothing else.
    there = "(x, y) => hyperlm.app.thingAt(x, y, 6).text"
    box = tab.evaluate("(b => [b.left, b.top])(hyperlm.app.canvas.getBoundingClientRect())")
    for i in range(len(run.texts.texts)):
        x, y = np.subtract(place(tab, "texts", i), box)
        found = tab.call(there, float(x), float(y))
        assert found in (want if i in want else want | {-1})

    tab.evaluate("document.querySelector('#card .text').click()")
    tab.settle()
    assert state(tab, "text") in want
    assert set(map(str.lower, tab.evaluate(FOUND))) == {word}
    link = tab.evaluate("hyperlm.link()")
    chosen = state(tab, "text")
    tab.evaluate("document.querySelector('#card .quiet').click()")
    assert state(tab, "text") == -1
    assert f"{len(want)} texts" in text_of(tab, "#card")
    focused = "Number(document.activeElement.dataset.text)"
    assert tab.evaluate(focused) == chosen  # where one was
    tab.evaluate("hyperlm.app.canvas.focus()")
    tab.key("Escape")
    assert state(tab, "found") is None
    tab.call("link => { location.hash = link; }", link)
    tab.wait("hyperlm.app.state.found")
    assert set(state(tab, "found.texts")) == want
    assert state(tab, "text") == chosen
    tab.call("link => { location.hash = link; }", "#v=1&l=tree&n=1")
    tab.wait("!hyperlm.app.state.found")
    assert state(tab, "node") == 1


def test_a_text_chosen_with_the_keyboard_is_said(tab, run):
    assert run.texts is not None
    word = plain(run.texts.texts[0]).split()[0]
    assert search(tab, word)["node"] == []
    tab.key("Enter")
    said = text_of(tab, "#live")
    assert said.startswith("Text: ")
    assert run.texts.texts[state(tab, "text")][:10] in said
    assert text_of(tab, "#card .quiet").endswith(f"texts with “{word}”")


def test_an_opened_page_of_a_list_is_there_when_one_comes_back(browser, tmp_path):
    data = with_texts(named(["a", "b"]), [f"word {i}" for i in range(450)])
    tab = open_page(browser, page_of(data, tmp_path, [flat(data)]))
    tab.evaluate("hyperlm.app.showFound(hyperlm.app.search.textMatches('WORD'))")
    shown = "[...document.querySelectorAll('#card .text bdi')].map((e) => e.textContent)"
    assert len(tab.evaluate(shown)) == 20
    tab.evaluate("document.querySelector('#card .quiet').click()")
    tab.evaluate("[...document.querySelectorAll('#card .quiet')].at(-1).click()")
    before = tab.evaluate(shown)
    assert before == [f"word {i}" for i in range(100, 200)]
    tab.evaluate("document.querySelectorAll('#card .text')[60].click()")
    tab.evaluate("[...document.querySelectorAll('#card .quiet')].at(-1).click()")
    assert tab.evaluate(shown) == before
    assert tab.evaluate("document.activeElement.textContent").startswith(before[60])
    tab.close()


def test_a_list_of_texts_stays_open_in_another_theme(tab):
    label = "n => hyperlm.app.choose(n)"
    tab.call(label, 0)
    press = "[...document.querySelectorAll('#card .quiet')].at(-1).click()"
    tab.evaluate(press)
    entries = "document.querySelectorAll('#card .text').length"
    many = tab.evaluate(entries)
    assert many > 3
    dot = "getComputedStyle(document.querySelector('#near .dot')).backgroundColor"
    tab.evaluate("hyperlm.app.setTheme('light')")
    light = tab.evaluate(dot)
    tab.evaluate("hyperlm.app.setTheme('dark')")
    assert tab.evaluate(dot) != light
    assert tab.evaluate(entries) == many
    tab.evaluate("hyperlm.app.setTheme('light')")
