"""``hyperlm experiment``: one named question in, measured runs in a results file out."""

import inspect
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperlm.cli.columns import listed
from hyperlm.cli.errors import Debug, say
from hyperlm.errors import OptionError

if TYPE_CHECKING:
    from hyperlm.experiments import FrozenData, ResultsFile

__all__ = ["experiment"]

NAMES = (
    "compare-geometries",
    "starts",
    "ablate",
    "calibration",
    "answers",
    "layer-sweep",
    "peers",
    "few-shot",
    "trees",
    "report",
)


def experiment(
    name: Annotated[str, typer.Argument(help=", ".join(NAMES) + ".", metavar="NAME")],
    data: Annotated[
        str, typer.Option(help="Data sets, as for train; several with commas.", metavar="A,B,C")
    ] = "dbpedia",
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Results file: runs are added, none is made twice. report also reads one that "
            "was packed (.jsonl.xz), or a folder of them.",
        ),
    ] = Path("results.jsonl"),
    seeds: Annotated[int, typer.Option(help="Runs of each arm.", min=1)] = 5,
    dims: Annotated[
        str | None,
        typer.Option(
            help="Dimensions, with commas.  \\[default: the experiment's own]", metavar="D,D"
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this arm; may be given several times.  \\[default: all]", metavar="NAME"
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Processes that train side by side; the results are the same.  \\[default: one "
            "for each core, at most 8; one where a run itself needs all]",
            min=1,
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Another setting of the experiment; may be given several times.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    backbone: Annotated[str, typer.Option(help="As for train.", metavar="NAME")] = "minilm",
    max_length: Annotated[
        int, typer.Option(help="Tokens read of a text; train reads 256.", min=1)
    ] = 128,
    precision: Annotated[
        str,
        typer.Option(
            help="Arithmetic of the backbone, as for train. Runs of another one are others, also "
            "where auto takes it on another machine.",
            metavar="auto|fp32|bf16|fp16",
        ),
    ] = "auto",
    text_column: Annotated[str | None, typer.Option(help="As for train.", metavar="NAME")] = None,
    label_columns: Annotated[
        str | None, typer.Option(help="As for train.", metavar="A,B,C")
    ] = None,
    path_separator: Annotated[
        str | None, typer.Option(help="As for train.", metavar="TEXT")
    ] = None,
    label_separator: Annotated[
        str | None, typer.Option(help="As for train.", metavar="TEXT")
    ] = None,
    taxonomy: Annotated[str | None, typer.Option(help="As for train.", metavar="FILE")] = None,
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
    from hyperlm.experiments.told import wholes_in
    from hyperlm.quiet import quiet_libraries

    quiet_libraries()
    columns = {
        "text_column": text_column,
        "label_columns": listed(label_columns),
        "path_separator": path_separator,
        "label_separator": label_separator,
        "taxonomy": taxonomy,
    }
    told: dict[str, Any] = {"seeds": seeds}
    if dims:
        told["dims"] = wholes_in(dims, "--dims", least=2, example="--dims 4,64")
    results = ResultsFile(output)
    before = len(results)
    if name == "report":
        for option, given in (("--arm", arm), ("--jobs", jobs)):
            if given:
                raise OptionError(f"{option}: a report tells of all that was measured.")
        from hyperlm.experiments.report import write_report

        write_report(results, document)
    else:
        _run(
            name,
            [part.strip() for part in data.split(",") if part.strip()],
            results,
            {
                "backbone": backbone,
                "max_length": max_length,
                "precision": precision,
                "columns": {key: value for key, value in columns.items() if value is not None},
                "progress": not json,
            },
            told,
            change or [],
            arm or [],
            jobs,
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
        say(f"{len(made)} new runs, {len(results)} in the file. Tables, verdicts and figures:")
        say(shlex.join(_reporting(output)))
        typer.echo(f"{output}")


def _reporting(output: Path) -> list[str]:
    return [
        *("hyperlm", "experiment", "report", "--output", str(output)),
        *("--document", str(output.with_suffix(".md"))),
    ]


def _run(
    name: str,
    sources: list[str],
    results: "ResultsFile",
    features: dict[str, Any],
    settings: dict[str, Any],
    changes: Sequence[str],
    arms: Sequence[str],
    jobs: int | None,
) -> None:
    import importlib

    from hyperlm.experiments import FrozenData
    from hyperlm.experiments.settings import HeadRun
    from hyperlm.experiments.workers import Part, run_parts, unfinished, usual_jobs

    if not sources:
        raise OptionError("--data names no data set.")
    module = importlib.import_module(f"hyperlm.experiments.{name.replace('-', '_')}")
    settings |= _changed(module.run, name, changes)
    if arms:
        if "arms" not in inspect.signature(module.run).parameters:
            other = "; name its systems with --set systems=A,B" * (name == "peers")
            raise OptionError(f"--arm: {name} has no arms to choose from{other}.")
        settings["arms"] = arms
    results.check_open()  # before anything is trained
    split: dict[str, dict[str, Any]] = module.parts(**settings) if hasattr(module, "parts") else {}
    if not split and (jobs or 1) > 1:
        raise OptionError(
            f"--jobs {jobs}: {name} does one thing after the other with these settings, each with "
            "all cores. Leave it out."
        )
    jobs = jobs or usual_jobs()
    parts = []
    for source in dict.fromkeys(sources):
        data = getattr(module, "read", FrozenData)(source, **features)
        if isinstance(data, FrozenData):
            _tell_of_precision(data, results)
        if jobs < 2 or not split:
            told = module.run(data, results, progress=features["progress"], **settings)
            if told:
                say(told)
            continue
        left = [
            Part(module.__name__, source, features | {"progress": False}, own, f"{data.name} {at}")
            for at, own in split.items()
            if unfinished(partial(module.run, data, **own), results)
        ]
        if left and isinstance(data, FrozenData):
            data.splits(HeadRun())  # computed once, with all cores; the processes find it kept
        parts += left
    if parts:
        run_parts(parts, results.path, jobs=jobs, progress=features["progress"])
        results.reload()


def _tell_of_precision(data: "FrozenData", results: "ResultsFile") -> None:
    """Say that runs in the file were made in another precision, before all are made anew."""
    here = data.describe()
    others = Counter(
        record.data.get("precision")
        for record in results.records
        if record.data != here and record.data | {"precision": data.precision} == here
    )
    for precision, count in others.items():
        told = f"{count} run{'s' * (count != 1)} on {data.name}"
        if precision is None:
            say(f"Note: {told} in the file do not say their precision, and do not count here.")
        else:
            say(
                f"Note: {told} in the file are in {precision} and do not count here, in "
                f"{data.precision}. Go on with them by --precision {precision}."
            )


def _changed(run: Callable[..., None], name: str, changes: Sequence[str]) -> dict[str, Any]:
    """Settings from ``NAME=VALUE``, read as the type that the experiment's own value has."""
    own = {
        key: parameter.default
        for key, parameter in inspect.signature(run).parameters.items()
        if type(parameter.default) in (int, float, str) and key != "seeds"
    }
    found: dict[str, Any] = {}
    for change in changes:
        key, sign, value = change.partition("=")
        if key not in own or not sign:
            raise OptionError(
                f"--set {change!r}: {name} can be told "
                f"{', '.join(f'{k}={v}' for k, v in own.items()) or 'nothing more'}."
            )
        try:
            found[key] = type(own[key])(value)
        except ValueError:
            kind = "a whole number" if isinstance(own[key], int) else "a number"
            raise OptionError(
                f"--set {change!r}: {key} is {kind}, as in {key}={own[key]}."
            ) from None
    return found
