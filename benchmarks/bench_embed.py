"""Time of an epoch of ``hyperlm embed`` against gensim's ``PoincareModel``, as a ratio in one run.

Both see the same (descendant, ancestor) pairs once, in the same dimension, on one thread, and take
turns. gensim draws its negatives for every pair; ours are shared by a batch, so that every pair is
compared with at least as many. gensim is no dependency: ``pip install gensim``.

    python benchmarks/bench_embed.py TAXONOMY [--pairs 20000] [--negatives 10] [--json]
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch

from hyperlm.embedding import EmbeddingOptions, EmbeddingTrainer, Relations, sized_tree
from hyperlm.taxonomy import Taxonomy


def part_of(taxonomy: Taxonomy, pairs: int) -> Taxonomy:
    """The first inner node's descendants that have at most ``pairs`` ancestor pairs; or all."""
    if not pairs or len(taxonomy.ancestor_indices) <= pairs:
        return taxonomy
    sizes = np.bincount(taxonomy.ancestor_indices, minlength=len(taxonomy))
    for node in np.argsort(-sizes).tolist():
        kept = {*taxonomy.descendants(node).tolist(), node}
        edges = [(a, b) for a, b in taxonomy.edges.tolist() if a in kept and b in kept]
        part = Taxonomy.from_edges([(str(a), str(b)) for a, b in edges])
        if len(part.ancestor_indices) <= pairs:
            return part
    return taxonomy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("taxonomy")
    parser.add_argument("--pairs", type=int, default=20_000, help="at most; 0 for all")
    parser.add_argument("--dim", type=int, default=5)
    parser.add_argument("--negatives", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        from gensim.models.poincare import PoincareModel
    except ImportError:
        raise SystemExit("gensim is not installed: pip install gensim") from None
    torch.set_num_threads(1)

    taxonomy = part_of(Taxonomy.read(args.taxonomy), args.pairs)
    child = np.repeat(np.arange(len(taxonomy)), np.diff(taxonomy.ancestor_indptr))
    # Ours trains on the pairs with the root as well; gensim is not charged for those.
    pairs = [(str(a), str(b)) for a, b in zip(child, taxonomy.ancestor_indices, strict=True)]
    theirs = PoincareModel(pairs, size=args.dim, negative=args.negatives, burn_in=0, seed=0)
    many = EmbeddingOptions(dim=args.dim, epochs=10_000)
    trainers = {
        f"ours, {number} shared negatives": EmbeddingTrainer(
            Relations.of(taxonomy),
            sized_tree(taxonomy, args.dim),
            EmbeddingOptions(dim=args.dim, epochs=10_000, negatives=number),
        )
        for number in (args.negatives, many.negatives)
    }
    seconds: dict[str, list[float]] = {name: [] for name in ("gensim", *trainers)}
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    for repeat in range(args.repeats + 1):
        for name in seconds:
            begun, begun_cpu = time.perf_counter(), time.process_time()
            if name == "gensim":
                theirs.train(epochs=1, batch_size=50, print_every=10**9)
            else:
                trainers[name].epoch()
            if repeat:  # the first warms up
                seconds[name].append(time.perf_counter() - begun)
                cpu[name].append(time.process_time() - begun_cpu)
    cpu_medians = {name: statistics.median(times) for name, times in cpu.items()}
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    report = {
        "nodes": len(taxonomy),
        "pairs": len(pairs),
        "dim": args.dim,
        "gensim_negatives_per_pair": args.negatives,
        "median_seconds": medians,
        "median_cpu_seconds": cpu_medians,
        "gensim_over_ours_cpu": {n: cpu_medians["gensim"] / cpu_medians[n] for n in trainers},
        "gensim_over_ours": {name: medians["gensim"] / medians[name] for name in trainers},
    }
    if args.json:
        print(json.dumps(report))
        return
    print(f"{len(pairs):,} pairs of {len(taxonomy):,} nodes, dimension {args.dim}, one thread")
    print(f"gensim, {args.negatives} negatives a pair: {medians['gensim']:.2f} s an epoch")
    for name, ratio in report["gensim_over_ours"].items():
        print(f"{name}: {medians[name]:.2f} s an epoch, {ratio:.1f} times faster")


if __name__ == "__main__":
    main()
