"""In which columns of a table text and labels stand.

In: the names of the columns, from the first row, and what somebody asked for. Out: ``Columns``,
settled once for all tables of a data set.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from hyperlm.data.table import Row
from hyperlm.errors import DataError, OptionError

__all__ = ["Columns", "choose_columns", "choose_text_column", "no_column", "same_columns"]


@dataclass(frozen=True)
class Columns:
    """Where text and labels stand. One label column holds whole paths, several one level each.

    ``text`` is None in a table of labels alone, ``between`` where a cell holds a single label.
    """

    text: str | None
    labels: tuple[str, ...]
    separator: str = " > "
    reply: str | None = None
    between: str | None = None


def no_column(wanted: str, columns: Sequence[str], table: str, option: str) -> DataError:
    """What to raise where ``wanted`` is none of ``columns``; ``option`` would name another."""
    lowered = {name.lower(): name for name in columns}
    near = difflib.get_close_matches(wanted.lower(), lowered, 1, cutoff=0.5)
    hint = f"Did you mean {lowered[near[0]]!r}? " if near else ""
    remedy = f"{hint}Name the right one with {option}."
    if len(columns) == 1 and (signs := [sign for sign in ";\t|" if sign in columns[0]]):
        remedy = (
            f"The table was read as one column. If {signs[0]!r} separates its columns, save it as "
            f".csv with commas or as .tsv with tabs. {remedy}"
        )
    shown = [name if len(name) <= 40 else name[:37] + "..." for name in columns]
    return DataError(f"{table}: no column {wanted!r}; the columns are {shown}. {remedy}")


def same_columns(names: Sequence[str | None], columns: Sequence[str]) -> list[str | None]:
    """The columns of these names, also written in other capitals; None where there is none."""
    plain = [name.strip().lower() for name in columns]

    def same(name: str | None) -> str | None:
        if name is None or name in columns:
            return name
        wanted = name.strip().lower()
        return columns[plain.index(wanted)] if plain.count(wanted) == 1 else None

    return [same(name) for name in names]


def choose_text_column(
    columns: Sequence[str], text_column: str | None = None, *, table: str = "table"
) -> str:
    """The column that holds the text: the one asked for, else ``text``, else ``token``.

    Written in capitals or small letters, where one column is.

    Raises:
        DataError: There is no such column; the message lists those there are.
    """
    if text_column is None:
        for wanted in ("text", "token"):
            found = [name for name in columns if name.strip().lower() == wanted]
            if wanted in found or len(found) == 1:
                return wanted if wanted in found else found[0]
    elif text_column in columns:
        return text_column
    raise no_column(text_column or "text", columns, table, "--text-column")


def choose_columns(
    row: Row,
    *,
    text_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    reply_column: str | None = None,
    separator: str = " > ",
    between: str | None = None,
    table: str = "table",
    typed: bool = False,
    texts: bool = True,
) -> Columns:
    """Settle the columns of a data set from its first row.

    Labels by default: in typed tables (JSON lines, parquet) the column ``label`` or ``labels`` if
    there is one; otherwise every column but the text and the reply, in order, as one level each.
    Replies are only where ``reply_column`` says so. Without ``texts`` there are labels alone.
    ``between`` stands between several labels in one cell; where it is given, the strings of a list
    are labels of their own too.
    """
    between = between if between is None else between.strip(" ")
    _check_separators(separator, between)
    names = list(row)
    text = choose_text_column(names, text_column, table=table) if texts else None
    if reply_column is not None and reply_column not in names:
        raise no_column(reply_column, names, table, "--reply-column")
    if reply_column is not None and reply_column == text:
        raise OptionError(f"--reply-column {text}: this column holds the texts. Name another.")
    if label_columns is None:
        # An index that pandas has written (of ids, without a name) is a column and no level.
        labels = [
            name
            for name in names
            if name not in (text, reply_column) and not name.startswith("__index_level_")
        ]
        if typed:
            labels = [name for name in labels if name in ("label", "labels")][:1] or labels
        if "" in labels:
            raise DataError(
                f"{table}: column {names.index('') + 1} has no name (the columns are {names}). "
                "Name it, or say with --label-columns which columns hold labels."
            )
        if not labels and text is not None:
            raise DataError(
                f"{table}: the only column is {text!r}, so the texts have no labels. Add one "
                "column per level, or one with whole paths. To label them use `hyperlm predict`."
            )
    else:
        labels = [label_columns] if isinstance(label_columns, str) else list(label_columns)
        for name in labels:
            if name not in names:
                raise no_column(name, names, table, "--label-columns")
        if len(set(labels)) < len(labels) or {text, reply_column} & set(labels):
            beside = "" if text is None else f" with text column {text!r}"
            raise OptionError(
                f"label columns {labels}{beside}: give each once, and none that holds the text or "
                "the reply."
            )
    if not labels:
        raise OptionError(f"{table}: give at least one label column with --label-columns.")
    if between is not None and len(labels) > 1:
        raise OptionError(
            f"--label-separator {between!r}: labels stand in {len(labels)} columns here, "
            f"{', '.join(labels)}, of which each is a level and a text has one path. Name the one "
            "column that holds several labels with --label-columns."
        )
    return Columns(text, tuple(labels), separator, reply_column, between)


def _check_separators(separator: str, between: str | None) -> None:
    if not separator:
        raise OptionError("the path separator is empty; give the sign between names, as ' > '.")
    if between is not None and not between:
        raise OptionError(
            "the label separator has nothing to see; give the sign between labels, as ';'."
        )
    if between is not None and (between in separator or separator in between):
        raise OptionError(
            f"--label-separator {between!r} and --path-separator {separator!r}: one contains the "
            "other, so cells could be read in two ways. Give signs that differ."
        )
