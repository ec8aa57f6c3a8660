"""Language models: backbones, layer taps, adapters, and the hierarchical model built from them."""

from hyperlm.lm.backbone import load_backbone, load_tokenizer, resolve_backbone, resolve_layers
from hyperlm.lm.config import HierarchicalLMConfig
from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.lm.model import HierarchicalLM, HierarchicalOutput

__all__ = [
    "HierarchicalDecoder",
    "HierarchicalLM",
    "HierarchicalLMConfig",
    "HierarchicalOutput",
    "load_backbone",
    "load_tokenizer",
    "resolve_backbone",
    "resolve_layers",
]
