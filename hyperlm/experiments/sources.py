"""What a report calls the data of its runs: runs on other data never stand under one name.

A results file may hold runs of one data set read by several backbones, to several lengths, or from
files that changed between two runs.
"""

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.trials import Trial

__all__ = ["arguments", "arm_options", "called", "plain", "precision_option", "told_apart"]

_USUAL = ("minilm", 128)  # backbone and tokens of a text, as the experiments have them
_SAY_THEMSELVES = ("layer-sweep", "answers")  # how the backbone reads: in their own sections
_WHOLE = "compare-geometries, whole models"
_CONTENT = ("files", "taxonomy")
_READING = ("name", "backbone", "max_length")
_CALLED = "called"  # the name that the command was given
_PRECISE = "precise"  # whether runs of these data differ in precision


def told_apart(results: ResultsFile) -> ResultsFile:
    """The same records, whose data have a name for each way in which they were read.

    A name says the backbone and the length where they are not minilm and 128, the dropout inside a
    backbone that was trained with the head where it was not its own, and, where these differ among
    runs, the precision of the backbone's arithmetic and the content, by the start of its checksum.
    """
    several = {name for (name,) in _differing(results.records, _content, ("name",))}
    read = [record for record in results.records if "backbone" in record.data]
    precise = _differing(read, _precision, _READING)
    backbones = {str(record.data.get("backbone", "")) for record in results.records}
    last = Counter(Path(backbone).name for backbone in backbones)
    shared = {backbone for backbone in backbones if last[Path(backbone).name] > 1}
    apart = copy.copy(results)
    apart.records = [
        replace(record, data=data | {"name": _name(record, data, several, shared)})
        for record in results.records
        for name in (record.data["name"],)
        for data in (record.data | {_CALLED: name, _PRECISE: _at(record, _READING) in precise},)
    ]
    return apart


def _differing(
    records: Sequence[Record], what: Callable[[dict[str, Any]], str], of: tuple[str, ...]
) -> set[tuple[Any, ...]]:
    """Data, told apart by some of their keys, of which something else differs between runs."""
    found: dict[tuple[Any, ...], set[str]] = {}
    for record in records:
        found.setdefault(_at(record, of), set()).add(what(record.data))
    return {at for at, told in found.items() if len(told) > 1}


def _at(record: Record, keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(record.data.get(key) for key in keys)


def plain(data: dict[str, Any]) -> str:
    """The name of data told apart, without the precision: the same texts, read alike."""
    name = str(data["name"])
    return name.removesuffix(f", {_precision(data)}") if data.get(_PRECISE) else name


def precision_option(data: dict[str, Any]) -> list[str]:
    """``--precision bf16`` for a command, where runs of these data differ in it."""
    told = data.get(_PRECISE) and "precision" in data
    return [f"--precision {data['precision']}"] if told else []


def arguments(records: Sequence[Record], name: str) -> str:
    """``--data wos --max-length 256``: what names these data to a command."""
    data = next(record.data for record in records if record.data["name"] == name)
    told = [*_options(data).values(), *precision_option(data)]
    return " ".join([f"--data {called(data)}", *told])


def arm_options(arms: Sequence[str], known: Sequence[str]) -> list[str]:
    """``--arm NAME`` for each arm, where they are not all that the command knows."""
    if set(arms) >= set(known):
        return []
    return [f'--arm "{arm}"' if " " in arm else f"--arm {arm}" for arm in arms]


def called(data: dict[str, Any]) -> str:
    """What the command was given as ``--data``."""
    return str(data.get(_CALLED, data["name"]))


def _name(record: Record, data: dict[str, Any], several: set[str], shared: set[str]) -> str:
    parts = [data["name"]]
    if record.labels.get("experiment") not in _SAY_THEMSELVES:
        # A folder by its last name, unless another ends alike.
        parts += (word if word in shared else Path(word).name for word in _options(data))
    if record.labels.get("experiment") == _WHOLE and isinstance(record.run, Trial):
        dropout = record.run.settings["options"].get("backbone_dropout")
        parts += [f"dropout {dropout:g}"] if dropout is not None else []
    if data["name"] in several:
        parts.append(f"files {_content(data)}")
    if data[_PRECISE]:
        parts.append(_precision(data))
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


def _precision(data: dict[str, Any]) -> str:
    return str(data.get("precision", "precision not kept"))


def _content(data: dict[str, Any]) -> str:
    told = json.dumps({key: data.get(key) for key in _CONTENT}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]
