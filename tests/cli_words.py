"""What tests of the command share: its type, and the keys of its documents."""

from collections.abc import Callable

from typer.testing import Result

KEYS = {
    "n", "levels", "path_accuracy", "hierarchical", "c_micro_f1", "c_macro_f1", "p_f1",
    "raw_consistency", "path_consistency", "mean_tree_distance", "mistake_severity", "ece",
    "texts_per_second",
}  # fmt: skip
Command = Callable[..., Result]
