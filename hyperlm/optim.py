"""Two optimisers behind one interface: Riemannian Adam for points, AdamW for everything else.

A point moved by an ordinary optimiser treats the ball as flat, and weight decay pulls it to the
origin; a backbone moved by geoopt's optimiser pays a Python loop over its parameters. So each
gets its own, and schedulers, checkpoints and the Trainer see a single optimiser.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hyperlm.errors import ModelError, OptionError
from hyperlm.manifolds import ManifoldParameter, RiemannianAdam

__all__ = ["SplitOptimizer", "build_optimizer", "clip_gradients", "points_of"]

_NO_DECAY = ("bias", "norm", "log_temperature", "curvature_logit")


class SplitOptimizer(torch.optim.Optimizer):
    """AdamW and Riemannian Adam as one optimiser.

    Args:
        flat: optimiser of the ordinary parameters, or ``None``.
        riemannian: optimiser of the points, or ``None``.
    """

    def __init__(
        self, flat: torch.optim.Optimizer | None, riemannian: RiemannianAdam | None
    ) -> None:
        self.parts: dict[str, torch.optim.Optimizer] = {}
        self._made = False
        if flat is not None:
            self.parts["flat"] = flat
        if riemannian is not None:
            self.parts["points"] = riemannian
        # The base class only validates and registers; groups and state stay with the parts.
        super().__init__([group for part in self.parts.values() for group in part.param_groups], {})
        # Schedulers look here for what they may change, such as the betas.
        self.defaults = {
            name: value for part in self.parts.values() for name, value in part.defaults.items()
        }
        self._made = True

    # Schedulers write the learning rate into these dictionaries: they must be the parts' own, also
    # after load_state_dict() has replaced them.
    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts.values() for group in part.param_groups]

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        pass

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add ordinary parameters to AdamW, or points to Riemannian Adam.

        Raises:
            ModelError: points and other parameters in one group, or none of their kind before.
        """
        if not self._made:  # the base class adds what the parts hold already
            return
        params = param_group["params"]
        group = param_group | {"params": [params] if isinstance(params, Tensor) else list(params)}
        kinds = {isinstance(p, ManifoldParameter) for p in group["params"]}
        part = "points" if True in kinds else "flat"
        if len(kinds) > 1 or part not in self.parts:
            raise ModelError(
                f"add_param_group(): this optimiser has {sorted(self.parts)}, and a group is "
                "either points or other parameters. Build one of all parameters instead."
            )
        self.parts[part].add_param_group(group)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"parts": self.parts, "_made": True}

    @property  # type: ignore[override]
    def state(self) -> dict[Tensor, Any]:
        return {key: value for part in self.parts.values() for key, value in part.state.items()}

    @state.setter
    def state(self, value: Any) -> None:
        pass

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts.values():
            part.zero_grad(set_to_none)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts.values():
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if set(state_dict) != set(self.parts):
            raise ModelError(
                f"The optimiser state holds {sorted(state_dict)}, this run needs "
                f"{sorted(self.parts)}. Resume with the settings the run was started with."
            )
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])
        # Loading makes torch's Adam turn step counts into float32 tensors, with which geoopt's
        # bias correction rounds differently: a resumed run would leave the path of its original.
        for state in self.parts["points"].state.values() if "points" in self.parts else ():
            if "step" in state:
                state["step"] = int(state["step"])


def points_of(model: nn.Module) -> list[ManifoldParameter]:
    """The parameters of a model that live on a manifold."""
    return [p for p in model.parameters() if isinstance(p, ManifoldParameter)]


def build_optimizer(
    model: nn.Module,
    *,
    learning_rate: float,
    point_learning_rate: float | None = None,
    head_learning_rate: float | None = None,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
) -> SplitOptimizer:
    """Groups for the backbone, the head and the points, each with its own learning rate.

    Args:
        model: any module with hyperlm heads. Points that a load has made plain parameters become
            manifold parameters again.
        learning_rate: of ordinary parameters outside heads.
        point_learning_rate: of node points, in Riemannian length a step; ``None`` for 3e-2, of
            which a tenth keeps what ``start_from_texts`` has put there. Of the node weights of a
            linear head, in each coordinate; ``None`` for the rate of its projection.
        head_learning_rate: of a head's ordinary parameters; ``None`` for ``learning_rate``.
        weight_decay: on weight matrices alone, never on points, biases, norms, temperature or
            curvature.
    Raises:
        ModelError: node points are plain parameters inside ``DistributedDataParallel``, which
            knows the parameters it was given.
        OptionError: a rate that is negative or not finite.
    """
    given = {
        "learning_rate": learning_rate,
        "point_learning_rate": point_learning_rate or 0.0,
        "head_learning_rate": head_learning_rate or 0.0,
        "weight_decay": weight_decay,
    }
    for option, value in given.items():
        if not 0 <= value < math.inf:
            raise OptionError(f"{option} {value}: must be finite and not negative.")
    head_rate = learning_rate if head_learning_rate is None else head_learning_rate
    rate = {"backbone": learning_rate, "head": head_rate, "nodes": point_learning_rate or 0.0}
    groups: dict[tuple[str, bool], list[Tensor]] = {}
    points: list[Tensor] = []
    heads = {name for name, module in model.named_modules() if hasattr(module, "tag_points")}
    if not any(isinstance(part, DistributedDataParallel) for part in model.modules()):
        for head in heads:  # libraries that load weights make plain parameters, or others
            model.get_submodule(head).tag_points()  # type: ignore[operator]
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        owner, _, last = name.rpartition(".")
        if isinstance(parameter, ManifoldParameter):
            points.append(parameter)
        elif last == "points" and owner in heads:
            raise ModelError(
                f"{name} is a plain parameter, so an optimiser would move it off its manifold. "
                "Call tag_points() on the head before the model is wrapped."
            )
        else:
            inside = any(name.startswith(f"{head}." if head else "") for head in heads)
            part = "head" if inside else "backbone"
            if last == "weight" and owner in heads and point_learning_rate is not None:
                part = "nodes"  # of a linear head; projections are modules of their own
            decays = parameter.dim() > 1 and not any(word in name.lower() for word in _NO_DECAY)
            groups.setdefault((part, decays), []).append(parameter)
    flat = [
        {"params": params, "lr": rate[part], "weight_decay": weight_decay if decays else 0.0}
        for (part, decays), params in sorted(groups.items())
    ]
    # Fused AdamW is several times faster than the loop; geoopt's optimiser has no fused form.
    adamw = torch.optim.AdamW(flat, betas=betas, fused=True) if flat else None
    step = 3e-2 if point_learning_rate is None else point_learning_rate
    riemannian = RiemannianAdam([{"params": points, "lr": step}], betas=betas) if points else None
    return SplitOptimizer(adamw, riemannian)


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Clip ordinary gradients by their joint norm and those of points by their Riemannian norm.

    Near the boundary an ordinary Riemannian gradient has an enormous Euclidean one; under a joint
    norm it would scale the backbone's gradient to nothing.

    Returns:
        The norm of the ordinary gradients before clipping.
    """
    flat: list[Tensor] = []
    points: list[Any] = []
    for parameter in parameters:
        if parameter.grad is not None:
            (points if isinstance(parameter, ManifoldParameter) else flat).append(parameter)
    for point in points:
        gradient = point.manifold.egrad2rgrad(point, point.grad)
        norm = point.manifold.inner(point, gradient).sum().clamp(min=0).sqrt()
        share = torch.where(norm > max_norm, max_norm / norm, 1.0)
        point.grad.mul_(share.to(point.grad.dtype))
    if not flat:
        return torch.zeros(())
    return torch.nn.utils.clip_grad_norm_(flat, max_norm)
