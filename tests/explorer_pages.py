"""Pages for tests in the browser, what tests ask of them, and the browser itself as a fixture."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, Tab, find_chromium
from numpy.typing import NDArray

from hyperlm.viz.explorer import explorer_html
from hyperlm.viz.layout import Layout
from hyperlm.viz.rundata import RunData

__all__ = ["browser", "node_positions", "open_page", "page_of"]

_POSITIONS = """(() => {
  const { scene } = hyperlm.app;
  scene.project();
  return Array.from({ length: scene.tree.count }, (_, i) => [
    (scene.nodes.x[i] - scene.centreX) / scene.radius,
    (scene.centreY - scene.nodes.y[i]) / scene.radius,
  ]);
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: install it (Debian: chromium) or set HYPERLM_CHROMIUM")
    with Browser(program) as found:
        yield found


def page_of(run: RunData, folder: Path, layouts: Sequence[Layout] | None = None) -> str:
    """Write the page of a run; its address."""
    path = folder / "page.html"
    path.write_text(explorer_html(run, layouts), encoding="utf-8")
    return path.as_uri()


def open_page(browser: Browser, address: str, **emulation: bool | int) -> Tab:
    tab = browser.open(**emulation)
    tab.go(address)
    return tab


def node_positions(tab: Tab) -> NDArray[np.float64]:
    """(N, 2) disk coordinates of all nodes, computed back from where they are on the screen."""
    return np.array(tab.evaluate(_POSITIONS))
