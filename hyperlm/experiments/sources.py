"""What a report calls the data of its runs: runs on other data never stand under one name.

A results file may hold runs of one data set read by several backbones, to several lengths, or from
files that changed between two runs.
"""

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.trials import Trial

__all__ = ["arguments", "arm_options", "called", "told_apart"]

_USUAL = ("minilm", 128)  # backbone and tokens of a text, as the experiments have them
_SAY_THEMSELVES = ("layer-sweep", "answers")  # how the backbone reads: in their own sections
_WHOLE = "compare-geometries, whole models"
_CONTENT = ("files", "taxonomy")
_CALLED = "called"  # the name that the command was given


def told_apart(results: ResultsFile) -> ResultsFile:
    """The same records, whose data have a name for each backbone, length, dropout and content.

    A name says the backbone and the length where they are not minilm and 128, the dropout inside a
    backbone that was trained with the head where it was not its own, and the content, by the start
    of its checksum, where it differs between runs.
    """
    contents: dict[str, set[str]] = {}
    for record in results.records:
        contents.setdefault(record.data["name"], set()).add(_content(record.data))
    several = {name for name, found in contents.items() if len(found) > 1}
    backbones = {str(record.data.get("backbone", "")) for record in results.records}
    last = Counter(Path(backbone).name for backbone in backbones)
    shared = {backbone for backbone in backbones if last[Path(backbone).name] > 1}
    apart = copy.copy(results)
    apart.records = [
        replace(record, data=record.data | {"name": _name(record, several, shared), _CALLED: name})
        for record in results.records
        for name in (record.data["name"],)
    ]
    return apart


def arguments(records: Sequence[Record], name: str) -> str:
    """``--data wos --max-length 256``: what names these data to a command."""
    data = next(record.data for record in records if record.data["name"] == name)
    return " ".join([f"--data {called(data)}", *_options(data).values()])


def arm_options(arms: Sequence[str], known: Sequence[str]) -> list[str]:
    """``--arm NAME`` for each arm, where they are not all that the command knows."""
    if set(arms) >= set(known):
        return []
    return [f'--arm "{arm}"' if " " in arm else f"--arm {arm}" for arm in arms]


def called(data: dict[str, Any]) -> str:
    """What the command was given as ``--data``."""
    return str(data.get(_CALLED, data["name"]))


def _name(record: Record, several: set[str], shared: set[str]) -> str:
    data, parts = record.data, [record.data["name"]]
    if record.labels.get("experiment") not in _SAY_THEMSELVES:
        # A folder by its last name, unless another ends alike.
        parts += (word if word in shared else Path(word).name for word in _options(data))
    if record.labels.get("experiment") == _WHOLE and isinstance(record.run, Trial):
        dropout = record.run.settings["options"].get("backbone_dropout")
        parts += [f"dropout {dropout:g}"] if dropout is not None else []
    if data["name"] in several:
        parts.append(f"files {_content(data)}")
    return ", ".join(parts)


def _options(data: dict[str, Any]) -> dict[str, str]:
    """How the backbone reads, where it is unusual: in words, and as options."""
    found = {}
    usual_backbone, usual_length = _USUAL
    if (backbone := data.get("backbone", usual_backbone)) != usual_backbone:
        found[backbone] = f"--backbone {backbone}"
    if (length := data.get("max_length", usual_length)) != usual_length:
        found[f"{length} tokens"] = f"--max-length {length}"
    return found


def _content(data: dict[str, Any]) -> str:
    told = json.dumps({key: data.get(key) for key in _CONTENT}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]
