"""Training of a decoder that answers in words, on the same Trainer as everything else.

In: a :class:`HierarchicalDecoder` and a data set. Out: the best checkpoint by path accuracy on val,
where the path of every text is decoded as it will be later. Replies, where the data has them, are
trained as the level below the labels. They go on improving after the labels have stopped, so the
best checkpoint is then that of the lowest loss on val, labels and replies together.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Sampler
from transformers import Trainer

from hyperlm.classifier_text import answer_log_probs, label_layers
from hyperlm.data import DataBundle, LabelledTexts
from hyperlm.errors import OptionError
from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.lm.hdlm import ExampleSet, SequenceCollator, Session
from hyperlm.lm.hyplora import curvature_log
from hyperlm.metrics import path_accuracy
from hyperlm.options import TrainingOptions
from hyperlm.text_metrics import perplexity
from hyperlm.training_setup import (
    checkpoint_to_resume,
    prepare_backbone,
    run_trainer,
    shared_callbacks,
    train_sampler,
    training_arguments,
)

__all__ = ["DecoderTrainer", "end_nodes", "fit_text"]


class DecoderTrainer(Trainer):
    """The Trainer with val by decoded paths, and a rate of its own for learned loss weights.

    Args:
        options: learning rates and the rest.
        val: labelled texts and the end nodes of their gold paths.
        kwargs: of :class:`transformers.Trainer`.
    """

    def __init__(
        self,
        *,
        options: TrainingOptions,
        val: tuple[LabelledTexts, Sequence[np.ndarray]] | None,
        **kwargs: Any,
    ) -> None:
        self.options, self.val = options.resolved(), val
        super().__init__(**kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        trained = self.model if model is None else model
        if self.optimizer is None:
            assert trained is not None, "the Trainer holds a model from its construction on"
            groups: dict[tuple[float, float], list[nn.Parameter]] = {}
            for name, parameter in trained.named_parameters():
                if parameter.requires_grad:
                    weights = name.endswith("log_variance")
                    rate = self.options.head_learning_rate if weights else None
                    decays = parameter.dim() > 1 and "norm" not in name.lower()
                    key = (
                        rate or self.options.learning_rate,
                        self.options.weight_decay if decays else 0.0,
                    )
                    groups.setdefault(key, []).append(parameter)
            self.optimizer = torch.optim.AdamW(
                [{"params": p, "lr": lr, "weight_decay": d} for (lr, d), p in groups.items()],
                fused=True,
            )
        return self.optimizer

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(dataset, ExampleSet):
            raise TypeError(f"train_dataset is a {type(dataset).__name__}, not an ExampleSet.")
        return train_sampler(dataset.lengths, self.args)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs = {**logs, **curvature_log(self.accelerator.unwrap_model(self.model))}
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Decode the val texts; every process of a distributed run does all of them."""
        model = self.accelerator.unwrap_model(self.model)
        if self.val is None or not isinstance(model, HierarchicalDecoder):
            return {}
        texts, gold = self.val
        was_training = model.training
        model.eval()
        size = self.args.per_device_eval_batch_size
        figures = {}
        with self.accelerator.autocast():
            nodes = end_nodes(model, texts.texts, size)
            if model.config.text_levels and texts.replies is not None:
                replies = [[reply] for reply in texts.replies]
                logs = answer_log_probs(model, texts.texts, gold, replies, size)
                figures["eval_loss"] = _loss(model, logs)
                figures["eval_reply_perplexity"] = perplexity(logs[-1]) or 0.0
        model.train(was_training)
        figures["eval_path_accuracy"] = path_accuracy(_taxonomy(model), gold, nodes) or 0.0
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, figures
        )
        return figures


def _taxonomy(model: HierarchicalDecoder) -> Any:
    assert model.taxonomy is not None, "classification needs labels"
    return model.taxonomy


def _loss(model: HierarchicalDecoder, logs: Sequence[Sequence[float]]) -> float:
    """The loss of training, learned weights taken for 1: they change, and with them the measure."""
    weights = model.config.weights or [1.0] * len(logs)
    means = [-math.fsum(of_level) / max(1, len(of_level)) for of_level in logs]
    return sum(weight * mean for weight, mean in zip(weights, means, strict=True))


def end_nodes(model: HierarchicalDecoder, texts: Sequence[str], batch_size: int) -> np.ndarray:
    """Where the greedily decoded path of each text ends, ``(n,)``."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    nodes = np.empty(len(texts), dtype=np.int64)
    prompts, _ = model.format.cut_prompts(texts)  # training has said how many are cut
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        asked = [prompts[row] for row in rows]
        best = model.answer_prompts(Session(model.stack, asked, layers=label_layers(model))).best
        nodes[rows] = [answers[0].nodes[-1] for answers in best]
    return nodes


def fit_text(
    model: HierarchicalDecoder,
    bundle: DataBundle,
    options: TrainingOptions,
    folder: Path,
    *,
    resume: bool = False,
    progress: bool = True,
) -> DecoderTrainer:
    """Train in place; afterwards ``model`` is the best checkpoint on val.

    Args:
        folder: run folder; checkpoints go to ``folder/checkpoints``, the log to
            ``folder/train_log.jsonl``.
        resume: continue from the last checkpoint in ``folder``.
    Raises:
        OptionError: ``resume`` without a checkpoint; ``packed`` with a recurrent model.
    """
    val = None
    if bundle.val is not None:
        gold = bundle.gold("val")
        rows = [row for row, ends in enumerate(gold) if len(ends)]
        val = (bundle.val.take(rows), [gold[row] for row in rows])
    arguments = training_arguments(options, folder, has_val=val is not None)
    arguments.label_names = ["levels"]
    if val is not None and model.config.text_levels:
        arguments.metric_for_best_model, arguments.greater_is_better = "eval_loss", False
    checkpoint = checkpoint_to_resume(folder, arguments) if resume else None
    model.stack.check_staged()  # an epoch later the val texts would be answered so
    if options.packed and not model.stack.can_pack:
        raise OptionError(
            f"--packed: {type(model.backbone).__name__} lets one text of a row see the ones before "
            "it. Leave the option out."
        )
    prepare_backbone(model, options, arguments)
    train = bundle.split("train")
    replies = None
    if model.config.text_levels:
        assert train.replies is not None, "the model was built with a level for replies"
        replies = [[reply] for reply in train.replies]
    ends = [list(of_text) for of_text in bundle.gold("train")]
    examples = model.format.examples(train.texts, ends, replies)
    trainer = DecoderTrainer(
        options=options,
        val=val,
        model=model,
        args=arguments,
        train_dataset=ExampleSet(examples),
        # The Trainer wants one where it is told to evaluate; evaluate() reads the texts instead.
        eval_dataset=ExampleSet(examples[:1]) if val is not None else None,
        data_collator=SequenceCollator(model.tokenizer.pad_token_id, packed=options.packed),
        callbacks=shared_callbacks(options, folder, has_val=val is not None, progress=progress),
    )
    run_trainer(trainer, folder, checkpoint)
    return trainer
