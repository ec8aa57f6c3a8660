"""Texts of a data set as a frozen backbone sees them, computed once and shared by all runs.

In: the name of a data set and of a backbone. Out: pooled features ``(n, taps, D)`` of each split,
gold nodes, and heads that fit. Features are kept on disk by :mod:`hyperlm.lm.cache` under the key
that ``hyperlm train --freeze`` uses.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hyperlm.card import data_name
from hyperlm.data import SPLITS, DataBundle, LabelledTexts, check_trainable, load_data
from hyperlm.errors import OptionError
from hyperlm.experiments.fitting import training_rows
from hyperlm.experiments.settings import HeadRun
from hyperlm.heads import HierarchicalHead, build_head, start_from_texts
from hyperlm.lm import HierarchicalLM, resolve_layers
from hyperlm.lm.backbone import num_layers
from hyperlm.lm.batches import targets_of
from hyperlm.lm.names import name_features, start_from_names
from hyperlm.options_checks import flag
from hyperlm.taxonomy import Taxonomy
from hyperlm.training import encode
from hyperlm.training_setup import first_device, precision_name, resolve_precision

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
        backbone: as there.
        max_length: tokens read of a text.
        precision: arithmetic of the backbone where it computes, on a GPU if there is one, as for
            ``hyperlm train``: of the texts' features, and of whole models that experiments train.
            Answers differ with it, and runs are told apart by it. What a start takes from label
            names is always float32, from the processor, where the heads are trained too.
        columns: ``text_column``, ``label_columns``, ``path_separator``, ``label_separator``,
            ``taxonomy``, as for :func:`~hyperlm.data.load_data`, where they are not the usual ones.
        progress: show bars while features are computed.
    """

    def __init__(
        self,
        data: str,
        *,
        backbone: str = "minilm",
        max_length: int = 128,
        precision: str = "auto",
        columns: Mapping[str, Any] | None = None,
        progress: bool = False,
    ) -> None:
        self.bundle: DataBundle = load_data(data, **(columns or {}))
        check_trainable(self.bundle)
        self.name = _named(data_name(self.bundle.source), columns or {})
        self.backbone, self.max_length, self.progress = backbone, max_length, progress
        self._device = first_device()
        self.precision = precision_name(resolve_precision(precision, self._device))
        self.taxonomy: Taxonomy = self.bundle.taxonomy
        self._columns = dict(columns or {})
        self._texts: int | None = None
        self._models: dict[str, HierarchicalLM] = {}
        self._splits: dict[tuple[str, bool], dict[str, Split]] = {}
        # All layers of the backbone in one tap each, where they were asked for.
        self._tapped: HierarchicalLM | None = None
        self._states: dict[str, Tensor] = {}
        self._named: dict[HeadRun, dict[str, Tensor]] = {}

    def in_every_layer(self, texts: int, *, seed: int = 0) -> "FrozenData":
        """The same data, seen through all layers of the backbone in a single pass.

        Runs with any layers then share the features of each text, ``(n, K, D)`` of K layers.

        Args:
            texts: at most so many of each split.
            seed: of the draw, by which the texts are the same for every run.
        """
        other = copy.copy(self)
        sizes = {name: len(self.bundle.split(name)) for name in SPLITS}
        if texts < max(sizes.values()):
            train, val, test = (_drawn(self.bundle.split(name), texts, seed) for name in SPLITS)
            other.bundle = replace(self.bundle, train=train, val=val, test=test)
            other._texts = texts
        other._models, other._splits, other._states, other._named = {}, {}, {}, {}
        model = self._loaded("1")
        # The head, which keeps its one tap, is never asked.
        model.taps = tuple(range(1, num_layers(model.config.backbone_config) + 1))
        other._tapped = model
        return other

    @property
    def depth(self) -> int:
        """Number of the backbone's layers."""
        model = self._tapped or self._model("auto")
        return num_layers(model.config.backbone_config)

    @property
    def pooling(self) -> str:
        """How the states of a text become one: ``mean`` or ``last``."""
        model = self._tapped or self._model("auto")
        return str(model.config.pooling)

    def describe(self) -> dict[str, Any]:
        """What tells this data from other data, for the results file."""
        files = self.bundle.source.get("files", {})
        return {
            "name": self.name,
            "backbone": self.backbone,
            "max_length": self.max_length,
            "precision": self.precision,
            "taxonomy": self.taxonomy.fingerprint,
            "files": {split: record.get("sha256") for split, record in sorted(files.items())},
            **({"columns": self._columns} if self._columns else {}),
            **({"cuts": cuts} if (cuts := self._cuts()) else {}),
            **({"texts": self._texts} if self._texts is not None else {}),
        }

    def _cuts(self) -> dict[str, str]:
        """What tells a cut from another, where versions of hyperlm may cut in different ways."""
        parts = (self.bundle.train, self.bundle.val, self.bundle.test)
        if not any(len(paths) > 1 for part in parts if part is not None for paths in part.paths):
            return {}
        cuts = self.bundle.source.get("cuts", {})
        return {split: record["rows_sha256"] for split, record in sorted(cuts.items())}

    def splits(self, run: HeadRun) -> dict[str, Split]:
        """train, val and test as the run's head reads them."""
        at = (run.layers, run.joined)
        if at not in self._splits:
            self._splits[at] = {name: self._split(name, run) for name in SPLITS}
        return self._splits[at]

    def head(self, run: HeadRun) -> HierarchicalHead:
        """The head of a run at its start."""
        model = self._tapped or self._model(run.layers)
        taps, of_level = self._taps(run)
        width = model.head.hidden_size
        if run.joined:
            width, of_level = width * len(taps), (0,) * len(of_level)
        head = build_head(
            hidden_size=width, taxonomy=self.taxonomy, tap_of_level=of_level, **run.head_options()
        )
        if run.init == "texts":
            splits = self.splits(run)
            train, val = splits["train"], splits["val"]
            learnt = torch.from_numpy(training_rows(len(train.features), run))
            start_from_texts(
                head,
                train.features[learnt],
                train.targets[learnt],
                names=self._names(run) if run.name_weight else None,
                name_weight=run.name_weight,
                temperature=run.temperature,
                held_out=(val.features, val.targets) if run.radius_on_val else None,
            )
        if run.init == "names":
            self._name(head, run)
        return head

    def _name(self, head: HierarchicalHead, run: HeadRun) -> None:
        """Start a head from the label names, as others of its shape have started."""
        if run.joined:
            raise OptionError("a start from names needs a projection per tap, not joined taps.")
        # Nothing of it is drawn but the texts: one decomposition serves every seed and rate.
        shape = replace(run.shape(), seed=run.seed if run.train_share < 1 else 0)
        if shape not in self._named:
            model = self._model(run.layers)
            model.head = head
            texts = self.bundle.split("train").texts
            rows = training_rows(len(texts), run)
            start_from_names(
                model,
                [texts[int(row)] for row in rows],
                temperature=run.temperature,
                progress=self.progress,
            )
            self._named = {shape: {k: v.clone() for k, v in head.state_dict().items()}}
        head.load_state_dict(self._named[shape])
        head.tag_points()

    def few(self, split: str) -> np.ndarray:
        """Which texts of a split have a gold label with few training texts, ``(n,)`` bool."""
        counts = np.zeros(len(self.taxonomy), dtype=np.int64)
        for ends in self.bundle.gold("train"):
            counts[ends] += 1
        return np.array([bool((counts[ends] <= FEW).any()) for ends in self.bundle.gold(split)])

    def _model(self, layers: str) -> HierarchicalLM:
        if layers not in self._models:
            self._models[layers] = self._loaded(layers)
        return self._models[layers]

    def _loaded(self, layers: str) -> HierarchicalLM:
        return HierarchicalLM.from_backbone(
            self.backbone,
            self.taxonomy,
            layers=layers,
            head={"kind": "linear", "dim": 2},
            max_length=self.max_length,
        ).eval()

    def _taps(self, run: HeadRun) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The layers a run reads, and which of them serves each level."""
        config = (self._tapped or self._model(run.layers)).config
        layers = resolve_layers(
            run.layers,
            num_levels=self.taxonomy.num_levels,
            available=num_layers(config.backbone_config),
        )
        taps = tuple(sorted(set(layers)))
        return taps, tuple(taps.index(layer) for layer in layers)

    def _split(self, name: str, run: HeadRun) -> Split:
        gold = self.bundle.gold(name)
        if self._tapped is None:
            features = self._encoded(self._model(run.layers), name)
        else:
            if name not in self._states:
                self._states[name] = self._encoded(self._tapped, name)
            features = self._states[name]
        features = self._as_read(features, run)
        return Split(features, gold, targets_of(gold, self.taxonomy))

    def _names(self, run: HeadRun) -> Tensor:
        """Features ``(N, taps, D)`` of the label names, as the run's head reads them."""
        model = self._tapped or self._model(run.layers)
        return self._as_read(name_features(model), run)

    def _as_read(self, features: Tensor, run: HeadRun) -> Tensor:
        """Features of the model's taps, as the run's head reads them."""
        if self._tapped is not None:
            # Counted from 1; a view where there is one.
            at = [layer - 1 for layer in self._taps(run)[0]]
            features = features[:, at[0] : at[0] + 1] if len(at) == 1 else features[:, at]
        if run.joined:
            # Each layer on its own scale first: deeper states are longer than early ones.
            features = F.layer_norm(features, features.shape[-1:]).flatten(1).unsqueeze(1)
        return features

    def _encoded(self, model: HierarchicalLM, name: str) -> Tensor:
        texts = self.bundle.split(name).texts
        precision = resolve_precision(self.precision, self._device)
        try:
            model.to(self._device)  # type: ignore[arg-type]  # a wrapper hides the signature
            encoded = encode(
                model, texts, None, frozen=True, precision=precision, progress=self.progress
            )
        finally:
            model.cpu()
        assert encoded.features is not None  # a frozen encoding has them
        return encoded.features


def _drawn(part: LabelledTexts, count: int, seed: int) -> LabelledTexts:
    if count >= len(part):
        return part
    return part.take(np.sort(np.random.default_rng(seed).permutation(len(part))[:count]))


def _named(data: str, columns: Mapping[str, Any]) -> str:
    """Data read by other columns is other data: its name is what the command was told."""
    told = [
        f"{flag(key)} {','.join(value) if isinstance(value, tuple) else value}"
        for key, value in columns.items()
    ]
    return " ".join([data, *told])
