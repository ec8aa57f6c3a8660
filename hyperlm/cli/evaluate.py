"""``hyperlm evaluate``: a trained model and labelled texts in, all metrics out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperlm.cli.errors import Debug, say
from hyperlm.errors import DataError, OutputError

if TYPE_CHECKING:
    from hyperlm.data import LabelledTexts
    from hyperlm.taxonomy import Taxonomy

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

    quiet_libraries()
    model = load(run, batch_size=batch_size)
    columns = {
        "text_column": text_column,
        "label_columns": _listed(label_columns),
        "path_separator": path_separator,
    }
    columns = {name: value for name, value in columns.items() if value is not None}
    texts = _texts(run, data, split, columns, model.taxonomy)
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


def _texts(
    run: str, data: str | None, split: str, columns: dict[str, Any], taxonomy: "Taxonomy"
) -> "LabelledTexts":
    """The texts to measure on; those of the run itself are divided as the run divided them."""
    from hyperlm.data import load_data, read_labelled

    options, source = trained_on(run)
    own = data is None or (not columns and _same_table(data, source))
    if data is None and options is None:
        raise DataError(
            f"{run}: it is not known what this model was trained on. Name labelled texts with "
            "--data."
        )
    if not own:
        assert data is not None
        usual = source.get("columns")
        return read_labelled(
            data,
            taxonomy=taxonomy,
            split=split,
            trained_on=(usual["text"], usual["labels"]) if usual else None,
            **({"path_separator": options.path_separator} if options else {}) | columns,
        )
    given = {
        "text_column": options.text_column,
        "label_columns": options.label_columns,
        "path_separator": options.path_separator,
    } | columns
    name = options.data if data is None else data
    try:
        bundle = load_data(
            name,
            taxonomy=taxonomy,
            seed=options.seed,
            val_fraction=options.val_fraction,
            # A split cut from another depends on it.
            splits=(split,) if split == "train" else ("train", "val", split),
            **given,
        )
    except DataError as error:
        if data is not None:
            raise
        raise DataError(
            f"the data the run was trained on, {name!r}, cannot be read here: {error} Or name "
            "labelled texts with --data."
        ) from error
    for part in ("all", split):
        stored, present = (s.get("files", {}).get(part) for s in (source, bundle.source))
        if stored and present and stored["sha256"] != present["sha256"]:
            say(f"Note: {present['file']} has changed since the run was trained.")
    if split in bundle.source.get("cuts", {}):
        say(f"Note: measured on the {split} texts that the run cut from {Path(name).name}.")
    return bundle.split(split)


def trained_on(run: str) -> tuple[Any, dict[str, Any]]:
    """Options and data record of the run, if the folder has them."""
    from hyperlm.options import TrainingOptions
    from hyperlm.runfolder import RECORD, read_record

    try:
        record = read_record(Path(run))
    except OutputError:
        return None, {}
    return TrainingOptions.from_json(record["options"], path=Path(run) / RECORD), record["data"]


def _same_table(data: str, source: dict[str, Any]) -> bool:
    """Whether ``data`` is the single table that a run's splits were cut from."""
    import hashlib

    known = source.get("files", {}).get("all", {}).get("sha256")
    path = Path(data)
    if known is None or not path.is_file():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == known
