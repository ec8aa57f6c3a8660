"""A pretrained backbone with a hierarchical head on the layers it taps.

Enters: token ids ``(B, T)`` and a mask, or pooled features ``(B, taps, D)``. Leaves: node logits
``(B, N)``, points, and a loss when targets are given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils.generic import ModelOutput

from hyperlm.errors import OptionError
from hyperlm.heads import HierarchicalHead, build_head
from hyperlm.lm.backbone import (
    load_backbone,
    num_layers,
    pooling_for,
    resolve_layers,
    state_index,
    text_length,
)
from hyperlm.lm.base import BackboneModel, backbone_settings, refuse_unknown
from hyperlm.lm.config import HierarchicalLMConfig
from hyperlm.lm.joined import Conditioning, check_layers, joined_states
from hyperlm.lm.pooling import POOLINGS, pack_right, pool
from hyperlm.options_checks import check_joined
from hyperlm.taxonomy import Taxonomy

__all__ = ["HierarchicalLM", "HierarchicalOutput"]


@dataclass
class HierarchicalOutput(ModelOutput):
    """What the model says of a batch.

    Attributes:
        loss: scalar, when targets were given.
        logits: ``(B, N)``, one score per node of the taxonomy.
        points: ``(B, d)``, where the deepest tapped layer puts each text (Lorentz: ``d + 1``).
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    points: Tensor | None = None


class HierarchicalLM(BackboneModel):
    """A backbone of transformers, the layers it taps, and one head over the whole taxonomy.

    Build it with :meth:`from_backbone`, load it with :meth:`from_pretrained`; saving and sharing
    work as for every model of the ecosystem.
    """

    config_class = HierarchicalLMConfig
    # The strict list survives bf16 and fp16 loading: geometry is float32 or wrong.
    _keep_in_fp32_modules_strict = frozenset({"head"})  # type: ignore[assignment]
    taxonomy: Taxonomy
    head: HierarchicalHead

    def __init__(
        self, config: HierarchicalLMConfig, backbone: PreTrainedModel | None = None
    ) -> None:
        super().__init__(config, backbone)
        shape = self.backbone.config
        available = num_layers(shape)
        resolve_layers(
            config.layers or [], num_levels=self.taxonomy.num_levels, available=available
        )
        if config.pooling not in POOLINGS:
            raise OptionError(
                f"pooling {config.pooling!r} is unknown; choose one of {', '.join(POOLINGS)}."
            )
        self.taps = tuple(sorted(set(config.layers or [])))
        tap_of_level = [self.taps.index(layer) for layer in config.layers or []]
        hidden_size = shape.get_text_config().hidden_size
        self.head = build_head(
            (config.head or {}).get("kind", "points"),
            hidden_size=hidden_size,
            taxonomy=self.taxonomy,
            tap_of_level=tap_of_level,
            **config.head_options(),
        )
        if config.joined:
            check_joined(loss=self.head.loss_kind, freeze=False)
            check_layers(config.layers or [], available)
            # Inside the head: it stays in float32 and trains at the head's rate.
            self.head.add_module(
                "conditioning", Conditioning(hidden_size, self.head.dim, self.taxonomy.num_levels)
            )
        self.post_init()

    @classmethod
    def from_backbone(
        cls,
        name: str,
        taxonomy: Taxonomy,
        *,
        layers: str | Sequence[int] = "auto",
        head: dict[str, Any] | None = None,
        lora: dict[str, Any] | None = None,
        pooling: str = "auto",
        joined: bool = False,
        max_length: int | None = None,
        level_names: Sequence[str] | None = None,
    ) -> "HierarchicalLM":
        """A fresh head on a pretrained backbone.

        Args:
            name: short name (``minilm``, ``smollm2``), folder or hub id.
            taxonomy: the labels.
            layers: see :func:`~hyperlm.lm.backbone.resolve_layers`.
            head: ``{"kind": "points" | "linear"}`` and keyword arguments of the head.
            lora: ``{"rank": ...}`` for low-rank adapters, ``None`` for none.
            pooling: ``auto``, ``mean`` or ``last``.
            joined: let what is predicted on a level condition the layers above it.
            max_length: see :func:`~hyperlm.lm.backbone.text_length`.
        """
        backbone, tokenizer = load_backbone(name)
        config = HierarchicalLMConfig(
            **backbone_settings(
                name,
                backbone,
                layers=layers,
                num_levels=taxonomy.num_levels,
                lora=lora,
                rising=joined,
            ),
            taxonomy=taxonomy.to_dict(),
            pooling=pooling_for(backbone.config) if pooling == "auto" else pooling,
            head=dict(head or {}),
            joined=joined,
            max_length=text_length(max_length, name, backbone),
            level_names=list(level_names) if level_names else None,
        )
        model = cls(config, backbone=backbone)
        model.tokenizer = tokenizer
        return model

    def _init_weights(self, module: torch.nn.Module) -> None:
        # The backbone initialises itself when it is built; only a head can be missing its weights.
        if isinstance(module, HierarchicalHead | Conditioning):
            module.reset_parameters()

    def _mark_parameters(self) -> None:
        super()._mark_parameters()
        self.head.tag_points()  # node points are manifold parameters again

    @property
    def conditioning(self) -> Conditioning | None:
        """The maps that join the levels, ``None`` where levels are read independently."""
        found = getattr(self.head, "conditioning", None)
        return found if isinstance(found, Conditioning) else None

    def freeze_backbone(self) -> None:
        """Train the head alone; see :meth:`pooled_states` for the features it then needs.

        Raises:
            OptionError: the levels are joined, so the features change with the head.
        """
        if self.conditioning is not None:
            check_joined(loss=self.head.loss_kind, freeze=True)
        self.backbone.requires_grad_(False)

    def pooled_states(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Pooled hidden states of the tapped layers, ``(B, taps, D)``.

        Only the tapped states are kept in memory, where the architecture allows it. Those of
        joined levels depend on the head as well.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        input_ids, attention_mask = pack_right(input_ids, attention_mask)
        if self.conditioning is not None:
            return joined_states(
                self.backbone,
                self.head,
                self.conditioning,
                self.taps,
                self.config.pooling,
                input_ids,
                attention_mask,
            )
        top = num_layers(self.config.backbone_config)
        below = [layer for layer in self.taps if layer != top]
        outputs = self.backbone(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=below or False,
            return_dict=True,
            **({"use_cache": False} if self.config.pooling == "last" else {}),
        )
        states = [
            outputs.last_hidden_state
            if layer == top
            else outputs.hidden_states[state_index(self.config.backbone_config, layer)]
            for layer in self.taps
        ]
        return torch.stack([pool(s, attention_mask, self.config.pooling) for s in states], dim=1)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        targets: Tensor | None = None,
        features: Tensor | None = None,
        labels: Tensor | None = None,
        **further: Any,
    ) -> HierarchicalOutput:
        """Node logits for a batch.

        Args:
            input_ids: ``(B, T)``; left or right padding.
            attention_mask: ``(B, T)``.
            targets: ``(B,)`` end nodes, ``(B, L)`` nodes per level with -100 where there is none,
                or a boolean ``(B, N)`` for several gold paths.
            features: ``(B, taps, D)`` from :meth:`pooled_states`, instead of ``input_ids``.
            labels: the same as ``targets``, as others call it: the Trainer evaluates what has this
                name, and another one where ``TrainingArguments(label_names=["targets"])`` says so.
            further: what tokenizers and trainers add, and this model has no use for.
        """
        refuse_unknown(further)
        if targets is not None and labels is not None:
            raise OptionError("forward() got targets and labels: they are one thing, give one.")
        targets = labels if targets is None else targets
        if features is None:
            if input_ids is None:
                raise OptionError("forward() needs input_ids, or features from pooled_states().")
            features = self.pooled_states(input_ids, attention_mask)
        out = self.head(features.unbind(dim=1), targets)
        return HierarchicalOutput(loss=out.loss, logits=out.logits, points=out.points)


# From here on AutoModel.from_pretrained() knows a saved model, and AutoTokenizer what lies beside.
AutoConfig.register(HierarchicalLMConfig.model_type, HierarchicalLMConfig, exist_ok=True)
AutoModel.register(HierarchicalLMConfig, HierarchicalLM, exist_ok=True)
