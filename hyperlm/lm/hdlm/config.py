"""Everything a saved hierarchical decoder needs to be built again, in one ``config.json``."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from hyperlm.taxonomy import Taxonomy

__all__ = ["HierarchicalDecoderConfig"]


class HierarchicalDecoderConfig(PreTrainedConfig):
    """Configuration of a :class:`~hyperlm.lm.decoder.HierarchicalDecoder`.

    Attributes:
        backbone_config: configuration of the bare decoder.
        backbone_name: short name, folder or hub id the backbone came from.
        taxonomy: ``Taxonomy.to_dict()``; ``None`` where no level is a label.
        text_levels: levels of free text below those of the labels.
        layers: backbone layer of each level, coarse to fine, counted from 1.
        heads: ``{"kind": "tied" | "lora" | "free", "rank": ...}``.
        lora: keyword arguments of the low-rank adapters of the backbone, or ``None``.
        weights: of the levels' losses; ``None`` learns them.
        level_names: names of the levels, for tables.
        max_length: longest text in tokens; longer ones lose their beginning.
        tokens: known to the tokenizer that was saved beside the model.
        max_text_tokens: most tokens generated on a level of free text.
        cue: what stands between the text and the answer.
    """

    model_type = "hyperlm-decoder"
    sub_configs_defaults = {  # noqa: RUF012 (the base class declares it so)
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")
    }

    # None and dict occur while it is read; the base class then makes it a configuration.
    backbone_config: Any = None
    backbone_name: str = ""
    taxonomy: dict | None = None
    text_levels: int = 0
    layers: list[int] | None = None
    heads: dict | None = None
    lora: dict | None = None
    weights: list[float] | None = None
    level_names: list[str] | None = None
    max_length: int = 128
    tokens: int | None = None
    max_text_tokens: int = 64
    cue: str = "\nLabels:"

    def tree(self) -> Taxonomy | None:
        """The taxonomy as an object."""
        return None if self.taxonomy is None else Taxonomy.from_dict(self.taxonomy)
