"""Training points: Riemannian Adam on the rows of a batch, an epoch being every node once.

In: relations between nodes, a start, options. Out: tangent vectors at the origin. A batch is some
nodes with all their ancestors and one set of negatives for all of them. Training runs at ``c = 1``;
another curvature only rescales the result. Flat space is the control: same loss, batches and steps.
Every epoch seeds its own draws, so that a run continued from a checkpoint takes the steps of an
uninterrupted one.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperlm.embedding.cone_start import nested_cones
from hyperlm.embedding.losses import (
    cone_pairs_loss,
    distance_loss,
    flat_similarity_sum,
    lifted,
    similarity_sum,
)
from hyperlm.embedding.options import EmbeddingOptions
from hyperlm.embedding.relations import Relations, take
from hyperlm.embedding.start import flat_tree, sized_tree
from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.manifolds import ManifoldParameter, NegativeSampler, curved, polar
from hyperlm.manifolds.row_adam import RowAdam
from hyperlm.taxonomy import Taxonomy

__all__ = ["EmbeddingTrainer", "embed"]

FINAL_RATE = 0.01  # of the learning rate, where the cosine ends


class EmbeddingTrainer:
    """Points on their way; one call of ``epoch`` after the other.

    Args:
        relations: What to learn, for N nodes.
        start: ``(N, d)`` tangent vectors at the origin for ``c = 1``; pulled in to radius 20, which
            flat space does not need.
    Attributes:
        points: ``(N, d)`` float64, ``c = 1``.
        epochs_done: How many epochs were trained.
    """

    def __init__(self, relations: Relations, start: Tensor, options: EmbeddingOptions) -> None:
        if start.dim() != 2 or len(start) != len(relations):
            raise OptionError(
                f"start is {tuple(start.shape)}, the relations have {len(relations)} nodes: one "
                "row per node is needed."
            )
        polar.check_finite(start, "start")
        self.relations, self.options, self.epochs_done = relations, options, 0
        self.space = curved(1.0 if options.c else 0.0)
        start = self.space.projx(start.detach().double().clone())
        self.points = ManifoldParameter(start, manifold=self.space)
        self.optimizer = RowAdam([self.points], lr=options.learning_rate)
        count = len(relations)
        self.batch_size = options.batch_size or min(512, max(32, count // 16))
        inner = np.zeros(count, dtype=bool)
        inner[relations.known.indices] = True
        self._inner, self._leaves = np.flatnonzero(inner), np.flatnonzero(~inner)
        self._false = NegativeSampler(*relations.known)
        self._slot = np.zeros(count, dtype=np.int64)
        self._column = np.full(count, -1)

    def epoch(self) -> float:
        """Train on every node once; the mean loss of the batches.

        Raises:
            OffManifoldError: A point left the numbers; a lower learning rate helps.
        """
        seed = (self.options.seed, self.epochs_done)
        random = np.random.default_rng(seed)
        self._false.reseed(seed)
        order = random.permutation(len(self.relations))
        batches = range(0, len(order), self.batch_size)
        total = 0.0
        for begin in batches:
            rate = self._rate(self.epochs_done + begin / len(order))
            self.optimizer.param_groups[0]["lr"] = rate
            total += self._step(order[begin : begin + self.batch_size], random)
        self.epochs_done += 1
        if not math.isfinite(total):
            raise OffManifoldError(
                f"The loss of epoch {self.epochs_done} is not a number. Lower the learning rate, "
                f"now {self.options.learning_rate:g}."
            )
        return total / len(batches)

    def _rate(self, done: float) -> float:
        """Learning rate after ``done`` epochs: burn-in, then half a cosine down."""
        options = self.options
        if done < options.burn_in:
            return options.learning_rate / 10
        along = (done - options.burn_in) / max(1e-9, options.epochs - options.burn_in)
        falling = (1 + math.cos(math.pi * min(1.0, along))) / 2
        return options.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * falling)

    def _step(self, nodes: NDArray[np.int64], random: np.random.Generator) -> float:
        owner, ancestor = take(self.relations.positives, nodes)
        used = [nodes, ancestor]
        by_distance = self.options.loss in ("distance", "both")
        by_cones = self.options.loss in ("cones", "both")
        if by_distance:
            negatives, weight = self._negatives(random)
            used.append(negatives)
        if by_cones:
            child = nodes[owner]
            false_parent, false_child = self._corrupted(ancestor, child)
            used += [false_parent, false_child]
        rows = np.unique(np.concatenate(used))
        self._slot[rows] = np.arange(len(rows))
        index = torch.from_numpy(rows)
        u = self.points.detach()[index].requires_grad_()
        loss = u.new_zeros(())
        if by_distance:
            loss = loss + self._distance_loss(u, nodes, owner, ancestor, negatives, weight)
        if by_cones:
            parts = (ancestor, child, false_parent, false_child)
            loss = loss + cone_pairs_loss(
                *(u[self._at(part)] for part in parts), margin=self.options.margin
            )
        loss.backward()
        self.points.grad = torch.sparse_coo_tensor(
            index[None], u.grad, self.points.shape, is_coalesced=True, check_invariants=False
        )
        self.optimizer.step()
        return float(loss.detach())

    def _at(self, nodes: NDArray[np.int64]) -> Tensor:
        """Where nodes stand among the rows of the batch."""
        return torch.from_numpy(self._slot[nodes])

    def _corrupted(
        self, ancestor: NDArray[np.int64], child: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """False (parent, child) pairs for every true one, corrupted at one end."""
        downward, upward = self.options.false_children, self.options.false_parents
        none = np.empty(0, dtype=np.int64)
        down = self._false.false_children(ancestor, downward) if downward else none
        up = self._false.false_parents(child, upward) if upward else none
        parent = np.concatenate([np.repeat(ancestor, downward), up.ravel()])
        below = np.concatenate([down.ravel(), np.repeat(child, upward)])
        exists = (parent >= 0) & (below >= 0)  # an ancestor of all nodes has no false child
        return parent[exists], below[exists]

    def _negatives(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Nodes to compare with, and how many nodes each of them stands for.

        Inner nodes are the harder ones, since leaves come to lie far from each other: they get two
        thirds of the places, and each a weight that keeps the sum's expectation.
        """
        share = min(len(self._inner), -(-2 * self.options.negatives // 3))
        sizes = (share, min(len(self._leaves), self.options.negatives - share))
        nodes, weights = [], []
        for pool, size in zip((self._inner, self._leaves), sizes, strict=True):
            if size:
                nodes.append(random.choice(pool, size, replace=False, shuffle=False))
                weights.append(np.full(size, len(pool) / size))
        return np.concatenate(nodes), np.concatenate(weights)

    def _distance_loss(
        self,
        u: Tensor,
        nodes: NDArray[np.int64],
        owner: NDArray[np.int64],
        ancestor: NDArray[np.int64],
        negatives: NDArray[np.int64],
        weight: NDArray[np.float64],
    ) -> Tensor:
        own = self._at(nodes)
        # Pairs that are no negatives: a node with itself and with what is known to be above it.
        self._column[negatives] = np.arange(len(negatives))
        known_owner, known = take(self.relations.known, nodes)
        row = np.concatenate([known_owner, np.arange(len(nodes))])
        column = self._column[np.concatenate([known, nodes])]
        self._column[negatives] = -1
        row, column = row[column >= 0], column[column >= 0]
        placed = lifted(u) if self.options.c else u
        similar = (similarity_sum if self.options.c else flat_similarity_sum)(
            placed[own],
            placed[self._at(negatives)],
            torch.from_numpy(weight),
            torch.from_numpy(row),
            torch.from_numpy(column),
            self.options.temperature,
        )
        rooted = np.flatnonzero(self.relations.rooted[nodes])
        near = self.space.dist(u[self._at(nodes[owner])], u[self._at(ancestor)])
        near = torch.cat([near, self.space.dist0(u[self._at(nodes[rooted])])])
        whose = torch.from_numpy(np.concatenate([owner, rooted]))
        return distance_loss(near, whose, similar, self.options.temperature, len(nodes))

    def state(self) -> dict[str, Tensor]:
        """Everything a later ``load_state`` needs, as tensors that later epochs leave alone."""
        state: dict[str, Any] = dict(self.optimizer.state[self.points])
        state |= {"points": self.points.detach(), "epochs_done": torch.tensor(self.epochs_done)}
        return {name: value.clone() for name, value in state.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on where ``state`` was taken."""
        state = {name: value.clone() for name, value in state.items()}
        self.epochs_done = int(state.pop("epochs_done"))
        with torch.no_grad():
            self.points.copy_(state.pop("points"))
        self.optimizer.state[self.points].update(state)


def embed(
    taxonomy: Taxonomy,
    options: EmbeddingOptions | None = None,
    *,
    state: dict[str, Tensor] | None = None,
    on_epoch: Callable[[EmbeddingTrainer, float], None] | None = None,
) -> Tensor:
    """Points for every node of a taxonomy.

    Args:
        state: Of a trainer that was interrupted; see ``EmbeddingTrainer.state``.
        on_epoch: Called with the trainer and the mean loss after every epoch.
    Returns:
        ``(N, d)`` float64 tangent vectors at the origin, Riemannian length for ``c = options.c``,
        in the taxonomy's numbering; the root stands at the origin.
    """
    options = options or EmbeddingOptions()
    if options.start == "random":
        generator = torch.Generator().manual_seed(options.seed)
        shape = (len(taxonomy), options.dim)
        start = torch.randn(shape, dtype=torch.float64, generator=generator) * 0.1
    elif options.loss == "cones":
        start = nested_cones(taxonomy, options.dim, seed=options.seed)
    elif not options.c:
        start = flat_tree(taxonomy, options.dim, seed=options.seed)
    else:
        start = sized_tree(taxonomy, options.dim, seed=options.seed)
    relations = Relations.of(taxonomy, options.pairs)
    trainer = EmbeddingTrainer(relations, start, options)
    if state is not None:
        trainer.load_state(state)
    while trainer.epochs_done < options.epochs:
        loss = trainer.epoch()
        if on_epoch is not None:
            on_epoch(trainer, loss)
    return trainer.points.detach() / math.sqrt(options.curvature)
