"""Colours of every figure: one family, light and dark.

The twelve class colours were searched for so that any two stay at least 15 apart (CIE76) in normal
vision and under simulated protanopia, deuteranopia and tritanopia (Machado et al. 2009), on a
ladder of lightness: in greyscale no two coincide, and neighbours in the list are several rungs
apart. Beyond twelve classes the colours repeat with another marker.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DARK",
    "LIGHT",
    "MARKERS",
    "Theme",
    "channels",
    "class_style",
    "mix",
    "theme",
    "top_classes",
]

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")


@dataclass(frozen=True)
class Theme:
    """Colours by what they are for; all are ``#rrggbb``."""

    paper: str  # around the disk
    disk: str  # inside it
    rim: str  # the boundary circle
    ink: str  # text
    muted: str  # captions, leaders
    error: str  # confusion, and what must not be overlooked
    classes: tuple[str, ...]

    def shades(self) -> tuple[str, ...]:
        """From nothing to much, for a colour map: the disk's own colour, a hue, the ink."""
        return (
            self.disk,
            mix(self.disk, self.classes[0], 0.65),
            mix(self.classes[0], self.ink, 0.7),
        )

    def text_color(self, color: str) -> str:
        """``color`` drawn towards the ink until small type in it reads well on the paper."""
        return mix(color, self.ink, 0.45)


LIGHT = Theme(
    paper="#ffffff", disk="#f7f7fa", rim="#b9bcc8", ink="#16181f", muted="#5d6270",
    error="#23262f",
    classes=(
        "#1833b4", "#c58413", "#367b35", "#b77cff", "#cc0521", "#1fb7ac",
        "#4f79ba", "#c1b364", "#a5107b", "#f81f80", "#833443", "#d8adfa",
    ),
)  # fmt: skip

DARK = Theme(
    paper="#12141b", disk="#191c25", rim="#4a4f60", ink="#f3f4f8", muted="#9ea4b4",
    error="#eceef4",
    classes=(
        "#1f6df2", "#d17b10", "#adda34", "#f56a9d", "#d8be60", "#0686b9",
        "#fb9f85", "#679445", "#f7bdfc", "#55bcbd", "#88f1bb", "#7da3fd",
    ),
)  # fmt: skip


def theme(dark: bool) -> Theme:
    """The dark or the light theme."""
    return DARK if dark else LIGHT


def class_style(number: int, colors: Theme) -> tuple[str, str]:
    """Colour and marker of the class with this number, counted from 0 in the taxonomy's order."""
    turn, index = divmod(number, len(colors.classes))
    return colors.classes[index], MARKERS[turn % len(MARKERS)]


def top_classes(taxonomy: Any) -> NDArray[np.int64]:
    """(N,) the top class each node lies under, along ``taxonomy.parent``."""
    parent = np.asarray(taxonomy.parent)
    top = np.arange(len(parent))
    for level in taxonomy.level_slices[1:]:
        top[level] = top[parent[level]]
    return top


def mix(color: str, other: str, share: float) -> str:
    """``color`` with ``share`` of ``other`` in it, in sRGB."""
    a, b = channels(color), channels(other)
    return "#" + "".join(f"{round(float(v)):02x}" for v in a + share * (b - a))


def channels(color: str) -> NDArray[np.float64]:
    """``(3,)`` red, green and blue of ``#rrggbb``, 0 to 255."""
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64)
