"""Tables on disk, row by row: CSV, TSV, JSON lines and parquet, each plain or gzipped.

In: a path. Out: an iterator of ``{column: value}``, in file order, holding one row (parquet: one
batch) at a time. Text formats are UTF-8, with or without a byte order mark. What cannot be read
exactly is an error that names file and line: nothing is guessed, replaced or skipped. Whether a CSV
has commas or semicolons stands in its header.
"""

import codecs
import contextlib
import csv
import io
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from hyperlm.data.textfile import decoded_lines, opened
from hyperlm.errors import DataError

__all__ = [
    "FORMATS",
    "CsvForm",
    "Row",
    "Table",
    "csv_form",
    "file_table",
    "read_columns",
    "read_rows",
    "table_format",
]

Row = dict[str, Any]
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
_PARQUET_BATCH = 1024
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # an index without a name, as pandas keeps it
_EXCEL = re.compile(r'"?sep=[,;]"?\s*', re.IGNORECASE)
_HEADER_LINES = 100
# The csv module stops at 131,072 characters, which one long document exceeds. The limit is a C
# long, 32 bits wide on Windows.
_FIELD_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class CsvForm:
    """How a CSV is written: the sign between its columns, and whether a byte order mark leads."""

    separator: str = ","
    marked: bool = False


@dataclass(frozen=True)
class _FileRows:
    """The rows of a file, read anew by each loop over them."""

    read: Callable[..., Iterator[tuple[int, Row]]]
    arguments: tuple[Any, ...]

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        return self.read(*self.arguments)


@dataclass(frozen=True)
class Table:
    """Rows with their place, however they came to be.

    ``rows`` yields ``(number, row)``, as often as it is looped over; the number counts lines or
    rows of ``name`` from 1, as ``unit`` says. ``typed`` tables can hold lists and numbers, the
    others strings only. ``labels`` and ``reply`` are the columns taken for these where nobody names
    others; tables that say nothing about it leave them ``None``.
    """

    name: str
    rows: Iterable[tuple[int, Row]]
    unit: str = "line"
    typed: bool = False
    labels: tuple[str, ...] | None = None
    reply: str | None = None

    def columns(self) -> Row:
        """The first row; in JSON lines, whose rows may leave keys out, with what later ones add."""
        rows = iter(self.rows)
        _, row = next(rows)
        if self.typed and self.unit == "line":
            for _, other in rows:
                if not other.keys() <= row.keys():
                    row = row | {name: v for name, v in other.items() if name not in row}
        return row

    def place(self, number: int) -> str:
        """Where row ``number`` stands, for a message: ``train.csv, line 7``."""
        return f"{self.name}, {self.unit} {number}"


def table_format(path: str | Path) -> tuple[str, bool]:
    """Suffix of the format (one of ``FORMATS``) and whether the file is gzipped.

    Raises:
        DataError: The suffix is none of these.
    """
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    gzipped = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if gzipped else suffixes)[-1:]
    if not suffix or suffix[0] not in FORMATS:
        hint = "; one JSON object per line belongs in a .jsonl file" if ".json" in suffixes else ""
        raise DataError(
            f"{path}: unknown kind of file {''.join(suffixes) or '(no suffix)'!r}. Tables end in "
            f"{', '.join(FORMATS)}, each also with .gz{hint}. Rename or convert the file."
        )
    return suffix[0], gzipped


def read_rows(path: str | Path) -> Iterator[Row]:
    """Rows of a table, streaming, all columns in file order.

    Values are strings in CSV and TSV, and whatever the file says in JSON lines and parquet.

    Raises:
        DataError: While iterating, at the first thing that cannot be read exactly.
    """
    return (row for _, row in file_table(path).rows)


def read_columns(path: str | Path) -> tuple[str, ...]:
    """Column names of a table, in order (JSON lines: the keys of the first row)."""
    return tuple(next(read_rows(path)))


def file_table(path: str | Path) -> Table:
    """The table in a file; nothing is opened before its rows are asked for."""
    path = Path(path)
    suffix, gzipped = table_format(path)
    if suffix == ".parquet":
        return Table(str(path), _FileRows(_parquet_rows, (path, gzipped)), unit="row", typed=True)
    if suffix == ".jsonl":
        return Table(str(path), _FileRows(_jsonl_rows, (path, gzipped)), typed=True)
    return Table(str(path), _FileRows(_csv_rows, (path, gzipped, suffix == ".tsv")))


def csv_form(path: str | Path) -> CsvForm:
    """How a CSV is written. The header decides: semicolons and no comma mean semicolons.

    Raises:
        DataError: The file cannot be read.
    """
    path = Path(path)
    with opened(path, table_format(path)[1]) as stream:
        marked = stream.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
        stream.seek(0)
        return CsvForm(_separator(_header(decoded_lines(path, stream))), marked)


def header_of(path: str | Path) -> list[str]:
    """Names of the columns of a CSV or TSV as they stand there; none of an empty one.

    Raises:
        DataError: The file cannot be read.
    """
    path = Path(path)
    suffix, gzipped = table_format(path)
    with opened(path, gzipped) as stream:
        above = _header(decoded_lines(path, stream))
    rows = csv.reader(above, delimiter="\t" if suffix == ".tsv" else _separator(above))
    try:
        return next((row for row in rows if any(row)), [])
    except csv.Error as error:
        raise DataError(_csv_trouble(path, 1, rows.line_num, error)) from error


def _header(lines: Iterator[str]) -> list[str]:
    """Lines up to the end of the header, whose quoted names may have a few breaks."""
    above: list[str] = []
    quotes = begun = 0
    for line in lines:
        if not above and _EXCEL.fullmatch(line):
            line = "\n"  # a word to Excel, and no header; the header says it again
        above.append(line)
        begun += bool(begun or line.strip())
        quotes += line.count('"')
        # A stray quote must not draw the whole file into memory; reading then explains it.
        if begun and (quotes % 2 == 0 or begun == _HEADER_LINES):
            break
    return above


def _separator(header: Sequence[str]) -> str:
    """The sign between the columns of a CSV: Excel writes semicolons in much of Europe."""
    return ";" if _columns(header, ",") < 2 <= _columns(header, ";") else ","


def _columns(header: Sequence[str], separator: str) -> int:
    """Columns of a header; 0 where its quotes do not fit the separator."""
    try:
        rows = list(csv.reader(header, delimiter=separator, strict=True))
    except csv.Error:
        return 0
    return len(rows[-1]) if rows else 0


def _csv_rows(path: Path, gzipped: bool, tabs: bool) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(_FIELD_LIMIT)
    with opened(path, gzipped) as stream:
        lines = decoded_lines(path, stream)
        above = [] if tabs else _header(lines)
        delimiter = "\t" if tabs else _separator(above)
        # strict: an unclosed quote would otherwise swallow the rest of the file into one text.
        reader = csv.reader(itertools.chain(above, lines), delimiter=delimiter, strict=True)
        header: list[str] = []
        blank: list[int] = []  # in a table of one column, an empty line may be an empty text
        empty = True
        while True:
            start = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                raise DataError(_csv_trouble(path, start, reader.line_num, error)) from error
            if not any(fields) and len(fields) < 2 and not header:
                continue  # blank lines above the header
            if not header:
                header = [name.strip() for name in fields]
                _refuse_duplicates(path, header)
                continue
            if not fields:
                blank += [start] * (len(header) == 1)
                continue
            for number in blank:
                yield number, {header[0]: ""}
            blank.clear()
            if len(fields) != len(header):
                sign = {"\t": "tabs", ";": "semicolons", ",": "commas"}[delimiter]
                raise DataError(
                    f"{path}, line {start}: {len(fields)} fields, but the header has {len(header)} "
                    f"({_listed(header)}). Put fields that contain {sign} in double quotes, and "
                    "leave the cell empty where a value is missing."
                )
            empty = False
            yield start, dict(zip(header, fields, strict=True))
        if not header:
            raise DataError(f"{path}: the file is empty. It needs a header row and data rows.")
        if empty:
            raise DataError(
                f"{path}: a header ({_listed(header)}) and no rows below it. Add rows, or name "
                "another file."
            )


def _csv_trouble(path: Path, start: int, line: int, error: csv.Error) -> str:
    said = str(error)
    if "unexpected end" in said:
        return (
            f"{path}, line {start}: a double quote opens a field in this row and is never closed. "
            'Close it, and write a quote inside a quoted field as "".'
        )
    if "new-line" in said:
        return (
            f"{path}, line {line}: a bare carriage return ends a line. Save the file with Unix or "
            "Windows line ends."
        )
    if "expected after" in said:
        return (
            f"{path}, line {line}: text follows a closing double quote. Write a quote inside a "
            'quoted field as "", or save the table as JSON lines.'
        )
    return f"{path}, line {line}: not readable as a table ({said})."


def _refuse_duplicates(path: Path, columns: list[str]) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError(
            f"{path}, line 1: the header has {_listed(twice)} more than once (columns: "
            f"{_listed(columns)}). Give every column its own name."
        )


def _unique_keys(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} stands there twice")
    return row


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value; write null where there is none")


def _jsonl_rows(path: Path, gzipped: bool) -> Iterator[tuple[int, Row]]:
    empty = True
    with opened(path, gzipped) as stream:
        for number, line in enumerate(decoded_lines(path, stream), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
                if "\\ud" in line.lower():  # half a surrogate pair cannot be written or tokenised
                    json.dumps(row, ensure_ascii=False).encode("utf-8")
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}, line {number}: not valid JSON ({error.msg}, column {error.colno}). "
                    "Each line holds one complete object."
                ) from error
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: not usable as JSON: {error}.") from error
            if not isinstance(row, dict):
                raise DataError(
                    f"{path}, line {number}: {type(row).__name__} instead of an object. Each line "
                    'holds one object such as {"text": "...", "label": ["a", "b"]}.'
                )
            empty = False
            yield number, row
    if empty:
        raise DataError(f"{path}: the file is empty. It needs one JSON object per line.")


def _parquet_rows(path: Path, gzipped: bool) -> Iterator[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    with contextlib.ExitStack() as stack:
        stream: BinaryIO = stack.enter_context(opened(path, gzipped))
        if gzipped:  # parquet is read from its end, which a gzip stream reaches only by unpacking
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stream, unpacked)
            stream = cast(BinaryIO, unpacked)
        if stream.seek(0, io.SEEK_END) == 0:
            raise DataError(f"{path}: the file is empty. It needs columns and rows.")
        stream.seek(0)
        try:
            table = pyarrow.parquet.ParquetFile(stream)
            # Numbers of rows say nothing; names of them are somebody's ids.
            columns = [
                field.name
                for field in table.schema_arrow
                if not (
                    _PANDAS_INDEX.fullmatch(field.name) and pyarrow.types.is_integer(field.type)
                )
            ]
            _refuse_duplicates(path, columns)
            for batch in table.iter_batches(_PARQUET_BATCH, columns=columns):
                values = [_as_python(column) for column in batch.columns]
                for cells in zip(*values, strict=True):
                    number += 1
                    yield number, dict(zip(columns, cells, strict=True))
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
            raise DataError(f"{path}: not a readable parquet file ({error}).") from error
    if number == 0:
        raise DataError(f"{path}: columns ({_listed(columns)}) and no rows. Name another file.")


def _as_python(column: Any) -> list[Any]:
    """The values of an Arrow column; times finer than a microsecond as text, with all digits."""
    import pyarrow

    kinds = pyarrow.types
    if kinds.is_timestamp(column.type) and column.type.unit == "ns":
        try:
            column = column.cast(pyarrow.timestamp("us", tz=column.type.tz))
        except pyarrow.ArrowInvalid:
            column = column.cast(pyarrow.string())
    elif kinds.is_time64(column.type) and column.type.unit == "ns":
        column = column.cast(pyarrow.string())
    elif kinds.is_duration(column.type) and column.type.unit == "ns":
        column = column.cast(pyarrow.int64())
    return cast(list[Any], column.to_pylist())


def _listed(names: Iterable[str], limit: int = 12) -> str:
    """Names for a message: long ones and long lists are cut short."""
    shown = [name if len(name) <= 40 else name[:37] + "..." for name in names]
    return ", ".join(map(repr, shown[:limit])) + (", ..." if len(shown) > limit else "")
