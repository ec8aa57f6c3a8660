"""``hyperlm visualize``: a run or a taxonomy in, a figure of the label tree out."""

from pathlib import Path
from typing import Annotated

import typer

from hyperlm.cli.errors import Debug
from hyperlm.errors import HyperlmError, OutputError

__all__ = ["visualize"]

_FORMATS = (".png", ".svg", ".pdf")


def visualize(
    run: Annotated[
        str,
        typer.Argument(
            help="Folder of a run, a hub id, or a taxonomy file (.json, .yaml, .csv, ...).",
            metavar="RUN",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help=f"{', '.join(_FORMATS)}.  [default: labels.png in the run]"
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Draw the label tree, where a run has placed its labels or as a taxonomy lays it out."""
    source = Path(run)
    if output is None:
        output = Path("labels.png") if not source.is_dir() else source / "labels.png"
    if output.suffix.lower() not in _FORMATS:
        raise OutputError(
            f"{output}: figures end in {', '.join(_FORMATS)}. Choose one of these suffixes."
        )
    if not output.parent.is_dir():
        raise OutputError(f"{output}: there is no folder {str(output.parent)!r}. Make it first.")
    try:
        _draw(run, output)
    except OSError as error:
        if isinstance(error, HyperlmError):
            raise
        raise OutputError(
            f"{output}: the figure could not be written ({error.strerror or error}). Choose "
            "another place for it."
        ) from error
    typer.echo(f"{output}")


def _draw(run: str, output: Path) -> None:
    from hyperlm.run import draw_labels

    source = Path(run)
    if source.is_file():
        from hyperlm.taxonomy import Taxonomy

        draw_labels(Taxonomy.read(source), output, title=source.name)
    else:
        from hyperlm.lm.loading import load_model
        from hyperlm.progress import quiet_libraries

        quiet_libraries()
        model = load_model(run)
        draw_labels(model, output, title=source.resolve().name if source.is_dir() else run)
