"""``hyperlm predict``: texts in, paths out; from the command line, or from table to table."""

import functools
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperlm.cli.errors import Debug, say
from hyperlm.errors import DataError, OutputError

if TYPE_CHECKING:
    from hyperlm.classifier import Classifier, Prediction

__all__ = ["answer_columns", "predict"]

_SEPARATOR, _AND = " > ", " | "  # between the names of a path, and between paths


def predict(
    run: Annotated[str, typer.Argument(help="Folder of a run, or a hub id.", metavar="RUN")],
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="A text; may be given several times; - reads one a line from standard input.",
            metavar="TEXT",
        ),
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option(
            "--input", "-i", help="Table of texts: .csv, .tsv, .jsonl or .parquet, also .gz."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to write the table with the answers beside its own columns; the suffix "
            "decides the format, an existing file is replaced.",
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            help="Column with the text; 'text' (or 'token') if not given.", metavar="NAME"
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(help="How many whole paths to list.")] = 3,
    threshold: Annotated[
        float | None,
        typer.Option(help="Stop at the deepest label whose probability is at least this."),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Put before the names of the added columns.", metavar="TEXT")
    ] = "",
    batch_size: Annotated[int, typer.Option(help="Texts a forward pass.", min=1)] = 64,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Debug = False,
) -> None:
    """Label texts.

    With --input and --output the table gets these columns: path; probability (of the last label of
    the path); paths (all that are answered, from a model of texts with several); per level
    predicted_LEVEL and probability_LEVEL; with --threshold, stopped (whether it ended the answer
    early); top (the best whole paths); and empty_text. No row is left out.
    """
    if bool(text) == bool(input):
        raise typer.BadParameter("give either --text (once or more) or --input.")
    if bool(input) != bool(output):
        raise typer.BadParameter("--input and --output belong together.")
    if input is not None and output is not None:
        _check_files(input, output)
    from hyperlm.classifier import load
    from hyperlm.data import choose_text_column, read_columns
    from hyperlm.data.columns import same_columns
    from hyperlm.quiet import quiet_libraries
    from hyperlm.run_texts import trained_on

    quiet_libraries()
    column = ""
    if input is not None:
        there = read_columns(input)
        usual = same_columns([trained_on(run)[1].get("columns", {}).get("text")], there)[0]
        wanted = usual if text_column is None else text_column
        column = choose_text_column(there, wanted, table=str(input))
    model = load(run, batch_size=batch_size)
    if input is not None and output is not None:
        document = _table(model, input, output, column, top_k, threshold, prefix)
        if json:
            from hyperlm.cli.output import show_json

            show_json(document)
        return
    texts = [line for one in text or [] for line in (_lines() if one == "-" else [one])]
    answers = model.predict(texts, top_k=top_k, threshold=threshold)
    _show(texts, answers, model, json, thresholded=threshold is not None)


def _lines() -> list[str]:
    """The lines of standard input; a line ends at its line feed and nowhere else."""
    try:
        lines = sys.stdin.buffer.read().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"standard input: byte {error.start} is not UTF-8. Convert the texts, as with "
            "'iconv -f latin1 -t utf-8'."
        ) from error
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def answer_columns(
    answer: "Prediction",
    level_names: tuple[str, ...],
    prefix: str,
    none: float | None = None,
    *,
    thresholded: bool = False,
    several: bool = False,
    joined: bool = False,
) -> dict[str, Any]:
    """The columns that a prediction adds to its row.

    Args:
        none: what stands for the probability of a level that the path does not reach.
        thresholded: tell whether the threshold ended the answer early.
        several: tell all paths of the answer.
        joined: as one string, for tables without lists.
    """
    row: dict[str, Any] = {
        "path": _SEPARATOR.join(answer.path),
        "probability": answer.probabilities[-1] if answer.path else none,
    }
    if several:
        row["paths"] = [list(path) for path in answer.paths]
        if joined:
            row["paths"] = _AND.join(map(_SEPARATOR.join, answer.paths))
    levels = itertools.zip_longest(level_names, answer.path, answer.probabilities)
    for name, label, probability in levels:
        row[f"predicted_{name}"] = label
        row[f"probability_{name}"] = none if probability is None else probability
    if thresholded:
        row["stopped"] = answer.stopped
    row["top"] = [{"path": list(a.path), "probability": a.probability} for a in answer.top]
    row["empty_text"] = answer.empty
    return {prefix + name: value for name, value in row.items()}


def _check_files(source: Path, target: Path) -> None:
    from hyperlm.data.table import table_format

    table_format(target)
    if target.exists() and source.exists() and os.path.samefile(source, target):
        raise OutputError(f"{target}: --output would replace --input. Choose another file.")
    if not target.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {str(target.parent)!r}. Make it first.")


def _table(
    model: "Classifier",
    source: Path,
    target: Path,
    column: str,
    top_k: int,
    threshold: float | None,
    prefix: str,
) -> dict[str, Any]:
    """Stream from table to table and tell how it went."""
    from tqdm.auto import tqdm

    from hyperlm.data import read_columns, text_of, write_rows
    from hyperlm.data.table import csv_form, file_table, table_format

    suffix, _ = table_format(target)
    # A parquet column that starts with nothing is taken for text; a NaN says it holds numbers.
    none = float("nan") if suffix == ".parquet" else None
    table = file_table(source)
    typed = suffix == ".jsonl" and table.typed
    blank = model.predict([""], top_k=1)[0]
    columns = functools.partial(
        answer_columns, level_names=model.level_names, prefix=prefix, none=none,
        thresholded=threshold is not None, several=model.several_from is not None,
        joined=suffix in (".csv", ".tsv"),
    )  # fmt: skip
    added = list(columns(blank))
    there = list(read_columns(source))
    if table.typed and not typed:
        # Lines of JSON differ in their keys, and a table has one header.
        there = list(dict.fromkeys(key for _, row in table.rows for key in row))
    _refuse_clash(source, there, added)
    empty = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal empty
        # The model reads a window ahead of the rows written; tee() holds no more than that.
        ahead, behind = itertools.tee(table.rows)
        texts = (text_of(row, column, place=table.place(number)) for number, row in ahead)
        answers = model.stream(texts, top_k=top_k, threshold=threshold)
        for (number, row), answer in zip(behind, answers, strict=True):
            if not row.keys().isdisjoint(added):
                _refuse_clash(f"{table.place(number)}", list(row), added)
            empty += answer.empty
            yield row | columns(answer)

    start = time.perf_counter()
    progress = tqdm(rows(), desc="predicting", unit=" texts", disable=None, leave=False)
    # JSON lines may differ in their keys, and stay as they are.
    names = None if typed else [*there, *added]
    # What Excel wrote it can open again.
    form = csv_form(source) if table_format(source)[0] == suffix == ".csv" else None
    count = write_rows(target, progress, names, form=form)
    seconds = time.perf_counter() - start
    say(
        f"{count:,} texts labelled in {target}, {empty:,} of them empty ({count / seconds:,.0f}/s)."
    )
    return {"output": str(target), "n": count, "empty_texts": empty, "seconds": seconds}


def _refuse_clash(where: object, columns: list[str], added: list[str]) -> None:
    clash = [name for name in columns if name in added]
    if clash:
        raise DataError(
            f"{where}: the table has a column {clash[0]!r} already, which an answer would "
            "replace. Rename it, or put something before the added columns with --prefix."
        )


def _show(
    texts: list[str],
    answers: list["Prediction"],
    model: "Classifier",
    json: bool,
    *,
    thresholded: bool,
) -> None:
    """Answers for texts given on the command line."""
    from hyperlm.cli.output import show_json

    if json:
        show_json(
            [
                {
                    "text": text,
                    **answer_columns(
                        answer,
                        model.level_names,
                        "",
                        thresholded=thresholded,
                        several=model.several_from is not None,
                    ),
                }
                for text, answer in zip(texts, answers, strict=True)
            ]
        )
        return
    for text, answer in zip(texts, answers, strict=True):
        said = "(empty text: there was nothing to go by)" if answer.empty else text
        typer.echo(said if len(said) <= 78 else said[:75] + "...")
        steps = [
            f"{name} ({probability:.3f})"
            for name, probability in zip(answer.path, answer.probabilities, strict=True)
        ]
        paths = [_SEPARATOR.join(path) for path in answer.paths if path != answer.path]
        if steps:
            paths = [_SEPARATOR.join(steps), *paths]
        typer.echo(f"  {paths[0] if paths else '(no label is sure enough)'}")
        for further in paths[1:]:
            typer.echo(f"  and {further}")
        for other in answer.top:
            typer.echo(f"    {other.probability:.3f}  {_SEPARATOR.join(other.path)}")
