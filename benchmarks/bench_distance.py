"""Distances and optimiser steps against geoopt and plain matrix products, as ratios within one run.

    python benchmarks/bench_distance.py [--json] [--rows 64] [--points 10000] [--dim 64]

Times are the best of several runs; memory is what torch's CPU allocator handed out at once, in
result matrices of float32. Errors are the largest relative ones against float64 polar distances.
"""

import argparse
import json
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from hyperlm.manifolds import Lorentz, PoincareBall, TangentBall, nearest, polar

try:
    import geoopt
except ImportError as error:  # pragma: no cover
    raise SystemExit("geoopt is needed: it is what is compared with.") from error


def best(function: Callable[[], object], runs: int) -> float:
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def peak(function: Callable[[], object]) -> float:
    """Largest sum of live allocations made inside, in bytes, from the profiler's memory events."""
    with torch.profiler.profile(profile_memory=True) as profile:
        kept = function()
    del kept
    held = high = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            high = max(high, held)
    return float(high)


def backward(distances: Tensor) -> None:
    distances.sum().backward()


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--search", type=int, default=100_000, help="points to search among")
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    ball = geoopt.PoincareBall(c=1.0)
    scale = 4 / math.sqrt(
        args.dim
    )  # radius about 4: where geoopt's own numbers still mean something
    u = scale * torch.randn(args.rows, args.dim, generator=generator)
    v = scale * torch.randn(args.points, args.dim, generator=generator)
    crowd = v[:1] * (1 + 1e-5 * torch.randn(args.points, args.dim, generator=generator))
    x, y = ball.expmap0(u / 2), ball.expmap0(v / 2)
    table: dict[str, float] = {}
    with torch.no_grad():
        ours = best(lambda: polar.pairwise_dist(u, v), 7)
        table["forward: matrix product / ours"] = best(lambda: u @ v.T, 7) / ours
        table["forward: geoopt / ours"] = best(lambda: ball.dist(x[:, None], y[None]), 2) / ours
        table["forward: every pair close / ours"] = (
            best(lambda: polar.pairwise_dist(crowd[: args.rows], crowd), 2) / ours
        )
    for tensor in (u, v, x, y):
        tensor.requires_grad_()
    both = best(lambda: backward(polar.pairwise_dist(u, v)), 5)
    theirs = best(lambda: backward(ball.dist(x[:, None], y[None])), 2)
    table["forward + backward: geoopt / ours"] = theirs / both
    matrix = 4 * args.rows * args.points
    table["memory forward, result matrices"] = peak(lambda: polar.pairwise_dist(u, v)) / matrix
    table["memory forward + backward, result matrices"] = (
        peak(lambda: backward(polar.pairwise_dist(u, v))) / matrix
    )
    table["memory forward geoopt, result matrices"] = (
        peak(lambda: ball.dist(x[:, None], y[None])) / matrix
    )
    with torch.no_grad():
        many = scale * torch.randn(args.search, args.dim, generator=generator)
        z = ball.expmap0(many / 2)
        step = max(1, args.search // 20)

        def geoopt_search() -> Tensor:
            blocks = [ball.dist(x[:, None], z[None, i : i + step]) for i in range(0, len(z), step)]
            return torch.cat(blocks, 1).topk(10, largest=False).indices

        ours = best(lambda: nearest(u, many, 10), 3)
        table["search: geoopt / ours"] = best(geoopt_search, 1) / ours
        exact = polar.pairwise_dist(u.double(), many.double()).topk(10, largest=False).indices
        found = nearest(u, many, 10)[1]
        table["search: recall"] = float(
            (found.unsqueeze(2) == exact.unsqueeze(1)).any(2).double().mean()
        )
    table |= steps(v.detach())
    result = {"ratios": table, "relative error": accuracy(args.dim)}
    if args.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in table.items():
        print(f"{name:48s} {value:10.3g}")
    for row in result["relative error"]:
        print("  ".join(f"{name} {value:8.2g}" for name, value in row.items()))


def steps(v: Tensor) -> dict[str, float]:
    """One Riemannian Adam step over all points, relative to geoopt's own ball."""
    times = {}
    spaces = {
        "geoopt ball": geoopt.PoincareBall(c=1.0),
        "ball": PoincareBall(1.0),
        "hyperboloid": Lorentz(1.0),
        "tangent": TangentBall(1.0),
    }
    for name, space in spaces.items():
        start = space.expmap0(v / 2) if name == "geoopt ball" else space.from_polar(v)
        point = geoopt.ManifoldParameter(start.clone(), manifold=space)
        point.grad = torch.randn_like(point.detach()) * 1e-3
        optimiser = geoopt.optim.RiemannianAdam([point], lr=1e-3)
        times[name] = best(optimiser.step, 3)
    base = times.pop("geoopt ball")
    return {f"optimiser step: {name} / geoopt ball": value / base for name, value in times.items()}


if __name__ == "__main__":
    main()
