"""``hyperlm train``: its options; the run itself is in ``train_run``."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hyperlm.cli.columns import listed
from hyperlm.cli.errors import Debug
from hyperlm.cli.train_run import run_and_show
from hyperlm.options import TrainingOptions

__all__ = ["default_output", "train"]

_ONE = TrainingOptions


def _option(panel: str, help: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel)


def _data(help: str, metavar: str | None = None) -> Any:
    return _option("Data", help, metavar=metavar)


def _model(help: str, *names: str, metavar: str | None = None) -> Any:
    return _option("Model", help, *names, metavar=metavar)


def _geometry(help: str, *names: str, metavar: str | None = None) -> Any:
    return _option("Geometry", help, *names, metavar=metavar)


def _training(help: str, *names: str, metavar: str | None = None) -> Any:
    return _option("Training", help, *names, metavar=metavar)


def _output(help: str, *names: str) -> Any:
    return _option("Output", help, *names)


def train(
    ctx: typer.Context,
    data: Annotated[
        str,
        _data(
            "demo, dbpedia, wos, esconv, a file, a folder with train/val/test tables, or a hub id.",
            "NAME|PATH",
        ),
    ] = str(_ONE.data),
    text_column: Annotated[
        str | None, _data("Column with the text; 'text' (or 'token') if not given.", "NAME")
    ] = _ONE.text_column,
    label_columns: Annotated[
        str | None,
        _data(
            "Label columns from coarse to fine, with commas between; or one with whole paths. If "
            "not given: 'label', 'labels', or every other column in order.",
            "A,B,C",
        ),
    ] = None,
    reply_column: Annotated[
        str | None,
        _data(
            "With --answer text, column with the text to say after the labels. Dialogues bring "
            "their own; none leaves it out.",
            "NAME",
        ),
    ] = _ONE.reply_column,
    path_separator: Annotated[
        str, _data("What stands between the names in a column of whole paths.", "TEXT")
    ] = _ONE.path_separator,
    label_separator: Annotated[
        str | None,
        _data(
            "What stands between several labels in one cell, as ';'. Else a cell has one.", "TEXT"
        ),
    ] = _ONE.label_separator,
    taxonomy: Annotated[
        str | None,
        _data("Taxonomy file; if not given, the tree of all label paths in the data.", "FILE"),
    ] = None,
    descriptions: Annotated[
        str | None,
        _data(
            "Table with the columns label and description: what labels mean, read with their names "
            "where the head starts.",
            "FILE",
        ),
    ] = None,
    val_fraction: Annotated[
        float, _data("Share of the texts cut off for val (and test) where there is none.")
    ] = _ONE.val_fraction,
    backbone: Annotated[
        str,
        _model(
            "minilm, smollm2, a folder or a hub id of any encoder or decoder; a run of hyperlm "
            "gives the backbone it has trained, to a new head.",
            metavar="NAME",
        ),
    ] = str(_ONE.backbone),
    layers: Annotated[
        str,
        _model(
            "Backbone layers that serve the levels, coarse to fine, as 4,5,6; fewer than there are "
            "levels are spread over them. auto: those that "
            "'hyperlm experiment layer-sweep' measured for this backbone and these labels; without "
            "a sweep, spread over the upper third.",
            metavar="auto|N,N,N",
        ),
    ] = str(_ONE.layers),
    pooling: Annotated[
        str,
        _model(
            "How token states become one; auto follows the architecture.", metavar="auto|mean|last"
        ),
    ] = _ONE.pooling,
    max_length: Annotated[
        int | None,
        _model(
            "Tokens read of a text; the rest of longer ones is cut off.  "
            "\\[default: 256, or what the backbone can read]"
        ),
    ] = _ONE.max_length,
    dropout: Annotated[float, _model("On the pooled state before the head.")] = _ONE.dropout,
    backbone_dropout: Annotated[
        float | None,
        _model(
            "Inside the backbone while it trains; with 0, long texts train faster on a CPU.  "
            r"\[default: what it comes with]",
            metavar="P",
        ),
    ] = _ONE.backbone_dropout,
    answer: Annotated[
        str,
        _model(
            "points: score all labels at once; text: a causal decoder says the labels of the path, "
            "each level at its own layer; joined: points, each level's passed to the layers above.",
            metavar="points|text|joined",
        ),
    ] = _ONE.answer,
    speakers: Annotated[
        str,
        _model(
            "With --answer text, each level's copy of the language head: norm alone, with a "
            "low-rank correction, or with a matrix of its own.",
            metavar="tied|lora|free",
        ),
    ] = _ONE.speakers,
    level_weights: Annotated[
        str,
        _model("With --answer text, weights of the levels' losses.", metavar="equal|learned|N,N,N"),
    ] = str(_ONE.level_weights),
    packed: Annotated[
        bool, _model("With --answer text, several short texts to a row.", "--packed")
    ] = _ONE.packed,
    reply_tokens: Annotated[
        int, _model("With --answer text and replies, most tokens of one that is generated.")
    ] = _ONE.reply_tokens,
    lora: Annotated[
        int | None,
        _model("Train low-rank adapters of this rank instead of all weights.", metavar="RANK"),
    ] = _ONE.lora,
    adapter: Annotated[
        str,
        _model(
            "Kind of the adapters; the update of hyplora passes through hyperbolic space and "
            "cannot be merged.",
            metavar="lora|hyplora",
        ),
    ] = _ONE.adapter,
    freeze: Annotated[
        bool, _model("Train the head alone, on features computed once.", "--freeze")
    ] = _ONE.freeze,
    head: Annotated[
        str,
        _geometry(
            "points: distances to one point per label; linear: the flat classifier to compare "
            "with.",
            metavar="points|linear",
        ),
    ] = _ONE.head,
    geometry: Annotated[
        str, _geometry("Space of the points.", metavar="poincare|lorentz|euclidean")
    ] = _ONE.geometry,
    dim: Annotated[int, _geometry("Dimension of the space, at least 2.")] = _ONE.dim,
    curvature: Annotated[
        float, _geometry("c > 0; the space has curvature -c.", metavar="C")
    ] = _ONE.curvature,
    learn_curvature: Annotated[
        bool, _geometry("Learn c, from --curvature on.", "--learn-curvature")
    ] = _ONE.learn_curvature,
    coordinates: Annotated[
        str,
        _geometry("How points are stored; tangent is exact far out.", metavar="tangent|native"),
    ] = _ONE.coordinates,
    init: Annotated[
        str,
        _geometry(
            "Start of the head: from the label names; from the training texts as the untrained "
            "backbone sees them; from the tree; or random. auto: texts with --freeze, else names.",
            metavar="auto|names|texts|tree|random",
        ),
    ] = _ONE.init,
    temperature: Annotated[
        float | None,
        _geometry("Start of the factor on the distances, learned; 20 from names and texts, or 10."),
    ] = _ONE.temperature,
    loss: Annotated[
        str,
        _geometry(
            "A softmax per level, one per parent, or one over all path ends.",
            metavar="level|path|leaf",
        ),
    ] = _ONE.loss,
    cone_weight: Annotated[
        float, _geometry("Weight of the entailment cones on labels: children inside their parents.")
    ] = _ONE.cone_weight,
    cone_pairs: Annotated[
        str, _geometry("Label pairs in cones: all ancestors, or parents.", metavar="closure|edges")
    ] = _ONE.cone_pairs,
    text_cone_weight: Annotated[
        float, _geometry("Weight of the cones on texts: each inside its labels' cones.")
    ] = _ONE.text_cone_weight,
    epochs: Annotated[
        int, _training("Passes over the training texts; 0 keeps the head as it starts.")
    ] = _ONE.epochs,
    batch_size: Annotated[int, _training("Texts a step (and process).")] = _ONE.batch_size,
    accumulate: Annotated[
        int, _training("Steps whose gradients are averaged for an update.")
    ] = _ONE.accumulate,
    learning_rate: Annotated[
        float, _training("Of the backbone or its adapters.")
    ] = _ONE.learning_rate,
    head_learning_rate: Annotated[
        float | None,
        _training(
            "Of projections, biases and temperatures; 3e-4 from names, 1e-4 from texts, or 3e-3."
        ),
    ] = _ONE.head_learning_rate,
    point_learning_rate: Annotated[
        float | None,
        _training(
            "Of the label points, in Riemannian length a step; 1e-2 from names, 3e-3 from texts, "
            "or 3e-2. Of a linear head's label weights too; at random, as its projection."
        ),
    ] = _ONE.point_learning_rate,
    weight_decay: Annotated[
        float, _training("On weight matrices alone, never on points.")
    ] = _ONE.weight_decay,
    warmup: Annotated[
        float, _training("Share of the steps in which the rates rise.")
    ] = _ONE.warmup,
    max_grad_norm: Annotated[
        float, _training("Longest gradient; points are measured in their own geometry.")
    ] = _ONE.max_grad_norm,
    patience: Annotated[
        int, _training("Epochs without a better val before an early stop; 0 for never.")
    ] = _ONE.patience,
    gradient_checkpointing: Annotated[
        bool, _training("Less memory for more time.", "--gradient-checkpointing")
    ] = _ONE.gradient_checkpointing,
    precision: Annotated[
        str,
        _training(
            "Of the backbone; auto is bf16 where the hardware has it.",
            metavar="auto|fp32|bf16|fp16",
        ),
    ] = _ONE.precision,
    seed: Annotated[int, _training("Equal seeds give equal runs on a CPU.")] = _ONE.seed,
    report_to: Annotated[
        str, _training("Where else to log: none, tensorboard, ...", metavar="NAME")
    ] = _ONE.report_to,
    output: Annotated[
        Path | None,
        _output("Folder of the run.  \\[default: runs/DATA-GEOMETRY]", "--output", "-o"),
    ] = None,
    overwrite: Annotated[
        bool,
        _output(
            "Replace the run in the folder; set aside as *.old-*, it is deleted once this is done.",
            "--overwrite",
        ),
    ] = False,
    resume: Annotated[
        bool,
        _output(
            "Continue the run in the folder from its last checkpoint, with its own options.",
            "--resume",
        ),
    ] = False,
    merge: Annotated[
        bool, _output("Fold LoRA adapters into the weights before saving.", "--merge")
    ] = False,
    json: Annotated[bool, _output("Print the results as one JSON document.", "--json")] = False,
    quiet: Annotated[bool, _output("No progress and no summary.", "--quiet", "-q")] = False,
    debug: Debug = False,
) -> None:
    """Train a classifier and leave it, its results and a picture of the label tree in a folder."""
    if overwrite and resume:
        raise typer.BadParameter("--overwrite and --resume exclude each other.")
    given = _given(ctx)
    options = TrainingOptions(**given)
    # Shells leave a ~ behind = alone; what is printed and read later needs the real place.
    folder = (output or default_output(options)).expanduser()
    stored = _stored(folder) if resume else None
    if stored is not None:
        options = replace(stored, **given)
    run_and_show(
        options,
        folder,
        overwrite=overwrite,
        resume=resume,
        merge=merge,
        json=json,
        quiet=quiet,
    )


def default_output(options: TrainingOptions) -> Path:
    """``runs/<data>-<geometry>``, beside where the command runs."""
    name = re.sub(r"(\.(csv|tsv|jsonl|parquet))?(\.gz)?$", "", Path(options.data).resolve().name)
    kind = "linear" if options.head == "linear" else options.geometry
    kind = kind if options.answer == "points" else options.answer
    return Path("runs", f"{name}-{kind}")


def _given(ctx: typer.Context) -> dict[str, Any]:
    """Training options that stand on the command line, by field name."""
    names = {field.name for field in fields(TrainingOptions)}
    given = {
        name: value
        for name, value in ctx.params.items()
        if name in names and getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    if "label_columns" in given:
        given["label_columns"] = listed(given["label_columns"])
    return given


def _stored(folder: Path) -> TrainingOptions:
    from hyperlm.runfolder import RECORD, read_record

    record = read_record(folder)
    return TrainingOptions.from_json(
        record["options"], path=folder / RECORD, written_by=record["hyperlm"]
    )
