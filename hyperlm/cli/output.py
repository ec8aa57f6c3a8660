"""What the command prints: tables for people, one JSON document for programs."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["pairs", "results_table", "show_json"]


def show_json(document: Any) -> None:
    """One JSON document on standard output, in ASCII where that cannot say all of it."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a pipe on Windows, or of the locale C
        text = json.dumps(document, indent=2)
    typer.echo(text)


def results_table(metrics: dict[str, Any], console: Console) -> None:
    """Results of one or more splits, side by side."""
    from hyperlm.card import result_rows

    header, rows = result_rows(metrics)
    if not rows:
        console.print("The data has neither a val nor a test split, so there are no results.")
        return
    table = Table()
    for number, name in enumerate(header):
        table.add_column(_escaped(name), justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(_escaped, row))
    # Above the table rather than its title, which would be folded to the table's width.
    console.print("Results (percent, after path decoding)", style="italic")
    console.print(table)


def pairs(rows: Sequence[tuple[str, str]], console: Console) -> None:
    """Facts as two columns without borders."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        # Names and values come from the user's files: brackets in them are no markup.
        table.add_row(name, _escaped(value))
    console.print(table)


def _escaped(value: str) -> str:
    from rich.markup import escape

    return escape(value)
