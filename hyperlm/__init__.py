"""hyperlm: language models with a sense of hierarchy.

Three ways in: the command ``hyperlm``; ``hyperlm.train(...)`` and ``hyperlm.load(RUN)``, which do
the same from Python; and ``from hyperlm import HyperbolicHead`` for a model of your own. Names are
imported when first used, so that ``import hyperlm`` is quick and a taxonomy can be read without
torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperlm.classifier import Classifier, load
    from hyperlm.data import load_data
    from hyperlm.heads import HyperbolicHead, LinearHead
    from hyperlm.lm import HierarchicalLM
    from hyperlm.lm.decoder import HierarchicalDecoder
    from hyperlm.optim import build_optimizer
    from hyperlm.options import TrainingOptions
    from hyperlm.run import train
    from hyperlm.taxonomy import Taxonomy

__version__ = "0.1.0"

_HOME = {
    "Classifier": "hyperlm.classifier",
    "HierarchicalDecoder": "hyperlm.lm.decoder",
    "HierarchicalLM": "hyperlm.lm",
    "HyperbolicHead": "hyperlm.heads",
    "LinearHead": "hyperlm.heads",
    "Taxonomy": "hyperlm.taxonomy",
    "TrainingOptions": "hyperlm.options",
    "build_optimizer": "hyperlm.optim",
    "load": "hyperlm.classifier",
    "load_data": "hyperlm.data",
    "train": "hyperlm.run",
}

_PARTS = (
    "calibration",
    "data",
    "decoding",
    "embedding",
    "errors",
    "heads",
    "lm",
    "manifolds",
    "metrics",
    "optim",
    "viz",
)

__all__ = [
    "Classifier",
    "HierarchicalDecoder",
    "HierarchicalLM",
    "HyperbolicHead",
    "LinearHead",
    "Taxonomy",
    "TrainingOptions",
    "__version__",
    "build_optimizer",
    "load",
    "load_data",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _PARTS:
        return import_module(f"hyperlm.{name}")
    raise AttributeError(f"module 'hyperlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_PARTS})
