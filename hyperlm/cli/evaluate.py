"""``hyperlm evaluate``: a trained model and labelled texts in, all metrics out."""

from pathlib import Path
from typing import Annotated

import typer

from hyperlm.cli.errors import Debug, say

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[str, typer.Argument(help="Folder of a run, or a hub id.", metavar="RUN")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled texts: a file, folder, named set or hub id; if not given, what the run "
            "was trained on.",
            metavar="NAME|PATH",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Of a data set with splits; a single file is taken whole.")
    ] = "test",
    text_column: Annotated[
        str | None, typer.Option(help="Column with the text.", metavar="NAME")
    ] = None,
    label_columns: Annotated[
        str | None, typer.Option(help="Label columns, coarse to fine.", metavar="A,B,C")
    ] = None,
    path_separator: Annotated[
        str | None, typer.Option(help="Between the names in a column of whole paths.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts a forward pass.", min=1)] = 64,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Debug = False,
) -> None:
    """Measure a trained model on labelled texts."""
    from rich.console import Console

    from hyperlm.classifier import load
    from hyperlm.cli.output import results_table, show_json
    from hyperlm.progress import quiet_libraries
    from hyperlm.run_texts import texts_of_run

    quiet_libraries()
    model = load(run, batch_size=batch_size)
    columns = {
        "text_column": text_column,
        "label_columns": _listed(label_columns),
        "path_separator": path_separator,
    }
    columns = {name: value for name, value in columns.items() if value is not None}
    texts = texts_of_run(run, model.taxonomy, data=data, split=split, note=_note, columns=columns)
    document = model.evaluate(texts)
    if json:
        show_json(document)
        return
    results_table({split if data is None else Path(data).name: document}, Console())
    typer.echo(f"{document['texts_per_second']:,.0f} texts a second")


def _listed(columns: str | None) -> tuple[str, ...] | None:
    if columns is None:
        return None
    return tuple(name.strip() for name in columns.split(",") if name.strip())


def _note(line: str) -> None:
    say(f"Note: {line}")
