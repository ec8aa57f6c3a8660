"""Errors and warnings that explain themselves.

Every message says what arrived, what was allowed and what to do next. Each class also derives from
the builtin a caller would expect, so ``except ValueError`` keeps working.
"""

__all__ = [
    "CurvatureWarning",
    "DataError",
    "DataWarning",
    "HyperlmError",
    "HyperlmWarning",
    "ModelError",
    "OffManifoldError",
    "OptionError",
    "OutputError",
    "TaxonomyError",
]


class HyperlmError(Exception):
    """Base of all errors a user can cause and repair; the command prints it without a traceback."""


class DataError(HyperlmError, ValueError):
    """A table, file or named data set cannot be used as it is."""


class TaxonomyError(HyperlmError, ValueError):
    """The labels do not form a rooted tree or DAG, or a label is not part of it."""


class OptionError(HyperlmError, ValueError):
    """An option or argument has a value outside what is allowed."""


class ModelError(HyperlmError, ValueError):
    """A saved model is damaged, foreign, or does not fit what is asked of it."""


class OffManifoldError(HyperlmError, ValueError):
    """Points lie outside the space they should live in."""


class OutputError(HyperlmError, OSError):
    """An output folder or file cannot be written, or exists already."""


class HyperlmWarning(UserWarning):
    """Base of all warnings; the command prints them as one line."""


class DataWarning(HyperlmWarning):
    """Texts or labels that look like a mistake; training goes on."""


class CurvatureWarning(HyperlmWarning):
    """A learned curvature sits on one of its bounds: the data does not hold it."""
