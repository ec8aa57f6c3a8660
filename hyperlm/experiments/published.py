"""Figures that others have published, with their source: rows of the report, no code of theirs."""

__all__ = ["COLUMNS", "NOTE", "ROWS", "SETS"]

SETS = frozenset({"dbpedia", "wos"})  # beside figures on these they say something

NOTE = (
    "Full data sets and fine-tuned backbones. The splits used here are smaller samples and the "
    "tables above train a head alone: these figures are for orientation and cannot be compared "
    "one by one."
)
COLUMNS = ("set, model, measure", "figures", "source")
ROWS = (
    ("WOS-46985, BERT-base, micro/macro-F1: HGCLR", "87.11/81.20", "Wang et al., ACL 2022"),
    ("the same: HPT", "87.16/81.93", "Wang et al., EMNLP 2022"),
    (
        "DBpedia, BERT-base, micro/macro-F1, 16 texts a leaf path: HierVerb",
        "96.17/93.28",
        "Ji et al., ACL 2023",
    ),
    (
        "hyperbolic losses for BERT on four hierarchical sets",
        "no benefit found",
        "Van Nooten and Daelemans, COLING 2025",
    ),
)
