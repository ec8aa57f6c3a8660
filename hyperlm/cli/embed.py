"""``hyperlm embed``: a taxonomy in, trained points in hyperbolic space out."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperlm.cli.columns import (
    LabelColumns,
    LabelSeparator,
    PathSeparator,
    TextColumn,
    column_arguments,
)
from hyperlm.cli.errors import Debug, say
from hyperlm.errors import DataError, OutputError

if TYPE_CHECKING:
    from torch import Tensor

    from hyperlm.embedding import EmbeddingOptions
    from hyperlm.taxonomy import Taxonomy

__all__ = ["embed"]

_CHECKPOINTS = 20  # per run, at most one an epoch
_AS_EVER = ("geometry", "poincare")  # which checkpoints from before flat space do not name


def _option(panel: str, help: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel)


def embed(
    taxonomy: Annotated[
        str,
        typer.Argument(
            help="Taxonomy file: .json, .csv, .tsv, .yaml, .taxonomy, each also .gz; or a table of "
            "label paths, with texts or without; or a data set, as for train."
        ),
    ],
    output: Annotated[
        Path, _option("Output", "File for the points.", "--output", "-o", metavar="FILE")
    ] = Path("points.safetensors"),
    dim: Annotated[int, _option("Points", "Dimension, at least 2.")] = 5,
    geometry: Annotated[
        str, _option("Points", "Flat space is the control.", metavar="poincare|euclidean")
    ] = "poincare",
    curvature: Annotated[
        float, _option("Points", "c > 0; the space has curvature -c.", metavar="C")
    ] = 1.0,
    loss: Annotated[
        str,
        _option(
            "Training",
            "distance: ancestors nearest; cones: descendants in cones.",
            metavar="distance|cones|both",
        ),
    ] = "distance",
    start: Annotated[
        str, _option("Training", "Where points begin.", metavar="construction|random")
    ] = "construction",
    pairs: Annotated[
        str, _option("Training", "All ancestors, or parents alone.", metavar="closure|edges")
    ] = "closure",
    epochs: Annotated[int, _option("Training", "How often every node is in a batch.")] = 50,
    batch_size: Annotated[
        int | None, _option("Training", "Nodes in a batch.  \\[default: N/16, but 32 to 512]")
    ] = None,
    negatives: Annotated[
        int, _option("Training", "Nodes that each batch is compared with by distance.")
    ] = 1536,
    learning_rate: Annotated[
        float, _option("Training", "Length of a step at first; it falls along a cosine.")
    ] = 1.0,
    burn_in: Annotated[
        int, _option("Training", "First epochs, at a tenth of the learning rate.")
    ] = 0,
    temperature: Annotated[float, _option("Training", "Factor on distances in the softmax.")] = 2.0,
    seed: Annotated[int, _option("Training", "Of everything drawn.")] = 0,
    text_column: TextColumn = None,
    label_columns: LabelColumns = None,
    path_separator: PathSeparator = None,
    label_separator: LabelSeparator = None,
    ranked: Annotated[
        int, _option("Output", "Nodes to rank for the results, sampled; 0 for all.")
    ] = 2000,
    overwrite: Annotated[
        bool, _option("Output", "Replace an existing file.", "--overwrite")
    ] = False,
    resume: Annotated[bool, _option("Output", "Continue an interrupted run.", "--resume")] = False,
    json: Annotated[bool, _option("Output", "Print one JSON document.", "--json")] = False,
    debug: Debug = False,
) -> None:
    """Place a taxonomy in hyperbolic space by training: nodes near their ancestors, parents
    nearer to the origin than children. Flat space is there to compare with."""
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    _check_output(output, checkpoint, overwrite=overwrite, resume=resume)

    import time

    from hyperlm.data import read_tree
    from hyperlm.data.tree import is_run
    from hyperlm.embedding import EmbeddingOptions, save_points
    from hyperlm.errors import OptionError

    if ranked < 0:
        raise OptionError(f"--ranked {ranked}: give a number of nodes, or 0 for all.")
    options = EmbeddingOptions(
        dim=dim,
        geometry=geometry,
        curvature=curvature,
        loss=loss,
        start=start,
        pairs=pairs,
        epochs=epochs,
        batch_size=batch_size,
        negatives=negatives,
        learning_rate=learning_rate,
        burn_in=burn_in,
        temperature=temperature,
        seed=seed,
    )
    if is_run(taxonomy):
        raise OptionError(
            f"{taxonomy}: this is a run, whose labels have points already. Look at them with "
            f"'hyperlm visualize {taxonomy}', or name a taxonomy or a table."
        )
    columns = column_arguments(text_column, label_columns, path_separator, label_separator)
    found = read_tree(taxonomy, **columns)
    for line in found.advice:
        say(f"Note: {line}")
    tree = found.taxonomy
    begun = time.perf_counter()
    points = _train(tree, options, checkpoint, resume=resume)
    seconds = time.perf_counter() - begun
    save_points(output, points, tree, c=options.c, command=_command())
    checkpoint.unlink(missing_ok=True)
    facts = {
        "taxonomy": taxonomy,
        "output": str(output),
        "options": vars(options),
        "nodes": len(tree),
        "seconds": seconds,
        "results": _measure(tree, points, options.c, ranked or None, seed),
    }
    if json:
        from hyperlm.cli.output import show_json

        show_json(facts)
    else:
        _show(facts)


def _check_output(output: Path, checkpoint: Path, *, overwrite: bool, resume: bool) -> None:
    """Before any work: nothing is destroyed unasked, and the place can be written to."""
    if output.suffix.lower() != ".safetensors":
        raise OutputError(f"{output}: points are written as .safetensors; choose this suffix.")
    if not output.parent.is_dir():
        raise OutputError(f"{output}: there is no folder {str(output.parent)!r}. Make it first.")
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists. Choose another file, or replace it with --overwrite.")
    if resume and not checkpoint.exists():
        raise OutputError(f"{checkpoint}: no interrupted run to continue. Leave out --resume.")
    if checkpoint.exists() and not (resume or overwrite):
        raise OutputError(
            f"{checkpoint} holds an interrupted run. Continue it with --resume, or start anew with "
            "--overwrite."
        )


def _train(
    taxonomy: "Taxonomy", options: "EmbeddingOptions", checkpoint: Path, *, resume: bool
) -> "Tensor":
    import json

    from tqdm import tqdm

    from hyperlm.embedding import EmbeddingTrainer, embed
    from hyperlm.embedding.files import read_tensors, write_tensors

    # What a run must share with the one it continues.
    told = {key: value for key, value in vars(options).items() if (key, value) != _AS_EVER}
    identity = json.dumps(told | {"taxonomy": taxonomy.fingerprint}, sort_keys=True)
    state = None
    if resume:
        state, metadata = read_tensors(checkpoint)
        if metadata.get("identity") != identity:
            raise DataError(
                f"{checkpoint} belongs to another taxonomy or to other options. Repeat the command "
                "as it was, or start anew with --overwrite."
            )
    every = max(1, options.epochs // _CHECKPOINTS)
    done = int(state["epochs_done"]) if state else 0
    with tqdm(total=options.epochs, initial=done, desc="embedding", unit="epoch") as bar:

        def after(trainer: EmbeddingTrainer, mean_loss: float) -> None:
            bar.set_postfix(loss=f"{mean_loss:.4f}")
            bar.update()
            if trainer.epochs_done % every == 0:
                write_tensors(checkpoint, trainer.state(), {"identity": identity})

        return embed(taxonomy, options, state=state, on_epoch=after)


def _measure(
    taxonomy: "Taxonomy", points: "Tensor", c: float, ranked: int | None, seed: int
) -> dict[str, Any]:
    import torch

    from hyperlm.embedding import reconstruction
    from hyperlm.manifolds import distortion

    radius = torch.linalg.vector_norm(points, dim=1)
    child, parent = torch.tensor(taxonomy.edges).T
    figures = reconstruction(taxonomy, points, c=c, nodes=ranked, seed=seed)
    outward = (radius[parent] < radius[child]).double().mean() if len(child) else None
    return {
        # JSON has no NaN: a figure that nothing was measured for is null.
        **{key: None if value != value else value for key, value in figures._asdict().items()},
        "distortion": distortion(taxonomy, points, c=c, seed=seed),
        "largest_radius": float(radius.max()),
        "parents_nearer_origin": None if outward is None else float(outward),
    }


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console

    from hyperlm.cli.output import pairs

    results = facts["results"]

    def shown(key: str, form: str) -> str:
        return "none" if results[key] is None else format(results[key], form)

    rows = [
        ("points", f"{facts['nodes']:,} x {facts['options']['dim']} in {facts['output']}"),
        ("training", f"{facts['options']['epochs']} epochs in {facts['seconds']:,.0f} s"),
        ("reconstruction MAP", f"{shown('map', '.4f')} (over {results['nodes']:,} nodes)"),
        ("  without the root", shown("map_below_root", ".4f")),
        ("mean rank", shown("mean_rank", ".2f")),
        ("distortion", shown("distortion", ".4f")),
        ("largest radius", shown("largest_radius", ".2f")),
        ("parents nearer the origin", shown("parents_nearer_origin", ".2%")),
    ]
    pairs(rows, Console())


def _command() -> str:
    import shlex

    return shlex.join(["hyperlm", *sys.argv[1:]])
