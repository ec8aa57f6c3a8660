"""Numbers as the command line tells them: several, with commas."""

import math

from hyperlm.errors import OptionError

__all__ = ["rates_in", "shares_in", "wholes_in"]


def wholes_in(text: str, option: str, *, least: int, example: str) -> list[int]:
    """Whole numbers from ``least``.

    Raises:
        OptionError: naming ``option`` and the example.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= least for part in parts):
        raise _refused(text, option, f"whole numbers from {least}", example)
    return [int(part) for part in parts]


def rates_in(text: str, option: str, *, example: str) -> list[float]:
    """Numbers above 0. Raises as :func:`wholes_in`."""
    return _between(text, math.inf, option, "numbers above 0", example)


def shares_in(text: str, option: str, *, example: str) -> list[float]:
    """Numbers above 0 and up to 1. Raises as :func:`wholes_in`."""
    return _between(text, 1.0, option, "numbers above 0 and up to 1", example)


def _between(text: str, most: float, option: str, what: str, example: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise _refused(text, option, what, example) from None
    if not all(0 < number <= most and math.isfinite(number) for number in numbers):
        raise _refused(text, option, what, example)
    return numbers


def _refused(text: str, option: str, what: str, example: str) -> OptionError:
    return OptionError(f"{option} {text!r}: give {what} with commas, as in {example}.")
