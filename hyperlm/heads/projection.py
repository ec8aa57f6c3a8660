"""From a hidden state to a tangent vector at the origin.

Enters ``(..., D)`` in any float dtype, leaves ``(..., d)`` in float32: a tangent vector at the
origin in Riemannian length, which is already the polar form that the distances are computed in.
The same projection serves every geometry and the linear head, so a comparison changes one thing.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Projection"]


class Projection(nn.Module):
    """Normalise, project, clip.

    The hidden state is layer-normalised without learned scale, so that a head starts the same way
    on every backbone. The length of the result is clipped, as in "clipped hyperbolic classifiers"
    (Guo et al. 2022, arXiv 2107.11472): beyond the clip the gradient of a distance says little.

    Args:
        hidden_size: D.
        dim: d.
        start_radius: typical length of a projected text before training.
        max_radius: clip; ``None`` for none.
        dropout: probability, on the normalised hidden state.
    """

    def __init__(
        self,
        hidden_size: int,
        dim: int,
        *,
        start_radius: float,
        max_radius: float | None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.start_radius = start_radius
        self.max_radius = None if max_radius == math.inf else max_radius
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden_size, dim)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Gaussian weights such that texts start at about ``start_radius``."""
        dim = self.linear.out_features
        with torch.no_grad():
            std = self.start_radius / (self.hidden_size * dim) ** 0.5
            weight = torch.randn(dim, self.hidden_size, generator=generator, device="cpu") * std
            self.linear.weight.copy_(weight)
            self.linear.bias.zero_()

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(device_type=hidden.device.type, enabled=False):
            normal = F.layer_norm(hidden.float(), (self.hidden_size,))
            weight, bias = self.linear.weight.float(), self.linear.bias.float()
            tangent = F.linear(self.dropout(normal), weight, bias)
            if self.max_radius is None:
                return tangent
            # Inside the clip the factor is 1 and its gradient 0, however short the tangent.
            length = tangent.norm(dim=-1, keepdim=True).clamp(min=self.max_radius)
            return tangent * (self.max_radius / length)
