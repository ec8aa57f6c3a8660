"""A figure to a file: complete or not at all.

In: a matplotlib Figure and a path, whose ending decides the format. Equal figures give equal bytes.
"""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from hyperlm.errors import OptionError, OutputError
from hyperlm.viz.fonts import warn_of_boxes

__all__ = ["FIGURE_ENDINGS", "save_figure"]

FIGURE_ENDINGS = (".png", ".svg", ".pdf")
# No dates, so that a repeated run changes nothing in a repository.
_METADATA: dict[str, dict[str, str | None]] = {
    ".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}
}  # fmt: skip


def save_figure(fig: Figure, path: str | os.PathLike[str], *, colors: int | None = None) -> Path:
    """Write ``fig`` to ``path`` and return the path; an existing file is replaced at the end.

    Args:
        colors: of a PNG, at most 256, in a palette; ``None`` for all.
    Raises:
        OptionError: The ending is not .png, .svg or .pdf, or a palette of another size.
        OutputError: The folder is missing or the file cannot be written.
    """
    if colors is not None and not 1 <= colors <= 256:
        raise OptionError(f"colors = {colors}: a palette has 1 to 256.")
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in FIGURE_ENDINGS:
        raise OptionError(
            f"{path}: a figure cannot be written as {path.suffix or 'a file without ending'}; the "
            f"name must end in {', '.join(FIGURE_ENDINGS[:-1])} or {FIGURE_ENDINGS[-1]}."
        )
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {str(path.parent)!r}. Make it first.")
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=ending, dir=path.parent
        )
        with os.fdopen(handle, "wb") as stream, _fixed_ids():
            drawn = io.BytesIO() if colors and ending == ".png" else stream
            fig.savefig(
                drawn,
                format=ending[1:],
                dpi=fig.dpi,
                facecolor=fig.get_facecolor(),
                metadata=_METADATA[ending],
            )
            if colors and drawn is not stream:
                picture = _with_palette(Image.open(drawn), colors)
                picture.save(stream, format="png", optimize=True, dpi=(fig.dpi, fig.dpi))
        umask = os.umask(0)  # mkstemp makes a private file; the result is an ordinary one
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"{path}: could not be written ({error.strerror or error}). What was there before is "
            "unchanged; choose another place, or free some space if the disk is full."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    warn_of_boxes(fig, path)
    return path


def _with_palette(picture: Image.Image, colors: int) -> Image.Image:
    """The most frequent colours stay exactly as they are, the others become the nearest of them."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.int64)
    codes = pixels @ (1 << 16, 1 << 8, 1)
    known, at, counts = np.unique(codes, return_inverse=True, return_counts=True)
    channels = np.stack([known >> 16, known >> 8 & 255, known & 255], axis=1)
    often = channels[np.argsort(-counts, kind="stable")[:colors]]
    nearest = np.concatenate(
        [
            ((part[:, None] - often) ** 2).sum(2).argmin(1)
            for part in np.array_split(channels, 1 + len(channels) // 4096)
        ]
    ).astype(np.uint8)
    drawn = Image.fromarray(nearest[at].reshape(codes.shape))
    drawn.putpalette(often.astype(np.uint8).tobytes())
    return drawn


def _fixed_ids() -> contextlib.AbstractContextManager[None]:
    """While an SVG is written its ids must not be random; the setting is put back afterwards."""
    return matplotlib.rc_context({"svg.hashsalt": "hyperlm", "svg.fonttype": "path"})
