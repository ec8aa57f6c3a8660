"""What a run folder holds, read back, and a stand-in for a kill."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

FILES = {
    "README.md", "config.json", "labels.png", "metrics.json", "model.safetensors", "run.json",
    "tokenizer.json", "tokenizer_config.json", "train_log.jsonl",
}  # fmt: skip


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it on purpose."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def results(folder: Path) -> dict[str, Any]:
    """Metrics without the one figure that is a time."""
    document = json.loads((folder / "metrics.json").read_text())
    for part in document.values():
        part.pop("texts_per_second", None)
    return document


def log(folder: Path) -> list[dict[str, Any]]:
    """Logged figures that are no times."""
    timed = ("time", "runtime", "per_second", "flos", "train_loss")
    lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.endswith(timed)} for line in lines
    ]
