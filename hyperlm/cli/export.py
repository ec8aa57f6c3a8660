"""``hyperlm export``: a run in, a folder that other runtimes can answer texts with out."""

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

    The folder has the graph in float32, the tokenizer, the names of the labels, and a README with
    the lines of Python that answer texts with onnxruntime, without torch or hyperlm. Needs the
    extra onnx. What calibrate fits later is not in it: export again.
    """
    from hyperlm.classifier import load
    from hyperlm.export import check_export, export_onnx
    from hyperlm.quiet import quiet_libraries

    output = output.expanduser()
    check_export(output, overwrite=overwrite)
    quiet_libraries()
    model = load(run, device="cpu")
    say("Translating and checking the graph; half a minute for a small model ...")
    found = export_onnx(model, output, overwrite=overwrite)
    names = sorted(path.name for path in output.glob("model.onnx*"))
    size = sum((output / name).stat().st_size for name in names) / 1e6
    typer.echo(
        f"Written: {output / names[0]}{' and .data' * (len(names) > 1)} ({size:,.0f} MB), "
        "tokenizer.json, labels.json, README.md. Run by onnxruntime, its probabilities are those "
        f"of the model to within {found:.0e}."
    )
    typer.echo(f"How to answer with it: {output / 'README.md'}")
