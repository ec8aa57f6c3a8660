"""Decoding by definition, one path at a time: the oracle for small random taxonomies."""

import math
from collections.abc import Iterator

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlm.decoding import Loss
from hyperlm.taxonomy import Taxonomy

LOSSES: tuple[Loss, ...] = ("level", "path", "leaf")

# Ragged, and a path may end at the inner node a.
RAGGED = Taxonomy.from_paths([("a",), ("a", "b"), ("a", "c", "d"), ("e",), ("f", "g")])


@st.composite
def taxonomies(draw: st.DrawFn, *, tree: bool | None = None) -> Taxonomy:
    """Up to nine nodes, ragged, with inner terminals; DAGs with skipped levels unless ``tree``."""
    size = draw(st.integers(1, 9))
    most = 1 if tree else 3
    edges = [
        (child, parent)
        for child in range(1, size)
        for parent in draw(st.lists(st.integers(0, child - 1), max_size=most, unique=True))
    ]
    ends = draw(st.lists(st.integers(0, size - 1), max_size=4))
    return Taxonomy([f"n{i}" for i in range(size)], edges, ends)


def random_logits(taxonomy: Taxonomy, seed: int, rows: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, len(taxonomy), generator=generator, dtype=torch.float64)


seeds = st.integers(0, 10_000)
law = settings(deadline=None)  # the first call of a torch function may take long


# -- the oracle: definitions taken literally, one path at a time ------------------------------


def all_paths(t: Taxonomy, end: int | None = None) -> list[tuple[int, ...]]:
    """Every path from the root to a terminal, or to the node ``end``."""
    ends = set(t.terminals.tolist()) if end is None else {end}

    def below(path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if path and path[-1] in ends:
            yield path
        for child in t.children(path[-1] if path else -1):
            yield from below((*path, int(child)))

    return list(below(()))


def cut(t: Taxonomy, level: int) -> list[int]:
    """Members of the cut at ``level`` in the order of their numbers."""

    def member(u: int) -> bool:
        waits = any(t.depth[v] > level for v in t.children(u))
        return bool(t.depth[u] == level or (t.depth[u] < level and (u in t.terminals or waits)))

    return [u for u in range(len(t)) if member(u)]


def members(t: Taxonomy, path: tuple[int, ...], levels: int) -> tuple[int, ...]:
    """The deepest node of the path at or above each of the first ``levels`` levels."""
    return tuple(max(u for u in path if t.depth[u] <= lv) for lv in range(1, levels + 1))


def log_softmax(x: list[float], among: list[int], at: int) -> float:
    return x[at] - math.log(sum(math.exp(x[u]) for u in among))


def descendant_terminals(t: Taxonomy, node: int) -> list[int]:
    return [int(u) for u in t.terminals if u == node or node in t.ancestors(int(u))]


def score(t: Taxonomy, x: list[float], path: tuple[int, ...], loss: str, whole: bool) -> float:
    """Score of one path; ``whole``: as a complete path, else only as far as its last node."""
    if loss == "leaf":
        ends = t.terminals.tolist()
        below = [path[-1]] if whole else descendant_terminals(t, path[-1])
        return math.log(sum(math.exp(log_softmax(x, ends, u)) for u in below))
    if loss == "level":
        levels = t.num_levels if whole else int(t.depth[path[-1]])
        at = members(t, path, levels)
        return sum(log_softmax(x, cut(t, lv), u) for lv, u in enumerate(at, 1))
    total = 0.0
    for parent, child in zip((-1, *path), path, strict=False):
        total += log_softmax(x, choices(t, parent), child)
    inner = len(t.children(path[-1])) > 0
    return total + (log_softmax(x, choices(t, path[-1]), path[-1]) if whole and inner else 0.0)


def choices(t: Taxonomy, node: int) -> list[int]:
    stop = [node] if node >= 0 and node in t.terminals else []
    return [*t.children(node).tolist(), *stop]


def best_by_terminal(t: Taxonomy, x: list[float], loss: str) -> dict[int, float]:
    best: dict[int, float] = {}
    for path in all_paths(t):
        best[path[-1]] = max(best.get(path[-1], -math.inf), score(t, x, path, loss, True))
    return best


def posterior(t: Taxonomy, x: list[float], loss: str) -> dict[int, float]:
    best = best_by_terminal(t, x, loss)
    total = sum(math.exp(s) for s in best.values())
    return {u: math.exp(s) / total for u, s in best.items()}
