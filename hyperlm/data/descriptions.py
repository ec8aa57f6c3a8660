"""What labels mean, in a sentence each: a table that goes with a taxonomy.

Enters: a table with the columns ``label`` and ``description``. Leaves: a description per node.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

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
    unknown: list[str] = []
    whole = {PATH_SEPARATOR.join(taxonomy.path(node)): node for node in range(len(taxonomy))}
    for place, label, description in _rows(Path(path)):
        try:
            # A whole path first: the path to a top node is a name that others may have.
            node = whole[label] if label in whole else taxonomy.index(label)
        except TaxonomyError as error:
            if label in taxonomy.names:  # several have it
                raise DataError(f"{place}: {error}") from error
            unknown.append(f"{place}: {error}")
            continue
        if node in lines:
            raise DataError(
                f"{place}: {label!r} was described before, in {lines[node]}. Keep one of the two."
            )
        lines[node] = place
        if description:
            found[node] = description
    if not found:
        why = f" {unknown[0]}" if unknown else f" Fill the column {_DESCRIPTION!r}."
        raise DataError(f"{path}: no label of the taxonomy is described.{why}")
    if unknown:
        warnings.warn(
            f"{path}: {len(unknown)} of {len(unknown) + len(lines)} labels are not in the taxonomy "
            f"and were left out. The first: {unknown[0]}",
            HyperlmWarning,
            stacklevel=2,
        )
    return found


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
