"""From gold label paths to node numbers of a taxonomy.

In: texts with paths of names. Out: the end node of every path. Labels that the taxonomy lacks are
collected over all texts and reported together.
"""

import difflib
from collections.abc import Callable, Collection

import numpy as np

from hyperlm.data.labels import LabelledTexts, LabelPath
from hyperlm.errors import DataError
from hyperlm.taxonomy import Taxonomy

__all__ = ["gold_nodes", "path_finder"]


def path_finder(taxonomy: Taxonomy) -> Callable[[LabelPath], int | None]:
    """A function from a path of names to its end node, None where the taxonomy has no such path.

    A path starts at the top and follows edges. A single name may stand for its whole path when
    just one node has that name.
    """
    names = taxonomy.names
    below = {(int(p), names[c]): int(c) for c, p in taxonomy.edges}
    below |= {(-1, names[n]): n for n in range(len(taxonomy)) if taxonomy.depth[n] == 1}
    named: dict[str, list[int]] = {}
    for node, name in enumerate(names):
        named.setdefault(name, []).append(node)

    def find(path: LabelPath) -> int | None:
        node: int | None = -1
        for name in path:
            node = below.get((node, name)) if node is not None else None
        alone = named.get(path[0], []) if len(path) == 1 else []
        return alone[0] if node is None and len(alone) == 1 else node

    return find


def gold_nodes(texts: LabelledTexts, taxonomy: Taxonomy) -> list[np.ndarray]:
    """End nodes of every text's gold paths, int64 ``(number of paths,)`` per text.

    Each once, and none that lies above another.

    Raises:
        DataError: Labels that the taxonomy lacks: one error that counts and places them all.
    """
    find = path_finder(taxonomy)
    nodes: dict[LabelPath, int | None] = {}
    rows: dict[LabelPath, list[int]] = {}
    gold: list[np.ndarray] = []
    for i, paths in enumerate(texts.paths):
        for path in paths:
            if path not in nodes:
                nodes[path] = find(path)
            if nodes[path] is None:
                rows.setdefault(path, []).append(i)
        ends = list(dict.fromkeys(node for p in paths if (node := nodes[p]) is not None))
        if len(ends) > 1:  # labels above another one are said by it
            above = {int(node) for end in ends for node in taxonomy.ancestors(end)}
            ends = [end for end in ends if end not in above]
        gold.append(np.array(ends, dtype=np.int64))
    if rows:
        raise _unseen(texts, taxonomy, rows)
    return gold


def _unseen(
    texts: LabelledTexts, taxonomy: Taxonomy, rows: dict[LabelPath, list[int]]
) -> DataError:
    shown = []
    for path, where in list(rows.items())[:5]:
        lines = ", ".join(str(texts.lines[i]) for i in where[:3]) + (", ..." * (len(where) > 3))
        names = taxonomy.names
        known = path[-1] in names or len(names) > 20_000  # comparing with more takes seconds
        near = [] if known else difflib.get_close_matches(path[-1], names, 1, 0.8)
        hint = f"; near: {near[0]!r}" if near else ""
        shown.append(f"{' > '.join(path)!r} ({texts.unit} {lines}{hint})")
    more = f", and {len(rows) - 5} more" if len(rows) > 5 else ""
    remedy = _several(taxonomy, rows) or (
        "Correct these labels, take the rows out, or train with a taxonomy that has them."
    )
    affected = len({i for where in rows.values() for i in where})
    return DataError(
        f"{texts.name or 'texts'}: {affected} of {len(texts)} texts have labels that are not in "
        f"the taxonomy ({len(rows)} different): {', '.join(shown)}{more}. {remedy}"
    )


def _several(taxonomy: Taxonomy, unknown: Collection[LabelPath]) -> str | None:
    """What to do where an unknown path falls apart into known ones."""
    find = path_finder(taxonomy)
    tops = {path[0] for path in unknown}
    if len(tops) == 1 and all(find(path[1:]) is not None for path in unknown if len(path) > 1):
        (top,) = tops
        if top not in taxonomy.names and any(len(path) > 1 for path in unknown):
            return (
                f"Below {top!r} they all are known. A single name at the top of a taxonomy is its "
                f"root and no label: leave {top!r} out of the labels (a column of its own with "
                "--label-columns), or put another name beside it in the taxonomy."
            )
    for path in unknown:
        if len(path) > 1 and all(find((name,)) is not None for name in path):
            return (
                "If the names in a list are labels of one text, and no path from the top down, "
                "give --label-separator ';'."
            )
        for sign in ";|,":
            # A separator of paths was read already: between the labels its names stand joined.
            cells = " > ".join(path).split(sign)
            parts = [tuple(name.strip() for name in cell.split(" > ")) for cell in cells]
            if len(parts) > 1 and all(find(part) is not None for part in parts):
                option = f"--label-separator {sign!r}"
                return f"If {sign!r} stands between labels of one text, give {option}."
    return None
