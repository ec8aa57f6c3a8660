"""Bytes and lines of files that may be gzipped, missing, damaged or not UTF-8.

In: a path. Out: an open stream, or decoded lines. Whatever goes wrong is a DataError that names the
file, the line where there is one, and the remedy.
"""

import codecs
import contextlib
import difflib
import gzip
import shlex
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from hyperlm.errors import DataError

__all__ = ["decoded_lines", "opened", "read_lines"]


@contextlib.contextmanager
def opened(path: Path, gzipped: bool) -> Iterator[BinaryIO]:
    """The file's bytes, unzipped; trouble with file or archive becomes a DataError."""
    try:
        with gzip.open(path) if gzipped else path.open("rb") as stream:
            yield cast(BinaryIO, stream)
    except FileNotFoundError as error:
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, 1)
        hint = f"Did you mean {near[0]!r}?" if near else "Check the path."
        raise DataError(f"{path}: no such file. {hint}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: damaged or not a gzip file ({error}). Fetch it again, or drop the .gz from "
            "its name if it is not compressed."
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def decoded_lines(path: Path, stream: Iterable[bytes]) -> Iterator[str]:
    """Decoded lines with their ends. A line ends at ``\\n`` alone: a text may hold U+2028."""
    for number, raw in enumerate(stream, 1):
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError as error:
            if number == 1 and (other := _other_kind(raw)):
                raise DataError(f"{path}: {other}") from error
            wide = number == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff")
            raise DataError(
                f"{path}, line {number}: byte 0x{raw[error.start]:02x} (byte {error.start + 1} of "
                f"the line) is not UTF-8. Convert the file first, for example: "
                f"{_conversion(path, 'UTF-16' if wide else 'WINDOWS-1252')}; in Excel save it as "
                "'CSV UTF-8'."
            ) from error


def _other_kind(start: bytes) -> str | None:
    """What a file is that was taken for text, and the remedy; by its first bytes."""
    if start[:2] == b"\x1f\x8b":
        return "the file is gzipped. Add .gz to its name."
    if start[:4] == b"PK\x03\x04":
        return "the file is a workbook or an archive. In Excel save it as 'CSV UTF-8'."
    if start[:4] == b"PAR1":
        return "the file is in Parquet. Let its name end in .parquet."
    return None


def _conversion(path: Path, encoding: str) -> str:
    """A command that makes a UTF-8 file of it."""
    name = shlex.quote(path.name)
    if path.suffix == ".gz":
        kind = Path(path.stem).suffix
        return f"gunzip -c {name} | iconv -f {encoding} -t UTF-8 > converted{kind}"
    return f"iconv -f {encoding} -t UTF-8 {name} > converted{path.suffix}"


def read_lines(path: str | Path) -> Iterator[str]:
    """Lines of a UTF-8 text file with their line ends, plain or (``.gz``) gzipped."""
    path = Path(path)
    with opened(path, path.suffix == ".gz") as stream:
        yield from decoded_lines(path, stream)
