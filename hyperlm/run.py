"""One training run from options to a finished folder: what ``hyperlm train`` does.

Leaves in the folder: the model (``config.json``, ``model.safetensors``, tokenizer),
``metrics.json``, ``train_log.jsonl``, ``README.md`` (the model card), ``labels.png`` and
``run.json``. A kill at any time leaves a folder that ``resume=True`` continues; see
:mod:`hyperlm.runfolder` for what happens to folders. Under torchrun every process calls
:func:`train`; the first one alone writes, evaluates and speaks.
"""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from hyperlm import __version__
from hyperlm.card import data_name, model_card
from hyperlm.checkpoints import cut_log, last_checkpoint, step_of
from hyperlm.classifier import Classifier
from hyperlm.classifier_text import TextClassifier
from hyperlm.data import DataBundle, check_trainable
from hyperlm.errors import DataWarning, OptionError
from hyperlm.heads import HyperbolicHead
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.options import TrainingOptions
from hyperlm.quiet import library_bars
from hyperlm.run_resume import check_same_data, stored_options
from hyperlm.run_space import check_space, explained_failure
from hyperlm.run_start import Model, build_model, layers_measured, load_run_data
from hyperlm.runfolder import (
    RECORD,
    RunFolder,
    filling,
    read_metrics,
    read_record,
    replacing,
    write_json,
)
from hyperlm.taxonomy import Taxonomy
from hyperlm.training import fit
from hyperlm.training_text import fit_text

__all__ = ["draw_labels", "train"]

LOG = "train_log.jsonl"


def train(
    options: TrainingOptions | None,
    output: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    merge: bool = False,
    progress: bool = True,
    on_start: Callable[[Model, DataBundle], None] | None = None,
) -> dict[str, Any]:
    """Train, evaluate and write everything into a folder.

    Args:
        options: may be ``None`` with ``resume``: the stored ones are used.
        output: the run folder, absent or empty.
        overwrite: replace a run that is in it; it is gone only once this one has finished, and
            back in place if this one fails before its first checkpoint.
        resume: continue the run in it from its last checkpoint, or from the start where there is
            none yet. A finished run is left as it is.
        merge: fold LoRA adapters into the weights before saving.
        progress: draw progress bars on standard error.
        on_start: called in the first process with the model and the data before training. By
            default what looks like a mistake in the labels is warned of.
    Returns:
        The document of ``metrics.json``: ``{"val": ..., "test": ...}``, ``None`` where the data
        has no such split.
    Raises:
        OutputError: the folder cannot be used, or the disk is full. OptionError, DataError: see
            the parts. Options or data other than those of the run to resume are such errors.
    """
    folder = RunFolder(output)
    try:
        with library_bars(downloads=progress):
            return _train(
                options,
                folder,
                output,
                overwrite=overwrite,
                resume=resume,
                merge=merge,
                progress=progress,
                on_start=_warn if on_start is None else on_start,
            )
    finally:
        folder.let_go()


def _warn(_: Model, bundle: DataBundle) -> None:
    for words in bundle.source["warnings"]:
        warnings.warn(words, DataWarning, stacklevel=4)


def _train(
    options: TrainingOptions | None,
    folder: RunFolder,
    output: str | Path,
    *,
    overwrite: bool,
    resume: bool,
    merge: bool,
    progress: bool,
    on_start: Callable[[Model, DataBundle], None],
) -> dict[str, Any]:
    record, begun = None, round(time.time(), 3)
    options = None if options is None else options.resolved()
    chief = int(os.environ.get("RANK", "0")) == 0
    if resume:
        record = read_record(folder.path)
        options = stored_options(options, record, folder.shown)
        merge = merge or bool(record.get("merge"))
        if record["status"] == "finished":
            if chief:
                folder.sweep()
            return read_metrics(folder.path)
        if chief:
            folder.hold()
    if options is None:
        raise OptionError("train() needs options, unless resume=True reads those of the run.")
    if merge and not options.lora:
        raise OptionError("--merge folds LoRA adapters into the weights; it needs --lora RANK.")
    if merge and options.adapter == "hyplora":
        raise OptionError(
            "--merge: HypLoRA adapters cannot be merged, their update is not linear in the input "
            "and no weight matrix equals it. Leave --merge out, or use --adapter lora."
        )
    if chief and not resume:
        inputs = (options.data, options.taxonomy, options.descriptions, options.backbone)
        folder.check_free(overwrite=overwrite, inputs=inputs)
    bundle = load_run_data(options)
    check_trainable(bundle)
    if record is not None:
        check_same_data(bundle, record, folder.shown)
    if record is None and (layers := layers_measured(options, bundle)) is not None:
        # Named from here on: what is stored repeats the run on a machine without the sweep.
        options = replace(options, layers=",".join(map(str, layers)))
    model = build_model(options, bundle, progress=progress)
    options = replace(options, max_length=model.config.max_length)
    if chief:
        check_space(model, folder, options)
        record = _begin(folder, options, bundle, merge, record, begun, overwrite=overwrite)
        if not resume:
            folder.hold()
    # Asked of resumed runs alone: a checkpoint may belong to the run that is being replaced.
    resume_from = resume and folder.has_checkpoint
    try:
        if chief:
            on_start(model, bundle)
        if isinstance(model, HierarchicalDecoder):
            fit_text(model, bundle, options, folder.path, resume=resume_from, progress=progress)
        else:
            fit(model, bundle, options, folder.path, resume=resume_from, progress=progress)
        # Every process has read the best checkpoint before the first one deletes them.
        meeting = _meeting()
        if chief and record is not None:
            _finish(folder, model, bundle, options, record, merge=merge, output=output)
    except BaseException as error:
        explained = explained_failure(error, model, folder)
        # A stop by hand leaves the folder for --resume, unless a finished run waits behind it.
        lost = not isinstance(error, KeyboardInterrupt) or (record or {}).get("replaces")
        if chief and lost and not resume and not folder.has_checkpoint:
            folder.give_back((record or {}).get("replaces"))
        if explained is not None:
            raise explained from error
        raise
    if meeting is not None:
        torch.distributed.barrier(group=meeting)
    return read_metrics(folder.path)


def _meeting() -> Any:
    """Wait for all processes of a distributed run; a group in which to wait longer, later.

    The first one evaluates alone, which may take longer than the half hour in which a collective
    of training has to be done. None where there is one process.
    """
    if not torch.distributed.is_initialized():
        return None
    torch.distributed.barrier()
    return torch.distributed.new_group(backend="gloo", timeout=timedelta(days=7))


def draw_labels(what: HierarchicalLM | Taxonomy, path: Path, *, title: str | None = None) -> None:
    """A first picture of a label tree, in two dimensions.

    Args:
        what: a model, whose label points are shown where they lie; or a taxonomy alone.
        path: ``.png``, ``.svg`` or ``.pdf``.
    """
    from hyperlm.viz import label_tree_figure

    taxonomy, tangents, c = what if isinstance(what, Taxonomy) else what.taxonomy, None, 1.0
    if isinstance(what, HierarchicalLM) and isinstance(what.head, HyperbolicHead):
        tangents = what.head.node_tangents().detach().float().cpu()
        with torch.no_grad():  # a learned curvature carries a gradient
            c = 0.0 if what.head.geometry == "euclidean" else float(what.head.c)
    figure = label_tree_figure(taxonomy, tangents, title=title, c=c)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".").lower(), dpi=150)


def _begin(
    folder: RunFolder,
    options: TrainingOptions,
    bundle: DataBundle,
    merge: bool,
    record: dict[str, Any] | None,
    begun: float,
    *,
    overwrite: bool,
) -> dict[str, Any]:
    """Write ``run.json`` for a new run, or bring that of a resumed one up to date.

    Args:
        begun: when this attempt began, before data was read and the head made; seconds.
    """
    if record is None:
        folder.claim(
            {
                "hyperlm": __version__,
                "status": "training",
                "options": options.to_json(),
                "merge": merge,
                "data": bundle.source,
                "taxonomy": bundle.taxonomy.fingerprint,
                "started": begun,
                "seconds_before": 0.0,
            },
            overwrite=overwrite,
        )
        return read_record(folder.path)
    folder.sweep()
    log = folder.path / LOG
    # The attempt that was stopped lasted until its last line.
    seconds = max(0.0, log.stat().st_mtime - record["started"]) if log.is_file() else 0.0
    checkpoint = last_checkpoint(folder.path)
    cut_log(log, step_of(checkpoint) if checkpoint else -1)
    record |= {
        "seconds_before": record["seconds_before"] + seconds,
        "started": begun,
        "merge": merge,
    }
    write_json(folder.path / RECORD, record)
    return record


def _finish(
    folder: RunFolder,
    model: Model,
    bundle: DataBundle,
    options: TrainingOptions,
    record: dict[str, Any],
    *,
    merge: bool,
    output: str | Path,
) -> None:
    """Evaluate, write every file, and only then call the run finished."""
    seconds = record["seconds_before"] + time.time() - record["started"]
    if merge:
        model.merge_lora()
    classifier = (
        TextClassifier(model) if isinstance(model, HierarchicalDecoder) else Classifier(model)
    )
    if bundle.val is not None and not isinstance(classifier, TextClassifier):
        classifier.calibrate(bundle.val)
        model.config.calibrated_on = None  # the fit that the figures of this folder have
    metrics = {
        split: classifier.evaluate(texts) if texts is not None else None
        for split, texts in (("val", bundle.val), ("test", bundle.test))
    }
    folder.check_ours()  # training takes long, and what follows replaces files
    with filling(folder.path) as temporary:
        model.save_pretrained(temporary)
    write_json(folder.path / "metrics.json", metrics)
    command = options.command(output) + (" --merge" if merge else "")
    card = model_card(model, options, bundle.source, metrics, command=command, seconds=seconds)
    with replacing(folder.path / "README.md") as temporary:
        temporary.write_text(card, encoding="utf-8")
    # A decoder's labels are words: what can be drawn is their tree.
    drawn = bundle.taxonomy if isinstance(model, HierarchicalDecoder) else model
    draw_labels(drawn, folder.path / "labels.png", title=f"{data_name(bundle.source)}: labels")
    folder.release(record | {"seconds": round(seconds, 1), "merge": merge})
