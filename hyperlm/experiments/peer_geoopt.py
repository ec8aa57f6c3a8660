"""A prototype head in the ball, as a user of geoopt would write it in an afternoon."""

from typing import TYPE_CHECKING

import geoopt
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from hyperlm.experiments.peer_process import Job

__all__ = ["Prototypes"]


class _Prototypes(nn.Module):
    """A linear map into the ball, a point for each class, a softmax of distances."""

    def __init__(self, width: int, classes: int, dim: int, scale: float) -> None:
        super().__init__()
        self.ball = geoopt.PoincareBall(c=1.0)
        self.project = nn.Linear(width, dim)
        self.points = geoopt.ManifoldParameter(
            self.ball.expmap0(0.1 * torch.randn(classes, dim)), manifold=self.ball
        )
        self.scale = scale

    def forward(self, states: Tensor) -> Tensor:
        """``(B, width)`` to scores ``(B, classes)``."""
        at = self.ball.expmap0(self.project(states))
        return -self.scale * self.ball.dist(at[:, None], self.points[None])


class Prototypes:
    """Prototypes of whole paths on the features of the last layer.

    Settings: ``dim``, ``epochs``, ``batch``, ``rate`` of Riemannian Adam, and ``scale`` of the
    distances.
    """

    def __init__(self, job: "Job") -> None:
        self.settings, self.seed = job.settings, job.seed
        self.states = {
            split: F.layer_norm(torch.from_numpy(part[:, -1]), part.shape[-1:])
            for split in ("train", "val", "test")
            for part in [job.features(split)]
        }
        self.paths = job.paths("train")

    def train(self) -> None:
        settings, states = self.settings, self.states["train"]
        torch.manual_seed(self.seed)
        self.known, found = np.unique(self.paths, axis=0, return_inverse=True)
        classes = torch.from_numpy(found)
        self.model = _Prototypes(
            states.shape[1], len(self.known), settings["dim"], settings["scale"]
        )
        optimizer = geoopt.optim.RiemannianAdam(self.model.parameters(), lr=settings["rate"])
        for _ in range(settings["epochs"]):
            for rows in torch.randperm(len(states)).split(settings["batch"]):
                optimizer.zero_grad()
                F.cross_entropy(self.model(states[rows]), classes[rows]).backward()
                optimizer.step()

    @torch.no_grad()
    def predict(self, split: str) -> np.ndarray:
        return self.known[self.model(self.states[split]).argmax(1).numpy()]
