"""Whole models trained and measured: what ``hyperlm train`` does, on part of a data set.

Enters: a data set and a :class:`~.trials.Trial` with options. Leaves: the figures of its answers
on the same test texts for every trial, trainable parameters, seconds of training and per text.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperlm.classifier import Classifier
from hyperlm.classifier_text import TextClassifier
from hyperlm.data import DataBundle
from hyperlm.data.labels import LabelledTexts
from hyperlm.experiments.measure import by_text
from hyperlm.experiments.trials import Trial
from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.metrics import evaluate_predictions
from hyperlm.options import TrainingOptions
from hyperlm.run_start import build_model
from hyperlm.training import fit
from hyperlm.training_text import fit_text

__all__ = ["part_of", "train_and_measure"]

TIMED = 32  # texts whose answers are timed, in batches of BATCH
BATCH = 8


def part_of(
    bundle: DataBundle, *, texts: int | None, words: int | None, answered: int | None, seed: int
) -> DataBundle:
    """A data set with fewer and shorter texts, and no val: trials train for all their epochs.

    Args:
        texts: training texts, drawn by ``seed``.
        words: kept of every text, from its beginning.
        answered: test texts, the same for every seed.
    """
    train, test = bundle.split("train"), bundle.split("test")
    if texts is not None and texts < len(train):
        train = train.take(
            np.sort(np.random.default_rng([seed, 1]).permutation(len(train))[:texts])
        )
    if answered is not None and answered < len(test):
        test = test.take(np.sort(np.random.default_rng(0).permutation(len(test))[:answered]))
    return replace(bundle, train=_shortened(train, words), val=None, test=_shortened(test, words))


def _shortened(part: LabelledTexts, words: int | None) -> LabelledTexts:
    if words is None:
        return part
    return replace(part, texts=tuple(" ".join(text.split()[:words]) for text in part.texts))


def train_and_measure(
    bundle: DataBundle, trial: Trial, *, precision: str = "auto", progress: bool = False
) -> dict[str, Any]:
    """Train a model and answer the test texts.

    Args:
        trial: its settings are ``options``, of :class:`~hyperlm.options.TrainingOptions`;
            ``texts``, ``words`` and ``answered``, see :func:`part_of`; and, of a decoder that
            answers in words, ``scoring``.
        precision: arithmetic of the backbone.
    Returns:
        ``test``: the document of :func:`hyperlm.metrics.evaluate_predictions` with ``answers`` text
        by text; ``seconds`` of training; ``milliseconds``: of an answer, in batches of 8;
        ``trained`` and ``parameters``: their numbers; ``layers``.
    """
    settings = trial.settings
    options = TrainingOptions(**settings["options"], precision=precision, seed=trial.seed)
    part = part_of(
        bundle,
        texts=settings["texts"],
        words=settings["words"],
        answered=settings["answered"],
        seed=trial.seed,
    )
    model = build_model(options, part)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        if isinstance(model, HierarchicalDecoder):
            fit_text(model, part, options, Path(folder), resume=False, progress=progress)
        else:
            fit(model, part, options, Path(folder), resume=False, progress=progress)
        seconds = time.perf_counter() - start
    model.eval()
    classifier = (
        TextClassifier(model, scoring=settings.get("scoring", "constrained"))
        if isinstance(model, HierarchicalDecoder)
        else Classifier(model)
    )
    test = part.split("test")
    return {
        "test": _document(classifier, test, part.gold("test")),
        "seconds": seconds,
        "milliseconds": _milliseconds(classifier, test.texts),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": list(model.config.layers or []),
    }


def _document(
    classifier: Classifier, texts: LabelledTexts, gold: Sequence[np.ndarray]
) -> dict[str, Any]:
    with torch.inference_mode():
        answers = classifier._answers(texts.texts)
    ends, consistent = answers.nodes.numpy(), answers.consistent.numpy()
    document = evaluate_predictions(
        classifier.taxonomy,
        gold,
        ends,
        leaf_confidence=answers.confidence.clamp(0, 1).numpy(),
        raw_consistent=consistent,
    )
    document["answers"] = by_text(classifier.taxonomy, gold, ends, consistent)
    return document


def _milliseconds(classifier: Classifier, texts: Sequence[str]) -> float:
    """Wall time of the best path of one text, in batches; the first batch warms up."""
    timed, classifier.batch_size = texts[:TIMED], BATCH
    if isinstance(classifier, TextClassifier):
        classifier.width = 1
    classifier.predict(timed[:BATCH], top_k=1)
    start = time.perf_counter()
    for row in range(0, len(timed), BATCH):
        classifier.predict(timed[row : row + BATCH], top_k=1)
    return 1000 * (time.perf_counter() - start) / len(timed)
