"""``hyperlm calibrate``: labelled texts of today in, probabilities that hold for them out."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from hyperlm.cli.columns import (
    LabelColumns,
    LabelSeparator,
    PathSeparator,
    Split,
    TextColumn,
    column_arguments,
)
from hyperlm.cli.errors import Debug, say
from hyperlm.errors import OptionError, OutputError

_FEW = 30  # of fewer texts the fit follows chance

__all__ = ["calibrate"]


def calibrate(
    run: Annotated[str, typer.Argument(help="Folder of a run.", metavar="RUN")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled texts that the model was not trained on, a few hundred at best: a file, "
            "folder, named set or hub id.",
            metavar="NAME|PATH",
        ),
    ] = None,
    split: Split = "val",
    text_column: TextColumn = None,
    label_columns: LabelColumns = None,
    path_separator: PathSeparator = None,
    label_separator: LabelSeparator = None,
    batch_size: Annotated[int, typer.Option(help="Texts a forward pass.", min=1)] = 64,
    reset: Annotated[
        bool, typer.Option("--reset", help="Back to what training fitted, without any texts.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Debug = False,
) -> None:
    """Fit the probabilities of a trained model to other texts; its best paths stay as they are.

    The run's config.json keeps the temperature and what it was fitted to. Training has fitted it to
    the val texts; where the texts of every day differ from those, fit it again. Of texts with
    several gold paths it also learns how large the share of a further path has to be.
    """
    from json import loads

    from hyperlm.calibration import enough_rows
    from hyperlm.classifier import load
    from hyperlm.classifier_text import TextClassifier
    from hyperlm.cli.output import show_json
    from hyperlm.quiet import quiet_libraries
    from hyperlm.run_texts import (
        is_cut_from,
        is_file_of,
        own_columns,
        texts_of_run,
        trained_on,
    )
    from hyperlm.runfolder import write_json

    config = Path(run) / "config.json"
    if not config.is_file():
        raise OptionError(
            f"{run}: there is no {config.name} in this folder to keep the fit in. Name the folder "
            "of a finished run; a model of the hub has to be downloaded first."
        )
    if not os.access(config.parent, os.W_OK):
        raise OutputError(f"{run}: nothing can be written in this folder, which keeps the fit.")
    if (data is None) != reset:
        raise OptionError("give --data with labelled texts to fit to, or --reset alone.")
    if data is None:
        _reset(config, as_json=json)
        return
    columns = column_arguments(text_column, label_columns, path_separator, label_separator)
    options, source = trained_on(run)
    divided = "all" in source.get("files", {}) and is_cut_from(data, source, split)
    whole = divided and own_columns(columns, options, source)
    if split == "train" or whole or is_file_of(data, source, "train"):
        raise OptionError(
            f"--data {data}: these are texts that the model has learnt, on which it is surer than "
            "elsewhere. Name others; of the table that the run was cut from, --split val or test "
            "without column options."
        )
    quiet_libraries()
    model = load(run, batch_size=batch_size)
    if isinstance(model, TextClassifier):
        raise OptionError(
            f"{run} answers in words, whose probabilities have no temperature to fit. Models that "
            "answer as points (--answer points, joined) have one."
        )
    texts = texts_of_run(
        run, model.taxonomy, data=data, split=split, note=lambda line: say(f"Note: {line}"),
        columns=columns,
    )  # fmt: skip
    # What the fit makes do with; the errors are measured on the same texts.
    texts = texts.take(enough_rows(len(texts), model.taxonomy))
    many = f"{len(texts):,} text" + "s" * (len(texts) != 1)
    if len(texts) < _FEW:
        say(f"Note: {many} can hardly tell how sure answers should be; a few hundred can.")
    before = model.temperature, model.several_from, model.evaluate(texts)["ece"]
    model.calibrate(texts)
    after = model.temperature, model.several_from, model.evaluate(texts)["ece"]
    name = Path(data).name + ("" if Path(data).is_file() else f", {split}")
    fit = {
        "path_temperature": after[0],
        "calibrated_on": model.model.config.calibrated_on | {"data": name},
    }
    if after[1] is not None:
        fit["several_from"] = after[1]
    write_json(config, loads(config.read_text("utf-8")) | fit)
    _tell_of_exports(config.parent)
    names = ("temperature", "several_from", "ece")
    told = [0, 2] if after[1] is None else [0, 1, 2]
    document = {
        "n": len(texts),
        "before": {names[at]: before[at] for at in told},
        "after": {names[at]: after[at] for at in told},
    }
    if json:
        show_json(document)
        return
    typer.echo(
        f"Fitted to {many}: temperature {before[0]:.2f} to {after[0]:.2f}; "
        f"calibration error on them {before[2]:.3f} to {after[2]:.3f}."
    )
    if after[1] != before[1]:
        was = "" if before[1] is None else f" (it was {before[1]:g})"
        typer.echo(f"Further paths are answered from a share of {after[1]:g} on{was}.")
    typer.echo(f"Kept in {config}; metrics.json and the model card say what training measured.")
    typer.echo(f"Back to what training fitted: hyperlm calibrate {shlex.quote(str(run))} --reset")


def _reset(config: Path, *, as_json: bool) -> None:
    """Write the temperature of the training back."""
    from json import loads

    from hyperlm.cli.output import show_json
    from hyperlm.runfolder import write_json

    stored = loads(config.read_text("utf-8"))
    later = stored.get("calibrated_on")
    if later is not None and later.get("trained") is None:
        raise OptionError(
            f"{config}: the fit of an earlier version, which did not keep what training had "
            "fitted. Give --data with the val texts instead."
        )
    if later is not None:
        fit = {"path_temperature": later["trained"], "calibrated_on": None}
        if stored.get("several_from") is not None:
            fit["several_from"] = later.get("trained_several_from")
        write_json(config, stored | fit)
        _tell_of_exports(config.parent)
        stored |= fit
    temperature = float(stored.get("path_temperature", 1.0))
    if as_json:
        show_json({"temperature": temperature})
    else:
        typer.echo(f"Temperature {temperature:.2f}, as training fitted it.")
        if stored.get("several_from") is not None:
            typer.echo(f"Further paths are answered from a share of {stored['several_from']:g} on.")


def _tell_of_exports(run: Path) -> None:
    """Name the exports in the run's folder: a graph has its temperature written into it."""
    for graph in sorted(run.glob("*/model.onnx")):
        folder = shlex.quote(str(graph.parent))
        say(
            f"Note: {graph.parent} keeps the fit that it was exported with; make it again: "
            f"hyperlm export {shlex.quote(str(run))} --output {folder} --overwrite"
        )
