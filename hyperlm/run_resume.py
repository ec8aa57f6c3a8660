"""What a run that is resumed must share with the one that was stopped: its options and its data."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hyperlm.data import DataBundle
from hyperlm.errors import DataError, OptionError
from hyperlm.options import TrainingOptions
from hyperlm.options_checks import flag
from hyperlm.runfolder import RECORD

__all__ = ["check_same_data", "stored_options"]


def stored_options(
    given: TrainingOptions | None, record: dict[str, Any], folder: Path
) -> TrainingOptions:
    """The options of the run in a folder.

    Raises:
        OptionError: ``given`` are others.
    """
    stored = TrainingOptions.from_json(
        record["options"], path=folder / RECORD, written_by=record["hyperlm"]
    )
    if given is not None and given.layers == "auto":
        given = replace(given, layers=stored.layers)  # whatever the run took
    if given is not None and given.max_length is None:
        given = replace(given, max_length=stored.max_length)
    if given is None or given == stored.resolved():
        return stored
    differ = [
        f"{flag(f.name)} {getattr(given, f.name)} (the run has {getattr(stored, f.name)})"
        for f in fields(given)
        if getattr(given, f.name) != getattr(stored, f.name)
    ]
    raise OptionError(
        f"--resume continues {folder} with the options it was started with, but was given "
        f"{', '.join(differ)}. Leave them out, or start another run in another --output."
    )


def _differences(source: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What two source records disagree on, in words."""
    differ = []
    for split in sorted({*source.get("files", {}), *other.get("files", {})}):
        old, new = (record.get("files", {}).get(split, {}) for record in (source, other))
        if old.get("sha256") != new.get("sha256"):
            differ.append(f"the {split} file {new.get('file') or old.get('file')}")
    told = (
        ("rows", "the number of rows"),
        ("columns", "the columns"),
        ("cuts", "cuts"),
        ("descriptions", "the descriptions of labels"),
    )
    for key, name in told:
        if not differ and source.get(key) != other.get(key):
            differ.append(name)
    return differ


def check_same_data(bundle: DataBundle, record: dict[str, Any], folder: Path) -> None:
    """Refuse data that has changed since the run began, with a DataError that says what."""
    # Through JSON, which turns tuples into lists as the stored record did.
    differ = _differences(record["data"], json.loads(json.dumps(bundle.source)))
    if not differ and record["taxonomy"] != bundle.taxonomy.fingerprint:
        differ = ["the taxonomy"]
    if differ:
        raise DataError(
            f"--resume: the data is not what {folder} was started with: {', '.join(differ)} "
            "changed. Bring the old data back, or start another run in another --output."
            + f" Version {record['hyperlm']} cut it otherwise."
            * (differ == ["cuts"])
        )
