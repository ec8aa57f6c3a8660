"""Bars and advice of libraries, kept out of a command that has output of its own."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from transformers.utils import logging

__all__ = ["library_bars", "quiet_libraries"]


def quiet_libraries() -> None:
    """Silence bars and advice of libraries, for a command that has output of its own."""
    logging.set_verbosity_error()
    _set_bars(transformers=False, downloads=not are_progress_bars_disabled())
    # Hyperlm's own warnings stay; those of libraries address their callers, which is us.
    warnings.filterwarnings("ignore", module=r"(torch|geoopt|transformers|accelerate|peft)\b.*")


@contextmanager
def library_bars(*, downloads: bool) -> Iterator[None]:
    """Within it bars of transformers do not break into ours; those of downloads as asked."""
    theirs, of_hub = logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    _set_bars(transformers=False, downloads=downloads and of_hub)
    try:
        yield
    finally:
        _set_bars(transformers=theirs, downloads=of_hub)


def _set_bars(*, transformers: bool, downloads: bool) -> None:
    """Bars of transformers, which switches those of the hub too: a first download takes minutes."""
    (logging.enable_progress_bar if transformers else logging.disable_progress_bar)()
    (enable_progress_bars if downloads else disable_progress_bars)()
