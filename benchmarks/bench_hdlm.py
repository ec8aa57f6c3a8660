"""What speaking early saves, as ratios within one run: ``python benchmarks/bench_hdlm.py``.

A token said at layer k costs k blocks and a head; one said at the last layer costs them all. Both
are timed in turn, token by token, on the same prompts, so that other load on the machine falls on
both alike; medians are compared. ``confined`` scores a few tokens, as a trie over label names asks
for; ``free`` scores the whole vocabulary.

    python benchmarks/bench_hdlm.py [--model smollm2] [--layer 15] [--batch 1 8] [--json]

Without ``--model`` a random model of the size and shape of SmolLM2-135M is used. The last figure is
a whole answer of two levels: the second at the last layer, after the first has been carried up,
against both at the last layer.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoModel, LlamaConfig

from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.lm.hdlm import HierarchicalDecoderConfig, Session
from hyperlm.taxonomy import Taxonomy


def random_model() -> HierarchicalDecoder:
    """Weights at random in the shape of SmolLM2-135M."""
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048,
        tie_word_embeddings=True,
    )  # fmt: skip
    return HierarchicalDecoder(
        HierarchicalDecoderConfig(
            backbone_config=config, text_levels=2, layers=[15, 30], weights=[1.0, 1.0]
        ),
        backbone=AutoModel.from_config(config),
    )


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


class Rows:
    """A batch of random prompts, decoded up to some layer."""

    def __init__(self, model: HierarchicalDecoder, batch: int, prompt: int, layer: int) -> None:
        ids = torch.randint(10, 40_000, (batch, prompt), generator=torch.Generator().manual_seed(0))
        self.model, self.batch = model, batch
        self.session = Session(model.stack, ids.tolist(), layers=(layer, model.stack.depth))
        self.session.advance(layer)

    def say(self, tokens: torch.Tensor | None) -> None:
        """One more token for each row, and the scores of the one after it."""
        self.session.extend([[17]] * self.batch)
        self.model.level_logits(1, self.session.last, tokens)


def per_token(
    model: HierarchicalDecoder, layer: int, batch: int, prompt: int, steps: int, confined: bool
) -> tuple[float, float]:
    """Median seconds of a token said at ``layer`` and of one said at the last layer."""
    tokens = torch.arange(100, 110) if confined else None
    early = Rows(model, batch, prompt, layer)
    late = Rows(model, batch, prompt, model.stack.depth)
    times: tuple[list[float], list[float]] = ([], [])
    for step in range(steps + 3):
        for rows, of in zip((early, late), times, strict=True):
            seconds = timed(lambda rows=rows: rows.say(tokens))
            if step >= 3:  # the first ones warm caches up
                of.append(seconds)
    return statistics.median(times[0]), statistics.median(times[1])


def whole_answer(
    model: HierarchicalDecoder, layer: int, batch: int, prompt: int, first: int, second: int
) -> tuple[float, float]:
    """Seconds of an answer in two levels, and of the same tokens all at the last layer."""

    def run(early: int) -> float:
        def work() -> None:
            rows = Rows(model, batch, prompt, early)
            for _ in range(first):
                rows.say(None)
            rows.session.advance(model.stack.depth)
            for _ in range(second):
                rows.say(None)

        return timed(work)

    staged, flat = [], []
    for _ in range(3):
        staged.append(run(layer))
        flat.append(run(model.stack.depth))
    return statistics.median(staged), statistics.median(flat)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="smollm2, a folder or a hub id; random weights otherwise")
    parser.add_argument("--layer", type=int, help="k1; half the depth if not given")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--steps", type=int, default=30, help="tokens timed at each layer")
    parser.add_argument("--answer", type=int, nargs=2, default=[12, 12], help="tokens of a level")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    if args.model:
        model = HierarchicalDecoder.from_backbone(
            args.model, Taxonomy.from_paths([("a", "b"), ("a", "c")]), layers="auto"
        )
    else:
        model = random_model()
    model.to(args.device).eval()
    depth = model.stack.depth
    layer = args.layer or depth // 2
    rows = []
    with torch.inference_mode():
        for batch in args.batch:
            for confined in (True, False):
                early, late = per_token(model, layer, batch, args.prompt, args.steps, confined)
                rows.append(
                    {
                        "what": f"a token, {'confined' if confined else 'free'}",
                        "batch": batch,
                        "ms_early": 1e3 * early,
                        "ms_last": 1e3 * late,
                        "ratio": early / late,
                    }
                )
            early, late = whole_answer(model, layer, batch, args.prompt, *args.answer)
            rows.append(
                {
                    "what": f"an answer of {args.answer[0]} + {args.answer[1]} tokens",
                    "batch": batch,
                    "ms_early": 1e3 * early,
                    "ms_last": 1e3 * late,
                    "ratio": early / late,
                }
            )
    facts = {
        "model": args.model or "random, the size of SmolLM2-135M",
        "layer": layer,
        "depth": depth,
        "prompt": args.prompt,
        "device": args.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if args.json:
        print(json.dumps({**facts, "rows": rows}))
        return
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"{'':<32}{'batch':>6}{'layer ' + str(layer):>14}{'layer ' + str(depth):>14}{'ratio':>8}")
    for row in rows:
        print(
            f"{row['what']:<32}{row['batch']:>6}{row['ms_early']:>11.1f} ms"
            f"{row['ms_last']:>11.1f} ms{row['ratio']:>8.2f}"
        )


if __name__ == "__main__":
    main()
