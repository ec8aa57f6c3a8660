"""What a frozen backbone with cached features saves: an epoch with the pass, and one without.

On the embedded demo set, within one run: the time to compute the features of the training texts
(the pass a first epoch pays), the time of an epoch that trains the head through the frozen
backbone, and the time of an epoch on the cached features.

    python benchmarks/bench_freeze.py [--backbone minilm] [--json]
"""

import argparse
import json
import time

import torch

from hyperlm.data import load_data
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.batches import Collator, EncodedTexts, LengthGroupedSampler, tokenise
from hyperlm.optim import build_optimizer, clip_gradients
from hyperlm.options import TrainingOptions


def epoch(model: HierarchicalLM, data: EncodedTexts, batch_size: int, number: int) -> float:
    """Seconds of one epoch: forward, backward, clipping, step."""
    optimizer = build_optimizer(model, learning_rate=1e-3, point_learning_rate=3e-2)
    sampler = LengthGroupedSampler(data.lengths, batch_size, seed=0)
    sampler.set_epoch(number)
    collate = Collator(model.taxonomy, model.tokenizer.pad_token_id)
    rows = list(sampler)
    start = time.perf_counter()
    for first in range(0, len(rows), batch_size):
        batch = collate([data[row] for row in rows[first : first + batch_size]])
        loss = model(**batch).loss
        loss.backward()
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--batch-size", type=int, default=TrainingOptions.batch_size)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    bundle = load_data("demo")
    options = TrainingOptions()
    model = HierarchicalLM.from_backbone(
        args.backbone, bundle.taxonomy, head=options.head_options()
    ).train()
    model.freeze_backbone()
    ids = tokenise(
        bundle.split("train").texts, model.tokenizer, model.config.max_length, keep=False
    )
    gold = bundle.gold("train")
    live = EncodedTexts(ids, gold)
    collate = Collator(model.taxonomy, model.tokenizer.pad_token_id)

    start = time.perf_counter()
    parts = []
    with torch.no_grad():
        for first in range(0, len(ids), 64):
            batch = collate([{"input_ids": row} for row in ids[first : first + 64]])
            parts.append(model.pooled_states(**batch).float())
    pass_seconds = time.perf_counter() - start
    cached = EncodedTexts(ids, gold, torch.cat(parts))
    epoch(model, cached, args.batch_size, 0)  # warm-up
    cached_seconds = min(epoch(model, cached, args.batch_size, n) for n in (1, 2, 3))
    live_seconds = epoch(model, live, args.batch_size, 1)

    report = {
        "backbone": args.backbone,
        "texts": len(ids),
        "features_seconds": pass_seconds,
        "epoch_through_backbone_seconds": live_seconds,
        "epoch_on_features_seconds": cached_seconds,
        "times_faster": live_seconds / cached_seconds,
    }
    if args.json:
        print(json.dumps(report))
        return
    print(f"features of {len(ids)} texts      {pass_seconds:8.2f} s, once")
    print(f"epoch through the backbone  {live_seconds:8.2f} s")
    print(f"epoch on cached features    {cached_seconds:8.2f} s")
    print(f"times faster                {report['times_faster']:8.1f}")


if __name__ == "__main__":
    main()
