"""The label tree alone, from whatever holds one.

In: a taxonomy file, labelled texts (a table, a folder, a named set), or a table of labels without
texts. Out: a :class:`LabelTree`. Texts are read for their labels and left where they are.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyperlm.data.bundle import load_data
from hyperlm.data.dialogues import holds_dialogues
from hyperlm.data.labels import choose_columns, no_column, read_labels
from hyperlm.data.splits import SPLITS
from hyperlm.data.table import FORMATS, Row, Table, file_table
from hyperlm.data.textfile import opened
from hyperlm.errors import DataError
from hyperlm.taxonomy import Taxonomy

__all__ = ["LabelTree", "holds_labels_alone", "holds_taxonomy", "read_tree"]

_TEXTS = ("text", "token")  # what the column is called where nobody names it
_LONGEST = 200  # characters of a name; what has more is a text


@dataclass(frozen=True)
class LabelTree:
    """A taxonomy and what else is known of its labels.

    Attributes:
        taxonomy: The labels.
        level_names: One for each level, coarse to fine, where the source has names for them.
        counts: int64 ``(N,)`` texts at or below each node, of all splits; None without texts.
        texts: How many texts there are.
    """

    taxonomy: Taxonomy
    level_names: tuple[str, ...] | None = None
    counts: NDArray[np.int64] | None = None
    texts: int = 0


def read_tree(
    source: str | Path,
    *,
    text_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    path_separator: str = " > ",
) -> LabelTree:
    """The labels behind ``source``, with or without texts.

    Args:
        source: What ``Taxonomy.read`` or ``load_data`` takes, or a table of labels alone: a column
            for each level, coarse to fine, or a single one with whole paths.
        text_column, label_columns, path_separator: As for ``load_data``.

    Raises:
        TaxonomyError, DataError, OptionError: It is none of these, or cannot be used.
    """
    path = Path(source)
    if path.is_file() and label_columns is None and holds_taxonomy(path):
        return LabelTree(Taxonomy.read(path))
    if path.is_file() and text_column is None and holds_labels_alone(path):
        return _labels_alone(path, label_columns, path_separator)
    data = load_data(
        source, text_column=text_column, label_columns=label_columns, path_separator=path_separator
    )
    gold = [
        nodes for name in SPLITS if getattr(data, name) is not None for nodes in data.gold(name)
    ]
    return LabelTree(data.taxonomy, data.level_names, _counts(data.taxonomy, gold), len(gold))


def holds_taxonomy(path: str | Path) -> bool:
    """Whether a file is one for ``Taxonomy.read``, and no table of texts or of label paths."""
    path = Path(path)
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith((".csv", ".tsv")):
        return not name.endswith(FORMATS)
    try:
        with opened(path, path.suffix.lower() == ".gz") as file:
            header = file.readline().decode("utf-8-sig", "replace").lower()
    except (DataError, OSError, EOFError):
        return True  # which says what is wrong with it
    columns = {cell.strip(' "') for cell in re.split("[,;\\t]", header.strip())}
    return {"child", "parent"} <= columns and not columns & set(_TEXTS)


def holds_labels_alone(path: str | Path) -> bool:
    """Whether a file is a table without a column of texts.

    Raises:
        DataError: It cannot be read, or has no rows.
    """
    path = Path(path)
    if not path.name.lower().removesuffix(".gz").endswith(FORMATS):
        return False
    _, row = next(iter(file_table(path).rows))
    return not (set(_TEXTS) & row.keys() or holds_dialogues(row))


def _counts(taxonomy: Taxonomy, gold: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Each text once at every node of its paths."""
    text = np.repeat(np.arange(len(gold)), [len(ends) for ends in gold])
    end = np.concatenate(gold)
    start = taxonomy.ancestor_indptr
    many = (start[end + 1] - start[end]).astype(np.int64)
    place = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    above = taxonomy.ancestor_indices[np.repeat(start[end], many) + place]
    pairs = np.concatenate([text, np.repeat(text, many)]) * len(taxonomy)
    pairs += np.concatenate([end, above])
    return np.bincount(np.unique(pairs) % len(taxonomy), minlength=len(taxonomy))


def _labels_alone(path: Path, label_columns: Sequence[str] | None, separator: str) -> LabelTree:
    table = file_table(path)
    _, row = next(iter(table.rows))
    for name in label_columns or ():
        if name not in row:
            raise no_column(name, list(row), table.name, "--label-columns")
    textless = replace(table, rows=_WithoutTexts(table))
    columns = choose_columns(
        {_TEXTS[0]: "", **row},
        label_columns=label_columns,
        separator=separator,
        table=table.name,
        typed=table.typed,
    )
    found = read_labels(textless, columns)
    paths = {names: i for i, of_row in enumerate(found.paths) for names in of_row}
    for names, i in paths.items():
        long = next((name for name in names if len(name) > _LONGEST), None)
        if long is not None:
            raise DataError(
                f"{found.place(i)}: {long[:40]!r}... has {len(long)} characters, which is a text, "
                "no label. Name the column of texts with --text-column, or those of labels with "
                "--label-columns."
            )
    stem = Path(path.name.removesuffix(".gz")).stem
    taxonomy = Taxonomy.from_paths(sorted(paths), name=stem)
    named = 1 < len(columns.labels) == taxonomy.num_levels
    return LabelTree(taxonomy, columns.labels if named else None)


@dataclass(frozen=True)
class _WithoutTexts:
    """Rows of labels alone as those of texts that are empty, so that one reader does for both."""

    table: Table

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        return ((number, {_TEXTS[0]: "", **row}) for number, row in self.table.rows)
