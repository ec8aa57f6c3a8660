"""A trained model as people use it: texts in, paths with probabilities out.

::

    model = hyperlm.load("runs/demo")
    answer = model.predict(["A lamp on a reef, kept by three men in turn."])[0]
    answer.path, answer.probabilities
"""

import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyperlm import decoding
from hyperlm.calibration import enough_rows, fit_temperature
from hyperlm.data import LabelledTexts, gold_nodes
from hyperlm.errors import DataError, OptionError
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.base import BackboneModel
from hyperlm.lm.batches import Collator, by_batches, tokenise
from hyperlm.lm.loading import answers_in_words, load_decoder, load_model
from hyperlm.lm.running import at_rest
from hyperlm.lm.texts import check_texts, tokenizer_of
from hyperlm.metrics import evaluate_predictions, tree_distances
from hyperlm.prediction import Alternative, Prediction
from hyperlm.run_texts import texts_of_run
from hyperlm.several import decode_several, fit_cut, several_scores, stopped, whole_paths

__all__ = ["Alternative", "Classifier", "Prediction", "load"]

_WINDOW = 4096  # texts sorted by length together; a stream is read this much at a time


@dataclass
class _Answers:
    """Decoded batch, on the CPU, in the order of the texts."""

    nodes: Tensor  # (n,)
    path_nodes: Tensor  # (n, L)
    confidence: Tensor  # (n,)
    consistent: Tensor  # (n,)
    ends: Tensor  # (n, k) all paths answered, -1 where there are fewer
    # Texts too long for the model, where it counts them.
    cut: int = field(default=0, kw_only=True)


class Classifier:
    """A :class:`HierarchicalLM` with its tokenizer, ready to answer.

    Args:
        model: a trained model.
        batch_size: texts a forward pass.
        run: where it was loaded from, for :meth:`texts`.

    It answers without dropout, also while the model is in training mode, and may be asked by
    several threads at once.

    Raises:
        OptionError: ``model`` is something else, or a batch holds no text.
    """

    warm_up = 64  # texts answered, at most a batch, before the clock of evaluate() starts
    _kind: type = HierarchicalLM

    def __init__(
        self, model: HierarchicalLM, *, batch_size: int = 64, run: str | Path | None = None
    ) -> None:
        # What wraps a model, compiled or with adapters, is no class of ours.
        other = isinstance(model, BackboneModel) and not isinstance(model, self._kind)
        if other or not isinstance(model, nn.Module):
            raise OptionError(
                f"{type(self).__name__} takes a {self._kind.__name__}, not {type(model).__name__}. "
                "hyperlm.load(folder) reads either kind; for a decoder: classifier_text."
            )
        if batch_size < 1:
            raise OptionError(f"batch_size {batch_size}: at least one text a forward pass.")
        self.model = model.eval()
        self.run = run
        self.taxonomy = model.taxonomy
        self.batch_size = batch_size
        self.level_names = tuple(
            model.config.level_names or [f"L{i + 1}" for i in range(self.taxonomy.num_levels)]
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.model.config.backbone_name}, {self.taxonomy!r}>"

    def texts(self, split: str = "test") -> LabelledTexts:
        """The labelled texts of a split, divided as the run divided its data.

        What has changed since is told on standard error.

        Args:
            split: ``train``, ``val`` or ``test``.
        Raises:
            OptionError: the model is not from a run folder. DataError: its data is not here.
        """
        if self.run is None:
            raise OptionError(
                "texts(): this model was not loaded from a run. Read a table with "
                "hyperlm.data.read_labelled(path, taxonomy=model.taxonomy)."
            )
        return texts_of_run(
            self.run, self.taxonomy, data=None, split=split, note=partial(print, file=sys.stderr)
        )

    @property
    def temperature(self) -> float:
        """What divides the scores of paths before they become probabilities."""
        return float(self.model.config.path_temperature)

    @property
    def several_from(self) -> float | None:
        """Share from which on further paths are answered; ``None`` for one path a text.

        See :mod:`hyperlm.several`.
        """
        cut = self.model.config.several_from
        return None if cut is None else float(cut)

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """Write model and tokenizer, for :func:`hyperlm.load`; see ``PreTrainedModel``."""
        self.model.save_pretrained(folder, **kwargs)

    def calibrate(self, texts: LabelledTexts) -> float:
        """Fit the temperature of the probabilities to labelled texts; best paths stay as they are.

        ``hyperlm train`` does so with the val split. Do it again with texts of your own, at best a
        few hundred that the model was not trained on; :meth:`save_pretrained` keeps it. Where some
        have several gold paths, :attr:`several_from` is fitted too.

        Args:
            texts: from :func:`hyperlm.data.read_labelled`.
        Returns:
            The temperature; more than 1 where the model was too sure of itself.
        Raises:
            OptionError: a model that answers in words, or no text with a label that ends a path.
        """
        _check_labelled(texts, "calibrate")
        model = self.model
        texts = texts.take(enough_rows(len(texts), self.taxonomy))
        logits, gold = self.logits(texts.texts), gold_nodes(texts, self.taxonomy)
        kind, cuts = model.head.loss_kind, model.head.cuts(logits.device)
        found = fit_temperature(logits, gold, cuts, loss=kind)
        trained = trained_fit(model.config)
        if any(len(ends) > 1 for ends in gold):
            model.config.several_from = fit_cut(logits, gold, cuts, loss=kind)
        model.config.path_temperature = found
        model.config.calibrated_on = {"data": None, "n": len(texts), **trained}
        return found

    @torch.inference_mode()
    def logits(self, texts: Sequence[str]) -> Tensor:
        """Node scores ``(n, N)``, on the CPU, in the order of ``texts``."""
        return self._run(texts, "logits")[0]

    @torch.inference_mode()
    def points(self, texts: Sequence[str]) -> Tensor:
        """Where the texts lie in the head's space, ``(n, d)`` (Lorentz: ``d + 1``)."""
        return self._run(texts, "points")[1]

    def _run(self, texts: Sequence[str], name: str) -> tuple[Tensor, Tensor]:
        model = self.model
        check_texts(texts, name)
        tokenizer = tokenizer_of(model)
        ids = tokenise(texts, tokenizer, model.config.max_length, keep=False)
        collate = Collator(self.taxonomy, tokenizer.pad_token_id)
        # Neighbours in length share a batch; the order of the answers is that of the texts.
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        logits = torch.empty(len(ids), len(self.taxonomy))
        origin = model.head.place(torch.zeros(1, model.head.dim, device=model.device))
        points = torch.empty(len(ids), origin.shape[1])

        def answer(rows: Sequence[int]) -> None:
            batch = collate([{"input_ids": ids[row]} for row in rows])
            out = model(**{name: value.to(model.device) for name, value in batch.items()})
            logits[rows] = out.logits.float().cpu()
            points[rows] = out.points.float().cpu()

        with at_rest(model):
            by_batches(order, self.batch_size, answer)
        return logits, points

    def predict(
        self, texts: Sequence[str], *, top_k: int = 3, threshold: float | None = None
    ) -> list[Prediction]:
        """Paths for a list of texts.

        Args:
            top_k: how many whole paths to list beside the answer.
            threshold: stop at the deepest node whose probability is at least this; an empty text
                gets no label then.
        """
        return list(self.stream(texts, top_k=top_k, threshold=threshold))

    def stream(
        self, texts: Iterable[str], *, top_k: int = 3, threshold: float | None = None
    ) -> Iterator[Prediction]:
        """Paths for any number of texts, in order, without holding them all."""
        if isinstance(texts, str):
            check_texts(texts, "predict")
        if threshold is not None and not 0 <= threshold <= 1:
            raise OptionError(f"threshold {threshold:g}: a probability lies between 0 and 1.")
        if top_k < 1:
            raise OptionError(f"top_k {top_k}: ask for at least 1 path.")
        iterator, cut, total = iter(texts), 0, 0
        while window := list(islice(iterator, _WINDOW)):
            check_texts(window, "predict", first=total)
            cut += yield from self._predict_window(window, top_k, threshold)
            total += len(window)
        self._warn_cut(cut, total)

    def _warn_cut(self, cut: int, total: int) -> None:
        """Say how many texts were cut, where the model counts them."""

    def _predict_window(
        self, texts: list[str], top_k: int, threshold: float | None
    ) -> Generator[Prediction, None, int]:
        """Answers; returns how many texts were cut."""
        with torch.inference_mode():
            logits = self.logits(texts)
            kind, cuts = self.model.head.loss_kind, self.model.head.cuts(logits.device)
            heat = self.temperature
            whole = answer = decoding.decode(logits, cuts, loss=kind, temperature=heat)
            best = decoding.top_k(logits, cuts, top_k, loss=kind, temperature=heat)
            marginals = decoding.marginals(logits, cuts, loss=kind, temperature=heat)
            further: list[list[tuple[str, ...]]] = [[]] * len(texts)
            if (cut := self.several_from) is not None:
                some = decode_several(logits, cuts, cut, loss=kind)
                if threshold is not None:
                    some = stopped(some, marginals, threshold)
                further = some.paths(self.taxonomy)
            if threshold is not None:
                answer = decoding.decode_threshold(marginals, answer, threshold)
        paths, tops = answer.paths(self.taxonomy), best.paths(self.taxonomy)
        for row, text in enumerate(texts):
            nodes, empty = answer.path_nodes[row], not text.strip()
            silent = empty and threshold is not None  # nothing to be sure of
            path = () if silent else paths[row]
            yield Prediction(
                path=path,
                probabilities=() if silent else tuple(marginals[row, nodes[nodes >= 0]].tolist()),
                top=tuple(
                    Alternative(path, probability)
                    for path, probability in zip(tops[row], best.prob[row].tolist(), strict=True)
                ),
                empty=empty,
                stopped=silent or bool(answer.nodes[row] != whole.nodes[row]),
                paths=whole_paths(path, () if silent else further[row]),
            )
        return 0

    def evaluate(self, texts: LabelledTexts, *, mistakes: bool = False) -> dict[str, Any]:
        """All metrics on labelled texts, as the document that ``hyperlm evaluate --json`` prints.

        Args:
            mistakes: add a list of the wrong answers, the surest first: ``line``, ``text``,
                ``gold`` (paths), ``answer`` (a path), ``probability``, ``edges`` between both.
        Raises:
            DataError: labels that the taxonomy lacks, or texts without a label. OptionError: no
                texts, or what is no :class:`~hyperlm.data.LabelledTexts`.
        """
        _check_labelled(texts, "evaluate")
        gold = gold_nodes(texts, self.taxonomy)
        if not len(texts):
            raise OptionError("evaluate() needs at least one text.")
        bare = [i for i, ends in enumerate(gold) if not len(ends)]
        if bare:
            raise DataError(
                f"{texts.place(bare[0])}: no label, so there is nothing to compare the answer with "
                f"({len(bare)} of {len(texts)} texts have none). Leave them out, or use predict()."
            )
        # The clock covers tokenising, the model and decoding, after one batch to warm up.
        with torch.inference_mode():
            self._answers(texts.texts[: min(self.batch_size, self.warm_up)])
            start = time.perf_counter()
            answers = self._answers(texts.texts)
            seconds = time.perf_counter() - start
        self._warn_cut(answers.cut, len(texts))
        document = evaluate_predictions(
            self.taxonomy,
            gold,
            answers.nodes.numpy(),
            leaf_confidence=answers.confidence.clamp(0, 1).numpy(),
            raw_consistent=answers.consistent.numpy(),
            level_names=self.level_names,
        )
        document["texts_per_second"] = len(texts) / seconds
        if self.several_from is not None:
            scores = several_scores(self.taxonomy, gold, answers.ends.numpy())
            document["several"] = {"from": self.several_from, **scores}
        if mistakes:
            document["mistakes"] = self._mistakes(texts, gold, answers)
        return document

    def _mistakes(
        self, texts: LabelledTexts, gold: Sequence[np.ndarray], answers: _Answers
    ) -> list[dict[str, Any]]:
        edges = tree_distances(self.taxonomy, gold, answers.nodes.numpy()).tolist()
        wrong = [row for row, end in enumerate(answers.nodes.tolist()) if end not in gold[row]]
        wrong.sort(key=lambda row: -float(answers.confidence[row]))
        return [
            {
                "line": texts.lines[row],
                "text": texts.texts[row],
                "gold": [list(self.taxonomy.path(int(end))) for end in gold[row]],
                "answer": [
                    self.taxonomy.name(n) for n in answers.path_nodes[row].tolist() if n >= 0
                ],
                "probability": float(answers.confidence[row]),
                "edges": edges[row],
            }
            for row in wrong
        ]

    def _answers(self, texts: Sequence[str]) -> _Answers:
        parts: list[_Answers] = []
        for start in range(0, len(texts), _WINDOW):
            logits = self.logits(texts[start : start + _WINDOW])
            kind, cuts = self.model.head.loss_kind, self.model.head.cuts(logits.device)
            decoded = decoding.decode(logits, cuts, loss=kind, temperature=self.temperature)
            ends = decoded.nodes.unsqueeze(1)
            if (cut := self.several_from) is not None:
                ends = decode_several(logits, cuts, cut, loss=kind).nodes
            parts.append(
                _Answers(
                    decoded.nodes,
                    decoded.path_nodes,
                    decoded.prob,
                    decoding.raw_consistent(logits, cuts, loss=kind),
                    ends,
                )
            )
        return _Answers(*(torch.cat(column) for column in zip(*map(_fields, parts), strict=True)))


def _fields(answers: _Answers) -> tuple[Tensor, ...]:
    return answers.nodes, answers.path_nodes, answers.confidence, answers.consistent, answers.ends


def trained_fit(config: Any) -> dict[str, float]:
    """What training fitted, through later fits, as ``calibrated_on`` keeps it.

    ``trained`` is the temperature, absent where an earlier version's fit has lost it;
    ``trained_several_from`` is there for a model that answered several paths.
    """
    fit = config.calibrated_on
    if fit is None:
        fit = {"trained": config.path_temperature, "trained_several_from": config.several_from}
    names = ("trained", "trained_several_from")
    return {name: float(fit[name]) for name in names if fit.get(name) is not None}


def load(run: str | Path, *, device: str | None = None, batch_size: int = 64) -> Classifier:
    """A trained run, ready to answer.

    Args:
        run: folder written by ``hyperlm train`` or ``save_pretrained``, or a hub id.
        device: where to put it; a GPU if there is one, by default.
        batch_size: texts a forward pass.
    Raises:
        ModelError: the folder is not a hyperlm model, or is damaged.
    """
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if answers_in_words(run):
        from hyperlm.classifier_text import TextClassifier  # which builds on this module

        decoder = load_decoder(run)
        decoder.to(where)  # type: ignore[arg-type]  # the library's wrapper hides the signature
        return TextClassifier(decoder, batch_size=batch_size, run=run)
    model = load_model(run)
    model.to(where)  # type: ignore[arg-type]
    return Classifier(model, batch_size=batch_size, run=run)


def _check_labelled(texts: object, name: str) -> None:
    if not isinstance(texts, LabelledTexts):
        raise OptionError(
            f"{name}() takes labelled texts, not {type(texts).__name__}: model.texts('test') or a "
            "split of load_data(), as bundle.test; or read a table with "
            "hyperlm.data.read_labelled(path, taxonomy=model.taxonomy)."
        )
