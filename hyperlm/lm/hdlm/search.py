"""From prompts to answers, level by level: greedy, beam or sampled.

In: a session, a grammar, scores of the next token per level. Out: for each text the best
hypotheses, with the log-probability of every level, and a count of what it cost.

The probability of an answer is the product over its tokens. In ``constrained`` scoring a token's
probability is taken among those the grammar allows, so the probabilities of all paths sum to one
and a forced token costs nothing; in ``free`` scoring it is taken among all tokens, so that what
remains of one is the mass the model gives to answers that are no path. Forced tokens are not asked
for one by one: they are read in one pass with the choice they follow from.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hyperlm.errors import OptionError
from hyperlm.lm.hdlm.grammar import Ended, FreeState, Grammar, LabelState
from hyperlm.lm.hdlm.staged import Session

__all__ = ["SCORES", "Cost", "Hypothesis", "LevelCost", "Sampling", "search"]

SCORES = ("constrained", "free")


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; each text has random numbers of its own, whatever else is in its batch.

    Attributes:
        temperature: above 0; 1 draws from the model's own distribution.
        top_k: draw among the so many most probable tokens, 0 for all.
        top_p: draw among the most probable tokens that together reach this, 1 for all.
        seed: text ``i`` draws from ``seed + i``.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise OptionError(f"temperature {self.temperature}: must be above 0; 1 is neutral.")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise OptionError(
                f"top_k {self.top_k} and top_p {self.top_p}: top_k is 0 or more, top_p in (0, 1]."
            )

    def draw(self, log_probs: Tensor, generator: torch.Generator) -> int:
        """One index into ``log_probs (U,)``."""
        scores, order = (log_probs.double() / self.temperature).sort(descending=True)
        probs = scores.softmax(0).cpu()
        if self.top_k:
            probs[self.top_k :] = 0
        # A token is kept while those before it have not reached top_p: never none.
        probs[(probs.cumsum(0) - probs) >= self.top_p] = 0
        # One random number a token, however many columns the rest of the batch brings along.
        total = probs.cumsum(0)
        point = torch.rand(1, generator=generator, dtype=total.dtype) * total[-1]
        place = int(torch.searchsorted(total, point, right=True))
        return int(order[min(place, int(probs.nonzero()[-1]))])


@dataclass(frozen=True)
class Hypothesis:
    """An answer, or the beginning of one.

    Attributes:
        text: which of the texts.
        node: label reached, -1 for none, ``NO_LABEL`` for words that are no label.
        stopped: whether the path of labels has ended.
        tokens: of each level said so far, with the tokens that end them.
        log_probs: of each level.
    """

    text: int
    node: int = -1
    stopped: bool = False
    tokens: tuple[tuple[int, ...], ...] = ()
    log_probs: tuple[float, ...] = ()
    state: LabelState | FreeState | None = None
    pending: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()

    @property
    def log_prob(self) -> float:
        """Of the whole answer."""
        return sum(self.log_probs)

    def begin(self, state: LabelState | FreeState | Ended) -> "Hypothesis":
        begun = replace(self, tokens=(*self.tokens, ()), log_probs=(*self.log_probs, 0.0))
        return begun._into(state)

    def say(self, token: int, log_prob: float) -> "Hypothesis":
        assert self.state is not None
        said = replace(
            self,
            tokens=(*self.tokens[:-1], (*self.tokens[-1], token)),
            log_probs=(*self.log_probs[:-1], self.log_probs[-1] + log_prob),
            pending=(*self.pending, token),
        )
        return said._into(self.state.after(token))

    def _into(self, state: LabelState | FreeState | Ended) -> "Hypothesis":
        if not isinstance(state, Ended):
            return replace(self, state=state)
        nodes = self.nodes if state.node == self.node else (*self.nodes, state.node)
        return replace(self, state=None, node=state.node, stopped=state.stopped, nodes=nodes)


@dataclass
class LevelCost:
    """What one level took.

    Attributes:
        layer: that speaks the level.
        tokens: said, over all texts and hypotheses kept.
        passes: one after the other through ``layer`` blocks.
        lifted: blocks that all earlier tokens were carried through together before the level began.
        seconds: of the passes; ``lift_seconds`` of the carrying.
    """

    layer: int
    tokens: int = 0
    passes: int = 0
    lifted: int = 0
    seconds: float = 0.0
    lift_seconds: float = 0.0


@dataclass
class Cost:
    """What decoding took, against saying everything at the last of ``depth`` layers."""

    depth: int
    levels: list[LevelCost] = field(default_factory=list)

    @property
    def blocks_in_sequence(self) -> int:
        """Blocks run one after the other to say the tokens."""
        return sum(level.passes * level.layer for level in self.levels)

    @property
    def saved(self) -> float:
        """Share of the sequential blocks that decoding at the last layer would have run besides."""
        full = sum(level.passes for level in self.levels) * self.depth
        return 1 - self.blocks_in_sequence / full if full else 0.0


def search(
    session: Session,
    grammar: Grammar,
    layers: Sequence[int],
    scores: Callable[[int, Tensor, Tensor | None], Tensor],
    *,
    width: int = 1,
    scoring: str = "constrained",
    sampling: Sampling | None = None,
    watch: Callable[[int, Sequence[Hypothesis]], None] | None = None,
) -> tuple[list[list[Hypothesis]], list[float], Cost]:
    """Say all levels of all texts.

    Args:
        session: over the prompts, nothing said yet.
        layers: that speak the levels.
        scores: ``(level, states (R, D), tokens (U,) or None) -> (R, U or V)``.
        width: hypotheses kept for each text.
        scoring: ``constrained`` or ``free``.
        sampling: draw instead of taking the best; ``width`` is then 1.
        watch: called with the level and the hypotheses whenever something has been said.
    Returns:
        Hypotheses of each text, best first; for each text the log-probability that no answer left
        out can exceed (-inf: none was left out); the cost.
    """
    if width < 1 or (sampling is not None and width > 1):
        raise OptionError(f"width {width}: at least 1, and 1 when sampling.")
    if scoring not in SCORES:
        raise OptionError(f"scoring {scoring!r} is unknown; choose {' or '.join(SCORES)}.")
    texts = len(session)
    hypotheses = [Hypothesis(text) for text in range(texts)]
    left_out = [-math.inf] * texts
    cost = Cost(session.stack.depth)
    generators = [
        torch.Generator().manual_seed(sampling.seed + text) if sampling else torch.Generator()
        for text in range(texts)
    ]
    for level, layer in enumerate(layers, start=1):
        spent = LevelCost(layer, lifted=max(0, layer - session.reach))
        cost.levels.append(spent)
        begun = [h.begin(grammar.start(level, h.node, h.stopped)) for h in hypotheses]
        hypotheses = [_forced(h) for h in begun] if scoring == "constrained" else begun
        if watch is not None and any(h.tokens[-1] for h in hypotheses):
            watch(level, hypotheses)
        last_level = level == len(layers)
        if all(h.state is None and (last_level or not h.pending) for h in hypotheses):
            spent.lifted = 0  # nothing is chosen here, so nothing needs to be carried up
            spent.tokens = sum(len(h.tokens[-1]) for h in hypotheses)
            continue
        start = time.perf_counter()
        session.advance(layer)
        spent.lift_seconds = time.perf_counter() - start
        start = time.perf_counter()
        while True:
            still = any(h.state is not None for h in hypotheses)
            if not still and last_level:
                break
            spent.passes += session.extend([h.pending for h in hypotheses])
            hypotheses = [replace(h, pending=()) for h in hypotheses]
            if not still:
                break
            rows, hypotheses = _choose(
                session.last, hypotheses, level, scores, width, scoring, sampling, generators,
                left_out,
            )  # fmt: skip
            session.select(rows)
            if watch is not None:
                watch(level, hypotheses)
        spent.seconds = time.perf_counter() - start
        spent.tokens = sum(len(h.tokens[-1]) for h in hypotheses)
    found: list[list[Hypothesis]] = [[] for _ in range(texts)]
    for hypothesis in sorted(hypotheses, key=lambda h: -h.log_prob):
        found[hypothesis.text].append(replace(hypothesis, pending=()))
    return found, left_out, cost


def _forced(hypothesis: Hypothesis) -> Hypothesis:
    """Say what there is no choice about."""
    while hypothesis.state is not None:
        allowed = hypothesis.state.allowed
        if allowed is None or len(allowed) > 1:
            break
        hypothesis = hypothesis.say(allowed[0], 0.0)
    return hypothesis


def _choose(
    last: Tensor,
    hypotheses: list[Hypothesis],
    level: int,
    scores: Callable[[int, Tensor, Tensor | None], Tensor],
    width: int,
    scoring: str,
    sampling: Sampling | None,
    generators: list[torch.Generator],
    left_out: list[float],
) -> tuple[list[int], list[Hypothesis]]:
    """Let every open hypothesis say one more token, and keep the best of each text.

    Returns:
        The row that each kept hypothesis continues, and the hypotheses.
    """
    # (score, row, token, its log-probability); a token of -1 leaves a finished answer as it is.
    offers: list[list[tuple[float, int, int, float]]] = [[] for _ in generators]
    open_rows = [row for row, h in enumerate(hypotheses) if h.state is not None]
    for row, h in enumerate(hypotheses):
        if h.state is None:
            offers[h.text].append((h.log_prob, row, -1, 0.0))
    # Hypotheses that may say anything and those that may not are scored apart.
    for confined in (False, True):
        allowed = {
            row: list(options)
            for row in open_rows
            if (state := hypotheses[row].state) is not None and (options := state.allowed)
        }
        rows = [row for row in open_rows if (row in allowed) == confined]
        if not rows:
            continue
        choices = [allowed[row] for row in rows] if confined else None
        log_probs, tokens = _log_probs(last[rows], level, scores, choices, scoring)
        if sampling is not None:
            for row, row_log_probs in zip(rows, log_probs, strict=True):
                at = sampling.draw(row_log_probs, generators[hypotheses[row].text])
                chance = float(row_log_probs[at])
                token = at if tokens is None else tokens[at]
                offers[hypotheses[row].text].append((chance, row, token, chance))
            continue
        best, where = log_probs.topk(min(width + 1, log_probs.shape[1]), dim=1)
        for row, chances, places in zip(rows, best.tolist(), where.tolist(), strict=True):
            h = hypotheses[row]
            for chance, place in zip(chances, places, strict=True):
                if chance > -math.inf:
                    token = place if tokens is None else tokens[place]
                    offers[h.text].append((h.log_prob + chance, row, token, chance))
    kept_rows: list[int] = []
    kept: list[Hypothesis] = []
    for text, of_text in enumerate(offers):
        of_text.sort(key=lambda offer: -offer[0])  # stable: equal offers stay in their order
        for _, row, token, chance in of_text[:width]:
            h = hypotheses[row]
            h = h if token < 0 else h.say(token, chance)
            kept.append(_forced(h) if scoring == "constrained" else h)
            kept_rows.append(row)
        if len(of_text) > width:
            left_out[text] = max(left_out[text], of_text[width][0])
    return kept_rows, kept


def _log_probs(
    states: Tensor,
    level: int,
    scores: Callable[[int, Tensor, Tensor | None], Tensor],
    choices: list[list[int]] | None,
    scoring: str,
) -> tuple[Tensor, list[int] | None]:
    """Log-probabilities ``(R, U)`` of the next token, and which tokens the columns are.

    Args:
        choices: tokens that each row may say; ``None`` for all.
    """
    if choices is None:
        return scores(level, states, None).float().log_softmax(-1), None
    tokens = sorted({token for row in choices for token in row})
    column = {token: at for at, token in enumerate(tokens)}
    index = torch.tensor(tokens, device=states.device)
    if scoring == "constrained":
        values = scores(level, states, index).float()
    else:
        values = scores(level, states, None).float().log_softmax(-1)[:, index]
    barred = torch.ones_like(values, dtype=torch.bool)
    for row, of_row in enumerate(choices):
        barred[row, [column[token] for token in of_row]] = False
    values = values.masked_fill(barred, -math.inf)
    return (values.log_softmax(-1) if scoring == "constrained" else values), tokens
