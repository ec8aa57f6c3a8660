"""The page of a server, which answers typed texts with what the model says of them."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from explorer_pages import BALL, in_ball, open_page, text_of

from hyperlm import Classifier
from hyperlm.viz.answering import answerer
from hyperlm.viz.explorer import explorer_html
from hyperlm.viz.layout import Layout
from hyperlm.viz.rundata import RunData
from hyperlm.viz.serve import PageServer

pytest_plugins = ["explorer_fixtures"]


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


def test_a_typed_text_lands_where_the_model_puts_it(browser, served, model, run, plans):
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


def test_an_answer_can_be_called_off_and_follows_the_theme(browser, served, model, plans):
    tab = open_page(browser, served.url)
    slow = """() => {
      const real = window.fetch;
      window.fetch = (...all) => new Promise((answer, fail) => {
        all[1].signal.addEventListener('abort', () => fail(new DOMException('', 'AbortError')));
        setTimeout(() => real(...all).then(answer, fail), 60);
      });
      const { app } = hyperlm;
      app.predict.input.value = 'owl0 bird1';
      const asked = app.predict.send();
      app.reset();
      return asked.then(() => [app.state.answer, app.predict.result.textContent]);
    }"""
    assert tab.call(slow) == [None, ""]
    late = """() => {
      const { app } = hyperlm;
      window.fetch = async (_, asked) => ({ ok: true, status: 200, json: () => new Promise(
        (_, fail) => asked.signal.addEventListener('abort', () => fail(new Error('aborted')))) });
      const asked = app.predict.send();
      return new Promise((go) => setTimeout(go, 30)).then(() => {
        app.reset();
        return asked.then(() => [app.state.answer, app.predict.result.textContent]);
      });
    }"""
    assert tab.call(late) == [None, ""]
    assert not tab.evaluate("document.querySelector('#ask[aria-busy]')")
    want = answerer(model, plans)("owl0 bird1")
    colours = """a => {
      const { app } = hyperlm;
      app.predict.show(app.predict.checked(a));
      const colour = (dot) => getComputedStyle(dot).backgroundColor;
      const dot = () => colour(document.querySelector('#answer .dot'));
      const found = [];
      for (const theme of ['light', 'dark']) {
        app.setTheme(theme);
        const path = document.querySelector('#crumbs li:last-child .dot'); // of the same top class
        found.push([dot(), colour(path)]);
      }
      return found;
    }"""
    (light, want_light), (dark, want_dark) = tab.call(colours, want)
    assert (light, dark) == (want_light, want_dark)
    assert light != dark
    tab.close()


def test_an_answer_that_fits_no_page_is_refused(browser, served):
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
