"""``hyperlm experiment``: one named question in, measured runs in a results file out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperlm.cli.errors import Debug, say
from hyperlm.errors import OptionError

if TYPE_CHECKING:
    from hyperlm.experiments import ResultsFile

__all__ = ["experiment"]

NAMES = ("compare-geometries", "starts", "ablate", "calibration", "report")


def experiment(
    name: Annotated[str, typer.Argument(help=", ".join(NAMES) + ".", metavar="NAME")],
    data: Annotated[
        str, typer.Option(help="Data sets, as for train; several with commas.", metavar="A,B,C")
    ] = "dbpedia",
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Results file: runs are added, none is made twice."),
    ] = Path("results.jsonl"),
    seeds: Annotated[int, typer.Option(help="Runs of each arm.", min=1)] = 5,
    dims: Annotated[
        str | None,
        typer.Option(
            help="Dimensions, with commas.  [default: the experiment's own]", metavar="D,D"
        ),
    ] = None,
    backbone: Annotated[str, typer.Option(help="As for train.", metavar="NAME")] = "minilm",
    max_length: Annotated[int, typer.Option(help="Tokens of a text.", min=1)] = 128,
    document: Annotated[
        Path, typer.Option(help="What report writes; figures go to images/ beside it.")
    ] = Path("results.md"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Debug = False,
) -> None:
    """Answer a question by measured runs; stop at any time and go on with the same command."""
    if name not in NAMES:
        raise OptionError(f"experiment {name!r} is unknown; choose one of {', '.join(NAMES)}.")
    from hyperlm.cli.output import show_json
    from hyperlm.experiments import ResultsFile
    from hyperlm.progress import quiet_libraries

    quiet_libraries()
    results = ResultsFile(output)
    before = len(results)
    if name == "report":
        from hyperlm.experiments.report import write_report

        write_report(results, document)
    else:
        _run(
            name,
            [part.strip() for part in data.split(",") if part.strip()],
            results,
            {"backbone": backbone, "max_length": max_length, "progress": not json},
            {"seeds": seeds, **({"dims": _numbers(dims)} if dims else {})},
        )
    made = results.records[before:]
    if json:
        show_json(
            {
                "experiment": name,
                "results": str(document if name == "report" else output),
                "runs": len(results),
                "new": len(made),
                "seconds": round(sum(record.seconds for record in made), 1),
            }
        )
    elif name == "report":
        typer.echo(f"{document}")
    else:
        say(f"{len(made)} new runs, {len(results)} in the file.")
        typer.echo(f"{output}")


def _run(
    name: str,
    sources: list[str],
    results: "ResultsFile",
    features: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    import importlib

    from hyperlm.experiments import FrozenData

    if not sources:
        raise OptionError("--data names no data set.")
    module = importlib.import_module(f"hyperlm.experiments.{name.replace('-', '_')}")
    for source in sources:
        data = FrozenData(source, **features)
        module.run(data, results, progress=features["progress"], **settings)


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) >= 2 for part in parts):
        raise OptionError(f"--dims {text!r} was not understood. Give numbers from 2, as in 4,64.")
    return [int(part) for part in parts]
