"""The linear twin: an inner product per node instead of a distance, everything else equal."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hyperlm.decoding import Loss
from hyperlm.errors import ModelError
from hyperlm.heads.base import HierarchicalHead
from hyperlm.taxonomy import Taxonomy

__all__ = ["LinearHead"]


class LinearHead(HierarchicalHead):
    """A linear classifier over the nodes of every level, on the same projection.

    The control for every claim about geometry: same projection, losses and decoding. With
    ``loss="leaf"`` it is the flat leaf classifier that most practitioners start from.

    Args: as for :class:`~hyperlm.heads.base.HierarchicalHead`.
    """

    def __init__(
        self,
        hidden_size: int,
        taxonomy: Taxonomy,
        dim: int = 128,
        *,
        loss: Loss = "level",
        tap_of_level: Sequence[int] | None = None,
        dropout: float = 0.1,
        start_radius: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            hidden_size,
            taxonomy,
            dim,
            loss=loss,
            tap_of_level=tap_of_level,
            dropout=dropout,
            start_radius=start_radius,
            max_radius=None,
            seed=seed,
        )
        self.weight = nn.Parameter(torch.empty(len(taxonomy), dim))
        self.bias = nn.Parameter(torch.empty(len(taxonomy)))
        if not self.weight.is_meta:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        for projection in self.each_projection():
            projection.reset_parameters(generator)
        with torch.no_grad():
            weight = torch.randn(self.weight.shape, generator=generator, device="cpu")
            self.weight.copy_(weight / self.dim**0.5)
            self.bias.zero_()
        self.mark_started()

    @torch.no_grad()
    def set_node_places(self, places: Tensor, temperature: float) -> None:
        """Score every node by how near texts are to its place: the flat twin of node points.

        Scores become minus half the temperature times the squared distance, up to a term that all
        nodes share.

        Args:
            places: ``(N, d)``, in the space of the projected texts.
        """
        if places.shape != self.weight.shape:
            raise ModelError(
                f"node places have shape {tuple(places.shape)}, the head needs "
                f"{tuple(self.weight.shape)}."
            )
        self.weight.copy_(temperature * places)
        self.bias.copy_(-temperature / 2 * places.square().sum(1))

    def level_scores(self, tangent: Tensor, level: int) -> Tensor:
        nodes = self.level_slices[level]
        return tangent @ self.weight[nodes].float().T + self.bias[nodes].float()

    def place(self, tangent: Tensor) -> Tensor:
        return tangent
