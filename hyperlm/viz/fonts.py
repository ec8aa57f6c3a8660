"""Which installed fonts draw the names, and what none of them can draw.

matplotlib ships one font, of Latin, Greek, Cyrillic, Arabic, Hebrew and few other scripts. Where a
name needs another, the first installed one of a list that has the character is taken, for this name
and all later ones; fonts that nobody needs are never opened. A character that no font has becomes a
box, and the figure's writer says so.
"""

import contextlib
import logging
import sys
import warnings
from functools import cache

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from hyperlm.errors import HyperlmWarning

__all__ = ["BOX", "drawable", "font_families", "remember_boxes", "warn_of_boxes"]

BOX = "\u25a1"
_SHIPPED = "DejaVu Sans"
# In this order, so that a name in several scripts keeps one look; then every other Noto Sans.
_PREFERRED = (
    "Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC",
    "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei",
    "Yu Gothic", "Malgun Gothic", "PingFang SC", "PingFang HK", "Hiragino Sans",
    "Apple SD Gothic Neo", "Nirmala UI", "Leelawadee UI", "Arial Unicode MS", "Symbola",
)  # fmt: skip
_needed: list[str] = []
_boxed: dict[str, str] = {}  # names with boxes, and what these stand for


def font_families() -> tuple[str, ...]:
    """Families that matplotlib looks through for a character: the shipped one and those needed."""
    others = _others()
    return (_SHIPPED, *sorted(_needed, key=others.index))


@cache
def drawable(character: str) -> bool:
    """Whether an installed font has it; from then on that font is one of the families."""
    if ord(character) in _characters(_SHIPPED):
        return True
    for family in _others():
        if ord(character) in _characters(family):
            if family not in _needed:
                before = font_families()
                _needed.append(family)
                # Within our style: what is drawn from here on has the font too.
                if tuple(matplotlib.rcParams["font.family"]) == before:
                    matplotlib.rcParams["font.family"] = list(font_families())
            return True
    return False


@cache
def _others() -> tuple[str, ...]:
    _add_new_fonts()
    known = set(font_manager.get_font_names())
    noto = sorted(name for name in known if name.startswith("Noto Sans ") and "Mono" not in name)
    return tuple(name for name in dict.fromkeys((*_PREFERRED, *noto)) if name in known)


def _add_new_fonts() -> None:
    """Fonts installed since matplotlib listed them, which it does once for all time."""
    if sys.platform == "darwin":  # asking takes seconds there, and it comes with these fonts
        return
    listed = {font.fname for font in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - listed):
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # not all are for drawing
            font_manager.fontManager.addfont(path)


@cache
def _characters(family: str) -> frozenset[int]:
    """Code points of a family."""
    try:
        path = font_manager.findfont(FontProperties(family=[family]), fallback_to_default=False)
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def remember_boxes(name: str, missing: str) -> None:
    """``name``, as it will be drawn, has boxes in place of ``missing``."""
    _boxed[name] = missing


def warn_of_boxes(fig: Figure, path: object) -> None:
    """Warn if names in ``fig``, written to ``path``, have boxes."""
    drawn = {text.get_text() for text in fig.findobj(Text) if isinstance(text, Text)}
    missing = sorted({c for name in drawn if name in _boxed for c in _boxed[name]})
    if not missing:
        return
    some = ", ".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in missing[:10])
    some += " and others" if len(missing) > 10 else ""
    warnings.warn(
        f"{path}: boxes ({BOX}) stand for characters that no installed font has: {some}. Install a "
        "font that has them, such as Noto Sans (fonts-noto-cjk and fonts-noto-core on Debian), and "
        "draw again; the page (.html) shows them with the browser's fonts.",
        HyperlmWarning,
        stacklevel=3,
    )


def _of_ours(record: logging.LogRecord) -> bool:
    """Whether matplotlib misses a bold variant of a font that was taken for its characters."""
    message = record.getMessage()
    return "Failed to find font weight" in message and any(name in message for name in _needed)


# Many fonts of scripts come in one weight; that is no news for anybody.
logging.getLogger(font_manager.__name__).addFilter(lambda record: not _of_ours(record))
