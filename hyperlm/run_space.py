"""Room on the disk and in memory: asked for before a run, and named where it was missing."""

import errno
import os
import shutil

import torch
from safetensors import SafetensorError
from torch import nn

from hyperlm.errors import OptionError, OutputError
from hyperlm.options import TrainingOptions
from hyperlm.runfolder import RunFolder

__all__ = ["check_space", "explained_failure"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _space_needed(model: nn.Module, checkpoints: int) -> int:
    """Bytes of the model and some checkpoints, each with weights and Adam's two moments."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    moments = 2 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return weights + checkpoints * (weights + moments)


def check_space(model: nn.Module, folder: RunFolder, options: TrainingOptions) -> None:
    """Refuse at once what would fail after the first epoch."""
    there = next(p for p in (folder.path, *folder.path.parents) if p.exists())
    if not os.access(there, os.W_OK):
        raise OutputError(f"{folder.shown}: {there} cannot be written to. Choose another --output.")
    needed, free = _space_needed(model, min(2, options.epochs)), shutil.disk_usage(there).free
    if folder.has_checkpoint:
        needed = _space_needed(model, 0)
    if free < needed:
        raise OutputError(
            f"{folder.shown}: the run needs about {_size(needed)} of disk space, {_size(free)} "
            "are free. Free some, or choose an --output on another disk."
        )


def explained_failure(
    error: BaseException, model: nn.Module, folder: RunFolder
) -> Exception | None:
    """A full disk or memory in the user's terms; ``None`` for any other error."""
    if isinstance(error, torch.OutOfMemoryError):
        return OptionError(
            f"The memory of the GPU is full ({str(error).splitlines()[0]}). Use a smaller "
            "--batch-size (with --accumulate for the same sum), a smaller --max-length, "
            "--gradient-checkpointing, --lora or --freeze."
        )
    full = False
    cause: BaseException | None = error
    while cause is not None and not full:  # what failed first may hide behind what came of it
        full = _says_full(cause)
        cause = cause.__cause__ or cause.__context__
    if not full:
        return None
    onwards = (
        "continue from the last checkpoint with --resume"
        if folder.has_checkpoint
        else "start again; there was no checkpoint yet"
    )
    return OutputError(
        f"{folder.shown}: no space left on the disk while saving. Writing a checkpoint beside "
        f"those kept takes about {_size(_space_needed(model, 3))} in all: free some, then "
        f"{onwards}."
    )


def _says_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    # safetensors and torch have errors of their own; the last is what a writer says at its end,
    # after a write that fell short.
    signs = ("No space left", "os error 28", "PytorchStreamWriter failed", "unexpected pos ")
    return isinstance(error, SafetensorError | RuntimeError) and any(
        sign in str(error) for sign in signs
    )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"
