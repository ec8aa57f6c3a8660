"""Trees and DAGs as trained points, without any text: in hyperbolic space, or flat to compare."""

from hyperlm.embedding.cone_start import nested_cones
from hyperlm.embedding.files import load_points, save_points
from hyperlm.embedding.options import EmbeddingOptions
from hyperlm.embedding.reconstruction import Reconstruction, reconstruction
from hyperlm.embedding.relations import Relations
from hyperlm.embedding.start import flat_tree, sized_tree
from hyperlm.embedding.training import EmbeddingTrainer, embed

__all__ = [
    "EmbeddingOptions",
    "EmbeddingTrainer",
    "Reconstruction",
    "Relations",
    "embed",
    "flat_tree",
    "load_points",
    "nested_cones",
    "reconstruction",
    "save_points",
    "sized_tree",
]
