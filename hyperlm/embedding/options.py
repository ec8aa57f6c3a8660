"""Settings of trained points, checked where they are made."""

import math
from dataclasses import dataclass

from hyperlm.errors import OptionError

__all__ = ["EmbeddingOptions"]


@dataclass(frozen=True)
class EmbeddingOptions:
    """Settings of a training; a wrong one raises ``OptionError``.

    Attributes:
        dim: Dimension, at least 2.
        curvature: c > 0; the space has curvature -c.
        loss: distance, cones or both.
        start: construction (``sized_tree``; ``nested_cones`` for cones alone, ``flat_tree`` in flat
            space) or random.
        pairs: closure or edges.
        epochs: How often every node is in a batch.
        batch_size: Nodes in a batch; None for N/16, but 32 to 512.
        negatives: Nodes that each batch is compared with by distance.
        learning_rate: Riemannian length of a step, times sqrt(c).
        burn_in: First epochs, at a tenth of the learning rate.
        temperature: Factor on distances in the softmax.
        margin: Radians that false pairs are to lie outside the cone; at most pi.
        false_parents: Corrupted parents for each pair of the cones' loss.
        false_children: Corrupted children likewise. Only for a closure that is fully known: where
            pairs are held out, those of a node with many descendants are most of what is left to
            draw, and are pushed out as hard as the known ones are pulled in.
        seed: Of everything drawn.
        geometry: poincare, or euclidean: flat space, which has no cones and no curvature.
    """

    dim: int = 5
    curvature: float = 1.0
    loss: str = "distance"
    start: str = "construction"
    pairs: str = "closure"
    epochs: int = 50
    batch_size: int | None = None
    negatives: int = 1536
    learning_rate: float = 1.0
    burn_in: int = 0
    temperature: float = 2.0
    margin: float = 0.01
    false_parents: int = 5
    false_children: int = 5
    seed: int = 0
    geometry: str = "poincare"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("geometry", ("poincare", "euclidean")),
            ("loss", ("distance", "cones", "both")),
            ("start", ("construction", "random")),
            ("pairs", ("closure", "edges")),
        ):
            if getattr(self, name) not in allowed:
                raise OptionError(
                    f"{name} = {getattr(self, name)!r} is unknown; choose {', '.join(allowed)}."
                )
        least = {"dim": 2, "epochs": 0, "negatives": 1, "burn_in": 0, "seed": 0}
        least |= {"false_parents": 0, "false_children": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise OptionError(f"{name} = {getattr(self, name)}: at least {smallest} is needed.")
        if self.batch_size is not None and self.batch_size < 1:
            raise OptionError(f"batch_size = {self.batch_size}: at least 1 is needed.")
        for name in ("curvature", "learning_rate", "temperature", "margin"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise OptionError(f"{name} = {value} must be positive and finite.")
        if self.margin > math.pi:
            raise OptionError(f"margin = {self.margin}: no angle is larger than pi.")
        if self.geometry == "euclidean" and self.loss != "distance":
            raise OptionError(
                f"loss = {self.loss!r} needs geometry poincare: entailment cones are defined in "
                "hyperbolic space."
            )
        if self.geometry == "euclidean" and self.curvature != 1:
            raise OptionError(
                f"curvature = {self.curvature:g}: flat space has none. Leave it out, or choose "
                "geometry poincare."
            )

    @property
    def c(self) -> float:
        """Curvature of the result is ``-c``; 0 is flat space."""
        return 0.0 if self.geometry == "euclidean" else self.curvature
