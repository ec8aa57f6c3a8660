"""Parts of the hierarchical decoder: which blocks run, which tokens may be said, and the search."""

from hyperlm.lm.hdlm.batches import ExampleSet, SequenceCollator
from hyperlm.lm.hdlm.config import HierarchicalDecoderConfig
from hyperlm.lm.hdlm.format import Example, SequenceFormat
from hyperlm.lm.hdlm.grammar import Grammar
from hyperlm.lm.hdlm.search import Cost, Hypothesis, LevelCost, Sampling
from hyperlm.lm.hdlm.stack import LayerStack
from hyperlm.lm.hdlm.staged import Session

__all__ = [
    "Cost",
    "Example",
    "ExampleSet",
    "Grammar",
    "HierarchicalDecoderConfig",
    "Hypothesis",
    "LayerStack",
    "LevelCost",
    "Sampling",
    "SequenceCollator",
    "SequenceFormat",
    "Session",
]
