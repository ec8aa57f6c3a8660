"""From paths, name pairs or numbers to the parts of a taxonomy, with every refusal explained.

In go what a user gave to ``Taxonomy.from_paths``, ``from_edges`` or its constructor; out come
``Parts``: names, edges as pairs (child, parent) of positions in them, and positions where paths may
end. Nothing here knows of depth or of the final numbers.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, NoReturn

import numpy as np

from hyperlm.errors import TaxonomyError
from hyperlm.taxonomy_graph import IntArray


class Parts(NamedTuple):
    """What the constructor of ``Taxonomy`` takes."""

    names: Sequence[str]
    edges: Iterable[tuple[int, int]] | IntArray
    terminals: Iterable[int]


def parts_of_paths(paths: Iterable[Sequence[str]]) -> Parts:
    """One node per prefix of the paths; see ``Taxonomy.from_paths``."""
    numbers: dict[tuple[int, str], int] = {}
    names: list[str] = []
    pairs: list[tuple[int, int]] = []
    ends: set[int] = set()
    for i, path in enumerate(paths):
        if isinstance(path, str):
            raise TaxonomyError(f"path {i} is the string {path!r}; give a sequence of names.")
        node = -1
        try:
            for part in path:
                step = numbers.get((node, part))
                if step is None:
                    check_name(part, f"path {i}")
                    step = numbers[node, part] = len(names)
                    names.append(part)
                    if node >= 0:
                        pairs.append((step, node))
                node = step
        except TypeError as error:
            raise TaxonomyError(
                f"path {i} is {path!r}; it must be a sequence of names (strings)."
            ) from error
        if node < 0:
            raise TaxonomyError(f"path {i} is empty; a path names at least one node.")
        ends.add(node)
    return Parts(names, pairs, ends)


def parts_of_edges(
    edges: Iterable[tuple[str, str | None]],
    terminals: Iterable[str],
    *,
    root: str | None,
    tree: bool,
) -> Parts:
    """One node per name; see ``Taxonomy.from_edges``."""
    pairs: list[tuple[str, str | None]] = []
    for i, pair in enumerate(edges):
        if isinstance(pair, str) or not isinstance(pair, Iterable) or len(pair := (*pair,)) != 2:
            raise TaxonomyError(f"edge {i} is {pair!r}; an edge is a pair (child, parent).")
        child, parent = pair
        check_name(child, f"edge {i}, child")
        if parent is not None:
            check_name(parent, f"edge {i}, parent")
        pairs.append((child, parent))
    # Children first: siblings keep the order in which they occur as a child.
    names = list(dict.fromkeys([c for c, _ in pairs] + [p for _, p in pairs if p is not None]))
    numbers = {label: i for i, label in enumerate(names)}
    terminals = list(terminals)
    for what, label in [("root", root), *(("terminal", label) for label in terminals)]:
        if label is not None and label not in numbers:
            refuse_unknown(label, names, what)
    ids = np.array([(numbers[c], numbers[p]) for c, p in pairs if p is not None], np.int64)
    ids = ids.reshape(-1, 2)
    if tree:
        _refuse_two_parents(names, ids)
    return below_root(
        names,
        ids,
        [numbers[label] for label in terminals],
        root=None if root is None else numbers[root],
    )


def below_root(
    names: Sequence[str], edges: IntArray, terminals: Sequence[int], *, root: int | None = None
) -> Parts:
    """Leave the root out: the one given, or else the only name that is nobody's child."""
    sources = np.setdiff1d(np.arange(len(names)), edges[:, 0])
    if root is None:
        if len(sources) != 1:
            return Parts(names, edges, terminals)
        root = int(sources[0])
    if root in edges[:, 0]:
        above = int(edges[edges[:, 0] == root, 1][0])
        raise TaxonomyError(f"The root {names[root]!r} has the parent {names[above]!r}.")
    stray = [names[i] for i in sources if i != root]
    if stray:
        raise TaxonomyError(
            f"{listed(stray)} cannot be reached from the root {names[root]!r}. Give "
            "it a parent, or leave out root= to make every such name a top node."
        )
    if root in terminals:
        raise TaxonomyError(f"The root {names[root]!r} cannot be a terminal.")
    kept = edges[edges[:, 1] != root]
    return Parts(
        [*names[:root], *names[root + 1 :]],
        kept - (kept > root),  # the names behind the root move up by one
        [n - (n > root) for n in terminals],
    )


def checked_numbers(parts: Parts) -> tuple[IntArray, IntArray]:
    """Edges ``(E, 2)``, each once and in the given order, and terminals of parts found sound."""
    count = len(parts.names)
    if not count:
        raise TaxonomyError("A taxonomy needs at least one node besides its root; got none.")
    for i, label in enumerate(parts.names):
        check_name(label, f"node {i}")
    pairs = as_integers(parts.edges, "edges")
    if pairs.size and (pairs.ndim != 2 or pairs.shape[1] != 2):
        raise TaxonomyError(f"edges must have the shape (E, 2), got {pairs.shape}.")
    pairs, ends = pairs.reshape(-1, 2), as_integers(parts.terminals, "terminals").reshape(-1)
    for what, values in (("edges", pairs), ("terminals", ends)):
        if values.size and (values.min() < 0 or values.max() >= count):
            raise TaxonomyError(
                f"{what} hold numbers from {values.min()} to {values.max()}, but {count} "
                f"names allow 0 to {count - 1}."
            )
    first = np.unique(pairs[:, 0] * count + pairs[:, 1], return_index=True)[1]
    return pairs[np.sort(first)], ends


# -- checks and their messages -----------------------------------------------------------------


def check_name(label: object, where: str) -> None:
    """Refuse what is no text, empty, or cannot be written to a file."""
    if not isinstance(label, str):
        raise TaxonomyError(f"{where}: a name must be a str, got {type(label).__name__} {label!r}.")
    if not label or label.isspace():
        raise TaxonomyError(f"{where}: the name is empty ({label!r}). Every node needs a name.")
    try:
        label.encode()
    except UnicodeEncodeError as error:
        raise TaxonomyError(f"{where}: the name {label!r} is not valid Unicode text.") from error


def check_names_distinct(names: Sequence[str], parent: IntArray, *, is_tree: bool) -> None:
    """Names must differ among siblings in a tree, everywhere in a DAG."""
    if len(set(names)) == len(names):
        return
    seen: set[tuple[int, str]] = set()
    for above, label in zip(parent.tolist(), names, strict=True):
        key = (above if is_tree else -1, label)
        if key in seen:
            where = f"below {names[above]!r}" if above >= 0 else "at the top"
            raise TaxonomyError(
                f"Two nodes {where} have the name {label!r}; siblings need different names."
                if is_tree
                else f"Two nodes have the name {label!r}; in a DAG every name is one node."
            )
        seen.add(key)


def _refuse_two_parents(names: Sequence[str], edges: IntArray) -> None:
    first_parent: dict[int, int] = {}
    for child, parent in edges.tolist():
        other = first_parent.setdefault(child, parent)
        if other != parent:
            raise TaxonomyError(
                f"{names[child]!r} has the parents {names[other]!r} and {names[parent]!r}, but a "
                "tree was asked for. Drop one, or build a DAG with tree=False."
            )


def refuse_cycle(names: Sequence[str], loop: list[int]) -> NoReturn:
    """Show a cycle, in part where it is long."""
    shown = [names[n] for n in (*loop, loop[0])]
    if len(shown) > 12:
        shown = [*shown[:10], f"... ({len(loop)} nodes)", shown[-1]]
    raise TaxonomyError(
        f"Cycle (parent -> child): {' -> '.join(shown)}. Remove one of these edges."
    )


def refuse_unknown(label: object, known: Sequence[str], what: str) -> NoReturn:
    """Name the unknown label and the closest known ones."""
    close = get_close_matches(label, known, n=3) if isinstance(label, str) else []
    hint = f"Did you mean {listed(close)}?" if close else f"Known: {listed(known)}."
    raise TaxonomyError(f"{what}: there is no {label!r}. {hint}")


def as_integers(values: Any, what: str) -> IntArray:
    """Integers of any shape; refuses floats, ragged rows and whatever else numpy would bend."""
    if isinstance(values, Iterable) and not isinstance(values, Sequence | np.ndarray):
        values = list(values)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise TaxonomyError(f"{what} must be integers in rows of equal length.") from error
    if array.size and array.dtype.kind not in "iu":
        raise TaxonomyError(f"{what} must be integers, got {array.dtype}.")
    return array.astype(np.int64)


def listed(items: Sequence[str], most: int = 8) -> str:
    """Names for a message, the first few of many."""
    shown = ", ".join(repr(item) for item in items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")
