"""Distances against geoopt and plain matrix products, as ratios within one run.

    python benchmarks/bench_distance.py [--json] [--rows 64] [--points 10000] [--dim 64]

Times are medians of interleaved runs. Memory is what torch's CPU allocator held at once beyond the
result itself, in result matrices of float32; with the backward pass it includes the gradients.
Errors are the largest relative ones against float64 polar distances.
"""

import argparse
import json
import math

import torch
from timing import medians, peak
from torch import Tensor

from hyperlm.manifolds import polar

# After hyperlm.manifolds, which silences the deprecation warnings of geoopt's import.
import geoopt  # isort: skip


def accuracy(dim: int) -> list[dict[str, float]]:
    rows = []
    generator = torch.Generator().manual_seed(0)
    ball = geoopt.PoincareBall(c=1.0)
    for radius in (1, 5, 8, 10, 20):
        u = (
            torch.nn.functional.normalize(torch.randn(64, dim, generator=generator), dim=-1)
            * radius
        )
        v = torch.cat(
            [
                torch.nn.functional.normalize(torch.randn(64, dim, generator=generator), dim=-1)
                * radius,
                u * (1 + 1e-4 * torch.randn(64, dim, generator=generator)),
            ]
        )
        exact = polar.dist(u.double()[:, None], v.double()[None])

        def worst(found: Tensor, exact: Tensor = exact) -> float:
            return float(((found.double() - exact).abs() / exact).max())

        x, y = ball.expmap0(u / 2), ball.expmap0(v / 2)
        rows.append(
            {
                "radius": radius,
                "ours": worst(polar.pairwise_dist(u, v)),
                "geoopt": worst(ball.dist(x[:, None], y[None])),
            }
        )
    return rows


def both_ways(distances: Tensor, *inputs: Tensor) -> None:
    torch.autograd.grad(distances.sum(), inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    ball = geoopt.PoincareBall(c=1.0)
    # Radius about 4: where geoopt's own numbers still mean something.
    scale = 4 / math.sqrt(args.dim)
    u = scale * torch.randn(args.rows, args.dim, generator=generator)
    v = scale * torch.randn(args.points, args.dim, generator=generator)
    crowd = v[:1] * (1 + 1e-5 * torch.randn(args.points, args.dim, generator=generator))
    x, y = ball.expmap0(u / 2), ball.expmap0(v / 2)
    with torch.no_grad():
        forward = medians(
            {
                "ours": lambda: polar.pairwise_dist(u, v),
                "product": lambda: u @ v.T,
                "geoopt": lambda: ball.dist(x[:, None], y[None]),
                "crowd": lambda: polar.pairwise_dist(crowd[: args.rows], crowd),
            },
            args.runs,
        )
    for tensor in (u, v, x, y):
        tensor.requires_grad_()
    backward = medians(
        {
            "ours": lambda: both_ways(polar.pairwise_dist(u, v), u, v),
            "product": lambda: both_ways(u @ v.T, u, v),
            "geoopt": lambda: both_ways(ball.dist(x[:, None], y[None]), x, y),
        },
        args.runs,
    )
    matrix = 4 * args.rows * args.points

    def extra(function: object) -> float:
        return peak(function) / matrix - 1  # type: ignore[arg-type]

    table = {
        "forward: geoopt / ours": forward["geoopt"] / forward["ours"],
        "forward: matrix product / ours": forward["product"] / forward["ours"],
        "forward: every pair close / ours": forward["crowd"] / forward["ours"],
        "forward + backward: geoopt / ours": backward["geoopt"] / backward["ours"],
        "forward + backward: product / ours": backward["product"] / backward["ours"],
        "extra memory forward": extra(lambda: polar.pairwise_dist(u, v)),
        "extra memory forward + backward": extra(
            lambda: both_ways(polar.pairwise_dist(u, v), u, v)
        ),
        "extra memory forward, geoopt": extra(lambda: ball.dist(x[:, None], y[None])),
    }
    result = {"ratios": table, "relative error": accuracy(args.dim)}
    if args.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in table.items():
        print(f"{name:48s} {value:10.3g}")
    for row in result["relative error"]:
        print("  ".join(f"{name} {value:8.2g}" for name, value in row.items()))


if __name__ == "__main__":
    main()
