"""A run folder or hub id, a taxonomy, labels, or an embedding file, as what there is to see of it.

Out: a :class:`~hyperlm.viz.rundata.RunData`.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperlm.data.tree import has_labels_to_show, read_tree
from hyperlm.errors import DataError, ModelError, OptionError, OutputError
from hyperlm.options_checks import flag
from hyperlm.run_texts import texts_of_run
from hyperlm.viz.embedding_file import read_embedding
from hyperlm.viz.rundata import RunData, TextData, level_names, taxonomy_data

if TYPE_CHECKING:
    from hyperlm.classifier import Classifier
    from hyperlm.data import LabelledTexts

__all__ = ["collect_model", "collect_run", "read_source"]

TOP = 5  # most probable paths kept of every text
_LOG = "train_log.jsonl"


def read_source(
    path: str | Path,
    *,
    data: str | Path | None = None,
    split: str = "val",
    limit: int = 20_000,
    say: Callable[[str], None] | None = None,
    columns: Mapping[str, Any] | None = None,
) -> RunData:
    """A run folder or hub id, an embedding file (``.safetensors``), or anything with a label tree.

    Args:
        path: Which of them it is, is told by what is there. Of a data set the labels are shown.
        data, split, limit: See :func:`collect_run`; without a run there are no texts.
        say: Told every note as it arises; by default they go to standard error.
        columns: ``text_column``, ``label_columns``, ``path_separator``, ``label_separator``: of
            ``data``, or of the table at ``path``.
    Raises:
        ModelError, TaxonomyError, DataError: What is there cannot be used; the message says why.
    """
    source, columns = Path(path), dict(columns or {})
    of_path = columns.get("label_columns") if data is None else None  # else they are of the data
    if not has_labels_to_show(path, label_columns=of_path):
        return collect_run(path, data=data, split=split, limit=limit, say=say, columns=columns)
    if data is not None:
        raise OptionError(
            f"{source}: texts need a model to read them, and this is none. Leave out --data, or "
            "give the folder of a run."
        )
    if source.suffix.lower() == ".safetensors":
        if columns:
            raise OptionError(
                f"{', '.join(map(flag, columns))}: {source} holds points and has no columns. "
                "Leave this out."
            )
        placed = read_embedding(source)
        tree, title = placed.taxonomy, placed.taxonomy.title or source.stem
        return RunData(
            title, tree, level_names(tree), placed.geometry, placed.c, placed.points, None
        )
    found = read_tree(path, **columns)
    for line in found.advice + found.notes:
        (say or _stderr)(line)
    shown = replace(
        taxonomy_data(found.taxonomy, title=found.title), counts=found.counts, notes=found.notes
    )
    return shown if found.level_names is None else replace(shown, level_names=found.level_names)


def collect_run(
    run: str | Path,
    *,
    data: str | Path | None = None,
    split: str = "val",
    limit: int = 20_000,
    say: Callable[[str], None] | None = None,
    columns: Mapping[str, Any] | None = None,
) -> RunData:
    """A trained run with the texts of one split and what the model says of them.

    Args:
        run: Folder of a run, or a hub id.
        data: Labelled texts; None for what the run was trained on, where that is still here. If it
            is not, there are no texts, and a note says why.
        split: Of a data set with splits; a single file is taken whole.
        limit: More texts than this are thinned to a fixed random sample; 0 for no texts.
        say: Told every note as it arises; by default they go to standard error.
        columns: Of the texts, where they differ from the run's; see ``texts_of_run``.
    Raises:
        ModelError: No model there, or a damaged one. DataError: ``data`` cannot be used.
    """
    # Here, since the transformers library takes seconds and a taxonomy does without.
    from hyperlm.classifier import load

    return collect_model(
        load(run), run, data=data, split=split, limit=limit, say=say, columns=columns
    )


def collect_model(
    model: "Classifier",
    run: str | Path,
    *,
    data: str | Path | None = None,
    split: str = "val",
    limit: int = 20_000,
    say: Callable[[str], None] | None = None,
    columns: Mapping[str, Any] | None = None,
) -> RunData:
    """:func:`collect_run` with a model that has been loaded already."""
    if columns and not limit:
        raise OptionError(
            f"{', '.join(map(flag, columns))}: say how texts are read, and none are here. Leave "
            "this out."
        )
    found = _model_points(model, run)
    if not limit:
        return found
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        (say or _stderr)(line)

    try:
        texts = texts_of_run(
            run, model.taxonomy, data=data, split=split, note=note, columns=columns
        )
    except DataError as error:
        if data is not None:
            raise
        note(f"No texts are shown: {error}")
        return replace(found, notes=tuple(notes))
    label = split if data is None else Path(data).name
    shown = _text_data(model, texts, label, limit, note)
    return replace(found, texts=shown, notes=tuple(notes))


def _model_points(model: "Classifier", run: str | Path) -> RunData:
    """The labels of a loaded model, without texts; title and log from its folder."""
    from torch import Tensor

    from hyperlm.card import data_name
    from hyperlm.heads import HyperbolicHead
    from hyperlm.runfolder import read_record

    folder, head = Path(run), model.model.head
    title = folder.resolve().name if folder.is_dir() else str(run)
    told: dict[int, str] = {}
    with contextlib.suppress(OutputError):  # a model without the record of its run
        source = read_record(folder)["data"]
        data = data_name(source)
        title = title if title == data else f"{data}: {title}"
        sentences = source.get("descriptions", {}).get("sentences", {})
        told = {int(node): meaning for node, meaning in sentences.items()}
    points, geometry, c = None, "none", 0.0
    if isinstance(head, HyperbolicHead):
        points, geometry = head.node_tangents().detach().cpu().double().numpy(), head.geometry
        bend = head.c.detach() if isinstance(head.c, Tensor) else head.c
        c = 0.0 if geometry == "euclidean" else float(bend)
    log = _read_log(folder / _LOG)
    names = model.level_names
    return RunData(title, model.taxonomy, names, geometry, c, points, None, log, descriptions=told)


def _text_data(
    model: "Classifier",
    texts: "LabelledTexts",
    split: str,
    limit: int,
    note: Callable[[str], None],
) -> TextData:
    """Read the texts, at most ``limit`` of them, with the model."""
    from hyperlm.data import gold_nodes
    from hyperlm.viz.reading import read_texts

    if len(texts) > limit:
        note(f"{limit:,} of the {len(texts):,} texts are shown: a random sample, always the same.")
        texts = texts.take(np.sort(np.random.default_rng(0).permutation(len(texts))[:limit]))
    ends = gold_nodes(texts, model.taxonomy)
    several = sum(len(nodes) > 1 for nodes in ends)
    if several:
        note(
            f"{several:,} texts have several gold paths: shown is the one that was answered, or "
            "else the first."
        )
    read = read_texts(model, texts.texts, k=TOP)
    right = np.array([end in nodes for end, nodes in zip(read.predicted, ends, strict=True)], bool)
    first = np.array([nodes[0] if len(nodes) else -1 for nodes in ends], dtype=np.int64)
    return TextData(
        texts.texts,
        read.tangents,
        np.where(right, read.predicted, first),
        read.predicted,
        read.probability,
        read.top_nodes,
        read.top_probabilities,
        split,
        right,
    )


def _read_log(path: Path) -> tuple[dict[str, Any], ...]:
    """Rows of a training log; () where there is none."""
    if not path.is_file():
        return ()
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: damaged ({error}). Copy the run again, or take this file out of the folder."
        ) from error
    return tuple(rows)


def _stderr(line: str) -> None:
    print(line, file=sys.stderr)
