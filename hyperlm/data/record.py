"""What a model card must tell of the data: files, sizes, and whatever a reader should know.

In: the located files and the splits read from them. Out: a dictionary that JSON can hold.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperlm.data.columns import Columns
from hyperlm.data.doubts import label_doubts
from hyperlm.data.gold import gold_nodes
from hyperlm.data.labels import LabelledTexts, LabelPath
from hyperlm.data.named import Located
from hyperlm.taxonomy import Taxonomy

__all__ = ["describe", "file_record"]

_SLIPS = 0.01  # share of texts
_LISTED = 50  # a record lists so many classes or lines and counts the rest


def describe(
    found: Located,
    parts: Mapping[str, LabelledTexts | None],
    taxonomy: Taxonomy,
    columns: Columns,
    *,
    chosen: bool = False,
) -> dict[str, Any]:
    """The record of a data set whose splits ``parts`` use ``taxonomy``.

    Args:
        chosen: somebody named the label columns.

    Paths on this machine stay out of it: files go by their names and digests.
    """
    read = {split: texts for split, texts in parts.items() if texts is not None}
    bare = _bare_classes(read["train"], taxonomy) if "train" in read else []
    shared = _shared_texts(read)
    warnings = [f"{n} {split} texts are also training texts" for split, n in shared.items() if n]
    if bare:
        warnings.append(f"{len(bare)} of {len(taxonomy.terminals)} classes have no training text")
    paths = [path for texts in read.values() for of_text in texts.paths for path in of_text]
    warnings += label_doubts(paths, columns, chosen=chosen or found.kind == "named")
    if found.kind != "named" and "train" in read:
        warnings += _torn(read["train"])
    for split, texts in read.items():
        empty = len(texts.empty_texts)
        warnings += [f"{empty} of {len(texts)} {split} texts are empty"] * bool(empty)
        silent = sum(not reply.strip() for reply in texts.replies or ())
        warnings += [f"{silent} {split} replies are empty"] * bool(silent)
    return {
        "name": found.name,
        "kind": found.kind,
        "files": {
            split: file_record(path)
            for split, path in found.files.items()
            if split in read or split == "all"
        },
        "rows": {split: len(texts) for split, texts in read.items()},
        "columns": {"text": columns.text, "labels": list(columns.labels)}
        | ({"reply": columns.reply} if columns.reply is not None else {}),
        "empty_texts": {
            split: _some([texts.lines[i] for i in texts.empty_texts])
            for split, texts in read.items()
            if texts.empty_texts
        },
        "classes_without_training_text": _some(bare),
        "shared_texts": shared,
        "warnings": warnings,
    }


def _bare_classes(train: LabelledTexts, taxonomy: Taxonomy) -> list[str]:
    seen = {int(node) for nodes in gold_nodes(train, taxonomy) for node in nodes}
    bare = [int(node) for node in taxonomy.terminals if int(node) not in seen]
    return [" > ".join(taxonomy.path(node)) for node in bare]


def _torn(train: LabelledTexts) -> list[str]:
    """Texts in several rows with different labels, where they are more than slips."""
    rows: dict[str, dict[frozenset[LabelPath], int]] = {}
    for text, paths, line in zip(train.texts, train.paths, train.lines, strict=True):
        if text.strip():
            rows.setdefault(text, {}).setdefault(frozenset(paths), line)
    torn = [list(of_text.values()) for of_text in rows.values() if len(of_text) > 1]
    if len(torn) < _SLIPS * len(rows) or not torn:
        return []
    return [
        f"{len(torn):,} of {len(rows):,} different training texts stand in several rows with "
        f"different labels, the first in {train.unit} {torn[0][0]} and {torn[0][1]}: each row is "
        "learnt for itself. Put several labels of one text into one row (docs/data.md)"
    ]


def _shared_texts(read: Mapping[str, LabelledTexts]) -> dict[str, int]:
    """How many texts of the other splits stand in train as well."""
    if "train" not in read:
        return {}
    known = set(read["train"].texts)
    return {
        split: sum(text in known for text in texts.texts if text.strip())
        for split, texts in read.items()
        if split != "train"
    }


def _some(items: Sequence[Any]) -> dict[str, Any]:
    return {"count": len(items), "first": list(items[:_LISTED])}


def file_record(path: Path) -> dict[str, Any]:
    """A file by its name and content."""
    with path.open("rb") as stream:
        return {"file": path.name, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
