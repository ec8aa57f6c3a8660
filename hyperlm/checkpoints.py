"""What a run folder's checkpoints say: which is the last whole one, where it stood, what to repeat.

The Trainer writes ``checkpoints/checkpoint-STEP`` and, last of all, a ``trainer_state.json`` in it:
a folder without a readable one is what a kill left behind.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

__all__ = [
    "cut_log",
    "discard_torn",
    "epochs_if_stopped_early",
    "last_checkpoint",
    "relocate",
    "step_of",
]

_STATE = "trainer_state.json"


def last_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint of a run folder, ``None`` where there is none."""
    found = [path for path in _checkpoints(folder) if _state(path)]
    return max(found, key=step_of, default=None)


def discard_torn(folder: Path) -> None:
    """Delete checkpoints that a kill or a full disk left unfinished."""
    for path in _checkpoints(folder):
        if _state(path) is None:
            shutil.rmtree(path, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """Optimiser steps taken when it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def relocate(checkpoint: Path) -> None:
    """Point the record of the best checkpoint at its neighbour: the run folder may have moved."""
    state = _state(checkpoint) or {}
    best = state.get("best_model_checkpoint")
    if best is None:
        return
    # Both kinds of separator: the folder may come from another system.
    here = str(checkpoint.parent / best.replace("\\", "/").rpartition("/")[2])
    if here != best:
        state["best_model_checkpoint"] = here
        # Every process of a distributed run writes it for itself rather than wait for another.
        temporary = checkpoint / f".{_STATE}.{os.getpid()}.partial"
        temporary.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, checkpoint / _STATE)


def epochs_if_stopped_early(checkpoint: Path) -> int | None:
    """Epochs done when the patience of early stopping ran out, ``None`` where it has not."""
    state = _state(checkpoint) or {}
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {})
    stopped = control.get("args", {}).get("should_training_stop", False)
    return round(state["epoch"]) if stopped else None


def cut_log(log: Path, step: int) -> None:
    """Drop lines of ``train_log.jsonl`` beyond ``step``: a resumed run writes them again."""
    if not log.is_file():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the line a kill interrupted
        # The figures of the whole run are written anew at its end.
        if record["step"] <= step and "train_runtime" not in record:
            kept.append(line + "\n")
    temporary = log.with_name(f".{log.name}.partial")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, log)


def _checkpoints(folder: Path) -> list[Path]:
    """Those of the Trainer; copies beside them have other names and are nobody's business."""
    found = (folder / "checkpoints").glob("checkpoint-*")
    return [path for path in found if path.name.removeprefix("checkpoint-").isdecimal()]


def _state(checkpoint: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None
