"""How many texts a second are decoded: ``python benchmarks/bench_decoding.py [--json]``.

Random float32 logits over a uniform tree (300 nodes on 3 levels by default), one row per text, all
in memory. Best of ``--repeats`` runs after a warm-up, so that other load on the machine counts
little. Threads: as ``OMP_NUM_THREADS`` says, or ``--threads``.
"""

import argparse
import json
import time
from collections.abc import Callable
from itertools import product

import torch

from hyperlm.decoding import Cuts, decode, marginals, raw_consistent, top_k
from hyperlm.taxonomy import Taxonomy


def uniform_tree(nodes: int, levels: int) -> Taxonomy:
    """The uniform tree of ``levels`` levels whose number of nodes comes nearest to ``nodes``."""

    def size(width: int) -> int:
        return sum(width**level for level in range(1, levels + 1))

    width = min(range(2, nodes + 1), key=lambda w: abs(size(w) - nodes))
    return Taxonomy.from_paths(product(map(str, range(width)), repeat=levels))


def texts_per_second(call: Callable[[], object], texts: int, repeats: int) -> float:
    call()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return texts / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: leave torch's own setting")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    taxonomy = uniform_tree(args.nodes, args.levels)
    cuts = Cuts(taxonomy)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(args.texts, len(taxonomy), generator=generator).to(args.device)
    calls: dict[str, Callable[[], object]] = {"raw_consistent": lambda: raw_consistent(x, cuts)}
    for loss in ("level", "path", "leaf"):
        calls[f"decode {loss}"] = lambda loss=loss: decode(x, cuts, loss=loss)
        calls[f"top_k(5) {loss}"] = lambda loss=loss: top_k(x, cuts, 5, loss=loss)
        calls[f"marginals {loss}"] = lambda loss=loss: marginals(x, cuts, loss=loss)
    rates = {name: texts_per_second(call, args.texts, args.repeats) for name, call in calls.items()}

    facts = {
        "nodes": len(taxonomy),
        "levels": taxonomy.num_levels,
        "texts": args.texts,
        "device": args.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if args.json:
        print(json.dumps({**facts, "texts_per_second": rates}))
        return
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    for name, rate in rates.items():
        print(f"{name:<18}{rate:>12,.0f} texts/s")


if __name__ == "__main__":
    main()
