"""Bytes and lines of files that may be gzipped, missing, damaged or not UTF-8.

In: a path. Out: an open stream, or decoded lines. Whatever goes wrong is a DataError that names the
file, the line where there is one, and the remedy.
"""

import codecs
import contextlib
import difflib
import gzip
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
            wide = number == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff")
            likely = "UTF-16" if wide else "WINDOWS-1252"
            raise DataError(
                f"{path}, line {number}: byte 0x{raw[error.start]:02x} (byte {error.start + 1} of "
                f"the line) is not UTF-8. Convert the file first, for example: "
                f"iconv -f {likely} -t UTF-8 {path.name} > converted{path.suffix}; in Excel save "
                "it as 'CSV UTF-8'."
            ) from error


def read_lines(path: str | Path) -> Iterator[str]:
    """Lines of a UTF-8 text file with their line ends, plain or (``.gz``) gzipped."""
    path = Path(path)
    with opened(path, path.suffix == ".gz") as stream:
        yield from decoded_lines(path, stream)
