"""A data set ready for training: its splits, its taxonomy, and a record of where they are from.

In: what the user names (see ``named.locate``). Out: a ``DataBundle``. The taxonomy is the one
given, else the ``.taxonomy`` file of the folder, else the tree of all label paths in the splits
that are read: a label tree is known beforehand even where a class has no training text, and such
classes are recorded. Everything a model card must tell stands in ``DataBundle.source``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperlm.data.columns import Columns, choose_columns, same_columns
from hyperlm.data.descriptions import read_descriptions
from hyperlm.data.dialogues import holds_dialogues, turns
from hyperlm.data.gold import gold_nodes
from hyperlm.data.labels import LabelledTexts, read_labels
from hyperlm.data.named import Located, locate
from hyperlm.data.record import describe, file_record
from hyperlm.data.splits import SPLITS, cut
from hyperlm.data.table import Table
from hyperlm.errors import DataError, OptionError
from hyperlm.taxonomy import Taxonomy

__all__ = [
    "DataBundle",
    "check_trainable",
    "load_data",
    "read_labelled",
    "refuse_ids",
    "taxonomy_of",
]

_IDS = 20  # more texts than this do not happen to differ in their coarsest label
NO_REPLY = "none"  # in the place of a reply column: leave the replies of dialogues out


@dataclass(frozen=True, repr=False)
class DataBundle:
    """Splits with one taxonomy.

    ``level_names`` has one name per level of the taxonomy, coarse to fine. ``source`` can be
    written as JSON: ``name kind files columns taxonomy cuts empty_texts
    classes_without_training_text shared_texts warnings``, and ``descriptions`` where there are
    some; ``descriptions`` are by node.
    """

    train: LabelledTexts | None
    val: LabelledTexts | None
    test: LabelledTexts | None
    taxonomy: Taxonomy
    level_names: tuple[str, ...]
    source: dict[str, Any]
    descriptions: Mapping[int, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        parts = ((name, getattr(self, name)) for name in SPLITS)
        sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts if part is not None)
        return f"<DataBundle {self.source.get('name', '')!r}: {sizes}; {self.taxonomy!r}>"

    def split(self, name: str) -> LabelledTexts:
        """The split ``train``, ``val`` or ``test``; a DataError where the data set has none."""
        if name not in SPLITS:
            raise OptionError(f"split {name!r}: choose one of {', '.join(SPLITS)}.")
        texts: LabelledTexts | None = getattr(self, name)
        if texts is None:
            have = [s for s in SPLITS if getattr(self, s) is not None]
            raise DataError(
                f"{self.source.get('name', 'data')}: there is no {name} split here, only "
                f"{', '.join(have)}. Add a {name} file, or choose another split."
            )
        return texts

    @property
    def has_replies(self) -> bool:
        """Whether each text comes with one that is wanted in answer to it."""
        parts = (self.train, self.val, self.test)
        return any(part is not None and part.replies is not None for part in parts)

    def gold(self, split: str) -> list[np.ndarray]:
        """End nodes of the gold paths of each text, int64 ``(number of paths,)`` per text."""
        return gold_nodes(self.split(split), self.taxonomy)


def load_data(
    source: str | Path,
    *,
    text_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    reply_column: str | None = None,
    path_separator: str = " > ",
    label_separator: str | None = None,
    taxonomy: str | Path | Taxonomy | None = None,
    descriptions: str | Path | None = None,
    seed: int = 0,
    val_fraction: float = 0.1,
    splits: Sequence[str] = SPLITS,
) -> DataBundle:
    """Read a data set for training.

    Args:
        source: A file, a folder with train/val/test, ``demo``, ``dbpedia``, ``wos``, ``esconv``, or
            a hub id with ``label_columns``. From a single table, test and val are cut; from a
            folder without val, val is cut from train.
        text_column: ``text`` by default, else ``token``.
        label_columns: One per level, coarse to fine, or a single one with whole paths. By default
            ``label`` or ``labels`` in JSON lines and parquet, else every other column in order.
        reply_column: With the text wanted in answer, for answers of labels and then words. By
            default none, but for dialogues what the labelled turn says; ``none`` for none there.
        path_separator: Between the names in a cell that holds a whole path.
        label_separator: Between several labels in a cell, as ``;``; by default a cell holds one.
        taxonomy: Or a file that ``Taxonomy.read`` understands.
        descriptions: Table of what labels mean; see :func:`~.descriptions.read_descriptions`.
        seed, val_fraction: Of the cuts; val_fraction in (0, 0.5] is of all rows of the table.
        splits: Those wanted; others are not read.

    Raises:
        DataError: What was found cannot be used; the message names file, line and remedy.
    """
    wanted = _wanted(splits)
    if not 0 < val_fraction <= 0.5:
        raise OptionError(f"val fraction {val_fraction:g}: choose one above 0 and up to 0.5.")
    found = locate(source, label_columns=label_columns)
    if "train" in wanted and not {"train", "all"} & set(found.tables):
        raise DataError(
            f"{found.name}: there is no train split, only {', '.join(found.tables)}. Add "
            "train.csv (or .tsv, .jsonl, .parquet, each also .gz), or evaluate on what is there."
        )
    first = next((s for s in ("all", *wanted, "train") if s in found.tables), None)
    if first is None:
        raise DataError(
            f"{found.name}: there is no {' or '.join(wanted)} split, only "
            f"{', '.join(found.tables)}. Add the file, or choose another split."
        )
    warnings = list(found.warnings)
    dialogues = _taken_apart(found.tables[first], text_column) is not found.tables[first]
    if dialogues:
        found = replace(found, tables={split: turns(t) for split, t in found.tables.items()})
    columns, names = _columns(
        found.tables[first],
        text_column,
        label_columns,
        reply_column,
        path_separator,
        label_separator,
    )
    parts, cuts = _splits(found, columns, wanted, seed, val_fraction)
    if label_columns is None:
        refuse_ids(parts.get("train"), columns)
    if cuts and dialogues:
        warnings.append(
            f"{' and '.join(cuts)} were cut turn by turn, so that one dialogue may have turns on "
            "both sides; files of whole dialogues for every split avoid it"
        )
    if none := [split for split, made in cuts.items() if made.get("rows") == 0]:
        warnings.append(
            f"no {' and no '.join(sorted(none))} split could be cut: too few classes have two "
            "texts that differ"
        )

    read = [texts for texts in parts.values() if texts is not None]
    tree, origin = taxonomy_of(taxonomy if taxonomy is not None else found.taxonomy, read)
    parts = {split: texts if split in wanted else None for split, texts in parts.items()}
    record = describe(found, parts, tree, columns, chosen=label_columns is not None)
    record["warnings"] = warnings + record["warnings"]
    record |= {"taxonomy": origin, "cuts": cuts}
    described = read_descriptions(descriptions, tree) if descriptions is not None else {}
    if descriptions is not None:
        # With the sentences themselves, by node: the file may be gone when somebody wants to read.
        sentences = {str(node): meaning for node, meaning in described.items()}
        record["descriptions"] = file_record(Path(descriptions)) | {"sentences": sentences}
    level_names = names if len(names) == tree.num_levels else _level_names(tree)
    return DataBundle(
        parts.get("train"),
        parts.get("val"),
        parts.get("test"),
        tree,
        level_names,
        record,
        described,
    )


def read_labelled(
    source: str | Path,
    *,
    taxonomy: Taxonomy,
    split: str = "test",
    text_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    reply_column: str | None = None,
    path_separator: str = " > ",
    label_separator: str | None = None,
    trained_on: tuple[str, Sequence[str], str | None, str | None] | None = None,
) -> LabelledTexts:
    """Read labelled texts for a saved model: every row of a file, or one split of a data set.

    Args:
        trained_on: Text, label and reply columns of the training data, taken where no others are
            named and the table has them: it may hold more columns than that. And what stands there
            between labels in a cell, for a single column of labels.

    Raises:
        DataError: Also for labels that ``taxonomy`` lacks, all of them in one message.
    """
    _wanted([split])
    found = locate(source, label_columns=label_columns)
    table = found.tables.get("all") or found.tables.get(split)
    if table is None:
        raise DataError(
            f"{found.name}: there is no {split} split, only {', '.join(found.tables)}. Choose "
            "one of these with --split, or give a file."
        )
    between = None
    if trained_on is not None:
        text, labels, reply, between = trained_on
        if text_column is None:
            text_column = same_columns([text], list(table.columns()))[0]
        table = _taken_apart(table, text_column)
        row = list(table.columns())
        there = [name for name in same_columns(labels, row) if name is not None]
        if label_columns is None and len(there) == len(labels):
            label_columns = there
        reply_column = same_columns([reply], row)[0] if reply_column is None else reply_column
    else:
        table = _taken_apart(table, text_column)
    columns, _ = _columns(
        table, text_column, label_columns, reply_column, path_separator, label_separator
    )
    if columns.between is None and len(columns.labels) == 1:
        columns = replace(columns, between=between)
    texts = read_labels(table, columns)
    gold_nodes(texts, taxonomy)
    return texts


def check_trainable(bundle: DataBundle) -> None:
    """Refuse data from which nothing can be learnt.

    Raises:
        DataError: No training text, or all of them in one class.
    """
    name = bundle.source.get("name", "data")
    if bundle.train is None or not len(bundle.train):
        raise DataError(f"{name}: no training texts. Add a train file.")
    classes = {path for paths in bundle.train.paths for path in paths}
    if not classes:
        raise DataError(f"{name}: no training text has a label. Check the label columns.")
    if len(classes) == 1:
        only = " > ".join(next(iter(classes)))
        raise DataError(
            f"{name}: all {len(bundle.train)} training texts have the one label {only!r}. A "
            "classifier needs texts of at least two classes; check --label-columns and the file."
        )


def _wanted(splits: Sequence[str]) -> tuple[str, ...]:
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits or isinstance(splits, str):
        what = f"split {unknown[0]!r}" if unknown else f"splits {splits!r}"
        raise OptionError(f"{what}: choose one or more of {', '.join(SPLITS)}.")
    return tuple(split for split in SPLITS if split in splits)


def refuse_ids(train: LabelledTexts | None, columns: Columns) -> None:
    """Columns that nobody named as labels may be ids; as the coarsest level they leave no tree."""
    paths = [path for of_text in train.paths for path in of_text] if train is not None else []
    if len(columns.labels) > 1 and len({path[0] for path in paths}) == len(paths) > _IDS:
        raise DataError(
            f"{train.name if train else ''}: every row has its own {columns.labels[0]!r}, which "
            f"looks like an id and was taken for the coarsest level of {columns.labels}. Name the "
            "columns that hold labels with --label-columns, coarse to fine."
        )


def _taken_apart(table: Table, text_column: str | None) -> Table:
    """Dialogues as their turns, unless a column of theirs is named as the text; the rest as is."""
    _, row = next(iter(table.rows))
    return turns(table) if text_column is None and holds_dialogues(row) else table


def _columns(
    table: Table,
    text_column: str | None,
    label_columns: Sequence[str] | None,
    reply_column: str | None,
    separator: str,
    between: str | None,
) -> tuple[Columns, tuple[str, ...]]:
    """Columns of the data set, settled on one table, and names of levels where they tell."""
    row = table.columns()
    reply = table.reply if reply_column is None else reply_column
    columns = choose_columns(
        row,
        text_column=text_column,
        label_columns=table.labels if label_columns is None else label_columns,
        reply_column=None if reply == NO_REPLY else reply,
        separator=separator,
        between=between,
        table=table.name,
        typed=table.typed,
    )
    return columns, columns.labels if len(columns.labels) > 1 or table.labels else ()


def _splits(
    found: Located, columns: Columns, wanted: Sequence[str], seed: int, fraction: float
) -> tuple[dict[str, LabelledTexts | None], dict[str, dict[str, Any]]]:
    """Read the wanted splits, cutting those that have no file; the rest of a cut comes along."""
    parts: dict[str, LabelledTexts | None] = {}
    cuts: dict[str, dict[str, Any]] = {}
    if "all" in found.tables:
        rest = read_labels(found.tables["all"], columns)
        rest, parts["test"], cuts["test"] = cut(rest, fraction, seed)
        # The same number of rows again, of those that are left.
        left = min(0.5, fraction / (1 - fraction))
        parts["train"], parts["val"], cuts["val"] = cut(rest, left, seed)
        return parts, cuts
    cut_val = "val" in wanted and "val" not in found.tables and "train" in found.tables
    for split in SPLITS:
        if split in found.tables and (split in wanted or (split == "train" and cut_val)):
            parts[split] = read_labels(found.tables[split], columns)
    train = parts.get("train")
    if cut_val and train is not None:
        parts["train"], parts["val"], cuts["val"] = cut(train, fraction, seed)
    return parts, cuts


def taxonomy_of(
    given: str | Path | Taxonomy | None, parts: Iterable[LabelledTexts]
) -> tuple[Taxonomy, str]:
    """The taxonomy and, in words, where it is from. A gold path may end wherever one does."""
    if given is None:
        paths = dict.fromkeys(
            path for texts in parts for of_text in texts.paths for path in of_text
        )
        return Taxonomy.from_paths(sorted(paths)), "the label paths of all splits read"
    tree = given if isinstance(given, Taxonomy) else Taxonomy.read(given)
    origin = "given" if isinstance(given, Taxonomy) else Path(given).name
    # Parts of one table together: what is wrong in it is told at once.
    files: dict[str, list[LabelledTexts]] = {}
    for texts in parts:
        files.setdefault(texts.name, []).append(texts)
    whole = map(_joined, files.values())
    ends = {int(node) for part in whole for nodes in gold_nodes(part, tree) for node in nodes}
    inner = ends.difference(int(node) for node in tree.terminals)
    return tree.with_terminals(sorted(ends.union(map(int, tree.terminals)))) if inner else tree, (
        origin
    )


def _joined(parts: Sequence[LabelledTexts]) -> LabelledTexts:
    """The texts of one table again, in their order, without replies."""
    first, rows = parts[0], [(p.lines[i], p, i) for p in parts for i in range(len(p))]
    rows.sort(key=lambda row: row[0])
    return LabelledTexts(
        tuple(part.texts[i] for _, part, i in rows),
        tuple(part.paths[i] for _, part, i in rows),
        first.name,
        tuple(line for line, _, _ in rows),
        first.unit,
    )


def _level_names(taxonomy: Taxonomy) -> tuple[str, ...]:
    return tuple(f"l{level}" for level in range(1, taxonomy.num_levels + 1))
