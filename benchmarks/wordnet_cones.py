"""Entailment cones on a closure: F1 on held-out pairs, by how much of the closure was trained on.

After Ganea et al. 2018: training sees the basic edges (the transitive reduction) and a share of the
others; 5 % of the others are for validation and 5 % for testing, each beside ten corrupted pairs
(five false children, five false parents). The energy's threshold is tuned on validation. Points
are trained by distance first if asked to, then by cones. Training knows of no pair that it was not
given: held-out pairs may be drawn as negatives.

What the figures mean: the basic edges determine the closure, and the construction is laid out along
them. ``start_f1``, without any training, says how much of the figure that is; ``--start random``
leaves it to the gradient alone, as the published figures do (those are for all nouns, not mammals).

    python benchmarks/wordnet_cones.py mammal_closure.tsv.gz [--dim 5] [--seeds 3] [--json]
"""

import argparse
import gzip
import json
import statistics
from pathlib import Path

import networkx as nx
import numpy as np
import torch

from hyperlm.embedding import EmbeddingOptions, EmbeddingTrainer, Relations, nested_cones
from hyperlm.manifolds import NegativeSampler, cones
from hyperlm.taxonomy import Taxonomy

SHARES = (0.0, 0.1, 0.25, 0.5)
PUBLISHED = {5: (29.2, 80.1, 86.0, 92.8), 10: (32.2, 85.9, 91.0, 94.4)}


def read_pairs(path: Path) -> tuple[np.ndarray, int]:
    """``(E, 2)`` numbered (child, parent) of a file without a header, and how many nodes."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    names = [line.split("\t")[:2] for line in text.splitlines() if line.strip()]
    number: dict[str, int] = {}
    pairs = [[number.setdefault(name, len(number)) for name in pair] for pair in names]
    return np.unique([p for p in pairs if p[0] != p[1]], axis=0), len(number)


def basic_of(pairs: np.ndarray) -> np.ndarray:
    """Which pairs belong to the transitive reduction."""
    reduced = nx.transitive_reduction(nx.DiGraph(pairs.tolist()))
    return np.array([reduced.has_edge(a, b) for a, b in pairs.tolist()])


def energies(u: torch.Tensor, pairs: np.ndarray) -> np.ndarray:
    """Cone energy of (child, parent) pairs, the angle beyond the aperture; may be negative."""
    child, parent = torch.from_numpy(pairs).T
    angle = cones.polar_exterior_angle(u[parent], u[child])
    return (angle - cones.polar_half_aperture(u[parent])).numpy()


def labelled(pairs: np.ndarray, truth: NegativeSampler) -> tuple[np.ndarray, np.ndarray]:
    """Pairs and ten corrupted ones for each, five at either end; whether they are true."""
    child, parent = pairs.T
    down, up = truth.false_children(parent, 5), truth.false_parents(child, 5)
    false = np.concatenate([
        np.stack([down.ravel(), np.repeat(parent, 5)], 1),
        np.stack([np.repeat(child, 5), up.ravel()], 1),
    ])  # fmt: skip
    false = false[(false >= 0).all(1)]
    return np.concatenate([pairs, false]), np.repeat([True, False], [len(pairs), len(false)])


def f1(true: np.ndarray, said: np.ndarray) -> float:
    both = (true & said).sum()
    return float(2 * both / max(1, true.sum() + said.sum()))


def best_threshold(energy: np.ndarray, true: np.ndarray) -> float:
    order = np.argsort(energy)
    hits = np.cumsum(true[order])
    score = 2 * hits / (np.arange(1, len(order) + 1) + true.sum())
    last = int(np.argmax(score))
    following = energy[order[min(last + 1, len(order) - 1)]]
    return float((energy[order[last]] + following) / 2)


def one(pairs: np.ndarray, basic: np.ndarray, count: int, share: float, seed: int,
        args: argparse.Namespace) -> dict[str, float]:  # fmt: skip
    random = np.random.default_rng(seed)
    others = random.permutation(pairs[~basic])
    held = len(others) // 20
    val, test, rest = others[:held], others[held : 2 * held], others[2 * held :]
    # The share is of all non-basic pairs; validation and test pairs are never among it.
    train = np.concatenate([pairs[basic], rest[: round(share * len(others))]])
    relations = Relations.from_pairs(train, count)
    # The start is laid out along the basic edges, which every arm is given.
    edges = [(str(a), str(b)) for a, b in pairs[basic].tolist()]
    # The top of the closure, the taxonomy's root, goes to the origin: its cone is everything.
    tree = Taxonomy.from_edges(edges)
    start = torch.zeros(count, args.dim, dtype=torch.float64)
    where = torch.tensor([int(name) for name in tree.names])
    if args.start == "construction":
        start[where] = nested_cones(tree, args.dim, tightness=args.tightness, seed=seed)
    else:
        start[where] = 0.3 * torch.from_numpy(random.standard_normal((len(tree), args.dim)))
    points = start
    for loss, epochs, rate in (
        ("distance", args.pretraining, args.pretraining_rate),
        ("cones", args.epochs, args.learning_rate),
    ):
        options = EmbeddingOptions(
            dim=args.dim, loss=loss, epochs=epochs, learning_rate=rate, seed=seed,
            batch_size=args.batch_size, temperature=1.0, negatives=256,
        )  # fmt: skip
        trainer = EmbeddingTrainer(relations, points, options)
        for _ in range(epochs):
            trainer.epoch()
        points = trainer.points.detach()
    truth = NegativeSampler(*Relations.from_pairs(pairs, count).known, seed=seed)
    (val, val_true), (test, test_true) = labelled(val, truth), labelled(test, truth)
    energy, found = energies(points, val), energies(points, test)
    threshold = best_threshold(energy, val_true)
    begun = energies(start, test)
    radius = points.norm(dim=1)
    child, parent = torch.from_numpy(pairs[basic]).T
    return {
        "test_f1": 100 * f1(test_true, found <= threshold),
        "val_f1": 100 * f1(val_true, energy <= threshold),
        "start_f1": 100 * f1(test_true, begun <= best_threshold(energies(start, val), val_true)),
        "recall": float((found <= threshold)[test_true].mean()),
        "threshold": threshold,
        "parents_nearer_origin": float((radius[parent] < radius[child]).double().mean()),
        "largest_radius": float(radius.max()),
        "test_pairs": int(test_true.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("closure", type=Path, help="(child, parent) pairs without a header")
    parser.add_argument("--dim", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--pretraining", type=int, default=0, help="epochs by distance")
    parser.add_argument("--pretraining-rate", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=12, help="epochs by cones")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--start", choices=("construction", "random"), default="construction")
    parser.add_argument("--tightness", type=float, default=0.4, help="of the start")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    pairs, count = read_pairs(args.closure)
    basic = basic_of(pairs)
    rows = []
    for share in args.shares:
        runs = [one(pairs, basic, count, share, seed, args) for seed in range(args.seeds)]
        values = [run["test_f1"] for run in runs]
        published = dict(zip(SHARES, PUBLISHED.get(args.dim, ()), strict=False)).get(share)
        rows.append({
            "share": share,
            "mean_f1": statistics.mean(values),
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
            "published_all_nouns": published,
            "runs": runs,
        })  # fmt: skip
        if not args.json:
            shown = ", ".join(f"{value:.1f}" for value in values)
            print(f"{share:4.0%} of non-basic pairs: F1 {rows[-1]['mean_f1']:.1f} ({shown}); "
                  f"published on all nouns: {published}", flush=True)  # fmt: skip
    if args.json:
        settings = {**vars(args), "closure": args.closure.name}
        print(json.dumps({
            "nodes": count, "pairs": len(pairs), "basic": int(basic.sum()),
            "settings": settings, "results": rows,
        }))  # fmt: skip


if __name__ == "__main__":
    main()
