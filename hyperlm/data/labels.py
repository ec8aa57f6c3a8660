"""From table rows to texts with gold label paths.

A gold path is a tuple of names from the top of the taxonomy down; it may end at any depth, and a
text may have several. ``read_labels`` turns every row into a text and its paths or names the row
where that fails; in which columns they stand is settled before, by :mod:`~.columns`.
"""

import difflib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hyperlm.data.columns import Columns, no_column
from hyperlm.data.table import Row, Table
from hyperlm.errors import DataError, OptionError

__all__ = ["LabelPath", "LabelledTexts", "label_name", "read_labels", "text_of"]

LabelPath = tuple[str, ...]


@dataclass(frozen=True, repr=False)
class LabelledTexts:
    """Texts and their gold paths, with the place each came from.

    ``paths[i]`` holds one or more paths of names, root side first, and none for an unlabelled text.
    ``lines[i]`` is where text i begins in ``name``, counted from 1 in ``unit``. ``replies[i]`` is
    the text wanted in answer to text i; ``None`` where the data has labels alone.
    """

    texts: tuple[str, ...]
    paths: tuple[tuple[LabelPath, ...], ...]
    name: str = ""
    lines: tuple[int, ...] = ()
    unit: str = "line"
    replies: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(self.texts))
        _refuse_bare_names(self.paths)
        paths = tuple(tuple(tuple(path) for path in of_text) for of_text in self.paths)
        object.__setattr__(self, "paths", paths)
        lines = tuple(self.lines) or tuple(range(1, len(self.texts) + 1))
        object.__setattr__(self, "lines", lines)
        if not len(self.texts) == len(self.paths) == len(self.lines):
            raise DataError(
                f"LabelledTexts: {len(self.texts)} texts, {len(self.paths)} entries of paths and "
                f"{len(self.lines)} of lines. Give one of each per text; () means unlabelled."
            )
        if self.replies is not None:
            object.__setattr__(self, "replies", tuple(self.replies))
            if len(self.replies) != len(self.texts):
                raise DataError(
                    f"LabelledTexts: {len(self.texts)} texts and {len(self.replies)} replies. Give "
                    "one for each text, or none at all."
                )

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"<LabelledTexts {self.name!r}: {len(self):,} texts>"

    def place(self, i: int) -> str:
        """Where text ``i`` stands, for a message: ``train.csv, line 7``."""
        return f"{self.name or 'texts'}, {self.unit} {self.lines[i]}"

    def take(self, indices: Iterable[int]) -> "LabelledTexts":
        """The texts at ``indices``, in that order."""
        chosen = [int(i) for i in indices]
        return LabelledTexts(
            tuple(self.texts[i] for i in chosen),
            tuple(self.paths[i] for i in chosen),
            self.name,
            tuple(self.lines[i] for i in chosen),
            self.unit,
            None if self.replies is None else tuple(self.replies[i] for i in chosen),
        )

    def sample(self, count: int, seed: int = 0) -> "LabelledTexts":
        """``count`` of the texts, drawn by the seed, in their order; all where there are fewer.

        Of two samples by one seed the smaller is part of the larger.
        """
        if count < 1:
            raise OptionError(f"a sample of {count} texts: take at least 1.")
        order = list(range(len(self)))
        random.Random(seed).shuffle(order)
        return self.take(sorted(order[:count]))

    @property
    def empty_texts(self) -> tuple[int, ...]:
        """Indices of texts with nothing but white space; they are kept."""
        return tuple(i for i, text in enumerate(self.texts) if not text.strip())


def _refuse_bare_names(paths: Iterable[Any]) -> None:
    """A name is a sequence of letters, and a path a sequence of names: both could be read on."""
    for number, of_text in enumerate(paths):
        if isinstance(of_text, str) or any(isinstance(path, str) for path in of_text):
            raise DataError(
                f"LabelledTexts: the paths of text {number} are {of_text!r}. Give each text a list "
                "of paths, and each path as names from the top, as [('animal', 'bird')]."
            )


def text_of(row: Row, column: str, *, place: str = "", option: str = "--text-column") -> str:
    """The text of a row: a string, a list of strings joined by spaces, or "" where it is null.

    Raises:
        DataError: The column is absent from this row or holds something else.
    """
    if column not in row:
        raise DataError(f"{place}: no {column!r} in this row, only {list(row)}. Add it.")
    value = row[column]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(value)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{place}: {column!r} holds {type(value).__name__} {str(value)[:40]!r}, not a text. "
            f"Write a string (or a list of strings), or name another column with {option}."
        )
    return value


def label_name(value: Any, place: str, column: str) -> str:
    """One label cell as a name; "" means none."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas turns whole numbers into floats where one is missing
    if not isinstance(value, str | int | float):
        raise DataError(
            f"{place}: {column!r} holds {type(value).__name__} {str(value)[:60]!r} where a label "
            "name is expected. Give names; or a list of names, top first, in one label column."
        )
    return str(value).strip()


def _path(values: Iterable[Any], place: str, column: str, hint: str = "") -> LabelPath:
    """Names up to the first empty one, after which only empty ones may follow."""
    names = [label_name(value, place, column) for value in values]
    end = names.index("") if "" in names else len(names)
    if any(names[end:]):
        raise DataError(
            f"{place}: an empty label above {next(filter(None, names[end:]))!r} (the path reads "
            f"{names}). A path may end early, but has no gaps: fill in the missing level.{hint}"
        )
    return tuple(names[:end])


def _is_whole(part: Any, separator: str) -> bool:
    """A whole path in a list: several such are several paths, not the names of one."""
    return isinstance(part, str) and separator in part


def _paths_of(row: Row, columns: Columns, place: str) -> tuple[LabelPath, ...]:
    if len(columns.labels) > 1:
        taken = f" Taken for levels: {', '.join(columns.labels)}; --label-columns names others."
        values = [row.get(name) for name in columns.labels]
        found = [_path(values, place, columns.labels[0], taken)]
    else:
        name = columns.labels[0]
        value = row.get(name)
        if isinstance(value, str):
            cells = [value] if columns.between is None else value.split(columns.between)
            found = [_path(cell.split(columns.separator), place, name) for cell in cells]
        elif isinstance(value, list) and any(isinstance(part, list) for part in value):
            if not all(isinstance(part, list) for part in value):
                raise DataError(
                    f"{place}: {name!r} mixes names and lists: {str(value)[:80]}. Give one list of "
                    "names (one path), or a list of such lists (several paths)."
                )
            found = [_path(part, place, name) for part in value]
        elif isinstance(value, list) and (
            columns.between is not None or any(_is_whole(part, columns.separator) for part in value)
        ):
            names = [label_name(part, place, name) for part in value]
            cells = (
                names
                if columns.between is None
                else columns.between.join(names).split(columns.between)
            )
            found = [_path(cell.split(columns.separator), place, name) for cell in cells]
        else:
            found = [_path(value if isinstance(value, list) else [value], place, name)]
    return _longest(tuple(dict.fromkeys(path for path in found if path)))


def _longest(paths: tuple[LabelPath, ...]) -> tuple[LabelPath, ...]:
    """Without paths that go on in another one, as where every label above is listed too."""
    if len(paths) < 2:
        return paths
    above = {path[:end] for path in paths for end in range(1, len(path))}
    return tuple(path for path in paths if path not in above)


def _holds(value: Any) -> bool:
    """Whether a cell has something in it."""
    return not (value is None or value != value or str(value).strip() in ("", "[]"))


def _refuse_near_misses(columns: Columns, known: Row, table: Table) -> None:
    """A row of JSON lines may leave levels out; that all have ``L2`` instead is a mistake."""
    for name in columns.labels:
        others = {other.strip().lower() for other in known if other not in columns.labels}
        if name not in known and difflib.get_close_matches(name.strip().lower(), others, 1, 0.8):
            raise no_column(name, list(known), table.name, "--label-columns")


def read_labels(table: Table, columns: Columns, *, require_labels: bool = True) -> LabelledTexts:
    """All rows of a table as texts with gold paths.

    Empty rows at the end, as spreadsheets leave them, are none.

    Raises:
        DataError: A column is missing, a path has a gap, or a row has no label and needs one.
    """
    texts: list[str] = []
    paths: list[tuple[LabelPath, ...]] = []
    lines: list[int] = []
    replies: list[str] | None = None if columns.reply is None else []
    shared: dict[tuple[LabelPath, ...], tuple[LabelPath, ...]] = {}
    bare: list[int] = []
    blank: list[int] = []  # rows without anything since the last row with something
    known: dict[str, Any] = {}  # columns that any row has
    for number, row in table.rows:
        place = table.place(number)
        if not lines and (table.unit == "row" or not table.typed):
            options = {columns.text: "--text-column", columns.reply: "--reply-column"}
            for name in filter(None, (columns.text, *columns.labels, columns.reply)):
                if name not in row:
                    option = options.get(name, "--label-columns")
                    raise no_column(name, list(row), table.name, option)
        known.update(row)
        if require_labels and not any(map(_holds, row.values())):
            blank.append(number)
            continue
        bare += blank
        blank.clear()
        texts.append(text_of(row, columns.text, place=place) if columns.text is not None else "")
        found = _paths_of(row, columns, place)
        if require_labels and not found:
            bare.append(number)
        paths.append(shared.setdefault(found, found))
        lines.append(number)
        if replies is not None and columns.reply is not None:
            replies.append(text_of(row, columns.reply, place=place, option="--reply-column"))
    _refuse_near_misses(columns, known, table)
    if not texts:
        bare = blank
    if bare:
        elsewhere = "; texts without labels go to `hyperlm predict`" * (columns.text is not None)
        more = f" (nor in {len(bare) - 1:,} further rows, the last in {table.unit} {bare[-1]})"
        raise DataError(
            f"{table.place(bare[0])}: no label in {', '.join(map(repr, columns.labels))}"
            f"{more * (len(bare) > 1)}. Label the row or take it out{elsewhere}."
        )
    return LabelledTexts(
        tuple(texts),
        tuple(paths),
        table.name,
        tuple(lines),
        table.unit,
        None if replies is None else tuple(replies),
    )
