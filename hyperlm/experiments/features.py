"""Texts of a data set as a frozen backbone sees them, computed once and shared by all runs.

In: the name of a data set and of a backbone. Out: pooled features ``(n, taps, D)`` of each split,
gold nodes, and heads that fit. Features are kept on disk by :mod:`hyperlm.lm.cache` under the key
that ``hyperlm train --freeze`` uses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hyperlm.card import data_name
from hyperlm.data import DataBundle, check_trainable, load_data
from hyperlm.errors import OptionError
from hyperlm.experiments.fitting import training_rows
from hyperlm.experiments.settings import HeadRun
from hyperlm.heads import HierarchicalHead, build_head
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.names import start_from_names
from hyperlm.taxonomy import Taxonomy
from hyperlm.training import encode, resolve_precision

__all__ = ["FrozenData", "Split"]

FEW = 5  # training texts of a class, at most, to count as a class with few examples


@dataclass(frozen=True)
class Split:
    """Texts with their gold labels.

    Attributes:
        features: ``(n, taps, D)``.
        gold: end nodes of each text's gold paths.
        targets: ``(n,)`` end nodes, or ``(n, N)`` booleans where texts have several.
    """

    features: Tensor
    gold: list[np.ndarray]
    targets: Tensor


class FrozenData:
    """A data set seen through a frozen backbone.

    Args:
        data: as ``hyperlm train --data``.
        backbone, max_length: as there.
        progress: show bars while features are computed.
    """

    def __init__(
        self,
        data: str,
        *,
        backbone: str = "minilm",
        max_length: int = 128,
        progress: bool = False,
    ) -> None:
        self.bundle: DataBundle = load_data(data)
        check_trainable(self.bundle)
        self.name = data_name(self.bundle.source)
        self.backbone, self.max_length, self.progress = backbone, max_length, progress
        self.taxonomy: Taxonomy = self.bundle.taxonomy
        self._models: dict[str, HierarchicalLM] = {}
        self._splits: dict[tuple[str, bool], dict[str, Split]] = {}

    def describe(self) -> dict[str, Any]:
        """What tells this data from other data, for the results file."""
        files = self.bundle.source.get("files", {})
        return {
            "name": self.name,
            "backbone": self.backbone,
            "max_length": self.max_length,
            "taxonomy": self.taxonomy.fingerprint,
            "files": {split: record.get("sha256") for split, record in sorted(files.items())},
        }

    def splits(self, run: HeadRun) -> dict[str, Split]:
        """train, val and test as the run's head reads them."""
        at = (run.layers, run.joined)
        if at not in self._splits:
            model = self._model(run.layers)
            precision = resolve_precision("auto", torch.device("cpu"))
            self._splits[at] = {
                name: self._split(model, name, precision, run.joined)
                for name in ("train", "val", "test")
            }
        return self._splits[at]

    def head(self, run: HeadRun) -> HierarchicalHead:
        """The head of a run at its start."""
        model = self._model(run.layers)
        width, taps = model.head.hidden_size, model.head.tap_of_level
        if run.joined:
            width, taps = width * (max(taps) + 1), (0,) * len(taps)
        head = build_head(
            hidden_size=width, taxonomy=self.taxonomy, tap_of_level=taps, **run.head_options()
        )
        if run.init == "names":
            if run.joined:
                raise OptionError("a start from names needs a projection per tap, not joined taps.")
            model.head = head
            texts = self.bundle.split("train").texts
            rows = training_rows(len(texts), run)
            start_from_names(model, [texts[int(row)] for row in rows], progress=self.progress)
        return head

    def few(self, split: str) -> np.ndarray:
        """Which texts of a split have a gold label with few training texts, ``(n,)`` bool."""
        counts = np.zeros(len(self.taxonomy), dtype=np.int64)
        for ends in self.bundle.gold("train"):
            counts[ends] += 1
        return np.array([bool((counts[ends] <= FEW).any()) for ends in self.bundle.gold(split)])

    def _model(self, layers: str) -> HierarchicalLM:
        if layers not in self._models:
            self._models[layers] = HierarchicalLM.from_backbone(
                self.backbone,
                self.taxonomy,
                layers=layers,
                head={"kind": "linear", "dim": 2},
                max_length=self.max_length,
            ).eval()
        return self._models[layers]

    def _split(
        self, model: HierarchicalLM, name: str, precision: torch.dtype, joined: bool
    ) -> Split:
        gold = self.bundle.gold(name)
        texts = self.bundle.split(name).texts
        encoded = encode(
            model, texts, None, frozen=True, precision=precision, progress=self.progress
        )
        assert encoded.features is not None  # a frozen encoding has them
        features = encoded.features
        if joined:
            # Each layer on its own scale first: deeper states are longer than early ones.
            features = F.layer_norm(features, features.shape[-1:]).flatten(1).unsqueeze(1)
        return Split(features, gold, targets_of(gold, self.taxonomy))


def targets_of(gold: Sequence[np.ndarray], taxonomy: Taxonomy) -> Tensor:
    """End nodes ``(n,)`` while every text has at most one, else marked nodes ``(n, N)``."""
    if all(len(ends) <= 1 for ends in gold):
        return torch.tensor([int(ends[0]) if len(ends) else -100 for ends in gold])
    marked = torch.zeros(len(gold), len(taxonomy), dtype=torch.bool)
    for row, ends in enumerate(gold):
        for end in ends:
            marked[row, int(end)] = True
            marked[row, torch.as_tensor(taxonomy.ancestors(int(end)).copy())] = True
    return marked
