"""The settings of one run of a head on frozen features: what decides its result, and nothing else.

A run is known by its settings: two equal ones give the same figures, so a results file can be
asked whether a run has been done. Runs that differ in seed and learning rates alone have arrays of
equal shape and can be trained together.
"""

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from hyperlm.errors import DataError, OptionError
from hyperlm.options import head_arguments

__all__ = ["HeadRun"]

# What runs that are trained together may differ in.
_OWN = ("seed", "head_lr", "node_lr")
_CHOICES = {
    "temperatures": ("level", "shared", "fixed"),
    "point_optimizer": ("riemannian", "adamw"),
}


@dataclass(frozen=True)
class HeadRun:
    """One head, trained once.

    Attributes:
        head: ``points`` or ``linear``.
        init: where node points start: ``random``, ``tree``, ``names`` or ``texts``
            (:func:`~hyperlm.heads.start_from_texts`, with the training texts of the run); a linear
            head starts at ``random`` or from ``texts``.
        name_weight: how many texts the name of a label counts for in a start from ``texts``.
        radius_on_val: whether val may move the nodes of a start from ``texts`` to one radius
            (``held_out`` of :func:`~hyperlm.heads.start_from_texts`), as ``hyperlm train`` lets it.
        init_step: distance from parent to child of the tree start, tau; ``None`` for the head's
            own choice.
        layers: one layer of the backbone per level, as ``hyperlm train --layers`` reads them.
        joined: every level reads the states of all tapped layers, one after the other, instead of
            the one of its own.
        temperatures: ``level`` learns one for each level, ``shared`` moves those of all levels as
            one, ``fixed`` learns none.
        point_optimizer: ``riemannian`` Adam, which moves a point as one by a length; or ``adamw``
            on its tangent coordinates, each by itself.
        head_lr: learning rate of projections, biases and temperatures.
        node_lr: learning rate of the node points (Riemannian length a step) or, in a linear head,
            of the node weights.
        whiten: learn the projections in coordinates in which the texts of a label spread alike
            (:func:`~hyperlm.heads.discriminant.whitening` of the run's training texts), dropout
            included; the trained head is an ordinary one.
        train_share: share of the training texts, drawn by the seed.
        seed: of the start, the order of the texts, dropout and the draw of the texts.
    """

    head: str = "points"
    geometry: str = "poincare"
    dim: int = 64
    curvature: float = 1.0
    learn_curvature: bool = False
    coordinates: str = "tangent"
    init: str = "random"
    name_weight: float = 1.0
    radius_on_val: bool = False
    init_step: float | None = None
    loss: str = "level"
    temperature: float = 10.0
    temperatures: str = "level"
    max_radius: float = 20.0
    cone_weight: float = 0.0
    cone_pairs: str = "closure"
    text_cone_weight: float = 0.0
    dropout: float = 0.3
    layers: str = "auto"
    joined: bool = False
    head_lr: float = 3e-3
    node_lr: float = 3e-2
    point_optimizer: str = "riemannian"
    epochs: int = 20
    batch_size: int = 128
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    whiten: bool = False
    train_share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.head == "linear" and self.init == "tree":
            raise OptionError(f"a linear head has no points to start from {self.init!r}.")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise OptionError(
                    f"{name} {getattr(self, name)!r} is unknown: {' or '.join(allowed)}."
                )
        if self.point_optimizer == "adamw" and self.coordinates != "tangent":
            raise OptionError(
                f"point_optimizer adamw: points in {self.coordinates} coordinates would leave "
                "their space. Use tangent coordinates."
            )
        if self.whiten and not self.stackable:
            raise OptionError(
                "whiten: heads with cone loss, learned curvature or points moved by AdamW train "
                "without whitening."
            )
        if not 0 < self.train_share <= 1:
            raise OptionError(f"train_share {self.train_share:g}: must lie in (0, 1].")
        if self.name_weight < 0:
            raise OptionError(f"name_weight {self.name_weight:g}: must not be negative.")
        if self.epochs < 0:
            raise OptionError(f"epochs {self.epochs}: must not be negative; 0 keeps the start.")
        for name in ("batch_size", "head_lr", "node_lr", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} {getattr(self, name)}: must be greater than 0.")

    @property
    def stackable(self) -> bool:
        """Whether the run can share its steps with others; see :mod:`.stacked`."""
        return not (
            self.learn_curvature
            or self.cone_weight
            or self.text_cone_weight
            or self.point_optimizer != "riemannian"
        )

    def head_options(self) -> dict[str, Any]:
        """Keyword arguments for :func:`hyperlm.heads.build_head`."""
        return head_arguments(self, "init_step", "max_radius")

    def shape(self) -> "HeadRun":
        """The run without what those trained together may differ in."""
        defaults = {field.name: field.default for field in fields(self) if field.name in _OWN}
        return replace(self, **defaults)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """All settings: defaults may change, what a run was made with may not."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "HeadRun":
        """The reverse of :meth:`to_json`; a setting unknown to this version is a DataError."""
        unknown = sorted(set(data) - {field.name for field in fields(cls)})
        if unknown:
            raise DataError(
                f"A run has the settings {', '.join(unknown)}, which this version of hyperlm does "
                "not know. Read the results with the version that wrote them."
            )
        return cls(**data)

    def key(self) -> str:
        """The settings as one line."""
        return json.dumps(self.to_json(), sort_keys=True)
