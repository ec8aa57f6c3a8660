"""What ``hyperlm train`` shows: a summary before the run, results and next steps after it."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hyperlm.cli.errors import say
from hyperlm.options import TrainingOptions

if TYPE_CHECKING:
    from hyperlm.data import DataBundle
    from hyperlm.run_start import Model

__all__ = ["run_and_show"]

_MANY_CUT = 0.1  # share of texts that is worth a line


def run_and_show(
    options: TrainingOptions,
    folder: Path,
    *,
    overwrite: bool,
    resume: bool,
    merge: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Train into a folder; tell what begins, how it went and what to do next.

    Args:
        json: print the results as a document, everything else on standard error.
        quiet: show nothing but the document.
    """
    from rich.console import Console

    from hyperlm.checkpoints import last_checkpoint
    from hyperlm.cli.output import results_table, show_json
    from hyperlm.quiet import quiet_libraries
    from hyperlm.run import train as train_run
    from hyperlm.runfolder import RECORD, read_record

    quiet_libraries()
    talks = not quiet and os.environ.get("RANK", "0") == "0"

    # People read the table where programs read the document.
    console = Console(stderr=json)

    def summary(model: "Model", bundle: "DataBundle") -> None:
        if talks:
            _summary(options, model, bundle, console)

    over = resume and read_record(folder)["status"] == "finished"
    if resume and not over and last_checkpoint(folder) is None and talks:
        say(f"{folder}: there was no checkpoint yet, training begins again.")
    try:
        metrics = train_run(
            options,
            folder,
            overwrite=overwrite,
            resume=resume,
            merge=merge,
            progress=talks,
            on_start=summary,
        )
    except KeyboardInterrupt:
        if (folder / RECORD).is_file() and read_record(folder)["status"] == "training":
            begun = last_checkpoint(folder) is not None
            how = "Continue" if begun else "There is no checkpoint yet; begin again"
            say(
                f"\nStopped. {how} with: hyperlm train --resume --output {shlex.quote(str(folder))}"
            )
        else:
            say("\nStopped before there was anything to keep; folders are as they were.")
        raise typer.Exit(130) from None
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if os.environ.get("RANK", "0") != "0":
        return
    if over:
        say(f"{folder}: this run had finished already, nothing was left to train.")
    if json:
        show_json({"run": str(folder), **metrics})
    if talks:
        results_table(metrics, console)
        _next_steps(options, folder, err=json)


def _summary(options: TrainingOptions, model: "Model", bundle: "DataBundle", console: Any) -> None:
    import torch

    from hyperlm.card import head_in_words
    from hyperlm.cli.output import pairs
    from hyperlm.run_start import layers_measured
    from hyperlm.training import resolve_precision

    taxonomy = bundle.taxonomy
    parts = ((split, getattr(bundle, split)) for split in ("train", "val", "test"))
    counts = ", ".join(f"{len(part):,} {split}" for split, part in parts if part is not None)
    levels = ", ".join(
        f"{len(nodes):,} {name}"
        for name, nodes in zip(bundle.level_names, taxonomy.levels, strict=True)
    )
    # Where the Trainer will put it.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = str(resolve_precision(options.precision, device)).removeprefix("torch.")
    threads = torch.get_num_threads()
    total = sum(p.numel() for p in model.parameters())
    name = "HypLoRA" if options.adapter == "hyplora" else "LoRA"
    layers = tuple(model.config.layers or ())
    how_chosen = " (measured by layer-sweep)" * (layers == layers_measured(options, bundle))
    how = f", {name} rank {options.lora}" if options.lora else ", frozen" if options.freeze else ""
    pairs(
        [
            ("texts", f"{counts} ({bundle.source['name']})"),
            ("classes", f"{levels}; {len(taxonomy.terminals):,} path ends"),
            ("model", f"{options.backbone}, {total / 1e6:.1f}M parameters{how}"),
            ("layers", ", ".join(map(str, layers)) + how_chosen),
            ("head", head_in_words(options)),
            ("device", f"{device.type}, {precision}, {threads} thread{'s' * (threads != 1)}"),
        ],
        console,
    )
    if (cut := _cut_short(model, bundle)) is not None:
        say(cut)
    columns = bundle.source.get("columns", {}).get("labels", ())
    if options.label_columns is None and bundle.source.get("kind") != "named" and len(columns) > 1:
        say(f"Levels: {' > '.join(columns)} (--label-columns names others).")
    for warning in bundle.source.get("warnings", []):
        say(f"Note: {warning}.")
    if bundle.has_replies and options.answer != "text":
        say(f"Note: --answer {options.answer} learns labels alone; --answer text the replies too.")


def _cut_short(model: "Model", bundle: "DataBundle") -> str | None:
    """Word that many texts end where the model stops reading; a decoder says so itself."""
    from hyperlm.lm import HierarchicalLM
    from hyperlm.lm.backbone import longest_input
    from hyperlm.lm.batches import tokenise

    if not isinstance(model, HierarchicalLM):
        return None
    texts, limit = bundle.split("train").texts, model.config.max_length
    # Kept on disk: training finds them there.
    full = sum(len(ids) == limit for ids in tokenise(texts, model.tokenizer, limit))
    if full < _MANY_CUT * len(texts):
        return None
    most = longest_input(model.backbone)
    more = (
        "the backbone reads no more."
        if most is not None and limit >= most
        else f"a longer --max-length than {limit} reads on, and takes longer."
    )
    return f"Note: {full:,} of {len(texts):,} training texts fill the {limit} tokens read; {more}"


def _next_steps(options: TrainingOptions, folder: Path, *, err: bool) -> None:
    run = shlex.quote(str(folder))
    lines = (
        f"The run is in {folder}, a picture of its label tree in {folder / 'labels.png'}.",
        f'Next:  hyperlm predict {run} --text "..."',
        f"       hyperlm evaluate {run} --data TABLE",
        *(
            [f"       hyperlm serve {run}        (a page to explore the labels)"]
            if options.answer != "text"
            else []
        ),
    )
    for line in lines:
        typer.echo(line, err=err)
