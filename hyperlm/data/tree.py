"""The label tree alone, from whatever holds one.

In: a taxonomy file, labelled texts (a table, a folder, a named set), or a table of labels without
texts. Out: a :class:`LabelTree`. Of texts nothing is kept but how many there are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyperlm.data.bundle import refuse_ids, taxonomy_of
from hyperlm.data.columns import Columns, choose_columns, no_column
from hyperlm.data.dialogues import holds_dialogues, turns
from hyperlm.data.doubts import label_doubts
from hyperlm.data.gold import gold_nodes
from hyperlm.data.labels import LabelledTexts, read_labels
from hyperlm.data.named import NAMED_SETS, Located, in_data_folder, locate
from hyperlm.data.splits import find_split_files
from hyperlm.data.table import FORMATS, Table, header_of
from hyperlm.data.wos import original_folder
from hyperlm.errors import DataError, OptionError
from hyperlm.taxonomy import Taxonomy
from hyperlm.taxonomy_io import SUFFIXES

__all__ = ["LabelTree", "has_labels_to_show", "is_run", "read_tree"]

_TEXTS = ("text", "token")  # what the column is called where nobody names it
_LONGEST = 200  # characters of a name; what has more is a text
_LISTED = 3


@dataclass(frozen=True)
class LabelTree:
    """A taxonomy and what else is known of its labels.

    Attributes:
        taxonomy: The labels.
        title: What to call it.
        level_names: One for each level, coarse to fine, where the source has names for them.
        counts: int64 ``(N,)`` texts at or below each node, of all splits; None without texts.
        notes: What whoever looks at it must know, in sentences.
        advice: What whoever named the source should check, with the options that change it.
    """

    taxonomy: Taxonomy
    title: str
    level_names: tuple[str, ...] | None = None
    counts: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def read_tree(
    source: str | Path,
    *,
    text_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    path_separator: str | None = None,
    label_separator: str | None = None,
) -> LabelTree:
    """The labels behind ``source``, with or without texts.

    Args:
        source: What ``Taxonomy.read`` or ``load_data`` takes, or a table of labels alone: a column
            for each level, coarse to fine, or a single one with whole paths.
        text_column, label_columns, path_separator, label_separator: As for ``load_data``; of
            tables only.

    Raises:
        TaxonomyError, DataError, OptionError: It is none of these, or cannot be used.
    """
    path = Path(source)
    named = {
        "--text-column": text_column,
        "--label-columns": label_columns,
        "--path-separator": path_separator,
        "--label-separator": label_separator,
    }
    given = [option for option, value in named.items() if value is not None]
    if _is_taxonomy(path, named=text_column is not None or label_columns is not None):
        if given:
            raise OptionError(
                f"{', '.join(given)}: {path} is a taxonomy and has no columns to choose. Leave "
                "this out."
            )
        taxonomy = Taxonomy.read(path)
        return LabelTree(taxonomy, taxonomy.title or _stem(path))
    if path.is_file() and not _ends(path, FORMATS):
        raise DataError(
            f"{path}: no file of labels. Taxonomies end in {', '.join(SUFFIXES)}, tables in "
            f"{', '.join(FORMATS)}, each also with .gz. Rename or convert the file."
        )
    found = locate(source, label_columns=label_columns)
    parts, columns, level_names = _labels(
        found, text_column, label_columns, path_separator, label_separator
    )
    taxonomy, _ = taxonomy_of(found.taxonomy, parts)
    notes, advice = list(found.warnings), []
    if label_columns is None and found.kind != "named" and len(columns.labels) > 1:
        advice.append(f"Levels: {' > '.join(columns.labels)} (--label-columns names others).")
    paths = [path for part in parts for of_row in part.paths for path in of_row]
    if found.kind != "named":
        doubts = label_doubts(paths, columns, chosen=label_columns is not None)
        advice += [f"{doubt}." for doubt in doubts]
    counts = None
    if columns.text is not None:
        ends = [nodes for part in parts for nodes in gold_nodes(part, taxonomy)]
        counts = _counts(taxonomy, ends)
        notes.append(_told(taxonomy, counts, len(ends)))
    title = path.resolve().name if path.is_dir() else _stem(path) if path.is_file() else found.name
    fits = level_names is not None and len(level_names) == taxonomy.num_levels
    names = level_names if fits else None
    return LabelTree(taxonomy, title, names, counts, tuple(notes), tuple(advice))


def has_labels_to_show(source: str | Path, *, label_columns: Sequence[str] | None = None) -> bool:
    """Whether ``source`` is for :func:`read_tree`, and neither a run nor a model on the hub."""
    path, name = Path(source), str(source)
    if is_run(path):
        return False
    if path.is_file() or name in NAMED_SETS or in_data_folder(name) is not None:
        return True
    if path.is_dir():
        return bool(find_split_files(path)) or original_folder(path) is not None
    return _ends(path, (*FORMATS, *SUFFIXES)) or label_columns is not None


def is_run(source: str | Path) -> bool:
    """Whether a folder holds a model of hyperlm."""
    folder = Path(source)
    if (folder / "run.json").is_file():
        return True
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and str(config.get("model_type")).startswith("hyperlm")


def _is_taxonomy(path: Path, *, named: bool) -> bool:
    """By its ending; a .csv or .tsv by its header, unless columns of it were named."""
    if not _ends(path, FORMATS):
        return _ends(path, SUFFIXES)
    if named or not _ends(path, SUFFIXES) or not path.is_file():
        return False
    columns = {name.strip().lower() for name in header_of(path)}
    if {"child", "parent", "text"} <= columns:
        raise DataError(
            f"{path}: columns 'child' and 'parent' make it a taxonomy, 'text' makes it a table of "
            "texts. If it is the latter, name its columns with --text-column and --label-columns; "
            "else rename 'text' or leave it out."
        )
    return {"child", "parent"} <= columns


def _labels(
    found: Located,
    text_column: str | None,
    label_columns: Sequence[str] | None,
    separator: str | None,
    between: str | None,
) -> tuple[list[LabelledTexts], Columns, tuple[str, ...] | None]:
    """All tables, by the columns of the first; and names of levels where the columns have them."""
    parts: list[LabelledTexts] = []
    columns, names = None, None
    # Of a small test split every text may be of another class: no sign of ids.
    largest = next((s for s in ("train", "all") if s in found.tables), next(iter(found.tables)))
    for split, table in found.tables.items():
        row = table.columns()
        if text_column is None and holds_dialogues(row):
            table = turns(table)
            row = table.columns()
        if columns is None:
            if text_column is None and not set(_TEXTS) & row.keys():
                _refuse_no_header(table, list(row), label_columns)
            texts = text_column is not None or bool(set(_TEXTS) & row.keys())
            columns = choose_columns(
                row,
                text_column=text_column,
                label_columns=table.labels if label_columns is None else label_columns,
                reply_column=table.reply,
                separator=" > " if separator is None else separator,
                between=between,
                table=table.name,
                typed=table.typed,
                texts=texts,
            )
            names = columns.labels if len(columns.labels) > 1 else table.labels
        parts.append(read_labels(table, columns))
        if label_columns is None and split == largest:
            refuse_ids(parts[-1], columns)
        if label_columns is None and columns.text is None:
            _refuse_no_names(table, parts[-1], columns)
    assert columns is not None  # locate finds a table or raises
    return parts, columns, names


def _refuse_no_header(table: Table, names: list[str], labels: Sequence[str] | None) -> None:
    """A column of texts by nearly its name, or a separator that is not the table's."""
    near = any(name.strip().lower() in _TEXTS for name in names)
    single = len(names) == 1 and any(sign in names[0] for sign in ";\t|")
    if near or (single and labels is None):
        raise no_column(_TEXTS[0], names, table.name, "--text-column")


def _refuse_no_names(table: Table, found: LabelledTexts, columns: Columns) -> None:
    """Labels alone, by columns that nobody named: are they names, below a header?"""
    if not table.typed and len(columns.labels) == 1 and columns.separator in columns.labels[0]:
        raise DataError(
            f"{table.name}: the first line, {columns.labels[0][:60]!r}, looks like a path. A table "
            "begins with the names of its columns: add a line above, such as 'label'."
        )
    for i, of_row in enumerate(found.paths):
        for path in of_row:
            for level, name in enumerate(path):
                column = columns.labels[level if len(columns.labels) > 1 else 0]
                if len(name) > _LONGEST:
                    raise DataError(
                        f"{found.place(i)}, column {column!r}: {name[:40]!r}... has {len(name)} "
                        "characters, which is a text and no label. Name the column of texts with "
                        "--text-column, or those of labels with --label-columns."
                    )
                if name == column and not table.typed:
                    raise DataError(
                        f"{table.name}: {name!r} is the name of a column and, in "
                        f"{found.unit} {found.lines[i]}, a label in it. If the table has no "
                        "header, give it one; if this is right, say so with --label-columns "
                        f"{','.join(columns.labels)}."
                    )


def _counts(taxonomy: Taxonomy, ends: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Each text once at every node of its paths."""
    text = np.repeat(np.arange(len(ends)), [len(nodes) for nodes in ends])
    row, node = taxonomy.at_or_above(np.concatenate(ends))
    pairs = np.unique(text[row] * len(taxonomy) + node)
    return np.bincount(pairs % len(taxonomy), minlength=len(taxonomy))


def _told(taxonomy: Taxonomy, counts: NDArray[np.int64], texts: int) -> str:
    """How many texts there are, and which labels have a single one: often a misspelt name."""
    sizes = [f"{len(nodes):,}" for nodes in taxonomy.levels]
    levels = f"{len(sizes)} levels ({' + '.join(sizes)})" if len(sizes) > 1 else "1 level"
    told = f"{texts:,} text{'s' * (texts != 1)}; {len(taxonomy):,} labels on {levels}."
    leaves = taxonomy.leaves[counts[taxonomy.leaves] == 1]
    if 0 < len(leaves) < len(taxonomy.leaves):
        some = "; ".join(_shown(taxonomy.path(int(node))) for node in leaves[:_LISTED])
        more = "; ..." if len(leaves) > _LISTED else ""
        told += f" Leaves with a single text: {len(leaves):,} of {len(taxonomy.leaves):,}"
        told += f" ({some}{more})."
    empty = int((counts[taxonomy.terminals] == 0).sum())
    return told + (f" Labels without a text: {empty:,}." if empty else "")


def _shown(path: Sequence[str]) -> str:
    line = " > ".join(" ".join("".join(filter(_is_plain, name)).split()) for name in path)
    return line if len(line) <= 70 else f"... {line[-66:]}"


def _is_plain(character: str) -> bool:
    return character.isprintable() or character.isspace()


def _ends(path: Path, suffixes: Sequence[str]) -> bool:
    name = path.name.lower()
    return name.removesuffix(".gz").endswith(tuple(suffixes))


def _stem(path: Path) -> str:
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem
