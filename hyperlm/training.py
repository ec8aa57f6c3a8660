"""Training on the transformers Trainer: a model and its data in, the best checkpoint out.

The Trainer brings checkpoints, resuming, distributed runs and reports; this module gives it the
optimiser pair, clipping by group, an order of texts that a resumed run repeats, validation by
decoded paths, and a log of what the geometry does.
"""

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import EvalPrediction, Trainer, TrainerCallback, set_seed

from hyperlm.data import DataBundle
from hyperlm.decoding import Loss, decode
from hyperlm.errors import CurvatureWarning
from hyperlm.heads import HyperbolicHead
from hyperlm.heads.cone_loss import ConeLoss
from hyperlm.heads.hyperbolic import CURVATURE_BOUNDS
from hyperlm.heads.losses import gold_ends
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.batches import (
    Collator,
    EncodedTexts,
    pooled_features,
    tokenise,
)
from hyperlm.lm.hyplora import curvature_log
from hyperlm.metrics import path_accuracy
from hyperlm.optim import build_optimizer, clip_gradients
from hyperlm.options import TrainingOptions
from hyperlm.training_setup import (
    checkpoint_to_resume,
    prepare_backbone,
    resolve_precision,
    run_trainer,
    shared_callbacks,
    train_sampler,
    training_arguments,
    training_attention,
    training_dropout,
)

__all__ = [
    "HierarchicalTrainer",
    "encode",
    "fit",
    "resolve_precision",
    "set_seed",
    "training_arguments",
]


class HierarchicalTrainer(Trainer):
    """The Trainer with two optimisers and a log of the geometry.

    Args:
        options: learning rates and the rest.
        kwargs: of :class:`transformers.Trainer`.
    """

    def __init__(self, *, options: TrainingOptions, **kwargs: Any) -> None:
        self.options = options.resolved()
        super().__init__(**kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        trained = self.model if model is None else model
        if self.optimizer is None:
            assert trained is not None, "the Trainer holds a model from its construction on"
            self.optimizer = build_optimizer(
                trained,
                learning_rate=self.options.learning_rate,
                head_learning_rate=self.options.head_learning_rate,
                point_learning_rate=self.options.point_learning_rate,
                weight_decay=self.options.weight_decay,
            )
        return self.optimizer

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        # Under fp16 gradients are multiplied by the loss scale, which is no part of their norm.
        self.accelerator.unscale_gradients()
        return clip_gradients(model.parameters(), self.args.max_grad_norm)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(dataset, EncodedTexts):
            raise TypeError(f"train_dataset is a {type(dataset).__name__}, not EncodedTexts.")
        return train_sampler(dataset.lengths, self.args)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        model = self.accelerator.unwrap_model(self.model)
        head = getattr(model, "head", None)
        if "loss" in logs or "eval_loss" in logs:
            if isinstance(head, HyperbolicHead):
                logs = {**logs, **_geometry_log(head)}
            logs = {**logs, **curvature_log(model)}
        super().log(logs, start_time)


class _PairsOfEpoch(TrainerCallback):
    """Cone pairs drawn from a seed of the epoch, so that a resumed run draws them again."""

    def __init__(self, cone_loss: ConeLoss, seed: int) -> None:
        self.cone_loss, self.seed = cone_loss, seed

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.cone_loss.reseed((self.seed, round(state.epoch or 0)))


@torch.no_grad()
def _geometry_log(head: HyperbolicHead) -> dict[str, float]:
    """Mean node radius times sqrt(c) (how far from flat the head works), c, temperatures."""
    c = float(head.c)
    figures = {"node_radius": float(head.node_tangents().norm(dim=1).mean()) * c**0.5}
    if head.curvature_logit is not None:
        figures["curvature"] = c
        low, high = CURVATURE_BOUNDS
        if c < 1.05 * low or c > high / 1.05:
            warnings.warn(
                f"The learned curvature c = {c:.3g} sits on a bound ({low:g} to {high:g}): the "
                "data does not hold it. Fix it with --curvature.",
                CurvatureWarning,
                stacklevel=3,
            )
    for level, value in enumerate(head.log_temperature.exp().tolist(), start=1):
        figures[f"temperature_{level}"] = value
    return figures


def encode(
    model: HierarchicalLM,
    texts: Sequence[str],
    gold: Sequence[np.ndarray] | None,
    *,
    frozen: bool = False,
    precision: torch.dtype = torch.float32,
    progress: bool = False,
) -> EncodedTexts:
    """Token ids for a model; for a frozen backbone also its pooled features."""
    ids = tokenise(texts, model.tokenizer, model.config.max_length)
    features = (
        pooled_features(model, ids, precision=precision, progress=progress) if frozen else None
    )
    return EncodedTexts(ids, gold, features)


def fit(
    model: HierarchicalLM,
    bundle: DataBundle,
    options: TrainingOptions,
    folder: Path,
    *,
    resume: bool = False,
    progress: bool = True,
) -> HierarchicalTrainer:
    """Train in place; afterwards ``model`` is the best checkpoint by path accuracy on val.

    On frozen features the start is one of them: a head that starts from labelled texts may be
    better than what training makes of it.

    Args:
        folder: run folder; checkpoints go to ``folder/checkpoints``, the log to
            ``folder/train_log.jsonl``.
        resume: continue from the last checkpoint in ``folder``.
    Raises:
        OptionError: ``resume`` without a checkpoint.
    """
    arguments = training_arguments(options, folder, has_val=bundle.val is not None)
    checkpoint = checkpoint_to_resume(folder, arguments) if resume else None
    precision = resolve_precision(options.precision, arguments.device)
    prepare_backbone(model, options, arguments)
    if options.freeze:
        model.freeze_backbone()
    sets: dict[str, EncodedTexts] = {}
    for split in ("train", "val"):
        part = getattr(bundle, split)
        if part is not None:
            sets[split] = encode(
                model,
                part.texts,
                bundle.gold(split),
                frozen=options.freeze,
                precision=precision,
                progress=progress and arguments.process_index == 0,
            )
    several = any(len(ends) > 1 for part in sets.values() for ends in part.gold or [])
    has_val = "val" in sets
    callbacks = shared_callbacks(options, folder, has_val=has_val, progress=progress)
    if isinstance(model.head, HyperbolicHead) and model.head.cone_loss is not None:
        callbacks.append(_PairsOfEpoch(model.head.cone_loss, options.seed))
    trainer = HierarchicalTrainer(
        options=options,
        model=model,
        args=arguments,
        train_dataset=sets["train"],
        eval_dataset=sets.get("val"),
        data_collator=Collator(model.taxonomy, model.tokenizer.pad_token_id, several=several),
        callbacks=callbacks,
        compute_metrics=functools.partial(_val_figures, model) if has_val else None,
        preprocess_logits_for_metrics=functools.partial(_decoded, model.head.loss_kind, model),
    )
    if not options.epochs:
        return trainer
    val = sets.get("val")
    start = _Start(model, val) if val is not None and options.freeze else None
    first = {} if start is None else {"epoch": 0.0, "eval_path_accuracy": start.path_accuracy}
    dropout = options.backbone_dropout
    with (
        training_dropout(model.backbone, dropout),
        training_attention(model.backbone, arguments.device, precision, dropout),
    ):
        run_trainer(trainer, folder, checkpoint, first=first)
    if start is not None and start.path_accuracy > (trainer.state.best_metric or 0.0):
        start.restore()
    return trainer


class _Start:
    """A head on frozen features before training, and what it is worth on val."""

    def __init__(self, model: HierarchicalLM, val: EncodedTexts) -> None:
        assert val.features is not None, "a frozen encoding has them"
        self.head = head = model.head
        self.state = {name: value.clone() for name, value in head.state_dict().items()}
        head.eval()
        with torch.no_grad():
            device = next(head.parameters()).device
            logits = head(val.features.to(device).unbind(1)).logits
        nodes = decode(logits, head.cuts(logits.device), loss=head.loss_kind).nodes.cpu().numpy()
        gold = val.gold or []
        known = [row for row, ends in enumerate(gold) if len(ends)]
        self.path_accuracy = (
            path_accuracy(model.taxonomy, [gold[row] for row in known], nodes[known]) or 0.0
        )

    def restore(self) -> None:
        self.head.load_state_dict(self.state)
        self.head.tag_points()


def _decoded(loss: Loss, model: HierarchicalLM, outputs: Any, labels: Tensor) -> Tensor:
    """Keep one node number per text instead of N logits."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return decode(logits.float(), model.head.cuts(logits.device), loss=loss).nodes


def _val_figures(model: HierarchicalLM, prediction: EvalPrediction) -> dict[str, float]:
    nodes, targets = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    known = np.asarray(targets >= 0 if targets.ndim == 1 else targets.any(axis=1))
    if targets.ndim == 1:
        gold: Any = targets[known]
    else:
        marked = torch.as_tensor(targets[known])
        rows, ends, _ = gold_ends(marked, model.head.cuts(marked.device))
        gold = [ends[rows == row].tolist() for row in range(len(marked))]
    return {"path_accuracy": path_accuracy(model.taxonomy, gold, nodes[known]) or 0.0}
