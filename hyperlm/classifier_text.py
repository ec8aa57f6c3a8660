"""A decoder that answers in words, used like every other classifier.

The probability of a path is the product of the probabilities of its levels, that of an inner node
the product as far as the node; both come from the search, so nothing is summed over the leaves.

A model may say a reply after the labels. Labels are then predicted and measured without it, and
``evaluate`` adds what :mod:`hyperlm.text_metrics` tells of the replies.
"""

import math
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperlm.classifier import Classifier, _Answers
from hyperlm.data import LabelledTexts, gold_nodes
from hyperlm.errors import ModelError, OptionError
from hyperlm.lm.decoder import Answer, HierarchicalDecoder
from hyperlm.lm.hdlm import SequenceCollator, Session
from hyperlm.lm.running import at_rest
from hyperlm.lm.texts import check_texts
from hyperlm.prediction import Alternative, Prediction
from hyperlm.text_metrics import corpus_bleu, distinct, perplexity, rouge_l

__all__ = ["TextClassifier", "answer_log_probs", "label_layers"]

_WIDTH = 4  # hypotheses side by side, where fewer paths are asked for


class TextClassifier(Classifier):
    """A :class:`HierarchicalDecoder` with its tokenizer, ready to answer.

    Args:
        model: trained, with a taxonomy.
        batch_size: texts and hypotheses a forward pass.
        width: hypotheses kept for each text; more search further, and cost time.
        scoring: among which tokens names are scored; see :mod:`hyperlm.lm.hdlm.search`.
    """

    warm_up = 8  # a text takes a tenth of a second and more here
    _kind = HierarchicalDecoder

    def __init__(
        self,
        model: HierarchicalDecoder,
        *,
        batch_size: int = 64,
        width: int = _WIDTH,
        scoring: str = "constrained",
        run: str | Path | None = None,
    ) -> None:
        if isinstance(model, HierarchicalDecoder) and model.taxonomy is None:
            raise ModelError(
                "This decoder knows no labels, only free text. Use 'hyperlm generate', or answer()."
            )
        super().__init__(model, batch_size=batch_size, run=run)  # type: ignore[arg-type]
        self.decoder, self.width, self.scoring = model, width, scoring

    @property
    def several_from(self) -> None:
        """``None``: answers in words are one path."""
        return None

    @property
    def temperature(self) -> float:
        """1: the probabilities of words are those of the search, and nothing divides them."""
        return 1.0

    def logits(self, texts: Sequence[str]) -> Tensor:
        raise _speaks()

    def points(self, texts: Sequence[str]) -> Tensor:
        raise _speaks()

    def _warn_cut(self, cut: int, total: int) -> None:
        self.decoder.format.warn_cut(cut, total)

    def _sessions(
        self, prompts: Sequence[Sequence[int]], width: int, layers: Sequence[int]
    ) -> Iterator[tuple[list[int], Session]]:
        """Batches to answer, with the numbers of their texts; the shortest prompts first."""
        size = max(1, self.batch_size // width)
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            batch = [prompts[row] for row in rows]
            yield rows, Session(self.decoder.stack, batch, layers=layers)

    def _say(self, session: Session, width: int, *, constrained: bool = True) -> list[list[Answer]]:
        return self.decoder.answer_prompts(
            session, width=width, scoring=self.scoring, constrained=constrained
        ).best

    def _predict_window(
        self, texts: list[str], top_k: int, threshold: float | None
    ) -> Generator[Prediction, None, int]:
        prompts, cut = self.decoder.format.cut_prompts(texts)
        width = max(top_k, self.width)
        answers: dict[int, list[Answer]] = {}
        for rows, session in self._sessions(prompts, width, label_layers(self.decoder)):
            answers.update(zip(rows, self._say(session, width), strict=True))
        for row, text in enumerate(texts):
            best = answers[row][0]
            path, sure = self.taxonomy.path(best.nodes[-1]), _along(best)
            kept = len(path)
            if threshold is not None:
                kept = min(kept, sum(probability >= threshold for probability in sure))
                kept *= bool(text.strip())  # an empty text is nothing to be sure of
            yield Prediction(
                path=path[:kept],
                probabilities=tuple(sure[:kept]),
                top=tuple(
                    Alternative(self.taxonomy.path(a.nodes[-1]), a.probability)
                    for a in answers[row][:top_k]
                ),
                empty=not text.strip(),
                stopped=kept < len(path),
                paths=(path[:kept],) if kept else (),
            )
        return cut

    def _answers(self, texts: Sequence[str]) -> _Answers:
        check_texts(texts, "evaluate")
        n, levels = len(texts), self.taxonomy.num_levels
        nodes = torch.empty(n, dtype=torch.long)
        paths = torch.full((n, levels), -1)
        confidence, consistent = torch.empty(n), torch.zeros(n, dtype=torch.bool)
        prompts, cut = self.decoder.format.cut_prompts(texts)
        ends = set(self.taxonomy.terminals.tolist())
        for rows, session in self._sessions(prompts, self.width, label_layers(self.decoder)):
            # What the model says with nothing to hold it to the taxonomy; read once, said twice.
            with at_rest(self.decoder):
                free = self._say(session.copy(), 1, constrained=False)
                held = self._say(session, self.width)
            for row, (best, *_), (said, *_) in zip(rows, held, free, strict=True):
                nodes[row], confidence[row] = best.nodes[-1], best.probability
                paths[row, : len(best.nodes)] = torch.tensor(best.nodes)
                consistent[row] = bool(said.nodes) and said.nodes[-1] in ends
        return _Answers(nodes, paths, confidence, consistent, nodes.unsqueeze(1), cut=cut)

    def evaluate(self, texts: LabelledTexts, *, mistakes: bool = False) -> dict[str, Any]:
        """As for every classifier; with replies to compare with, also ``reply``, their figures."""
        document = super().evaluate(texts, mistakes=mistakes)
        if texts.replies is None or not self.decoder.config.text_levels:
            return document
        return {**document, "reply": self._reply_figures(texts, texts.replies)}

    def _reply_figures(self, texts: LabelledTexts, wanted: Sequence[str]) -> dict[str, Any]:
        """Replies said greedily after the model's own label, against those wanted.

        ``perplexity`` is that of the wanted replies, their ending tokens included, each token given
        the text, the gold label and the tokens before it, at the layer that says replies;
        ``perplexity_own_label`` the same with the label that the model says greedily.
        """
        start = time.perf_counter()
        prompts, _ = self.decoder.format.cut_prompts(texts.texts)
        answers: dict[int, Answer] = {}
        for rows, session in self._sessions(prompts, 1, self.decoder.layers):
            answers.update(zip(rows, (best for best, *_ in self._say(session, 1)), strict=True))
        seconds = time.perf_counter() - start
        said = [answers[row].words[-1] for row in range(len(texts))]
        given_gold, given_own = self._perplexities(texts, wanted, answers)
        return {
            "bleu_2": corpus_bleu(said, wanted),
            "rouge_l": rouge_l(said, wanted),
            "distinct_2": distinct(said, 2),
            "distinct_2_wanted": distinct(wanted, 2),
            "perplexity": given_gold,
            "perplexity_own_label": given_own,
            "layer": self.decoder.layers[-1],
            "longest": self.decoder.config.max_text_tokens,
            "seconds_per_text": seconds / len(texts),
        }

    def _perplexities(
        self, texts: LabelledTexts, wanted: Sequence[str], answers: Mapping[int, Answer]
    ) -> tuple[float | None, float | None]:
        """Of the wanted replies after the gold label, and after the one in ``answers``."""
        gold = [list(map(int, ends)) for ends in gold_nodes(texts, self.taxonomy)]
        own = [[answers[row].nodes[-1]] for row in range(len(texts))]
        size = max(1, self.batch_size // 4)  # scores of all tokens at many places take memory

        def log_probs(rows: Sequence[int], ends: list[list[int]]) -> list[float]:
            return answer_log_probs(
                self.decoder,
                [texts.texts[row] for row in rows],
                [ends[row] for row in rows],
                [[wanted[row]] for row in rows],
                size,
            )[-1]

        # Where the model's own label is the gold one, one measurement serves both.
        right = [row for row in range(len(texts)) if gold[row] == own[row]]
        wrong = [row for row in range(len(texts)) if gold[row] != own[row]]
        shared = log_probs(right, own)
        return (
            perplexity(shared + log_probs(wrong, gold)),
            perplexity(shared + log_probs(wrong, own)),
        )


def label_layers(model: HierarchicalDecoder) -> tuple[int, ...]:
    """Layers of the levels that are labels, for answers that end there."""
    return model.layers[: model.format.label_levels]


@torch.inference_mode()
def answer_log_probs(
    model: HierarchicalDecoder,
    texts: Sequence[str],
    ends: Sequence[Iterable[int]] | None,
    replies: Sequence[Sequence[str]] | None,
    batch_size: int,
) -> list[list[float]]:
    """Log-probabilities of the tokens of given answers, level by level, each at its own layer.

    Every token is given what stands before it in the sequence it is trained on; among all tokens,
    not only those that name a label. The tokens that end a level count.

    Args:
        ends: end nodes of each text's label paths; several are several answers. ``None`` for a
            model without labels.
        replies: of each text, one for each level of free text; ``None`` for labels alone.
    Returns:
        A list for each level; its tokens are in no particular order.
    """
    whole = None if ends is None else [[int(end) for end in of_text] for of_text in ends]
    # Whoever asked for answers to these texts has been told which were cut.
    examples = model.format.examples(texts, whole, replies, warn=False)
    examples.sort(key=lambda example: len(example.ids))
    collate = SequenceCollator(model.tokenizer.pad_token_id)
    found: list[list[float]] = [[] for _ in model.layers]
    for start in range(0, len(examples), batch_size):
        batch = {
            name: value.to(model.device)
            for name, value in collate(examples[start : start + batch_size]).items()
        }
        with at_rest(model):
            states = model.stack.run(
                0,
                max(model.layers),
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                keep=sorted(set(model.layers)),
            )
        for level, layer in enumerate(model.layers, start=1):
            here = batch["levels"][:, 1:] == level
            scores = model.level_logits(level, states[layer][:, :-1][here]).float().log_softmax(-1)
            tokens = batch["input_ids"][:, 1:][here].unsqueeze(1)
            found[level - 1] += scores.gather(1, tokens).squeeze(1).tolist()
    return found


def _along(answer: Answer) -> list[float]:
    """Probability at or below each node of the path."""
    return [math.prod(answer.probabilities[: at + 1]) for at in range(len(answer.nodes))]


def _speaks() -> OptionError:
    return OptionError(
        "This model answers in words: it has neither scores of all labels nor points. Train with "
        "--answer points for those."
    )
