"""``hyperlm evaluate``: a trained model and labelled texts in, all metrics out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from hyperlm.cli.mistakes import check_target, write_mistakes

if TYPE_CHECKING:
    from hyperlm.classifier import Classifier
    from hyperlm.data import LabelledTexts
    from hyperlm.lm.decoder import HierarchicalDecoder

__all__ = ["evaluate", "set_reply_tokens"]


def evaluate(
    run: Annotated[str, typer.Argument(help="Folder of a run, or a hub id.", metavar="RUN")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled texts: a file, folder, named set or hub id; if not given, what the run "
            "was trained on.",
            metavar="NAME|PATH",
        ),
    ] = None,
    split: Split = "test",
    text_column: TextColumn = None,
    label_columns: LabelColumns = None,
    reply_column: Annotated[
        str | None,
        typer.Option(
            help="Column with the text wanted after the labels; none leaves replies out.",
            metavar="NAME",
        ),
    ] = None,
    path_separator: PathSeparator = None,
    label_separator: LabelSeparator = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Measure on so many of the texts, drawn at random with --seed.", min=1),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --limit.")] = 0,
    reply_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of a reply; shorter ones take less time.", min=1)
    ] = None,
    mistakes: Annotated[
        Path | None,
        typer.Option(
            help="Write the wrong answers to this table, the surest first, with the other columns "
            "of the texts behind them; the suffix decides the format (.csv, .tsv, .jsonl, "
            ".parquet), an earlier table of mistakes is replaced.",
            metavar="FILE",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts a forward pass.", min=1)] = 64,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Debug = False,
) -> None:
    """Measure a trained model on labelled texts."""
    from hyperlm.classifier import load
    from hyperlm.cli.output import show_json
    from hyperlm.quiet import quiet_libraries
    from hyperlm.run_texts import texts_of_run

    if mistakes is not None:
        check_target(mistakes)
    quiet_libraries()
    model = load(run, batch_size=batch_size)
    columns = column_arguments(
        text_column, label_columns, path_separator, label_separator, reply_column
    )
    texts = texts_of_run(run, model.taxonomy, data=data, split=split, note=_note, columns=columns)
    if reply_tokens is not None:
        set_reply_tokens(getattr(model, "decoder", None), reply_tokens)
    if replies_missing(model, texts) and reply_column != "none":
        _note("no reply column here: the labels alone are measured.")
    of = len(texts)
    if limit is not None and limit < of:
        texts = texts.sample(limit, seed)
        _note(f"a sample of {limit:,} of the {of:,} texts, drawn with seed {seed}.")
    document = model.evaluate(texts, mistakes=mistakes is not None)
    wrong = document.pop("mistakes", None)
    if len(texts) < of:
        document["sample"] = {"of": of, "seed": seed}
    if json:
        show_json(document)
    else:
        _show(document, split if data is None else Path(data).name)
    if mistakes is not None:  # last: what was measured is out, whatever happens to the file
        write_mistakes(mistakes, wrong, texts)


def _show(document: dict[str, Any], name: str) -> None:
    from rich.console import Console

    from hyperlm.cli.output import results_table

    results_table({name: document}, Console())
    speed = document["texts_per_second"]
    typer.echo(f"{speed:,.0f} texts a second" if speed >= 10 else f"{speed:.2g} texts a second")
    if "reply" in document:
        reply = document["reply"]
        typer.echo(
            f"Replies said greedily at layer {reply['layer']} after the model's own label, at most "
            f"{reply['longest']} tokens, {reply['seconds_per_text']:.2f} s each; perplexity of the "
            "wanted replies after the gold label and after its own."
        )


def set_reply_tokens(decoder: "HierarchicalDecoder | None", tokens: int) -> None:
    """Let a decoder say no more tokens than these on a level of free text."""
    from hyperlm.errors import OptionError

    if decoder is None or not decoder.config.text_levels:
        raise OptionError(
            "--reply-tokens: this model says labels alone, which have their own length."
        )
    decoder.config.max_text_tokens = tokens


def replies_missing(model: "Classifier", texts: "LabelledTexts") -> bool:
    """Whether a model that says replies is given texts without any to compare them with."""
    decoder = getattr(model, "decoder", None)
    return texts.replies is None and decoder is not None and bool(decoder.config.text_levels)


def _note(line: str) -> None:
    say(f"Note: {line}")
