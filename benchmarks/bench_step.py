"""Time of a training step with Poincare heads against linear heads, as a ratio within one run.

Two models that differ in the head alone take turns step by step on the same batches: forward,
backward, clipping, both optimisers. The ratio of the medians is what counts; single times depend on
the machine.

    python benchmarks/bench_step.py [--backbone minilm] [--steps 20] [--json]
"""

import argparse
import json
import statistics
import time

import torch

from hyperlm.data import load_data
from hyperlm.lm import HierarchicalLM
from hyperlm.optim import build_optimizer, clip_gradients
from hyperlm.options import TrainingOptions
from hyperlm.training import resolve_precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--length", type=int, default=96)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    taxonomy = load_data("demo").taxonomy
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = resolve_precision(args.precision, device)
    arms = {}
    for name, options in {
        "linear": TrainingOptions(head="linear"),
        "poincare": TrainingOptions(geometry="poincare"),
    }.items():
        model = HierarchicalLM.from_backbone(
            args.backbone, taxonomy, head=options.head_options(), max_length=args.length
        ).to(device)
        optimizer = build_optimizer(
            model.train(),
            learning_rate=options.learning_rate,
            head_learning_rate=options.head_learning_rate,
            point_learning_rate=options.point_learning_rate,
        )
        arms[name] = (model, optimizer)
    generator = torch.Generator().manual_seed(0)
    vocabulary = arms["linear"][0].config.backbone_config.vocab_size
    shape = (args.batch_size, args.length)
    ids = torch.randint(999, vocabulary, shape, generator=generator).to(device)
    leaves = torch.tensor(taxonomy.leaves.copy())
    targets = leaves[torch.randint(len(leaves), (args.batch_size,), generator=generator)].to(device)

    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for step in range(args.steps + 2):
        for name, (model, optimizer) in arms.items():
            start = time.perf_counter()
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                loss = model(input_ids=ids, targets=targets).loss
            loss.backward()
            clip_gradients(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if step >= 2:  # the first two warm up
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    pairs = [a / b for a, b in zip(seconds["poincare"], seconds["linear"], strict=True)]
    report = {
        "backbone": args.backbone,
        "precision": str(precision).removeprefix("torch."),
        "batch": list(shape),
        "steps": args.steps,
        "median_seconds": medians,
        "ratio_of_medians": medians["poincare"] / medians["linear"],
        "median_of_paired_ratios": statistics.median(pairs),
    }
    if args.json:
        print(json.dumps(report))
        return
    for name, median in medians.items():
        print(f"{name:10s} {median:8.3f} s a step (median of {args.steps})")
    print(f"poincare / linear: {report['ratio_of_medians']:.3f} (ratio of medians), "
          f"{report['median_of_paired_ratios']:.3f} (median of paired ratios)")  # fmt: skip


if __name__ == "__main__":
    main()
