"""``hyperlm export``: a run in, a folder that other runtimes can answer texts with out."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hyperlm.cli.errors import Debug, say

__all__ = ["export"]


def export(
    run: Annotated[str, typer.Argument(help="Folder of a run, or hub id.", metavar="RUN")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write.", metavar="FOLDER")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export in the folder.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Write a model as ONNX: from token ids to the probability of every path, in one graph.

    The folder has the graph, the tokenizer, the names of the labels, and a README with the ten
    lines of Python that answer texts with onnxruntime, without torch or hyperlm. Needs the extra
    onnx.
    """
    from hyperlm.classifier import load
    from hyperlm.export import export_onnx
    from hyperlm.progress import quiet_libraries

    quiet_libraries()
    model = load(run, device="cpu")
    say("Translating and checking the graph; half a minute for a small model ...")
    found = export_onnx(model, output, overwrite=overwrite)
    graph = output / "model.onnx"
    size = sum(path.stat().st_size for path in output.glob("model.onnx*")) / 1e6
    typer.echo(
        f"Written: {graph} ({size:,.0f} MB), tokenizer.json, labels.json, README.md. Run by "
        f"onnxruntime, its probabilities are those of the model to within {found:.0e}."
    )
    typer.echo(f"How to answer with it: {shlex.quote(str(output / 'README.md'))}")
