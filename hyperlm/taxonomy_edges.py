"""Taxonomies as edge lists in text: CSV or TSV, and ``.taxonomy``.

In CSV a header names the columns ``child`` and ``parent``; in ``.taxonomy`` every line holds a
parent and then its children, separated by tabs. A single name that is nobody's child is the root,
which is no node (written as "root"); an empty parent gives a name no parent.

Edge lists know nodes by name alone, so where a tree has a name twice (or a name that could be
misread) they hold the whole path, ``a > b > c``; reading a tree turns a name that begins with the
path of its parent back into its last part.
"""

import csv
import io
import re
from collections import Counter

import numpy as np

from hyperlm.errors import TaxonomyError
from hyperlm.taxonomy import PATH_SEPARATOR, Taxonomy

Pairs = list[tuple[str, str | None]]  # (child, parent)


def read_csv(text: str, delimiter: str, *, name: str) -> Taxonomy:
    """A header with the columns child and parent, then one pair a row."""
    return _without_path_names(Taxonomy.from_edges(_csv_pairs(text, delimiter), name=name))


def _csv_pairs(text: str, delimiter: str) -> Pairs:
    # A quoted name may stand behind a blank.
    rows = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    pairs: Pairs = []
    columns: tuple[int, int] | None = None
    width = 0
    line = 1  # where the row starts; a quoted name may span lines
    try:
        for row in rows:
            if columns is None:
                header = [cell.strip().lower() for cell in row]
                if not {"child", "parent"} <= set(header):
                    raise TaxonomyError(
                        "line 1: the first line must name the columns 'child' and 'parent'; got "
                        f"{delimiter.join(row)[:80]!r}."
                    )
                columns, width = (header.index("child"), header.index("parent")), len(row)
            elif row:
                if len(row) != width:
                    raise TaxonomyError(
                        f"line {line}: {len(row)} cells where {width} are due: {row}."
                    )
                # As people write lists: "bird, animal" names the animal, as labels of data do.
                child, parent = row[columns[0]].strip(), row[columns[1]].strip()
                if not child:
                    raise TaxonomyError(f"line {line}: the child's name is empty: {row}.")
                pairs.append((child, parent or None))
            line = rows.line_num + 1
    except csv.Error as error:
        raise TaxonomyError(f"line {line}: malformed row ({error}).") from error
    if columns is None:
        raise TaxonomyError("the file is empty; it needs the columns 'child' and 'parent'.")
    return pairs


def csv_text(taxonomy: Taxonomy, delimiter: str) -> str:
    """What ``read_csv`` reads; top nodes first, below the root."""
    names, root = _edge_names(taxonomy)
    # before Python 3.13 the writer leaves a lone carriage return unquoted
    quote_all = any("\r" in label for label in names)
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        delimiter=delimiter,
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL,
    )
    writer.writerow(("child", "parent"))
    writer.writerows((names[node], root) for node in taxonomy.levels[0])
    writer.writerows((names[child], names[parent]) for child, parent in taxonomy.edges.tolist())
    return out.getvalue()


def read_families(text: str, *, name: str) -> Taxonomy:
    """Lines of a parent and then its children, separated by tabs (``.taxonomy``)."""
    return _without_path_names(Taxonomy.from_edges(_family_pairs(text), name=name))


def _family_pairs(text: str) -> Pairs:
    pairs: Pairs = []
    for number, line in enumerate(text.split("\n"), 1):
        cells = line.rstrip("\t\r").split("\t")  # some writers end every line with a tab
        if cells == [""]:
            continue
        for i, cell in enumerate(cells):
            if not cell.strip():
                raise TaxonomyError(f"line {number}: name {i + 1} of {len(cells)} is empty.")
        parent, *children = (cell.strip() for cell in cells)
        pairs.extend((child, parent) for child in children)
        if not children:
            pairs.append((parent, None))
    return pairs


def families_text(taxonomy: Taxonomy) -> str:
    """What ``read_families`` reads, where tabs, line breaks and the order of parents allow it."""
    names, root = _edge_names(taxonomy)
    for label in names:
        if re.search(r"[\t\n\r]", label):
            raise TaxonomyError(
                f"{label!r} holds a tab or line break, which .taxonomy cannot; write .json or .csv."
            )
    families = [(root, taxonomy.children(-1))]
    families += [(names[n], taxonomy.children(n)) for n in np.unique(taxonomy.edges[:, 1])]
    pairs = [(names[c], parent) for parent, children in families for c in children]
    if not taxonomy.is_tree and Taxonomy.from_edges(pairs) != taxonomy:
        raise TaxonomyError(
            "listing children by parent loses the order of parents in this DAG; "
            "write .json or .csv."
        )
    return "".join(
        "\t".join((parent, *(names[c] for c in children))) + "\n" for parent, children in families
    )


def _edge_names(taxonomy: Taxonomy) -> tuple[list[str], str]:
    """A distinct name for every node, and one for the root."""
    names = list(taxonomy.names)
    for label in names:
        if label != label.strip():
            raise TaxonomyError(
                f"{label!r} begins or ends with a blank, which edge lists leave out; write .json "
                "or .yaml."
            )
    if taxonomy.is_tree:
        times = Counter(names)
        paths: list[str] = []
        for node, parent in enumerate(taxonomy.parent.tolist()):
            label = names[node]
            before = paths[parent] + PATH_SEPARATOR if parent >= 0 else ""
            paths.append(before + label)
            if times[label] > 1 or (before and label.startswith(before)):
                names[node] = paths[node]
        label, number = Counter(names).most_common(1)[0]
        if number > 1:
            raise TaxonomyError(
                f"{label!r} would stand for {number} nodes in an edge list; write .json or .yaml."
            )
    root = "root"
    taken = set(names)
    while root in taken:
        root = f"_{root}"
    return names, root


def _without_path_names(taxonomy: Taxonomy) -> Taxonomy:
    """Undo what ``_edge_names`` did to names that occur twice."""
    if not taxonomy.is_tree or not any(PATH_SEPARATOR in label for label in taxonomy.names):
        return taxonomy
    names: list[str] = []
    paths: list[str] = []
    for label, parent in zip(taxonomy.names, taxonomy.parent.tolist(), strict=True):
        before = paths[parent] + PATH_SEPARATOR if parent >= 0 else ""
        rest = label.removeprefix(before)
        names.append(rest if rest.strip() else label)
        paths.append(before + names[-1])
    return Taxonomy(names, taxonomy.edges, name=taxonomy.title)
