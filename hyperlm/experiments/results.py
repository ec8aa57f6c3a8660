"""The results file: one JSON line per run, written and synced as the run ends, never rewritten.

Packed (``.jsonl.xz``), or as a folder of results files, packed or not, results can be read but not
added to: so they are published, and so a report reads them.

A line that was torn by a kill or a full disk is the last one: it is left out when the file is read,
and cut off before the next line is appended. Anything else that cannot be read is an error. Of
equal runs made for the same purpose the first counts.
"""

import json
import lzma
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from hyperlm.errors import DataError, OutputError
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.trials import Trial

__all__ = ["PACKED", "Record", "ResultsFile"]

PACKED = ".xz"


@dataclass(frozen=True)
class Record:
    """One run and what came of it.

    Attributes:
        run: settings and seed, of a head on frozen features or of anything else.
        data: what tells the data from other data.
        labels: what the run was made for.
        figures: ``val`` and ``test`` documents (see :func:`~.measure.measure`), ``geometry``.
        seconds: of training, the share of one run where several trained together.
        context: ``together``, ``cpu_seconds``, ``machine``, ``hyperlm``, ``at``; ``taken_over``
            where an equal run had been made for other labels.
    """

    run: HeadRun | Trial
    data: dict[str, Any]
    labels: dict[str, Any]
    figures: dict[str, Any]
    seconds: float
    context: dict[str, Any]

    @property
    def head(self) -> HeadRun:
        """``run`` where it is that of a head."""
        if not isinstance(self.run, HeadRun):
            raise TypeError(f"a run of {self.run.method!r} is not that of a head.")
        return self.run

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run.to_json(),
            "data": self.data,
            "labels": self.labels,
            "figures": self.figures,
            "seconds": self.seconds,
            "context": self.context,
        }

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> "Record":
        kind: type[HeadRun] | type[Trial] = Trial if "method" in line["run"] else HeadRun
        run = kind.from_json(line["run"])
        return cls(
            run, line["data"], line["labels"], line["figures"], line["seconds"], line["context"]
        )


class ResultsFile:
    """Records on disk and in memory.

    Args:
        path: the file; absent is empty. Or a folder: all ``*.jsonl`` and ``*.jsonl.xz`` in it.
    Raises:
        DataError: a line other than the last cannot be read.
        OutputError: the folder is missing or the file cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise OutputError(
                f"{self.path}: there is no folder {str(self.path.parent)!r}. Make it first."
            )
        self.records: list[Record] = []
        self._at: dict[tuple[str, str], list[Record]] = {}
        self.reload()

    def reload(self) -> None:
        """Take in what other processes have appended."""
        for record in self._read():
            self._remember(record)

    def __len__(self) -> int:
        return len(self.records)

    def find(
        self,
        data: dict[str, Any],
        run: HeadRun | Trial,
        labels: dict[str, Any] | None = None,
        *,
        figures: Sequence[str] = (),
    ) -> Record | None:
        """The record of a run on this data, if it has been made: for these labels, or for any.

        Args:
            figures: keys that its figures must have.
        """
        for record in self._at.get((_line(data), run.key()), ()):
            fits = labels is None or record.labels == labels
            if fits and all(key in record.figures for key in figures):
                return record
        return None

    def of(self, **labels: Any) -> list[Record]:
        """The records with these labels, in the order they were written."""
        return [r for r in self.records if labels.items() <= r.labels.items()]

    def append(self, records: Sequence[Record]) -> None:
        """Write records behind what is there; on disk once this returns.

        Raises:
            OutputError: it cannot be written, or is packed or a folder.
        """
        self.check_open()
        text = "".join(_line(record.to_json()) + "\n" for record in records)
        try:
            with self.path.open("a+b") as file:
                _lock(file, alone=True)  # two commands may share a file
                _cut_torn(file)
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"{self.path}: the results could not be written ({error.strerror or error}). Runs "
                "already in the file are kept; start the same command again to go on."
            ) from error
        for record in records:
            self._remember(record)

    def making(self, count: int) -> None:
        """Called before so many runs are made that the file lacks; somebody may want to know."""

    def check_open(self) -> None:
        """Refuse what is packed or a folder, to which nothing can be added."""
        if self.path.is_dir() or self.path.suffix == PACKED:
            raise OutputError(
                f"{self.path}: published results are read, not added to. Name a file for new runs "
                "with --output, or unpack this one with 'xz -dk' and name what it leaves."
            )

    def _remember(self, record: Record) -> None:
        # Two commands that share a file may make the same run, which must not count as two seeds.
        # A run made again for figures that it lacked is another.
        known = self.find(record.data, record.run, record.labels, figures=tuple(record.figures))
        if known is not None:
            return
        self.records.append(record)
        self._at.setdefault((_line(record.data), record.run.key()), []).append(record)

    def _read(self) -> Iterator[Record]:
        if not self.path.is_dir():
            yield from _records(self.path)
            return
        for file in sorted(self.path.iterdir()):
            if file.name.endswith((".jsonl", ".jsonl" + PACKED)):
                yield from _records(file)


def _records(path: Path) -> Iterator[Record]:
    *lines, _ = _bytes(path).split(b"\n")  # what follows the last line end was torn off, or empty
    for number, line in enumerate(lines, start=1):
        try:
            record = Record.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{path}, line {number}: not a record of a run ({error}). Name a results "
                "file that 'hyperlm experiment' wrote, or take the line out."
            ) from error
        yield record


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            _lock(file, alone=False)  # a torn end may just be cut off by who appends
            raw = file.read()
        return lzma.decompress(raw) if path.suffix == PACKED else raw
    except FileNotFoundError:
        return b""
    except lzma.LZMAError as error:
        raise DataError(f"{path}: cannot be unpacked ({error}). Fetch or pack it again.") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _lock(file: Any, *, alone: bool) -> None:
    """Until the file is closed. Without such locks (Windows), give each command a file of its own.

    On the file itself, which no other file has to lie beside.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)


def _cut_torn(file: Any) -> None:
    """Shorten an open file to its last line end."""
    size = file.seek(0, os.SEEK_END)
    end = size
    while end > 0:
        start = max(0, end - 4096)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        file.truncate(end)


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
