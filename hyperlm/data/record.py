"""What a model card must tell of the data: files, sizes, and whatever a reader should know.

In: the located files and the splits read from them. Out: a dictionary that JSON can hold.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperlm.data.gold import gold_nodes
from hyperlm.data.labels import Columns, LabelledTexts, LabelPath
from hyperlm.data.named import Located
from hyperlm.taxonomy import Taxonomy

__all__ = ["describe", "file_record", "separator_doubts"]

_SEPARATORS = ("/", "|", "::", "\\", ">", ";")  # of paths, as they occur
_LISTED = 50  # a record lists so many classes or lines and counts the rest


def describe(
    found: Located,
    parts: Mapping[str, LabelledTexts | None],
    taxonomy: Taxonomy,
    columns: Columns,
) -> dict[str, Any]:
    """The record of a data set whose splits ``parts`` use ``taxonomy``.

    Paths on this machine stay out of it: files go by their names and digests.
    """
    read = {split: texts for split, texts in parts.items() if texts is not None}
    bare = _bare_classes(read["train"], taxonomy) if "train" in read else []
    shared = _shared_texts(read)
    warnings = [f"{n} {split} texts are also training texts" for split, n in shared.items() if n]
    if bare:
        warnings.append(f"{len(bare)} of {len(taxonomy.terminals)} classes have no training text")
    warnings += _doubts(list(read.values()), columns)
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


def _doubts(parts: Sequence[LabelledTexts], columns: Columns) -> list[str]:
    """Signs that a column is not what it was taken for."""
    paths = [path for texts in parts for of_text in texts.paths for path in of_text]
    doubts = []
    if len(set(paths)) == len(paths) > 20:
        doubts.append(f"every text has a label of its own: is one of {columns.labels} an id?")
    return doubts + separator_doubts(paths, columns)


def separator_doubts(paths: Sequence[LabelPath], columns: Columns) -> list[str]:
    """Signs that whole paths were taken for names."""
    if len(columns.labels) > 1 or any(len(path) > 1 for path in paths):
        return []
    bare = columns.separator.strip()
    for sign in filter(None, dict.fromkeys((bare, *_SEPARATORS))):
        unsplit = sum(sign in path[0].strip(sign) for path in paths)
        # A slash may stand inside a name; in most of them it stands between names.
        if unsplit > (0 if sign == bare else len(paths) / 2):
            return [
                f"{unsplit} of {len(paths)} labels contain {sign!r}, none the separator "
                f"{columns.separator!r}: they were taken as one level. If {sign!r} separates "
                "levels, give it as --path-separator"
            ]
    return []


def _some(items: Sequence[Any]) -> dict[str, Any]:
    return {"count": len(items), "first": list(items[:_LISTED])}


def file_record(path: Path) -> dict[str, Any]:
    """A file by its name and content."""
    with path.open("rb") as stream:
        return {"file": path.name, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
