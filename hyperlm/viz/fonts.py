"""Which installed fonts draw the names, and what none of them can draw.

matplotlib ships one font, of Latin, Greek, Cyrillic, Arabic, Hebrew and few other scripts. Others
are taken from the machine; a character that no font has becomes a box, and the figure's writer
says so.
"""

import contextlib
import sys
import warnings
from functools import cache

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from hyperlm.errors import HyperlmWarning

__all__ = ["BOX", "drawable", "font_families", "warn_of_boxes"]

BOX = "\u25a1"
_SHIPPED = "DejaVu Sans"
# In this order, so that a name in several scripts keeps one look; then every other Noto Sans.
_PREFERRED = (
    _SHIPPED, "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC",
    "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei",
    "Yu Gothic", "Malgun Gothic", "PingFang SC", "PingFang HK", "Hiragino Sans",
    "Apple SD Gothic Neo", "Nirmala UI", "Leelawadee UI", "Arial Unicode MS", "Symbola",
)  # fmt: skip
_FAMILY = "Noto Sans "
_boxed: set[str] = set()  # of this process, for the message


def _add_new_fonts() -> None:
    """Fonts installed since matplotlib listed them, which it does once for all time."""
    if sys.platform == "darwin":  # asking takes seconds there, and it comes with these fonts
        return
    listed = {font.fname for font in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - listed):
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # not all are for drawing
            font_manager.fontManager.addfont(path)


@cache
def font_families() -> tuple[str, ...]:
    """Installed fonts that matplotlib looks through for a character, in this order."""
    _add_new_fonts()
    known = set(font_manager.get_font_names())
    others = sorted(name for name in known if name.startswith(_FAMILY) and " Mono" not in name)
    wanted = dict.fromkeys((*_PREFERRED, *others))
    return tuple(name for name in wanted if name in known) or (_SHIPPED,)


@cache
def _found(character: str) -> bool:
    fonts = (font_manager.findfont(FontProperties(family=[f])) for f in font_families())
    return any(font_manager.get_font(f).get_char_index(ord(character)) for f in fonts)


def drawable(character: str) -> bool:
    """Whether a font has it; if not, :func:`warn_of_boxes` will name it."""
    if not _found(character):
        _boxed.add(character)
        return False
    return True


def warn_of_boxes(fig: Figure, path: object) -> None:
    """Warn if names in ``fig``, written to ``path``, have boxes."""
    texts = (text for text in fig.findobj(Text) if isinstance(text, Text))
    if not (_boxed and any(BOX in text.get_text() for text in texts)):
        return
    some = "".join(sorted(_boxed)[:10]) + (" …" if len(_boxed) > 10 else "")
    warnings.warn(
        f"{path}: boxes ({BOX}) stand for characters that no installed font has: {some} Install "
        "a font that has them, such as Noto Sans (fonts-noto-cjk and fonts-noto-core on Debian), "
        "and draw again; the page (.html) shows them with the browser's fonts.",
        HyperlmWarning,
        stacklevel=3,
    )
