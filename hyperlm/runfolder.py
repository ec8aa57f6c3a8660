"""The folder of a training run: who may write into it, what it records, how it survives a kill.

Everything is written under a temporary name and renamed, so that a file is whole or absent. The
record is ``run.json``: options, data, taxonomy, and whether the run is still ``training`` or
``finished``. A run that replaces another moves it aside first and deletes it only at its own end.
Whoever trains in a folder holds its lock, so that no other process resumes or replaces the run.
"""

import contextlib
import json
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hyperlm.checkpoints import discard_torn, last_checkpoint
from hyperlm.errors import HyperlmWarning, ModelError, OutputError

__all__ = [
    "RECORD",
    "RunFolder",
    "filling",
    "read_metrics",
    "read_record",
    "replacing",
    "write_json",
]

RECORD = "run.json"
_PARTIAL = ".partial-"
_LOCK = ".training.lock"


class RunFolder:
    """One run's folder.

    Args:
        path: where the run lives, or is to live.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        # What messages call it: as the user did.
        self.shown = Path(path)
        self._claim: str | None = None
        self._lock: FileLock | None = None
        self._lock_file: tuple[int, int] | None = None

    def check_free(self, *, overwrite: bool, inputs: Iterable[str | Path | None]) -> None:
        """Refuse a folder that holds something, unless it is a run that may be replaced.

        Args:
            inputs: files and folders the run reads; they must not lie in a folder to be replaced.
        Raises:
            OutputError: with the ways out.
        """
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.shown}: a file is in the way. Choose another --output.")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        is_run = (self.path / RECORD).is_file()
        if not overwrite:
            ways = (
                "--overwrite replaces the run in it, --resume continues one that was stopped; or "
                "choose another --output."
                if is_run
                else "It holds no hyperlm run, so neither --overwrite nor --resume will touch it; "
                "choose another --output."
            )
            raise OutputError(f"{self.shown}: the output folder exists and is not empty. {ways}")
        if not is_run:
            raise OutputError(
                f"{self.shown}: --overwrite replaces only folders of hyperlm runs, and this one "
                f"has no {RECORD}. Empty it yourself, or choose another --output."
            )
        read_record(self.path)  # any file may be called run.json
        self.check_idle()
        inner = next((p for p in self.path.rglob(RECORD) if p.parent != self.path), None)
        if inner is not None:
            raise OutputError(
                f"{self.shown}: --overwrite would delete the run in {inner.parent} as well. Move "
                "it elsewhere, or choose another --output."
            )
        for name in inputs:
            source = Path(name).expanduser().resolve() if name else None
            if source and source.exists() and source.is_relative_to(self.path):
                raise OutputError(
                    f"{self.shown}: --overwrite would delete {name}, which this run reads. Move "
                    "it elsewhere, or choose another --output."
                )
        if Path.cwd().is_relative_to(self.path):
            raise OutputError(
                f"{self.shown}: --overwrite would remove the folder you are in. Leave it first."
            )

    def claim(self, record: dict[str, Any], *, overwrite: bool = False) -> None:
        """Make the folder this run's, moving an earlier run aside.

        Raises:
            OutputError: it cannot be written; or another run, started beside this one, has filled
                it since :meth:`check_free`.
        """
        replaces, before = None, []
        self._claim = uuid.uuid4().hex
        try:
            if self.path.is_dir() and any(self.path.iterdir()):
                if not overwrite:
                    raise OutputError(
                        f"{self.shown}: another run has begun in the output folder meanwhile. "
                        "Give each run an --output of its own."
                    )
                # One that was itself replacing a run, and did not come to its end.
                self.check_idle()
                with contextlib.suppress(OutputError, ModelError):
                    old = read_record(self.path)
                    before = [*(old.get("before") or []), *filter(None, [old.get("replaces")])]
                when = time.strftime("%Y%m%d-%H%M%S")
                replaces = f"{self.path.name}.old-{when}-{self._claim[:6]}"
                self.path.rename(self.path.with_name(replaces))
            self.path.mkdir(parents=True, exist_ok=True)
            claim = {"replaces": replaces, "before": before, "claim": self._claim}
            write_json(self.path / RECORD, record | claim)
        except OutputError:
            raise
        except OSError as error:
            if replaces is not None:
                self.give_back(replaces)
            raise OutputError(
                f"{self.shown}: the output folder cannot be written ({error.strerror or error}). "
                "Choose another --output."
            ) from error

    def hold(self) -> None:
        """Keep every other process from training in the folder, until :meth:`let_go` or the end.

        Raises:
            OutputError: one is training in it.
        """
        # Of this path alone, whatever becomes of the folder; and not for the next thread to enter.
        lock = FileLock(self.path / _LOCK, timeout=0, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(
                f"{self.shown}: a run is being trained in this folder at this moment. Wait until "
                "it has finished, or stop it first."
            ) from None
        except (NotImplementedError, OSError):
            # What is left is check_ours().
            warnings.warn(
                f"{self.shown}: this file system has no locks, so that nothing stops a second run "
                "in this folder while this one trains. Start none, or train on a local disk.",
                HyperlmWarning,
                stacklevel=2,
            )
            with contextlib.suppress(OSError):
                (self.path / _LOCK).unlink(missing_ok=True)
            return
        self._lock, self._lock_file = lock, _identity(self.path / _LOCK)

    def let_go(self) -> None:
        """Undo :meth:`hold`; the lock of a run that has taken the folder since stays."""
        if self._lock is None:
            return
        path = self.path / _LOCK
        if ours := self._lock_file == _identity(path):
            with contextlib.suppress(OSError):  # Windows lets nobody delete an open file
                path.unlink()
        self._lock.release()
        self._lock = None
        if ours and self._lock_file == _identity(path):
            with contextlib.suppress(OSError):
                path.unlink()

    def check_idle(self) -> None:
        """Refuse a folder in which a run is being trained: an OutputError, as of :meth:`hold`."""
        if self._lock is None and (self.path / _LOCK).is_file():
            self.hold()
            self.let_go()

    def give_back(self, replaces: str | None) -> None:
        """Leave things as they were before :meth:`claim`; a folder that was lost stays."""
        if not self._is_ours():
            return
        self.let_go()  # folders with open files cannot be deleted everywhere
        shutil.rmtree(self.path, ignore_errors=True)
        if replaces is not None and not self.path.exists():
            self.path.with_name(replaces).rename(self.path)

    def check_ours(self) -> None:
        """Refuse to go on in a folder that another run has taken since it was claimed.

        Raises:
            OutputError: that has happened.
        """
        if not self._is_ours():
            raise OutputError(
                f"{self.shown}: another run was started with --overwrite in the same folder and "
                "has taken it; this one ends without a result. Give each run an --output of its "
                "own."
            )

    def release(self, record: dict[str, Any] | None = None) -> None:
        """Mark the run as finished; checkpoints and the run it replaces are no longer needed.

        Args:
            record: to be kept, by default what is there.
        Raises:
            OutputError: another run has taken the folder.
        """
        self.check_ours()
        record = read_record(self.path) if record is None else record
        done: dict[str, Any] = {"status": "finished", "replaces": None, "before": []}
        write_json(self.path / RECORD, record | done)
        self.sweep()
        for replaced in [record.get("replaces"), *(record.get("before") or [])]:
            # Beside this folder and of its name, whatever stands in the file: the record of a
            # folder that was copied names what belongs to the first one.
            ours = isinstance(replaced, str) and replaced.startswith(f"{self.path.name}.old-")
            if ours and Path(replaced).name == replaced:
                shutil.rmtree(self.path.with_name(replaced), ignore_errors=True)

    def _is_ours(self) -> bool:
        """Whether the folder is still the run's that claimed it; one that is resumed asks nobody.

        A folder whose record was never written is the claimant's.
        """
        if self._claim is None or not (self.path / RECORD).is_file():
            return True
        return read_record(self.path).get("claim") == self._claim

    def sweep(self) -> None:
        """Delete what an interrupted write left; after the end also the checkpoints."""
        for path in self.path.glob(f"{_PARTIAL}*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        discard_torn(self.path)
        if read_record(self.path).get("status") == "finished":
            if self._lock is None:  # of a process that was killed at its very end
                (self.path / _LOCK).unlink(missing_ok=True)
            shutil.rmtree(self.path / "checkpoints", ignore_errors=True)

    @property
    def has_checkpoint(self) -> bool:
        return last_checkpoint(self.path) is not None


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file, None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def read_metrics(folder: Path) -> dict[str, Any]:
    """``metrics.json`` of a run folder: what was measured on each split, None for one it lacks.

    Raises:
        ModelError: it is missing or damaged.
    """
    path = folder / "metrics.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or set(map(type, found.values())) - {dict, type(None)}:
            raise ValueError("no splits in it")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{path}: missing or damaged ({error}). Copy the run again, or take this file out of "
            "the folder; 'hyperlm evaluate' measures anew."
        ) from error
    return dict(found)


def read_record(folder: Path) -> dict[str, Any]:
    """``run.json`` of a run folder.

    Raises:
        OutputError: no run there. ModelError: the record is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        raise OutputError(
            f"{folder}: no hyperlm run here ({RECORD} is missing). Give the folder that "
            "'hyperlm train --output' wrote, or start a run there without --resume."
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not {"hyperlm", "status", "options"} <= set(record):
            raise ValueError("keys are missing")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{path}: not the record of a hyperlm run, or damaged ({error}). Copy the folder "
            "again, or train into another one."
        ) from error
    return dict(record)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour, yours to write, that becomes the file ``path`` at the end."""
    temporary = path.parent / f"{_PARTIAL}{os.getpid()}-{path.name}"
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A temporary folder, yours to fill, whose files move into ``folder`` at the end."""
    temporary = folder / f"{_PARTIAL}{os.getpid()}"
    # Numbers of processes come again, in containers above all: what is there is nobody's.
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        umask = os.umask(0)  # weights are written as private files; a run is an ordinary folder
        os.umask(umask)
        for file in sorted(temporary.rglob("*")):
            file.chmod((0o777 if file.is_dir() else 0o666) & ~umask)
        for file in sorted(temporary.iterdir()):
            if file.is_dir():  # as tokenizers keep further chat templates
                shutil.rmtree(folder / file.name, ignore_errors=True)
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, document: Any) -> None:
    """A JSON document, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )
