"""Our own systems as peers: frozen features, heads on them, and whole models fine-tuned.

In a process of their own and under the same clocks as the others; see :mod:`.peer_process`.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hyperlm.classifier import load
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.fitting import fit_together
from hyperlm.experiments.measure import node_logits
from hyperlm.experiments.settings import HeadRun
from hyperlm.lm import HierarchicalLM
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.taxonomy import Taxonomy
from hyperlm.training import encode

if TYPE_CHECKING:
    from hyperlm.experiments.peer_process import Job

__all__ = ["Features", "Head", "Whole"]


class Features:
    """The frozen backbone: what every system on its features costs before it begins."""

    def __init__(self, job: "Job") -> None:
        # A cache of its own, so that nothing is taken from an earlier run.
        os.environ["HYPERLM_CACHE"] = str(job.folder / "cache")
        self.texts = {split: job.texts(split) for split in ("train", "val", "test")}
        self.model = HierarchicalLM.from_backbone(
            job.backbone,
            Taxonomy.read(job.folder / "taxonomy.json"),
            layers="auto",
            head={"kind": "linear", "dim": 2},
            max_length=job.max_length,
        ).eval()

    def train(self) -> None:
        encode(self.model, self.texts["train"], None, frozen=True)

    def predict(self, split: str) -> None:
        encode(self.model, self.texts[split], None, frozen=True)


class Head:
    """A head of ours on frozen features; settings are those of a :class:`~.settings.HeadRun`."""

    def __init__(self, job: "Job") -> None:
        self.run = HeadRun.from_json(job.settings | {"seed": job.seed})
        self.data = FrozenData(
            str(job.folder),
            backbone=job.backbone,
            max_length=job.max_length,
            precision=job.precision,
        )
        self.data.taxonomy = Taxonomy.read(job.folder / "taxonomy.json")
        self.data.bundle = replace(self.data.bundle, taxonomy=self.data.taxonomy)
        self.splits = self.data.splits(self.run)

    def train(self) -> None:
        self.head = self.data.head(self.run)
        train = self.splits["train"]
        fit_together([self.head], train.features, train.targets, [self.run])

    def predict(self, split: str) -> np.ndarray:
        return node_logits(self.head, self.splits[split].features).numpy()


class Whole:
    """``hyperlm train``: reading, training, val after every epoch, writing the run."""

    def __init__(self, job: "Job") -> None:
        self.output = Path(job.folder) / "run"
        self.options = TrainingOptions(
            **job.settings["options"],
            data=str(job.folder),
            taxonomy=str(job.folder / "taxonomy.json"),
            backbone=job.backbone,
            max_length=job.max_length,
            precision=job.precision,
            seed=job.seed,
        )
        self.texts = {split: job.texts(split) for split in ("val", "test")}

    def train(self) -> None:
        train(self.options, self.output, progress=False)
        self.model = load(self.output, device="cpu")

    def predict(self, split: str) -> np.ndarray:
        with torch.inference_mode():
            return self.model.logits(self.texts[split]).numpy()
