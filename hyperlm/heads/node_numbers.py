"""Weights know whose they are: a row of points belongs to a node's number.

The numbers follow the order in which labels were first seen, so that a taxonomy made again from a
table in another order has the same shape and other numbers. Weights loaded into it would answer
with the wrong names and say nothing. Coordinates of one space loaded into another answer wrongly,
too. A digest of the numbered nodes and the settings of the space therefore go with the state dict,
in its metadata: ``torch.save`` keeps it, no key is added, and what has none (safetensors, a plain
``dict``, files from before) loads as ever.
"""

from typing import Any

from hyperlm.taxonomy import Taxonomy

__all__ = ["check_nodes", "note_nodes"]

_KEY, _SPACE = "taxonomy_nodes", "head_space"


def note_nodes(
    head: Any, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]
) -> None:
    """Put digest and settings into the metadata of a state dict that is being made."""
    local_metadata[_KEY] = _digest(head)
    local_metadata[_SPACE] = head.space_settings()


def check_nodes(
    head: Any,
    state: dict[str, Any],
    prefix: str,
    local_metadata: dict[str, Any],
    strict: bool,
    missing_keys: list[str],
    unexpected_keys: list[str],
    error_msgs: list[str],
) -> None:
    """Refuse weights of other nodes or another space; torch raises what is in ``error_msgs``."""
    if local_metadata.get(_KEY, digest := _digest(head)) != digest:
        error_msgs.append(
            "these weights belong to a taxonomy with other nodes, or with the same in another "
            "order. Read the one they were saved with (taxonomy.write and Taxonomy.read keep it); "
            "if labels were renamed and nothing else, load dict(state_dict), which is not checked."
        )
    there, here = local_metadata.get(_SPACE, {}), head.space_settings()
    other = [
        f"{name} {there[name]!r} and not {here[name]!r}"
        for name in here
        if name in there and there[name] != here[name]  # a file from before knows fewer
    ]
    if other:
        error_msgs.append(
            f"these weights belong to a head of {', '.join(other)}: make the head as the one they "
            "were saved from, or load dict(state_dict), which is not checked."
        )


def _digest(head: Any) -> str:
    taxonomy = head.taxonomy
    assert isinstance(taxonomy, Taxonomy)
    return taxonomy.numbering
