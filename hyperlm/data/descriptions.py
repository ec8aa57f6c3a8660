"""What labels mean, in a sentence each: a table that goes with a taxonomy.

Enters: a table with the columns ``label`` and ``description``. Leaves: a description per node.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

from hyperlm.data.gold import path_finder
from hyperlm.data.labels import label_name
from hyperlm.data.table import file_table
from hyperlm.errors import DataError, HyperlmWarning, TaxonomyError
from hyperlm.taxonomy import PATH_SEPARATOR, Taxonomy

__all__ = ["read_descriptions"]

_LABEL, _DESCRIPTION = "label", "description"


def read_descriptions(path: str | Path, taxonomy: Taxonomy) -> dict[int, str]:
    """Node -> description, for the nodes that have one.

    Args:
        path: a table of any format that data may have. ``label`` is a name, or a path as
            ``a > b > c`` where several nodes share a name; a row without a description is as none.
            It may describe more labels than there are, of which a warning tells.
    Raises:
        DataError: a column is missing, a label is ambiguous or described twice, or none is
            described; the message names the line.
    """
    found: dict[int, str] = {}
    lines: dict[int, str] = {}
    unknown: list[tuple[str, str]] = []
    whole = {PATH_SEPARATOR.join(taxonomy.path(node)): node for node in range(len(taxonomy))}
    find, names = path_finder(taxonomy), set(taxonomy.names)
    for place, label, description in _rows(Path(path)):
        # A whole path first: the path to a top node is a name that others may have.
        node = whole.get(label, find((label,)))
        if node is None and label not in names:  # in a DAG a path by another parent
            node = find(tuple(label.split(PATH_SEPARATOR)))
        if node is None and label in names:  # several have it
            raise DataError(f"{place}: {_why(taxonomy, label)}")
        if node is None:
            unknown.append((place, label))
            continue
        if node in lines:
            raise DataError(
                f"{place}: {label!r} was described before, in {lines[node]}. Keep one of the two."
            )
        lines[node] = place
        if description:
            found[node] = description
    if not found:
        first = _unknown(taxonomy, *unknown[0]) if unknown else f"Fill the column {_DESCRIPTION!r}."
        raise DataError(f"{path}: no label of the taxonomy is described. {first}")
    if unknown:
        warnings.warn(
            f"{path}: {len(unknown)} of {len(unknown) + len(lines)} labels are not in the taxonomy "
            f"and were left out. The first: {_unknown(taxonomy, *unknown[0])}",
            HyperlmWarning,
            stacklevel=2,
        )
    return found


def _unknown(taxonomy: Taxonomy, place: str, label: str) -> str:
    return f"{place}: {_why(taxonomy, label)}"


def _why(taxonomy: Taxonomy, label: str) -> str:
    """What is wrong with a label that is no node; near names take a moment, so for one alone."""
    try:
        taxonomy.index(label)
    except TaxonomyError as error:
        return str(error)
    raise AssertionError(f"{label!r} is a node")


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    table = file_table(path)
    for number, row in table.rows:
        place = table.place(number)
        missing = [name for name in (_LABEL, _DESCRIPTION) if name not in row]
        if missing:
            raise DataError(
                f"{place}: no column {missing[0]!r}; the columns are {list(row)}. A table of "
                f"descriptions has {_LABEL!r} (a name, or a path as 'a > b') and {_DESCRIPTION!r}."
            )
        label = label_name(row[_LABEL], place, _LABEL)
        meaning = row[_DESCRIPTION] or ""
        if not isinstance(meaning, str):
            raise DataError(
                f"{place}: {_DESCRIPTION!r} holds {type(meaning).__name__} {str(meaning)[:60]!r} "
                "where a sentence is expected."
            )
        yield place, label, " ".join(meaning.split())
