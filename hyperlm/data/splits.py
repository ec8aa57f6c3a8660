"""Split files in a folder, and seeded stratified cuts where a split is missing.

A cut depends on the texts, their labels, the fraction and the seed, and not on the order of the
rows: rows are ranked within their class by a keyed hash of the text, so the same data shuffled or
read elsewhere gives the same split.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from hyperlm.data.labels import LabelledTexts, LabelPath
from hyperlm.data.table import FORMATS
from hyperlm.errors import DataError, OptionError

__all__ = ["SPLITS", "cut", "find_split_files", "names_a_split", "stratified_split"]

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test",),
}


def find_split_files(folder: Path, prefix: str = "") -> dict[str, Path]:
    """The files of each split a folder has: ``train``, ``val`` (or ``valid``, ...), ``test``.

    ``prefix`` may stand before the names, as in ``DBPEDIA_train.csv``.

    Raises:
        DataError: Two files claim the same split.
    """
    files: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        stems = {p + name for name in names for p in {"", prefix.lower()}}
        allowed = {stem + suffix + gz for stem in stems for suffix in FORMATS for gz in ("", ".gz")}
        found = sorted(p for p in folder.iterdir() if p.name.lower() in allowed)
        if len(found) > 1:
            raise DataError(
                f"{folder}: {' and '.join(p.name for p in found)} all claim to be the {split} "
                "split. Keep one of them there."
            )
        if found:
            files[split] = found[0]
    return files


def names_a_split(path: Path) -> str | None:
    """The split that a table of this name would be in a folder of tables, if it would be one."""
    stem = path.name.lower().split(".")[0]
    return next((split for split, names in SPLIT_NAMES.items() if stem in names), None)


def _rank(seed: int, *parts: object) -> bytes:
    return hashlib.blake2b(repr((seed, *parts)).encode("utf-8", "surrogatepass")).digest()


def stratified_split(
    labels: Sequence[Hashable], texts: Sequence[str], fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows so that each class gives close to ``fraction`` of its rows to the second part.

    Every class gives ``fraction * count`` rows rounded down or up, so that the total comes as near
    ``fraction`` of all rows as that allows, and keeps at least one. At least one row is given if
    any class has two.

    Args:
        labels: Class of each row. texts: Text of each row, which decides its rank in the class.
        fraction: In (0, 0.5].

    Returns:
        Row numbers of the rest and of the part, both sorted, int64.
    """
    if not 0 < fraction <= 0.5:
        raise OptionError(f"split fraction {fraction:g}: choose one above 0 and up to 0.5.")
    classes: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        classes.setdefault(label, []).append(row)
    # Exact arithmetic: 0.1 * 10 rows is one row, whatever binary fractions make of it.
    share = Fraction(fraction).limit_denominator(10**6)
    quota = {label: share * len(rows) for label, rows in classes.items()}
    given = {label: math.floor(q) for label, q in quota.items()}
    wanted = max(1, round(share * len(labels)))
    able = [k for k, rows in classes.items() if given[k] < quota[k] and given[k] < len(rows) - 1]
    able.sort(key=lambda label: (float(given[label] - quota[label]), _rank(seed, label)))
    for label in able[: max(0, wanted - sum(given.values()))]:
        given[label] += 1
    part: list[int] = []
    for label, rows in classes.items():
        rows.sort(key=lambda row: (_rank(seed, label, texts[row]), row))
        part += rows[: given[label]]
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[part] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _together(texts: LabelledTexts, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """:func:`stratified_split` of different texts: the rows of one stay on one side.

    A text has the labels of all its rows, as where one has a row for each label.
    """
    first: dict[str, int] = {}
    leader = [
        first.setdefault(text, row) if text.strip() else row for row, text in enumerate(texts.texts)
    ]
    labels: dict[int, set[LabelPath]] = {}
    for row, of_row in zip(leader, texts.paths, strict=True):
        labels.setdefault(row, set()).update(of_row)
    led = sorted(labels)
    own = [texts.texts[row] for row in led]
    paths = [tuple(sorted(labels[row])) for row in led]
    _, part = stratified_split(_strata(paths), own, fraction, seed)
    kept = _all_kept(paths, own, set(part.tolist()))
    chosen = np.isin(leader, [led[at] for at in kept])
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _strata(paths: Sequence[tuple[LabelPath, ...]]) -> list[tuple[LabelPath, ...]]:
    """The class of each text; of one with several labels its rarest, not what it combines.

    Combinations occur once or twice, and would hardly ever be drawn.
    """
    counts = Counter(path for of_text in paths for path in set(of_text))
    return [
        (min(of_text, key=lambda path: (counts[path], path)),) if len(of_text) > 1 else of_text
        for of_text in paths
    ]


def _all_kept(
    paths: Sequence[tuple[LabelPath, ...]], texts: Sequence[str], part: set[int]
) -> list[int]:
    """The part without texts that would leave one of their several labels no other text."""
    left = Counter(path for row, of_text in enumerate(paths) if row not in part for path in of_text)
    for row in sorted(part, key=lambda row: (paths[row], texts[row])):
        if len(paths[row]) > 1 and not all(left[path] for path in paths[row]):
            part = part - {row}
            left.update(paths[row])
    return sorted(part)


def cut(
    texts: LabelledTexts, fraction: float, seed: int
) -> tuple[LabelledTexts, LabelledTexts | None, dict[str, object]]:
    """Cut a stratified part out of a split: the rest, the part, and a record of what was done.

    Equal texts stay on one side. The part is None when no class can spare a text. The record holds
    seed, fraction, size and a digest of the row numbers, by which a repeated cut can be recognised.
    """
    rest, part = _together(texts, fraction, seed)
    lines = [texts.lines[i] for i in part]
    record: dict[str, object] = {
        "cut_from": Path(texts.name).name,
        "fraction": float(fraction),
        "seed": seed,
        "rows": len(part),
        "rows_sha256": hashlib.sha256(",".join(map(str, lines)).encode()).hexdigest(),
    }
    return texts.take(rest), texts.take(part) if len(part) else None, record
