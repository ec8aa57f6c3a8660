"""From files and named sets to texts with gold label paths; no torch, no transformers."""

from hyperlm.data.bundle import DataBundle, check_trainable, load_data, read_labelled
from hyperlm.data.columns import choose_text_column
from hyperlm.data.gold import gold_nodes
from hyperlm.data.labels import LabelledTexts, text_of
from hyperlm.data.named import NAMED_SETS
from hyperlm.data.splits import SPLITS, stratified_split
from hyperlm.data.table import FORMATS, read_columns, read_rows
from hyperlm.data.tree import LabelTree, read_tree
from hyperlm.data.writing import write_rows

__all__ = [
    "FORMATS",
    "NAMED_SETS",
    "SPLITS",
    "DataBundle",
    "LabelTree",
    "LabelledTexts",
    "check_trainable",
    "choose_text_column",
    "gold_nodes",
    "load_data",
    "read_columns",
    "read_labelled",
    "read_rows",
    "read_tree",
    "stratified_split",
    "text_of",
    "write_rows",
]
