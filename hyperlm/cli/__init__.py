"""The command ``hyperlm``: one module per sub-command.

Heavy imports stay inside the handlers, so that ``hyperlm --help`` answers at once. Exit status: 0
on success, 1 for an error of the user's, which is explained in one or two lines on standard error,
2 for wrong usage, 130 for a stop by Ctrl-C.
"""

from typing import Annotated

import typer

from hyperlm import __version__
from hyperlm.cli.calibrate import calibrate
from hyperlm.cli.embed import embed
from hyperlm.cli.errors import Commands
from hyperlm.cli.evaluate import evaluate
from hyperlm.cli.experiment import experiment
from hyperlm.cli.export import export
from hyperlm.cli.generate import generate
from hyperlm.cli.info import info
from hyperlm.cli.predict import predict
from hyperlm.cli.serve import serve
from hyperlm.cli.train import train
from hyperlm.cli.visualize import visualize

__all__ = ["app", "main"]

app = typer.Typer(
    cls=Commands,
    name="hyperlm",
    help="Language models with a sense of hierarchy: train and use classifiers whose answers are "
    "always paths of a label taxonomy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    train, evaluate, predict, calibrate, generate, visualize, serve, export, info, experiment,
    embed,
):  # fmt: skip
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hyperlm {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the console script."""
    app()
