"""Sequences as batches: padded on the right, or several to a row.

Leaves ``input_ids``, ``levels`` (0 at tokens without a loss) and either ``attention_mask`` or, for
packed rows, ``position_ids`` that begin anew with each sequence; all ``(rows, T)``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hyperlm.lm.hdlm.format import Example

__all__ = ["ExampleSet", "SequenceCollator"]


class ExampleSet(Dataset):
    """Sequences for the Trainer; ``lengths`` lets a sampler put similar ones together."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = list(examples)
        self.lengths = [len(example.ids) for example in self.examples]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


class SequenceCollator:
    """Stacks sequences.

    Args:
        pad_id: stands where nothing is.
        packed: put several sequences into a row, as many as fit into ``width``; attention then
            keeps them apart (see ``LayerStack.can_pack``).
        width: of packed rows; the longest sequence of the batch, if not given.
    """

    def __init__(self, pad_id: int, *, packed: bool = False, width: int | None = None) -> None:
        self.pad_id, self.packed, self.width = pad_id, packed, width

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        width = max(len(example.ids) for example in examples)
        rows = [[example] for example in examples]
        if self.packed:
            width = max(width, self.width or 0)
            rows = _first_fit(examples, width)
            width = max(sum(len(example.ids) for example in row) for row in rows)
        shape = (len(rows), width)
        batch: dict[str, Any] = {
            "input_ids": torch.full(shape, self.pad_id),
            "levels": torch.zeros(shape, dtype=torch.long),
            "position_ids": torch.zeros(shape, dtype=torch.long),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
        }
        for number, row in enumerate(rows):
            at = 0
            for example in row:
                here = slice(at, at + len(example.ids))
                batch["input_ids"][number, here] = torch.tensor(example.ids)
                batch["levels"][number, here] = torch.tensor(example.levels)
                batch["position_ids"][number, here] = torch.arange(len(example.ids))
                batch["attention_mask"][number, here] = 1
                at = here.stop
        # A mask of ones and zeros would let sequences of one row see each other; without one the
        # positions tell where each begins. Behind the last, every zero is a sequence of its own.
        del batch["attention_mask" if self.packed else "position_ids"]
        return batch


def _first_fit(examples: Sequence[Example], width: int) -> list[list[Example]]:
    """Longest first, each into the first row with room."""
    rows: list[list[Example]] = []
    room: list[int] = []
    for example in sorted(examples, key=lambda e: -len(e.ids)):
        at = next((i for i, left in enumerate(room) if left >= len(example.ids)), len(rows))
        if at == len(rows):
            rows.append([])
            room.append(width)
        rows[at].append(example)
        room[at] -= len(example.ids)
    return rows
