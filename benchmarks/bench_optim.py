"""One Riemannian Adam step over a table of points, relative to geoopt's own ball.

    python benchmarks/bench_optim.py [--json] [--points 10000] [--dim 64]

float32 points, medians of interleaved runs.
"""

import argparse
import json
import math

import torch
from timing import medians

from hyperlm.manifolds import Lorentz, ManifoldParameter, PoincareBall, RiemannianAdam, TangentBall

# After hyperlm.manifolds, which silences the deprecation warnings of geoopt's import.
import geoopt  # isort: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--runs", type=int, default=9)
    args = parser.parse_args()
    v = 4 / math.sqrt(args.dim) * torch.randn(args.points, args.dim)
    spaces = {
        "geoopt ball": geoopt.PoincareBall(c=1.0),
        "ball": PoincareBall(1.0),
        "hyperboloid": Lorentz(1.0),
        "tangent vectors": TangentBall(1.0),
    }
    contestants = {}
    for name, space in spaces.items():
        start = space.expmap0(v / 2) if name == "geoopt ball" else space.from_polar(v)
        point = ManifoldParameter(start.clone(), manifold=space)
        point.grad = torch.randn_like(point.detach()) * 1e-3
        contestants[name] = RiemannianAdam([point], lr=1e-3).step
    seconds = medians(contestants, args.runs)
    base = seconds.pop("geoopt ball")
    table = {f"step: {name} / geoopt ball": value / base for name, value in seconds.items()}
    space, momentum = TangentBall(1.0), 1e-3 * torch.randn_like(v)
    time = torch.full((args.points, 1), -0.1)
    seconds = medians(
        {
            "glide": lambda: space.glide(v, momentum, time),
            "retr_transp": lambda: space.retr_transp(v, time * momentum, momentum),
        },
        args.runs,
    )
    table["tangent vectors: glide / retr_transp"] = seconds["glide"] / seconds["retr_transp"]
    if args.json:
        print(json.dumps(table, indent=2))
        return
    for name, value in table.items():
        print(f"{name:48s} {value:10.3g}")


if __name__ == "__main__":
    main()
