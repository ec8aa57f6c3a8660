"""The browser and the page of a tiny untrained model with its texts, for all tests of the page.

Test files name this module in ``pytest_plugins``, so that the page is built once for all of them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from browser import Browser, Tab, find_chromium
from explorer_pages import open_page, page_of

from hyperlm import Classifier, HierarchicalLM
from hyperlm.data import load_data
from hyperlm.viz.explorer import page_layouts
from hyperlm.viz.layout import Layout
from hyperlm.viz.rundata import RunData
from hyperlm.viz.sources import collect_model


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: install it (Debian: chromium) or set HYPERLM_CHROMIUM")
    with Browser(program) as found:
        yield found


@pytest.fixture(scope="session")
def model(tiny_backbone: Path, demo_like: Path) -> Classifier:
    bundle = load_data(demo_like)
    torch.manual_seed(0)
    return Classifier(
        HierarchicalLM.from_backbone(
            str(tiny_backbone), bundle.taxonomy, head={"dim": 4}, level_names=bundle.level_names
        )
    )


@pytest.fixture(scope="session")
def run(model: Classifier, demo_like: Path) -> RunData:
    found = collect_model(model, "demo-like", data=demo_like, say=lambda line: None)
    assert found.texts is not None
    assert (found.texts.gold != found.texts.predicted).any()
    return found


@pytest.fixture(scope="session")
def plans(run: RunData) -> list[Layout]:
    found = page_layouts(run)
    assert len(found) > 1
    return found


@pytest.fixture(scope="session")
def address(run: RunData, plans: list[Layout], tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(run, tmp_path_factory.mktemp("page"), plans)


@pytest.fixture(scope="module")
def shared(browser: Browser, address: str) -> Iterator[Tab]:
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
