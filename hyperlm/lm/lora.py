"""Low-rank adapters on the backbone, through peft.

The adapters are injected in place, so the model keeps its class, its forward and its way of saving.
"""

from collections.abc import Mapping
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hyperlm.errors import OptionError
from hyperlm.lm.hyplora import HypLoraLinear
from hyperlm.options_checks import ADAPTERS

__all__ = ["checked_lora", "inject_lora", "lora_targets", "merge_lora", "train_adapters_alone"]


def lora_targets(backbone: PreTrainedModel) -> list[str]:
    """Names of the linear maps inside the blocks of a backbone.

    Every linear map of attention and feed-forward is adapted (Dettmers et al. 2023, arXiv
    2305.14314, found that to matter more than the rank). Embeddings and poolers are left alone. A
    state-space block (Mamba and its kin) calls its ``in_proj`` and reads the weights of its other
    maps directly, past any adapter: only ``in_proj`` is adapted there.
    """
    names = set()
    for name, module in backbone.named_modules():
        if not isinstance(module, nn.Linear | Conv1D) or not any(
            p.isdigit() for p in name.split(".")
        ):
            continue
        owner, _, last = name.rpartition(".")
        if last == "in_proj" or not hasattr(backbone.get_submodule(owner), "A_log"):
            names.add(name)
    if not names:
        raise OptionError(
            f"LoRA: {type(backbone).__name__} has no linear layers inside numbered blocks to "
            "adapt. Train the whole backbone, or freeze it."
        )
    return sorted(names)


def checked_lora(lora: Mapping[str, Any]) -> dict[str, Any]:
    """Options of adapters, those of :func:`inject_lora`, before anything is built with them.

    Raises:
        OptionError: a name it does not know, no rank, or a value out of range.
    """
    known = ("rank", "alpha", "dropout", "adapter")
    if unknown := sorted(set(lora) - set(known)):
        raise OptionError(f"lora: {', '.join(unknown)} is unknown; it takes {', '.join(known)}.")
    if "rank" not in lora:
        raise OptionError("lora: the rank is missing; give {'rank': 16}, or None for no adapters.")
    if lora["rank"] < 1:
        raise OptionError(
            f"LoRA of rank {lora['rank']}: the rank must be at least 1; 8 to 32 are usual."
        )
    if not 0 <= lora.get("dropout", 0.0) < 1:
        raise OptionError(f"lora: dropout {lora['dropout']:g} is no probability below 1.")
    if lora.get("adapter", "lora") not in ADAPTERS:
        raise OptionError(
            f"adapter {lora['adapter']!r} is unknown; choose one of {', '.join(ADAPTERS)}."
        )
    return dict(lora)


def inject_lora(
    backbone: PreTrainedModel,
    *,
    rank: int,
    alpha: int | None = None,
    dropout: float = 0.05,
    adapter: str = "lora",
) -> None:
    """Freeze the backbone and add trainable rank-``rank`` adapters to it, in place.

    ``adapter`` is ``lora`` or ``hyplora``; for the latter see :mod:`hyperlm.lm.hyplora`.

    Raises:
        OptionError: see :func:`checked_lora`; a backbone without linear maps to adapt.
    """
    checked_lora({"rank": rank, "dropout": dropout, "adapter": adapter})
    targets = lora_targets(backbone)
    options: dict[str, Any] = {
        "r": rank,
        "lora_alpha": 2 * rank if alpha is None else alpha,
        "lora_dropout": dropout,
        "target_modules": targets,
        # GPT-2 stores its linear maps transposed.
        "fan_in_fan_out": any(isinstance(backbone.get_submodule(t), Conv1D) for t in targets),
    }
    config = LoraConfig(**options)
    if adapter == "hyplora":
        # The way peft documents for layers of one's own, its leading underscore notwithstanding.
        config._register_custom_module({nn.Linear: HypLoraLinear, Conv1D: HypLoraLinear})
    inject_adapter_in_model(config, backbone)
    train_adapters_alone(backbone)


def train_adapters_alone(backbone: nn.Module) -> None:
    """Of a backbone with adapters these train, and nothing else."""
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad = "lora_" in name


def merge_lora(backbone: PreTrainedModel) -> None:
    """Add the low-rank update to each adapted weight and take the adapters out, in place.

    Raises:
        ModelError: the adapters are hyperbolic; nothing has changed then.
    """
    for name, module in list(backbone.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent_name, _, child = name.rpartition(".")
            parent = backbone.get_submodule(parent_name) if parent_name else backbone
            setattr(parent, child, module.get_base_layer())
    # What peft notes on the model; a later adapter would count as a second one.
    if hasattr(backbone, "peft_config"):
        del backbone.peft_config
