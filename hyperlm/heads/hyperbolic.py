"""One point per taxonomy node, and texts that are classified by their distance to them.

Enters: hidden states ``(B, D)``. A projection turns them into tangent vectors at the origin, and
the geodesic distances to the node points, times a learned temperature per level, become logits.
Convention: ``c > 0`` and the sectional curvature is ``-c``.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hyperlm.decoding import Loss
from hyperlm.errors import ModelError, OptionError
from hyperlm.heads.base import HeadOutput, HierarchicalHead
from hyperlm.heads.cone_loss import ConeLoss
from hyperlm.heads.losses import gold_ends
from hyperlm.heads.start import start_points
from hyperlm.manifolds import (
    Euclidean,
    Geometry,
    Lorentz,
    ManifoldParameter,
    PoincareBall,
    TangentBall,
    polar,
)
from hyperlm.taxonomy import Taxonomy

__all__ = ["COORDINATES", "CURVATURE_BOUNDS", "GEOMETRIES", "HyperbolicHead"]

GEOMETRIES = ("poincare", "lorentz", "euclidean")
COORDINATES = ("tangent", "native")
CURVATURE_BOUNDS = (0.05, 20.0)


class HyperbolicHead(HierarchicalHead):
    """Distances to one point per node, in the Poincare ball, on the hyperboloid, or flat.

    Works inside any ``torch.nn.Module``::

        head = HyperbolicHead(hidden_size=768, taxonomy=taxonomy, dim=64)
        out = head(hidden, targets)     # logits (B, N), points (B, 64), loss
        head.decode(out.logits)         # paths that exist in the taxonomy

    ``torch.compile(fullgraph=True)`` and ``torch.export`` take it whole, but for cone losses, which
    ``torch.compile`` leaves out of the graph: their pairs are drawn by NumPy.

    Train ``head.points`` with :func:`hyperlm.optim.build_optimizer` or any optimiser of geoopt. An
    ordinary optimiser may move tangent vectors too, as if the space were flat; native coordinates
    it would take off their manifold.

    A model of transformers is built without memory when it is loaded, and asks its own class how
    new parts start; say it there::

        def _init_weights(self, module):
            if isinstance(module, HierarchicalHead):
                module.reset_parameters()
            else:
                super()._init_weights(module)

    ``head.points`` is what is trained; ``head.node_points()`` are the nodes in the coordinates that
    ``out.points`` has, and ``head.node_tangents()`` tangent vectors, whatever is trained.

    Args:
        hidden_size, taxonomy, dim, loss, tap_of_level, dropout, start_radius, seed: see
            :class:`~hyperlm.heads.base.HierarchicalHead`.
        geometry: ``poincare``, ``lorentz`` or ``euclidean`` (the flat control).
        curvature: c; ignored when flat.
        learn_curvature: make c a parameter, kept within ``CURVATURE_BOUNDS``.
        coordinates: how node points are stored and moved. ``tangent``: tangent vectors at the
            origin in Riemannian length, held at any radius; ``native``: coordinates of the ball
            or the hyperboloid. See ``docs/decisions/0003-point-coordinates.md``.
        init: ``tree`` (from the taxonomy, near the origin) or ``random``.
        init_step: distance between a parent and its child at the start, for ``init="tree"``; by
            default 0.3, and less in trees of more than three levels, so that all start within 1.
        temperature: start of the factor on the distances, one per level, learned.
        max_radius: texts farther out than this are moved back to it before measuring.
        cone_weight: weight of the entailment-cone loss on pairs of nodes.
        cone_pairs: ``closure`` (every ancestor, the default) or ``edges`` (parents alone).
        text_cone_weight: weight of the cone loss on pairs (text point, gold node).
    """

    def __init__(
        self,
        hidden_size: int,
        taxonomy: Taxonomy,
        dim: int = 128,
        geometry: Literal["poincare", "lorentz", "euclidean"] = "poincare",
        curvature: float = 1.0,
        *,
        learn_curvature: bool = False,
        coordinates: Literal["tangent", "native"] = "tangent",
        loss: Loss = "level",
        tap_of_level: Sequence[int] | None = None,
        init: Literal["tree", "random"] = "tree",
        init_step: float | None = None,
        temperature: float = 10.0,
        dropout: float = 0.1,
        start_radius: float = 0.5,
        max_radius: float = 20.0,
        cone_weight: float = 0.0,
        cone_pairs: Literal["closure", "edges"] = "closure",
        text_cone_weight: float = 0.0,
        seed: int = 0,
    ) -> None:
        _check_choice("geometry", geometry, GEOMETRIES)
        _check_choice("coordinates", coordinates, COORDINATES)
        _check_choice("init", init, ("tree", "random"))
        if not (math.isfinite(curvature) and curvature > 0):
            raise OptionError(
                f"curvature {curvature}: c must be positive and finite (the curvature is -c). "
                "For a flat space choose the geometry 'euclidean'."
            )
        if not (math.isfinite(temperature) and temperature > 0):
            raise OptionError(f"temperature {temperature}: must be positive and finite.")
        for name, weight in (("cone_weight", cone_weight), ("text_cone_weight", text_cone_weight)):
            if not weight >= 0:
                raise OptionError(f"{name} {weight}: must not be negative.")
        if geometry == "euclidean" and (cone_weight or text_cone_weight):
            raise OptionError(
                "cone_weight and text_cone_weight need the geometry 'poincare' or 'lorentz': "
                "entailment cones are defined in hyperbolic space."
            )
        super().__init__(
            hidden_size,
            taxonomy,
            dim,
            loss=loss,
            tap_of_level=tap_of_level,
            dropout=dropout,
            start_radius=start_radius,
            max_radius=max_radius,
            seed=seed,
        )
        self.geometry, self.coordinates = geometry, coordinates
        self.init, self.start_temperature = init, temperature
        self.init_step = min(0.3, 1 / taxonomy.num_levels) if init_step is None else init_step
        self.start_curvature = float(curvature)
        if learn_curvature and geometry != "euclidean":
            low, high = CURVATURE_BOUNDS
            if coordinates == "native":
                # A ball point is another point, or none, once c has changed.
                raise OptionError(
                    "coordinates 'native' hold for one curvature alone: learn the curvature with "
                    "coordinates 'tangent', whose points are the same under every c."
                )
            if not low < curvature < high:
                raise OptionError(
                    f"curvature {curvature}: a learned curvature stays between {low} and {high}; "
                    "start inside these bounds."
                )
            self.curvature_logit = nn.Parameter(torch.empty(()))
        else:
            self.register_parameter("curvature_logit", None)
        width = dim + (geometry == "lorentz" and coordinates == "native")
        empty = torch.empty(len(taxonomy), width)
        self.points = nn.Parameter(empty)
        self.bias = nn.Parameter(torch.empty(len(taxonomy)))
        self.log_temperature = nn.Parameter(torch.empty(taxonomy.num_levels))
        self.cone_loss = (
            ConeLoss(taxonomy, cone_weight, text_cone_weight, pairs=cone_pairs, seed=seed)
            if cone_weight or text_cone_weight
            else None
        )
        if not empty.is_meta:
            self.reset_parameters()

    # -- the space -------------------------------------------------------------------------

    @property
    def c(self) -> Tensor | float:
        """Curvature parameter, positive; a tensor with gradient when it is learned."""
        if self.curvature_logit is None:
            return self.start_curvature
        low, high = (math.log(bound) for bound in CURVATURE_BOUNDS)
        return (low + (high - low) * self.curvature_logit.float().sigmoid()).exp()

    def space(self, c: Tensor | float | None = None) -> PoincareBall | Lorentz | Euclidean:
        """The geometry of the head, at its present curvature."""
        c = self.c if c is None else c
        if self.geometry == "euclidean":
            return Euclidean()
        return PoincareBall(c) if self.geometry == "poincare" else Lorentz(c)

    def storage(self) -> Geometry:
        """The manifold whose coordinates ``self.points`` holds."""
        c = self.c
        c = c.detach() if isinstance(c, Tensor) else c
        if self.geometry != "euclidean" and self.coordinates == "tangent":
            return TangentBall(c)
        return self.space(c)

    def tag_points(self) -> None:
        """Make ``points`` a manifold parameter; loading a state silently makes it a plain one.

        One that is stays the same object, which an optimiser may hold already.
        """
        plain, space = self.points, self.storage()
        if isinstance(plain, ManifoldParameter) and type(plain.manifold) is type(space):
            if self.geometry != "euclidean":
                plain.manifold.c = space.c
            return
        tagged = ManifoldParameter(plain.data, manifold=space, requires_grad=plain.requires_grad)
        tagged.grad = plain.grad
        self.points = tagged

    def node_tangents(self) -> Tensor:
        """Node points as tangent vectors at the origin in Riemannian length, ``(N, d)``."""
        points = self.points.float()
        if self.geometry == "euclidean" or self.coordinates == "tangent":
            return points
        return self.space().to_polar(points)

    def node_points(self) -> Tensor:
        """Node points in the coordinates of the geometry, ``(N, d)`` (Lorentz: ``d + 1``)."""
        return self.place(self.node_tangents())

    def place(self, tangent: Tensor) -> Tensor:
        return self.space().from_polar(tangent)

    # -- scores ----------------------------------------------------------------------------

    def forward(
        self, hidden: Tensor | Sequence[Tensor], targets: Tensor | None = None
    ) -> HeadOutput:
        if isinstance(self.c, Tensor) and isinstance(self.points, ManifoldParameter):
            # The optimiser moves the points in the space the texts are now measured in.
            self.points.manifold.c = self.c.detach()
        return super().forward(hidden, targets)

    def space_settings(self) -> dict[str, object]:
        settings: dict[str, object] = {"geometry": self.geometry, "coordinates": self.coordinates}
        if self.geometry == "euclidean":
            settings = {"geometry": self.geometry}
        elif self.curvature_logit is None:
            settings["curvature"] = self.start_curvature
        return super().space_settings() | settings

    def extra_repr(self) -> str:
        learned = " (learned)" if self.curvature_logit is not None else ""
        c = self.c.detach() if isinstance(self.c, Tensor) else self.c
        bend = "" if self.geometry == "euclidean" else f", curvature={float(c):g}{learned}"
        return f"{super().extra_repr()}, geometry={self.geometry!r}{bend}"

    def level_scores(self, tangent: Tensor, level: int) -> Tensor:
        nodes = self.level_slices[level]
        anchors = self.node_tangents()[nodes]
        if self.geometry == "euclidean":
            dist = self.space().pairwise_dist(tangent, anchors)
        else:
            dist = polar.pairwise_dist(tangent, anchors, self.c)
        temperature = self.log_temperature[level].float().exp()
        return self.bias[nodes].float() - temperature * dist

    def extra_loss(self, tangents: list[Tensor], targets: Tensor) -> Tensor | None:
        if self.cone_loss is None:
            return None
        # Pairs are drawn by NumPy. Not as a context manager, or nothing of the head would compile;
        # and here, since a decorator of the method would import the compiler with this module.
        in_cones = torch.compiler.disable(self._in_cones)
        loss: Tensor = in_cones(self.cone_loss, tangents, targets)
        return loss

    def _in_cones(self, cone_loss: ConeLoss, tangents: list[Tensor], targets: Tensor) -> Tensor:
        cuts = self.cuts(targets.device)
        rows, ends, _ = gold_ends(targets, cuts)
        of_level = [tangents[tap][rows] for tap in self.tap_of_level]
        marked = targets[rows] if targets.dtype == torch.bool else None
        gold = cuts.member_at[ends]
        with torch.autocast(tangents[0].device.type, enabled=False):
            return cone_loss(self.node_tangents(), of_level, gold, self.c, marked=marked)

    # -- starting --------------------------------------------------------------------------

    def reset_parameters(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        for projection in self.each_projection():
            projection.reset_parameters(generator)
        low, high = (math.log(bound) for bound in CURVATURE_BOUNDS)
        with torch.no_grad():
            self.bias.zero_()
            self.log_temperature.fill_(math.log(self.start_temperature))
            if self.curvature_logit is not None:
                share = (math.log(self.start_curvature) - low) / (high - low)
                share = min(max(share, 1e-6), 1 - 1e-6)  # at a bound the logit is infinite
                self.curvature_logit.fill_(math.log(share / (1 - share)))
        self.set_node_tangents(
            start_points(
                self.taxonomy,
                self.dim,
                how=self.init,
                step=self.init_step,
                seed=self.seed,
                c=1.0 if self.geometry == "euclidean" else self.start_curvature,
            )
        )
        self.mark_started()

    @torch.no_grad()
    def set_node_tangents(self, tangents: Tensor) -> None:
        """Put the nodes at these tangent vectors at the origin, ``(N, d)``, Riemannian length."""
        if tangents.shape != (len(self.taxonomy), self.dim):
            raise ModelError(
                f"node tangents have shape {tuple(tangents.shape)}, the head needs "
                f"({len(self.taxonomy)}, {self.dim})."
            )
        native = self.coordinates == "native" or self.geometry == "euclidean"
        values = self.space().from_polar(tangents.float()) if native else tangents.float()
        self.points.data.copy_(values)
        self.tag_points()


def _check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise OptionError(f"{option} {value!r} is unknown; choose one of {', '.join(allowed)}.")
