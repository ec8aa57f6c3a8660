"""``hyperlm generate``: a decoder says its answer level by level, and which layer said what."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperlm.cli.errors import Debug

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
    from hyperlm.progress import quiet_libraries

    sampling = None
    if sample is not None:
        sampling = Sampling(temperature=sample, top_k=top_k, top_p=top_p, seed=seed)
    elif top_k or top_p != 1.0:
        raise typer.BadParameter("--top-k and --top-p belong to --sample.")
    quiet_libraries()
    model = load_decoder(run).eval()
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
        if level != self.level or not said.startswith(self.words):
            self._begin(level)
        typer.echo(said[len(self.words) :], nl=False)
        self.words = said

    def _begin(self, level: int) -> None:
        typer.echo()
        name = (self.model.config.level_names or [])[level - 1 : level]
        label = name[0] if name else f"L{level}"
        typer.echo(f"  {label} (layer {self.model.layers[level - 1]}): ", nl=False)
        self.level, self.words = level, ""

    def close(self, best: Sequence["Answer"], cost: "Cost") -> None:
        typer.echo()
        for answer in best:
            words = " > ".join(word for word in answer.words if word)
            typer.echo(f"    {answer.probability:.3f}  {words}")
        typer.echo(
            f"  {sum(level.tokens for level in cost.levels)} tokens in "
            f"{sum(level.passes for level in cost.levels)} passes, {cost.blocks_in_sequence} "
            f"blocks one after the other ({100 * cost.saved:.0f} % fewer than at layer "
            f"{cost.depth})"
        )


def _document(
    model: "HierarchicalDecoder", text: str, best: Sequence["Answer"], cost: "Cost"
) -> dict[str, Any]:
    names = model.config.level_names or []
    return {
        "text": text,
        "answers": [
            {
                "levels": [
                    {
                        "level": names[at] if at < len(names) else f"L{at + 1}",
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
