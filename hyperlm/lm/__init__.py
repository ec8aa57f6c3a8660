"""Language models: backbones, layer taps, adapters, and the hierarchical model built from them."""

from transformers import AutoConfig, AutoModel

from hyperlm.lm.backbone import load_backbone, load_tokenizer, resolve_backbone, resolve_layers
from hyperlm.lm.config import HierarchicalLMConfig
from hyperlm.lm.model import HierarchicalLM, HierarchicalOutput

__all__ = [
    "HierarchicalLM",
    "HierarchicalLMConfig",
    "HierarchicalOutput",
    "load_backbone",
    "load_tokenizer",
    "resolve_backbone",
    "resolve_layers",
]

# From here on AutoModel.from_pretrained() knows a saved model, and AutoTokenizer what lies beside.
AutoConfig.register(HierarchicalLMConfig.model_type, HierarchicalLMConfig, exist_ok=True)
AutoModel.register(HierarchicalLMConfig, HierarchicalLM, exist_ok=True)
