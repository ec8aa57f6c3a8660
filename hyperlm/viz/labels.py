"""Text that is measured before it is drawn, so that no two labels overlap.

Lengths are pixels of the figure, the origin is the disk's centre, y points up. A label is an
oriented box that starts at its baseline's left end. Names are data: drawn literally (no mathtext,
no TeX), on one line, shortened, and with a box in place of any character that no installed font
can draw.
"""

import math
import unicodedata
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties
from numpy.typing import NDArray

from hyperlm.viz.fonts import BOX, drawable, font_families, remember_boxes

__all__ = ["Label", "Placer", "Ruler", "clean_name", "shorten"]


def clean_name(name: str) -> str:
    """``name`` on one line, without control characters, a box for what no font can draw."""
    return _cleaned(name)[0]


def shorten(name: str, limit: int) -> str:
    """``name`` cleaned, and ended by an ellipsis where it is longer than ``limit`` characters."""
    if not name:
        return ""
    # A name of a million characters must not be checked glyph by glyph.
    text, missing = _cleaned(name[: 4 * limit + 8])
    if len(text) > limit:
        text = text[: limit - 1].rstrip(" ,;:-_") + "\u2026"
    if missing:
        remember_boxes(text, missing[: text.count(BOX)])
    return text


def _cleaned(name: str) -> tuple[str, str]:
    """The name, and in its order what has become a box."""
    kept = [c for c in name if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf")]
    missing = "".join(c for c in kept if not c.isspace() and not drawable(c))
    drawn = "".join(" " if c.isspace() else c if drawable(c) else BOX for c in kept)
    return " ".join(drawn.split()) or BOX, missing


@dataclass(frozen=True)
class Label:
    """One line of text; ``x, y`` is the left end of its baseline, ``angle`` is in degrees."""

    text: str
    x: float
    y: float
    angle: float
    size: float
    bold: bool
    width: float
    up: float
    down: float

    def corners(self, pad: float = 0.0) -> NDArray[np.float64]:
        """``(4, 2)``, counter-clockwise from the lower left, ``pad`` wider all round."""
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        left, right, low, high = -pad, self.width + pad, -self.down - pad, self.up + pad
        own = np.array([[left, low], [right, low], [right, high], [left, high]])
        turned = own @ np.array([[cos, sin], [-sin, cos]])
        return turned + np.array([self.x, self.y])


class Ruler:
    """Measures text as it will be drawn at ``dpi``."""

    def __init__(self, dpi: float) -> None:
        self.dpi = dpi
        self._renderer = RendererAgg(8, 8, dpi)
        self._known: dict[tuple[str, float, bool], tuple[float, float, float]] = {}
        self._line: dict[tuple[float, bool], tuple[float, float]] = {}

    def font(self, size: float, bold: bool) -> FontProperties:
        """The properties to measure and to draw with."""
        weight = "bold" if bold else "normal"
        return FontProperties(family=list(font_families()), size=size, weight=weight)

    def extent(self, text: str, size: float, bold: bool = False) -> tuple[float, float, float]:
        """Width, height above and depth below the baseline, in pixels."""
        key = (text, size, bold)
        if key not in self._known:
            font = self.font(size, bold)
            measure = self._renderer.get_text_width_height_descent
            width, height, depth = measure(text, font, False)
            if (size, bold) not in self._line:
                self._line[size, bold] = measure("lp", font, False)[1:]
            # matplotlib gives every line at least the height of these two letters.
            line, below = self._line[size, bold]
            down = max(depth, below)
            self._known[key] = width, max(height - depth, line - below), down
        return self._known[key]

    def height(self, size: float) -> float:
        """Of a line of type, in pixels."""
        return sum(self.extent("lp", size)[1:])

    def about(self, text: str, size: float) -> float:
        """Width to within the few per cent that hinting makes; measured once for all sizes."""
        return self.extent(text, 10.0)[0] * size / 10.0 * 1.03 + 1

    def label(
        self, text: str, x: float, y: float, *, size: float, bold: bool = False, angle: float = 0
    ) -> Label:
        """A label whose baseline starts at ``x, y``."""
        return Label(text, x, y, angle, size, bold, *self.extent(text, size, bold))

    def radial(
        self, text: str, x: float, y: float, towards: float, *, size: float, bold: bool = False
    ) -> Label:
        """A label that begins at ``x, y`` and runs in the direction ``towards`` (radians).

        It is never upside down: on the left it is turned round and ends at ``x, y`` instead.
        """
        width, up, _ = self.extent(text, size, bold)
        cos, sin = math.cos(towards), math.sin(towards)
        angle = math.degrees(towards)
        if cos < -1e-9:
            x, y, angle, cos, sin = x + width * cos, y + width * sin, angle + 180, -cos, -sin
        middle = (
            0.47 * up
        )  # lower-case letters sit low: centre between their middle and the capitals'
        angle = (angle + 180) % 360 - 180
        return self.label(
            text, x + middle * sin, y - middle * cos, size=size, bold=bold, angle=angle
        )


class Placer:
    """What is already on the page, and how much a new label would hide.

    Args:
        limits: Page edges (left, bottom, right, top).
        nodes: ``(N, 2)`` centres of the drawn nodes, and their ``radius`` (N,).
        marks: ``(M, 2)`` sample points of the edges, each standing for ``lengths`` (M,) pixels.
    """

    def __init__(
        self,
        limits: tuple[float, float, float, float],
        nodes: NDArray[np.float64],
        radius: NDArray[np.float64],
        marks: NDArray[np.float64],
        lengths: NDArray[np.float64],
        *,
        gap: float = 1.0,
    ) -> None:
        self.limits, self.gap = limits, gap
        self._things = [
            _from_left(nodes, radius, radius),
            _from_left(marks, np.zeros(len(marks)), lengths),
        ]
        self._boxes = np.zeros((0, 4, 2))

    def free(self, label: Label, gap: float = 0.0) -> bool:
        """Whether it lies on the page and no other label comes nearer than ``gap`` pixels."""
        corners = label.corners(max(gap, self.gap))
        left, bottom, right, top = self.limits
        low, high = corners.min(0), corners.max(0)
        if low[0] < left or low[1] < bottom or high[0] > right or high[1] > top:
            return False
        near = (self._boxes.min(1) < high).all(1) & (self._boxes.max(1) > low).all(1)
        return not overlapping(corners, self._boxes[near]).any()

    def add(self, label: Label) -> None:
        """Take the place."""
        self._boxes = np.concatenate([self._boxes, label.corners()[None]])

    def hidden(self, label: Label) -> tuple[float, float]:
        """Sum of the radii of the nodes under it, and length of the edges, in pixels."""
        cos, sin = math.cos(math.radians(label.angle)), math.sin(math.radians(label.angle))
        turn = np.array([[cos, -sin], [sin, cos]])
        sums = []
        for points, margin, weight in self._things:
            # Of many thousand points few lie above or below a label.
            corners = label.corners(float(margin.max(initial=0.0)))[:, 0]
            near = slice(*np.searchsorted(points[:, 0], (corners.min(), corners.max())))
            points, margin, weight = points[near], margin[near], weight[near]
            own = (points - (label.x, label.y)) @ turn
            x, y = own[:, 0], own[:, 1]
            across = (x > -margin) & (x < label.width + margin)
            under = across & (y > -label.down - margin) & (y < label.up + margin)
            sums.append(float(weight[under].sum()))
        return sums[0], sums[1]


def _from_left(
    points: NDArray[np.float64], margin: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    order = np.argsort(points[:, 0], kind="stable")
    return points[order], margin[order], weight[order]


def overlapping(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of ``(n, 4, 2)`` rectangles intersect the rectangle ``(4, 2)`` (separating axes)."""
    apart = np.zeros(len(others), dtype=bool)
    for k in (1, 3):
        axis = box[k] - box[0]
        mine, theirs = box @ axis, others @ axis
        apart |= (theirs.min(1) >= mine.max()) | (theirs.max(1) <= mine.min())
        axes = others[:, k] - others[:, 0]  # (n, 2)
        mine, theirs = axes @ box.T, np.einsum("nkd,nd->nk", others, axes)
        apart |= (theirs.min(1) >= mine.max(1)) | (theirs.max(1) <= mine.min(1))
    return ~apart
