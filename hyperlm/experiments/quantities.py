"""The quantities that experiments compare: name, direction, and where a record holds them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperlm.experiments.measure import unbits
from hyperlm.experiments.results import Record
from hyperlm.experiments.statistics import Difference, Interval, compare, mean_interval

__all__ = [
    "Quantity",
    "by_text",
    "difference",
    "drawn",
    "interval",
    "known",
    "quantities",
    "seeds_of",
    "shared",
    "values",
]


@dataclass(frozen=True)
class Quantity:
    """One figure of a split's document.

    Attributes:
        name: of a command or a column.
        title: in words.
        path: keys and indices that lead to it.
        higher: whether more is better; ``None`` where it is neither.
        percent: shown times 100.
        texts: the answers text by text whose mean it is: a key of ``answers``, with the index of a
            level for ``right``, and ``few`` for whole paths of the texts marked so; None where it
            is no mean over texts. Of hierarchical F1, the distance: F1 is one less the sum of
            distances by that of path lengths, which hardly differ between two arms.
    """

    name: str
    title: str
    path: tuple[str | int, ...]
    higher: bool | None = True
    percent: bool = True
    texts: tuple[str, int] | None = None

    @property
    def is_level(self) -> bool:
        """Whether it is the accuracy at one level."""
        return self.texts is not None and self.texts[0] == "right" and self.name != "path"

    def of(self, document: dict[str, Any]) -> float:
        """The figure; NaN where it is undefined."""
        value: Any = document
        for key in self.path:
            value = value[key]
        return float("nan") if value is None else float(value) * (100 if self.percent else 1)

    def by_text(self, document: dict[str, Any]) -> np.ndarray | None:
        """What each text contributes, ``(n,)``; None where that is not known."""
        if self.texts is None:
            return None
        (kind, level), answers, count = self.texts, document["answers"], document["n"]
        if kind == "distance":
            return np.asarray(answers["distance"], dtype=np.float64)
        if kind == "few":
            marked = unbits(answers["few"], count)
            return unbits(answers["right"][-1], count)[marked].astype(np.float64) * 100
        right = unbits(answers["right"][level] if kind == "right" else answers[kind], count)
        return right.astype(np.float64) * 100


def quantities(levels: int) -> list[Quantity]:
    """All quantities of a taxonomy with so many levels."""
    deepest = levels - 1
    return [
        *(
            Quantity(
                f"L{level + 1}",
                f"accuracy at level {level + 1}",
                ("levels", level, "accuracy"),
                texts=("right", level),
            )
            for level in range(levels)
        ),
        Quantity("path", "accuracy of whole paths", ("path_accuracy",), texts=("right", levels)),
        Quantity("macro-F1", f"macro-F1 at level {levels}", ("levels", deepest, "macro_f1")),
        Quantity("hF1", "hierarchical F1", ("hierarchical", "f1"), texts=("distance", 0)),
        Quantity(
            "raw cons.",
            "consistency before decoding",
            ("raw_consistency",),
            texts=("consistent", 0),
        ),
        Quantity("severity", "mistake severity", ("mistake_severity",), False, False),
        Quantity(
            "distance",
            "tree distance of all answers",
            ("mean_tree_distance",),
            False,
            False,
            ("distance", 0),
        ),
        Quantity("ECE", "calibration error of whole paths", ("ece",), False),
        Quantity(
            "few", "accuracy on classes with few texts", ("few", "accuracy"), texts=("few", 0)
        ),
    ]


def known(records: Iterable[Record], split: str = "test") -> list[Quantity]:
    """The quantities that are defined in every record: there may be no class with few texts."""
    documents = [record.figures[split] for record in records]
    every = quantities(len(documents[0]["levels"]))
    return [
        quantity
        for quantity in every
        if all(
            quantity.path[0] in document and not math.isnan(quantity.of(document))
            for document in documents
        )
    ]


def seeds_of(arms: Iterable[Sequence[Record]]) -> str:
    """``5 seeds``, or ``3 to 5 seeds`` where arms differ."""
    counts = sorted({len({record.run.seed for record in records}) for records in arms})
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} seeds"
    return f"{counts[0]} seed{'s' * (counts[0] != 1)}"


def values(records: Sequence[Record], quantity: Quantity, split: str) -> list[float]:
    """One figure per record."""
    return [quantity.of(record.figures[split]) for record in records]


def interval(records: Sequence[Record], quantity: Quantity, split: str) -> Interval:
    """Mean and 95 % interval over the seeds."""
    return mean_interval(values(records, quantity, split))


def difference(
    first: Sequence[Record], second: Sequence[Record], quantity: Quantity, split: str
) -> Difference:
    """Two arms over the seeds that both have, and over the texts where they are known."""
    a, b = shared(first, second)
    return compare(
        values(a, quantity, split),
        values(b, quantity, split),
        first_texts=by_text(a, quantity, split),
        second_texts=by_text(b, quantity, split),
        own=drawn(a, b, split),
    )


def shared(first: Sequence[Record], second: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The records of two arms for the seeds that both have, in the order of these."""
    mine, yours = ({record.run.seed: record for record in arm} for arm in (first, second))
    seeds = sorted(set(mine) & set(yours))
    return [mine[seed] for seed in seeds], [yours[seed] for seed in seeds]


def by_text(records: Sequence[Record], quantity: Quantity, split: str) -> np.ndarray | None:
    """What each text contributes in each record, ``(S, n)``; None where that is not known."""
    if quantity.texts is None:
        return None
    return np.array([quantity.by_text(record.figures[split]) for record in records])


def drawn(first: Sequence[Record], second: Sequence[Record], split: str) -> list[bool]:
    """By pair of records, whether its figures are no copy of an earlier pair's."""
    told = [
        tuple(repr(record.figures[split]) for record in pair)
        for pair in zip(first, second, strict=True)
    ]
    return [pair not in told[:at] for at, pair in enumerate(told)]
