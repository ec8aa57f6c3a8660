"""Pages for tests in the browser, and what tests ask of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from browser import Browser, Tab
from numpy.typing import NDArray

from hyperlm.manifolds import PoincareBall
from hyperlm.viz.explorer import explorer_html
from hyperlm.viz.layout import Layout
from hyperlm.viz.rundata import RunData

__all__ = [
    "BALL", "disk", "drag_step", "in_ball", "labels", "node_positions", "open_page", "page_of",
    "picture", "place", "state", "text_of",
]  # fmt: skip

BALL = PoincareBall(1.0)

_POSITIONS = """(() => {
  const { scene } = hyperlm.app;
  scene.project();
  return Array.from({ length: scene.tree.count }, (_, i) => [
    (scene.nodes.x[i] - scene.centreX) / scene.radius,
    (scene.centreY - scene.nodes.y[i]) / scene.radius,
  ]);
})()"""


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


def picture(tab: Tab) -> str:
    tab.evaluate("hyperlm.app.draw()")
    return str(tab.evaluate("hyperlm.app.canvas.toDataURL()"))


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
