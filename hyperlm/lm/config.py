"""Everything a saved model needs to be built again, in one ``config.json``.

The taxonomy, the geometry and the settings of the head travel with the backbone's own
configuration; nothing is ever unpickled.
"""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from hyperlm.taxonomy import Taxonomy

__all__ = ["HierarchicalLMConfig"]


class HierarchicalLMConfig(PreTrainedConfig):
    """Configuration of a :class:`~hyperlm.lm.model.HierarchicalLM`.

    Attributes:
        backbone_config: configuration of the bare transformer.
        backbone_name: short name, folder or hub id the backbone came from.
        taxonomy: ``Taxonomy.to_dict()``.
        layers: backbone layer of each level, coarse to fine, counted from 1.
        pooling: ``mean`` or ``last``.
        head: keyword arguments of the head, ``{"kind": "points" | "linear", ...}``.
        lora: keyword arguments of :func:`~hyperlm.lm.lora.inject_lora`, or ``None``.
        joined: what is predicted on a level conditions the layers above it; see
            :mod:`hyperlm.lm.joined`.
        level_names: names of the levels, for tables.
        max_length: longest text in tokens; longer ones are truncated.
        tokens: known to the tokenizer that was saved beside the model.
        path_temperature: what divides the scores of paths before they become probabilities; 1 until
            :func:`~hyperlm.calibration.fit_temperature` has seen texts.
        several_from: the share from which on further paths are answered beside the best, as
            :func:`~hyperlm.several.fit_cut` finds it on texts with several gold paths; ``None`` for
            one path a text.
        calibrated_on: ``{"data": ..., "n": ..., "trained": ...}`` of a later fit, whose data only
            ``hyperlm calibrate`` knows by name, with the temperature that training had fitted, and
            its ``several_from`` as ``trained_several_from``; ``None`` where they are those.
    """

    model_type = "hyperlm"
    sub_configs_defaults = {  # noqa: RUF012 (the base class declares it so)
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="bert")
    }

    # None and dict occur while it is read; the base class then makes it a configuration.
    backbone_config: Any = None
    backbone_name: str = ""
    taxonomy: dict | None = None
    layers: list[int] | None = None
    pooling: str = "mean"
    head: dict | None = None
    lora: dict | None = None
    joined: bool = False
    level_names: list[str] | None = None
    max_length: int = 128
    tokens: int | None = None
    path_temperature: float = 1.0
    several_from: float | None = None
    calibrated_on: dict | None = None

    def tree(self) -> Taxonomy:
        """The taxonomy as an object."""
        return Taxonomy.from_dict(self.taxonomy or {})

    def head_options(self) -> dict[str, Any]:
        """Keyword arguments of the head, without its kind."""
        return {key: value for key, value in (self.head or {}).items() if key != "kind"}
