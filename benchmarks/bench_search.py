"""Nearest of many points: exact search against geoopt's distance and top-k in blocks.

    python benchmarks/bench_search.py [--json] [--points 100000] [--dim 64] [--large 1000000]

64 queries, 10 nearest, medians of interleaved runs. ``--large`` searches that many points in a
fresh process and reports its peak resident memory, points included. With faiss installed, recall
of its candidates follows, on points of a tree (``sarkar``) and queries near some of them.
"""

import argparse
import importlib.util
import json
import math
import subprocess
import sys

import torch
from timing import medians
from torch import Tensor

from hyperlm.manifolds import FaissIndex, nearest, polar, sarkar
from hyperlm.taxonomy import Taxonomy

# After hyperlm.manifolds, which silences the deprecation warnings of geoopt's import.
import geoopt  # isort: skip

LARGE = """
import resource, sys, time, torch
from hyperlm.manifolds import nearest
count, dim = int(sys.argv[1]), int(sys.argv[2])
points, queries = 0.5 * torch.randn(count, dim), 0.5 * torch.randn(64, dim)
start = time.perf_counter()
nearest(queries, points, 10)
seconds = time.perf_counter() - start
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def tree_points(dim: int, tau: float) -> Tensor:
    """11,110 points of a tree whose nodes have ten children each."""
    edges = [(str(n), str((n - 10) // 10) if n >= 10 else None) for n in range(11_110)]
    return sarkar(Taxonomy.from_edges(edges), dim, tau).float()


def recalls(generator: torch.Generator) -> dict[str, float]:
    found = {}
    for tau in (0.5, 2.0, 5.0):
        points = tree_points(16, tau)
        some = points[torch.randperm(len(points), generator=generator)[:64]]
        queries = some * (1 + 0.02 * torch.randn(64, 1, generator=generator))
        for coordinates in ("ball", "direction", "tangent"):
            index = FaissIndex(points, coordinates=coordinates)
            found[f"faiss recall, tau {tau:g}, {coordinates}"] = index.recall(queries, 10)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--large", type=int, default=1_000_000)
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    scale = 4 / math.sqrt(args.dim)
    u = scale * torch.randn(64, args.dim, generator=generator)
    v = scale * torch.randn(args.points, args.dim, generator=generator)
    ball = geoopt.PoincareBall(c=1.0)
    x, y = ball.expmap0(u / 2), ball.expmap0(v / 2)
    step = max(1, args.points // 20)

    def geoopt_search() -> Tensor:
        blocks = [ball.dist(x[:, None], y[None, i : i + step]) for i in range(0, len(y), step)]
        return torch.cat(blocks, 1).topk(10, largest=False).indices

    seconds = medians({"ours": lambda: nearest(u, v, 10), "geoopt": geoopt_search}, args.runs)
    exact = polar.pairwise_dist(u.double(), v.double()).topk(10, largest=False).indices
    hit = (nearest(u, v, 10)[1].unsqueeze(2) == exact.unsqueeze(1)).any(2)
    table = {
        "search: geoopt / ours": seconds["geoopt"] / seconds["ours"],
        "search: seconds": seconds["ours"],
        "search: recall": float(hit.double().mean()),
    }
    if args.large:
        command = [sys.executable, "-c", LARGE, str(args.large), str(args.dim)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        table["large: seconds"], table["large: peak GiB, all in"] = map(float, printed.split())
    if importlib.util.find_spec("faiss"):
        table |= recalls(generator)
    if args.json:
        print(json.dumps(table, indent=2))
        return
    for name, value in table.items():
        print(f"{name:48s} {value:10.3g}")


if __name__ == "__main__":
    main()
