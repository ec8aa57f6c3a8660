"""Rows to a table on disk: CSV, TSV, JSON lines and parquet, each plain or gzipped.

In: an iterator of ``{column: value}``. Out: a complete file or none: rows go to a temporary
neighbour that takes the name only once everything is written, so that a full disk or an error in
the iterator leaves what was there before.
"""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from hyperlm.data.table import CsvForm, Row, table_format
from hyperlm.errors import OutputError

__all__ = ["write_rows"]

_BATCH = 1024


def write_rows(
    path: str | Path,
    rows: Iterable[Mapping[str, Any]],
    fieldnames: Sequence[str] | None = None,
    *,
    form: CsvForm | None = None,
) -> int:
    """Write rows as they come and return how many there were.

    Args:
        path: Its suffix decides the format. An existing file is replaced.
        rows: Lists and mappings become JSON in CSV and TSV cells, None an empty cell.
        fieldnames: Columns in order, of which a row may lack some. By default the keys of the first
            row, or in JSON lines the keys of each row.
        form: How a CSV is written; with commas by default. Between semicolons numbers have a
            decimal comma: where Excel writes such tables it reads 0.5 as something else.

    Raises:
        DataError: Unknown suffix. OutputError: a row has a column that is not in ``fieldnames``, a
            value does not fit the format, no space left, no such folder.
    """
    path = Path(path)
    suffix, gzipped = table_format(path)
    stream = iter(rows)
    if fieldnames is None and suffix != ".jsonl":  # JSON lines need no common columns
        first = next(stream, None)
        fieldnames = [] if first is None else list(first)
        stream = itertools.chain([] if first is None else [first], stream)
    counted = _Counted(path, stream, fieldnames)
    written_as = form or CsvForm()
    write: Callable[[BinaryIO, _Counted], None] = {
        ".csv": lambda target, rows: _write_csv(target, rows, written_as),
        ".tsv": _write_tsv, ".jsonl": _write_jsonl, ".parquet": _write_parquet
    }[suffix]  # fmt: skip
    try:
        with _replacing(path) as target:
            if not gzipped:
                write(target, counted)
            else:  # a fixed time and no name: equal rows give equal bytes
                with gzip.GzipFile("", "wb", fileobj=target, mtime=0) as packed:
                    write(cast(BinaryIO, packed), counted)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: could not be written ({error.strerror or error}). Nothing was left there; "
            "choose another --output, or free some space if the disk is full."
        ) from error
    return counted.number


class _Counted:
    """Rows as dicts over ``fieldnames``, counted, strangers refused."""

    def __init__(
        self, path: Path, rows: Iterable[Mapping[str, Any]], fieldnames: Sequence[str] | None
    ) -> None:
        self.path, self.rows, self.number = path, rows, 0
        self.open = fieldnames is None
        self.fieldnames = list(fieldnames or ())

    def __iter__(self) -> Iterator[Row]:
        known = set(self.fieldnames)
        for row in self.rows:
            self.number += 1
            if not (self.open or known.issuperset(row)):
                extra = [name for name in row if name not in known]
                raise OutputError(
                    f"{self.path}: row {self.number} has the column {extra[0]!r}, the table has "
                    f"{self.fieldnames}. Name all columns when writing starts."
                )
            yield dict(row)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {str(path.parent)!r}. Make it first.")
    path = Path(os.path.realpath(path))  # of a link the file it leads to
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield cast(BinaryIO, stream)
        umask = os.umask(0)  # mkstemp makes a private file; the result is an ordinary one
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _plain(value: Any) -> Any:
    """What JSON cannot hold as it is: numpy scalars and arrays by value, the rest by its text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False)


def _cell(value: Any, delimiter: str) -> Any:
    if delimiter == ";" and isinstance(value, float | np.floating):
        return str(value).replace(".", ",")
    return _json(value) if isinstance(value, list | tuple | dict) else value


def _write_csv(target: BinaryIO, rows: _Counted, form: CsvForm) -> None:
    delimiter = form.separator
    if form.marked:
        target.write(codecs.BOM_UTF8)
    text = io.TextIOWrapper(target, encoding="utf-8", newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    # A bare carriage return needs quotes, which the csv module gives to its own line end alone.
    careful = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    # So do commas and semicolons in a header, which tells how the file is to be read.
    special = any(sign in name for name in rows.fieldnames for sign in "\r,;")
    (careful if special else writer).writerow(rows.fieldnames)
    for row in rows:
        cells = [_cell(row.get(name), delimiter) for name in rows.fieldnames]
        returns = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (careful if returns else writer).writerow(cells)
    text.flush()
    text.detach()


def _write_tsv(target: BinaryIO, rows: _Counted) -> None:
    _write_csv(target, rows, CsvForm("\t"))


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(value != value)


def _write_jsonl(target: BinaryIO, rows: _Counted) -> None:
    for row in rows:
        ordered = row if rows.open else {k: row[k] for k in rows.fieldnames if k in row}
        # Tables of other kinds say so that there is no value.
        ordered = {k: None if _is_nan(v) else v for k, v in ordered.items()}
        try:
            target.write(_json(ordered).encode("utf-8") + b"\n")
        except ValueError as error:
            raise OutputError(
                f"{rows.path}: row {rows.number} cannot be written as JSON ({error})."
            ) from error


def _write_parquet(target: BinaryIO, rows: _Counted) -> None:
    """Types are those of all rows: batches wait in a temporary file until the last is known."""
    import pyarrow
    import pyarrow.parquet

    schemas: list[Any] = []
    stream = iter(rows)
    # Beside the table, where there must be room anyway.
    with tempfile.TemporaryFile(dir=rows.path.parent) as waiting:
        while batch := list(itertools.islice(stream, _BATCH)):
            columns = {name: [row.get(name) for row in batch] for name in rows.fieldnames}
            try:
                table = pyarrow.table(columns)
                # Whole numbers before others are numbers, and nothing yet is whatever comes.
                common = pyarrow.unify_schemas(
                    [*schemas[-1:], table.schema], promote_options="permissive"
                )
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError) as error:
                raise OutputError(
                    f"{rows.path}: rows {rows.number - len(batch) + 1} to {rows.number} do not fit "
                    f"one type, or that of the rows before ({error}). Write .jsonl instead."
                ) from error
            schemas.append(common)
            with pyarrow.ipc.new_stream(waiting, table.schema) as part:
                part.write_table(table)
        text = pyarrow.string()
        if not schemas:
            schemas = [pyarrow.schema([(name, text) for name in rows.fieldnames])]
        # A column without any value is one of text.
        fields = [f.with_type(text) if f.type == pyarrow.null() else f for f in schemas.pop()]
        schema = pyarrow.schema(fields)
        waiting.seek(0)
        try:
            writer = pyarrow.parquet.ParquetWriter(target, schema)
        except pyarrow.ArrowNotImplementedError as error:  # maps that are empty in every row
            raise OutputError(
                f"{rows.path}: a column is of a type that parquet has not ({error}). Write .jsonl "
                "instead."
            ) from error
        with writer:
            for _ in range(-(-rows.number // _BATCH)):
                table = pyarrow.ipc.open_stream(waiting).read_all()
                if table.schema != schema:
                    try:
                        table = pyarrow.Table.from_pylist(table.to_pylist(), schema=schema)
                    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
                        raise OutputError(
                            f"{rows.path}: the values of a column do not fit one type ({error}). "
                            "Write .jsonl instead."
                        ) from error
                writer.write_table(table)
