"""What a model answers to one text."""

from dataclasses import dataclass

__all__ = ["Alternative", "Prediction"]


@dataclass(frozen=True)
class Alternative:
    """One of the most probable paths: its names and the probability of the whole path."""

    path: tuple[str, ...]
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The answer for one text.

    Attributes:
        path: names from the top class down; shorter, even empty, when a threshold stopped it.
        probabilities: of each node of ``path``: at or below it, so they never grow along the path.
        top: the most probable whole paths, best first.
        empty: the text had nothing but white space; the answer then means nothing.
        stopped: a threshold ended the path above the end of the best whole one.
        paths: all paths of the answer, ``path`` first; others stand here where the model was
            trained on texts with several. A threshold shortens each for itself, and may leave
            others where nothing is left of ``path``.
    """

    path: tuple[str, ...]
    probabilities: tuple[float, ...]
    top: tuple[Alternative, ...]
    empty: bool = False
    stopped: bool = False
    paths: tuple[tuple[str, ...], ...] = ()
