"""Signs that labels are not what they were taken for, in words; nothing is changed by them.

In: label paths as they were read, and the columns they stood in. Out: sentences without a full
stop, each with a remedy.
"""

import itertools
import unicodedata
from collections import Counter
from collections.abc import Sequence

from hyperlm.data.columns import Columns
from hyperlm.data.labels import LabelPath

__all__ = ["label_doubts", "separator_doubts"]

_SEPARATORS = ("/", "|", "::", "\\", ">", ";", ", ", ",")  # of paths, as they occur
_MISSING = {"na", "n/a", "#n/a", "nan", "null", "none", "-", "?"}  # what tables write for nothing
_PARTS = {"train", "training", "val", "valid", "validation", "dev", "test"}
_LISTED = 3


def label_doubts(
    paths: Sequence[LabelPath], columns: Columns, *, chosen: bool = False
) -> list[str]:
    """All doubts about the paths of a data set.

    Args:
        chosen: somebody named the label columns.
    """
    doubts = _ids(paths, columns)
    names = Counter(name for path in paths for name in path)
    if not chosen:
        doubts += _odd_columns(paths, columns)
    doubts += [
        *_wrong_order(paths, columns),
        *_both_ways(paths),
        *_uneven(names, columns, paths),
        *_alike(paths),
        *_missing(names),
        *_cells(names, columns),
        *_anywhere(paths, columns),
        *_unsplittable(names, columns),
    ]
    written = _lists(names)
    # What stands between the names of a list is no separator.
    return doubts + (written or separator_doubts(paths, columns))


def separator_doubts(paths: Sequence[LabelPath], columns: Columns) -> list[str]:
    """Signs that whole paths were taken for names."""
    if len(columns.labels) > 1 or any(len(path) > 1 for path in paths):
        return []
    bare = columns.separator.strip()
    several = "" if columns.between else "; if labels of one text, as --label-separator"
    for sign in filter(None, dict.fromkeys((bare, *_SEPARATORS))):
        unsplit = sum(sign in path[0].strip(sign) for path in paths)
        # A slash may stand inside a name; in most of them it stands between names.
        if unsplit > (0 if sign == bare else len(paths) / 2):
            return [
                f"{unsplit} of {len(paths)} labels contain {sign!r}, none the separator "
                f"{columns.separator!r}: they were taken as one level. If {sign!r} separates "
                f"levels, give it as --path-separator{several}"
            ]
    return []


def _ids(paths: Sequence[LabelPath], columns: Columns) -> list[str]:
    """Columns with another name on every text."""
    if not len(set(paths)) == len(paths) > 20:
        return []
    names = [{path[at] for path in paths if len(path) > at} for at in range(len(columns.labels))]
    single = len(columns.labels) == 1  # whole paths, which differ
    own = [c for c, n in zip(columns.labels, names, strict=True) if single or len(n) == len(paths)]
    of = ", ".join(map(repr, own))
    return [f"every text has a label of its own: look whether {of} holds ids"] if own else []


def _odd_columns(paths: Sequence[LabelPath], columns: Columns) -> list[str]:
    """Columns beside the labels that were taken for levels, since nobody named any."""
    if len(columns.labels) < 2:
        return []
    levels = [{path[at] for path in paths if len(path) > at} for at in range(len(columns.labels))]
    numeric = [bool(names) and all(map(_is_number, names)) for names in levels]
    doubts = []
    for column, names, digits in zip(columns.labels, levels, numeric, strict=True):
        if not names:
            what = "is empty in every row"
        elif len(names) > 1 and {name.lower() for name in names} <= _PARTS:
            what = "says which split a text is of"
        elif digits and not all(numeric):
            what = "holds numbers, where other label columns have names"
        elif digits and all(len(some) <= 2 for some in levels):
            what = "holds one of two numbers, as columns do that mark a label each"
        else:
            continue
        doubts.append(
            f"column {column!r} was taken for a level and {what}: name the label columns with "
            "--label-columns, coarse to fine"
        )
    return doubts


def _wrong_order(paths: Sequence[LabelPath], columns: Columns) -> list[str]:
    """A level whose nodes all have one child, of which there are fewer: the finer one is on top."""
    doubts = []
    for at, (upper, lower) in enumerate(zip(columns.labels, columns.labels[1:], strict=False)):
        pairs = {path[at : at + 2] for path in paths if len(path) > at + 1}
        above, below = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
        if len(pairs) == len(above) > len(below) > 1:
            doubts.append(
                f"every {upper!r} has a single {lower!r} below it, and there are fewer of those: "
                "give --label-columns coarse to fine"
            )
    return doubts


def _alike(paths: Sequence[LabelPath]) -> list[str]:
    """Labels of one parent that differ in nothing a reader sees, or in capitals alone."""
    groups: dict[tuple[str, ...], set[str]] = {}
    for prefix in {path[:end] for path in paths for end in range(1, len(path) + 1)}:
        groups.setdefault(tuple(map(_plain, prefix)), set()).add(prefix[-1])
    several = sorted(sorted(names) for names in groups.values() if len(names) > 1)
    if not several:
        return []
    shown = "; ".join(", ".join(map(_seen, names)) for names in several[:_LISTED])
    more = " and others" if len(several) > _LISTED else ""
    count = "label is" if len(several) == 1 else "labels are"
    return [
        f"{len(several)} {count} written in several ways, which count as different: {shown}{more}. "
        "Write alike what means one thing"
    ]


def _both_ways(paths: Sequence[LabelPath]) -> list[str]:
    """Names above one another in both orders: labels of a text, not levels of a path."""
    pairs = {pair for path in paths for pair in itertools.pairwise(path)}
    both = sorted(pair for pair in pairs if pair[0] < pair[1] and pair[::-1] in pairs)
    if not both:
        return []
    upper, lower = both[0]
    return [
        f"{upper!r} stands above {lower!r} and below it: a list of names is one path, from the top "
        'down. Several labels of one text are a list of paths, as [["a"], ["b"]], or one cell with '
        "--label-separator"
    ]


def _anywhere(paths: Sequence[LabelPath], columns: Columns) -> list[str]:
    """Names below others that also stand on top: labels in a list, which was read as a path."""
    if len(columns.labels) > 1:
        return []
    top = {path[0] for path in paths}
    below = {name for path in paths for name in path[1:]}
    both = sorted(top & below)
    if len(both) < max(2, len(below) / 2):
        return []
    return [
        f"{len(both)} of {len(below)} names below others stand on top too, as {both[0]!r}: if they "
        "are labels of one text, not levels of a path, give --label-separator ';' (in a list each "
        "name is a label then)"
    ]


def _uneven(names: Counter[str], columns: Columns, paths: Sequence[LabelPath]) -> list[str]:
    """Paths that were left whole where the separator stands without its spaces."""
    bare = columns.separator.strip()
    split = any(len(path) > 1 for path in paths)
    whole = sorted(name for name in names if bare in name) if bare else []
    if len(columns.labels) > 1 or bare == columns.separator or not split or not whole:
        return []
    return [
        f"{len(whole):,} names contain {bare!r} without the spaces of {columns.separator!r}, as "
        f"{whole[0]!r}, and were taken as one name: write the separator alike everywhere"
    ]


def _missing(names: Counter[str]) -> list[str]:
    found = sorted(name for name in names if name.lower() in _MISSING)
    if not found:
        return []
    count = sum(names[name] for name in found)
    return [
        f"{count:,} labels read {', '.join(map(repr, found))}: if that means none, leave the cell "
        "empty, and the path ends above it"
    ]


def _lists(names: Counter[str]) -> list[str]:
    """Lists written as text, whole or cut at their commas."""
    lists = [
        name
        for name in names
        if (name[:1] + name[-1:] == "[]") or name[:2] in ("['", '["') or name[-2:] in ("']", '"]')
    ]
    if not lists:
        return []
    count = sum(names[name] for name in lists)
    return [
        f"{count:,} labels are lists written as text, or parts of them, as {lists[0]!r}: save the "
        "table as JSON lines or Parquet. A list of names is one path there; labels of one text are "
        'lists of their own, as [["a"], ["b"]]'
    ]


def _cells(names: Counter[str], columns: Columns) -> list[str]:
    """Several labels in one cell."""
    joined = [name for name in names if ";" in name]
    if len(columns.labels) == 1 and joined and len(joined) > len(names) / 10:
        return [
            f"{len(joined):,} names contain ';', as {joined[0]!r}: if it stands between labels of "
            "one text, give --label-separator ';'"
        ]
    return []


def _unsplittable(names: Counter[str], columns: Columns) -> list[str]:
    inside = [name for name in names if columns.separator in name]
    if len(columns.labels) < 2 or not inside:
        return []
    return [
        f"{len(inside):,} names contain {columns.separator!r}, which stands between names in "
        f"answers, as {inside[0]!r}: write them without"
    ]


def _plain(name: str) -> str:
    """Without what nobody sees, and in small letters."""
    seen = "".join(
        " " if ch.isspace() else ch
        for ch in unicodedata.normalize("NFKC", name)
        if unicodedata.category(ch) != "Cf"
    )
    return " ".join(seen.casefold().split())


def _seen(name: str) -> str:
    """A name in quotes, with signs that do not show spelt out."""
    hidden = any(unicodedata.category(ch) in ("Cf", "Mn") for ch in name)
    return ascii(name) if hidden else repr(name)


def _is_number(name: str) -> bool:
    try:
        float(name.replace(",", "."))
    except ValueError:
        return False
    return True
