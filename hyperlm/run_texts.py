"""The labelled texts of a run: those it was trained on, divided as the run divided them, or others.

In: a run folder and perhaps a data set. Out: texts with gold paths of the run's taxonomy. What has
changed since the run was trained is told.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hyperlm.data import LabelledTexts, gold_nodes, load_data, read_labelled
from hyperlm.data.bundle import NO_REPLY
from hyperlm.data.named import in_data_folder, locate
from hyperlm.errors import DataError, HyperlmError, OutputError
from hyperlm.options import TrainingOptions
from hyperlm.runfolder import RECORD, read_record
from hyperlm.taxonomy import Taxonomy

__all__ = ["is_cut_from", "is_file_of", "own_columns", "texts_of_run", "trained_on"]


def texts_of_run(
    run: str | Path,
    taxonomy: Taxonomy,
    *,
    data: str | Path | None,
    split: str,
    note: Callable[[str], None],
    columns: Mapping[str, Any] | None = None,
) -> LabelledTexts:
    """Texts to measure or to show.

    Args:
        run: Its folder, or a hub id.
        taxonomy: The labels the run knows.
        data: None for what ``run.json`` names. What a run's splits were cut from, a table or a
            folder, is cut again in the same way, so that its test texts stay those the run never
            saw.
        split: Of a data set with splits.
        note: Told of changes since the training.
        columns: Of ``TrainingOptions.column_options``, those that differ from the run's.
    Raises:
        DataError: It is not known what the run was trained on, or that is not here.
    """
    columns = dict(columns or {})
    options, source = trained_on(run)
    # Options that say what the run knows change nothing: its table is still cut as it was.
    own = own_columns(columns, options, source)
    if data is not None and (own or not is_cut_from(data, source, split)):
        usual = source.get("columns")
        texts = read_labelled(
            data,
            taxonomy=taxonomy,
            split=split,
            trained_on=(
                usual["text"],
                usual["labels"],
                usual.get("reply"),
                options.label_separator if options else None,
            )
            if usual
            else None,
            **({"path_separator": options.path_separator} if options else {}) | columns,
        )
        if is_file_of(data, source, "all") or is_file_of(data, source, "train"):
            note(f"{Path(data).name}: the run has learnt most or all of these texts.")
        elif learnt := _learnt(texts, options, taxonomy):
            note(
                f"the run has learnt from {learnt:,} of these {len(texts):,} texts: what is "
                "measured or fitted on them says little of new ones."
            )
        if short := _above(texts, taxonomy):
            note(
                f"{short:,} of these {len(texts):,} texts have a label above those that the run "
                "answers with, so that no whole path can be right there: read the levels that both "
                "have."
            )
        return texts
    if options is None:
        raise DataError(
            f"{run}: it is not known what this model was trained on. Name labelled texts with "
            "--data."
        )
    given = options.column_options() | columns
    name = options.data if data is None else str(data)
    try:
        bundle = load_data(
            name,
            taxonomy=taxonomy,
            seed=options.seed,
            val_fraction=options.val_fraction,
            splits=("train", "val", split),  # a split cut from another depends on it
            **given,
        )
        texts = bundle.split(split)
    except DataError as error:
        if data is not None:
            raise
        raise DataError(
            f"the data the run was trained on, {name!r}, cannot be read here: {error} Or name "
            "labelled texts with --data."
        ) from error
    if data is not None and split == "train":
        note(f"the run has learnt from these {len(texts):,} texts.")
    changed, cut = [], split in bundle.source.get("cuts", {})
    digests = [s.get("cuts", {}).get(split, {}).get("rows_sha256") for s in (source, bundle.source)]
    for part in ("all", split, *(["train"] if cut else [])):
        stored, present = (s.get("files", {}).get(part) for s in (source, bundle.source))
        if stored and present and stored["sha256"] != present["sha256"]:
            changed.append(part)
            note(f"{present['file']} has changed since the run was trained.")
    if cut:
        table = Path(name).name
        # An earlier version cut otherwise where texts occur twice.
        if changed or (None not in digests and digests[0] != digests[1]):
            note(
                f"These {split} texts were cut anew from {table}: the run may have been trained on "
                "some of them. Keep test texts in a file of their own and name it with --data."
            )
        else:
            note(f"These are the {split} texts that the run cut from {table}.")
    return texts


def _learnt(texts: LabelledTexts, options: TrainingOptions | None, taxonomy: Taxonomy) -> int:
    """How many of the texts stand in the training split of the run, if its data is still here."""
    here = options is not None and (
        Path(options.data).exists() or options.data == "demo" or in_data_folder(str(options.data))
    )
    if options is None or not here:
        return 0
    try:
        bundle = load_data(
            options.data,
            **options.column_options(),
            taxonomy=taxonomy,
            seed=options.seed,
            val_fraction=options.val_fraction,
            splits=("train", "val"),
        )
    except HyperlmError:  # not what it was: nothing can be said
        return 0
    known = set(bundle.split("train").texts)
    return sum(text in known for text in texts.texts if text.strip())


def _above(texts: LabelledTexts, taxonomy: Taxonomy) -> int:
    """How many texts have no gold path that ends where answers end."""
    ends = set(map(int, taxonomy.terminals))
    gold = gold_nodes(texts, taxonomy)
    return sum(bool(len(nodes)) and not ends & set(map(int, nodes)) for nodes in gold)


def own_columns(
    columns: Mapping[str, Any], options: TrainingOptions | None, source: Mapping[str, Any]
) -> dict[str, Any]:
    """The options about columns that differ from what a run has, to tell its table by."""
    used = source.get("columns", {})
    reply = used.get("reply", NO_REPLY)
    known: dict[str, Any] = {"text_column": used.get("text"), "reply_column": reply}
    if "labels" in used:
        known["label_columns"] = tuple(used["labels"])
    if options is not None:
        known |= {name: getattr(options, name) for name in ("path_separator", "label_separator")}
    return {
        name: value
        for name, value in columns.items()
        if (tuple(value) if name == "label_columns" else value) != known.get(name)
    }


def trained_on(run: str | Path) -> tuple[TrainingOptions | None, dict[str, Any]]:
    """Options and data record of the run, where the folder has them."""
    try:
        record = read_record(Path(run))
    except OutputError:
        return None, {}
    options = TrainingOptions.from_json(
        record["options"], path=Path(run) / RECORD, written_by=record["hyperlm"]
    )
    return options, record["data"]


def is_cut_from(data: str | Path, source: dict[str, Any], split: str) -> bool:
    """Whether ``data`` names what a run has cut its texts of a split from.

    By the file behind it, or by its hub id: the table that all splits were cut from, or the train
    file of a folder for its val texts and for those of train that are left. A split with a file of
    its own is read as it stands.
    """
    cuts, files = source.get("cuts", {}), source.get("files", {})
    if not ("all" in files or split in cuts or (split == "train" and "val" in cuts)):
        return False
    if source.get("kind") == "hub" and source.get("name") == str(data):
        return True
    try:
        there = locate(data).files
    except DataError:  # whoever reads it says what is wrong with it
        return False
    part = "all" if "all" in files else "train"
    # A run's file of one split is named as a table of its own.
    return part in there and is_file_of(there[part], source, part)


def is_file_of(data: str | Path, source: dict[str, Any], split: str) -> bool:
    """Whether ``data`` is the file that a run had for ``split``; ``all``: that it was cut from."""
    known = source.get("files", {}).get(split, {}).get("sha256")
    path = Path(data)
    if known is None or not path.is_file():
        return False
    with path.open("rb") as stream:
        return bool(hashlib.file_digest(stream, "sha256").hexdigest() == known)
