"""``hyperlm generate``: a decoder says its answer level by level, and which layer said what."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperlm.cli.errors import Debug
from hyperlm.cli.evaluate import set_reply_tokens

if TYPE_CHECKING:
    from hyperlm.lm.decoder import Answer, HierarchicalDecoder
    from hyperlm.lm.hdlm import Cost, Hypothesis

__all__ = ["generate"]


def generate(
    run: Annotated[str, typer.Argument(help="Folder of a run, or a hub id.", metavar="RUN")],
    text: Annotated[list[str], typer.Option(help="A text; may be given several times.")],
    width: Annotated[
        int, typer.Option(help="Answers searched side by side; 1 takes the best token each time.")
    ] = 1,
    free: Annotated[
        bool, typer.Option("--free", help="Let the model say anything, not only labels.")
    ] = False,
    sample: Annotated[
        float | None,
        typer.Option(help="Draw tokens at this temperature instead.", metavar="TEMPERATURE"),
    ] = None,
    top_k: Annotated[int, typer.Option(help="With --sample: among so many tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="With --sample: among this much probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of --sample.")] = 0,
    reply_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of a reply, or of any other free text.", min=1)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Debug = False,
) -> None:
    """Answer texts in words, each level as the layer that speaks it says it.

    For runs trained with --answer text.
    """
    import torch

    from hyperlm.cli.output import show_json
    from hyperlm.lm.hdlm import Sampling
    from hyperlm.lm.loading import load_decoder
    from hyperlm.quiet import quiet_libraries

    sampling = None
    if sample is not None:
        sampling = Sampling(temperature=sample, top_k=top_k, top_p=top_p, seed=seed)
    elif top_k or top_p != 1.0:
        raise typer.BadParameter("--top-k and --top-p belong to --sample.")
    quiet_libraries()
    model = load_decoder(run).eval()
    if reply_tokens is not None:
        set_reply_tokens(model, reply_tokens)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    documents = []
    for one in text:
        told = None if json else _Telling(model, one)
        answers = model.answer(
            [one], width=width, constrained=not free, sampling=sampling, watch=told
        )
        if told is not None:
            told.close(answers.best[0], answers.cost)
        documents.append(_document(model, one, answers.best[0], answers.cost))
    if json:
        show_json(documents)


class _Telling:
    """Prints each level's words as they come; of several answers, the best so far.

    A word once printed stays: where a better answer has overtaken it, the level is said anew.
    """

    def __init__(self, model: "HierarchicalDecoder", text: str) -> None:
        self.model, self.level, self.words = model, 0, ""
        typer.echo(text if len(text) <= 78 else text[:75] + "...")

    def __call__(self, level: int, hypotheses: Sequence["Hypothesis"]) -> None:
        best = max(hypotheses, key=lambda h: h.log_prob)
        said = self.model.format.words(best.tokens[-1])
        if said.endswith("\ufffd"):
            return  # half of a sign; the next token brings the rest
        if level != self.level or not said.startswith(self.words):
            self._begin(level)
        typer.echo(said[len(self.words) :], nl=False)
        self.words = said

    def _begin(self, level: int) -> None:
        typer.echo()
        label = _level_name(self.model, level)
        typer.echo(f"  {label} (layer {self.model.layers[level - 1]}): ", nl=False)
        self.level, self.words = level, ""

    def close(self, best: Sequence["Answer"], cost: "Cost") -> None:
        typer.echo()
        labels = self.model.format.label_levels
        for answer in best:
            words = " > ".join(word for word in answer.words[:labels] if word)
            # Of a free text no probability says much: it falls with every token.
            texts = ["", *answer.words[labels:]] if len(best) > 1 else []
            chance = math.prod(answer.probabilities[:labels])
            if labels or texts:
                typer.echo(f"    {chance:.3f}  {words}" + "\n           ".join(texts))
        typer.echo(
            f"  {sum(level.tokens for level in cost.levels)} tokens in "
            f"{sum(level.passes for level in cost.levels)} passes, {cost.blocks_in_sequence} "
            f"blocks one after the other ({100 * cost.saved:.0f} % fewer than at layer "
            f"{cost.depth})"
        )


def _level_name(model: "HierarchicalDecoder", level: int) -> str:
    names = model.config.level_names or []
    if level <= len(names):
        return str(names[level - 1])
    labels = model.format.label_levels
    if level <= labels:
        return f"L{level}"
    return "reply" if model.num_levels == labels + 1 else f"text {level - labels}"


def _document(
    model: "HierarchicalDecoder", text: str, best: Sequence["Answer"], cost: "Cost"
) -> dict[str, Any]:
    return {
        "text": text,
        "answers": [
            {
                "levels": [
                    {
                        "level": _level_name(model, at + 1),
                        "layer": model.layers[at],
                        "words": words,
                        "probability": probability,
                    }
                    for at, (words, probability) in enumerate(
                        zip(answer.words, answer.probabilities, strict=True)
                    )
                ],
                "probability": answer.probability,
            }
            for answer in best
        ],
        "cost": {
            "depth": cost.depth,
            "levels": [
                {
                    "layer": level.layer,
                    "tokens": level.tokens,
                    "passes": level.passes,
                    "seconds": level.seconds,
                    "carrying_seconds": level.lift_seconds,
                }
                for level in cost.levels
            ],
            "blocks_in_sequence": cost.blocks_in_sequence,
            "saved": cost.saved,
        },
    }
