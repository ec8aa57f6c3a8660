"""Options that name the columns of a table."""

import csv
from typing import Annotated, Any

import typer

from hyperlm.errors import OptionError

__all__ = [
    "LabelColumns",
    "LabelSeparator",
    "PathSeparator",
    "Split",
    "TextColumn",
    "column_arguments",
    "listed",
]

Split = Annotated[
    str, typer.Option(help="Of a data set with splits; a single file is taken whole.")
]
TextColumn = Annotated[str | None, typer.Option(help="Column with the text.", metavar="NAME")]
LabelColumns = Annotated[
    str | None, typer.Option(help="Label columns, coarse to fine.", metavar="A,B,C")
]
PathSeparator = Annotated[
    str | None, typer.Option(help="Between the names in a column of whole paths.")
]
LabelSeparator = Annotated[
    str | None, typer.Option(help="Between several labels in one cell, as ';'.", metavar="TEXT")
]


def listed(columns: str | None) -> tuple[str, ...] | None:
    """Names with commas between them, those with a comma in quotes; None where not given."""
    if columns is None:
        return None
    names = next(csv.reader([columns], skipinitialspace=True), [])
    found = tuple(name.strip() for name in names if name.strip())
    if not found:
        raise OptionError("--label-columns is empty. Name columns, or leave the option out.")
    return found


def column_arguments(
    text_column: str | None,
    label_columns: str | None,
    path_separator: str | None,
    label_separator: str | None,
    reply_column: str | None = None,
) -> dict[str, Any]:
    """Arguments for what reads a table: those that were given."""
    columns = {
        "text_column": text_column,
        "label_columns": listed(label_columns),
        "path_separator": path_separator,
        "label_separator": label_separator,
        "reply_column": reply_column,
    }
    return {name: value for name, value in columns.items() if value is not None}
