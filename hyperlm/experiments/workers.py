"""Parts of an experiment in processes of their own, side by side.

Enters: parts, each an experiment with settings that are its own. Leaves: their records in the
results file, which every worker appends to as its runs end, so that a stop loses no more than what
was being trained. Small steps gain nothing from a second thread, and much from a second process.
"""

import importlib
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm as bars
from tqdm.auto import tqdm

from hyperlm.errors import HyperlmError, HyperlmWarning
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.quiet import quiet_libraries

__all__ = ["Part", "cores", "run_parts", "unfinished", "usual_jobs"]

# A step takes and gives back the same arrays as the step before. The C library, unless told to
# keep them, returns large ones to the system and has every page mapped anew, which for points of
# 16 dimensions is half of the time. What the user has set stays.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),  # the largest that every version takes
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_TOP_PAD_": str(1 << 28),
}

_TICK = 5.0  # seconds
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
_MOST_JOBS = 8  # each holds the backbone, features and heads: half a gigabyte or more


@dataclass(frozen=True)
class Part:
    """What one process does in one go.

    Attributes:
        experiment: module of :mod:`hyperlm.experiments`, with ``run`` and maybe ``read``.
        source: data set, as on the command line.
        reading: further arguments of reading it.
        settings: further arguments of ``run``.
        title: in a few words, for the bar.
    """

    experiment: str
    source: str
    reading: Mapping[str, Any]
    settings: Mapping[str, Any]
    title: str


def cores() -> int:
    """Processor cores that this process may use, at least one.

    A container may be given all cores of a machine and the time of a few.
    """
    there = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = _CPU_MAX.read_text(encoding="ascii").split()
        share = int(quota) // int(period)
    except (OSError, ValueError):  # no such file, or max for no limit
        return there
    return max(1, min(there, share))


def usual_jobs() -> int:
    """How many workers there are unasked: one for each core, or for the threads that each has."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    each = int(threads) if threads.isdecimal() else 1
    return max(1, min(cores() // max(1, each), _MOST_JOBS))


def unfinished(run: Callable[[ResultsFile], Any], results: ResultsFile) -> bool:
    """Whether ``run`` would make a run that the results file lacks; it is stopped before it does.

    What is complete then needs neither processes nor features.
    """
    try:
        run(_Probe(results))
    except _MakingError:
        return True
    return False


class _MakingError(Exception):
    """Something would be made."""


class _Probe(ResultsFile):
    """The records of a results file, to which nothing is added."""

    def __init__(self, results: ResultsFile) -> None:
        self.path, self.records, self._at = results.path, results.records, results._at

    def making(self, count: int) -> None:
        raise _MakingError

    def append(self, records: Sequence[Record]) -> None:
        raise _MakingError


def run_parts(parts: Sequence[Part], path: Path, *, jobs: int, progress: bool = False) -> None:
    """Run all parts, ``jobs`` at a time, in the order given; the long ones belong first.

    Args:
        path: the results file.
        progress: show one bar for all.
    Raises:
        HyperlmError: that of a part, or a process was ended from outside. What other parts had
            finished is in the results file.
    """
    jobs = min(jobs, len(parts))
    ahead = list(reversed(parts))
    bar = tqdm(
        total=len(parts),
        disable=not progress,
        bar_format="{desc}{n_fmt} of {total_fmt} parts |{bar:20}| {elapsed}{postfix}",
    )
    made = 0
    with bar, _workers(jobs, path) as workers:
        free, busy = list(workers), dict[Connection, Part]()
        while ahead or busy:
            while ahead and free:
                line = free.pop()
                busy[line] = ahead.pop()
                with _explained(workers[line], busy[line]):
                    line.send(busy[line])
            ready = wait(list(busy), timeout=_TICK)
            bar.refresh()  # the clock goes on while nothing ends
            for line in [line for line in busy if line in ready]:
                with _explained(workers[line], busy[line]):
                    news = line.recv()
                if isinstance(news, Warning):
                    warnings.warn(news, stacklevel=2)
                elif isinstance(news, Exception):
                    raise news
                elif isinstance(news, int):
                    made += news
                    bar.set_postfix_str(f"{made} runs, {busy[line].title}")
                else:
                    del busy[line]
                    free.append(line)
                    bar.update()


@contextmanager
def _explained(process: BaseProcess, part: Part) -> Iterator[None]:
    """The end of a worker in words."""
    try:
        yield
    except (EOFError, OSError):
        process.join()
        code = process.exitcode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else "ended by itself"
        why = {
            -signal.SIGKILL: ", which often means that memory was short: try a smaller --jobs",
            1: "; what it said stands above. (A script that calls run_parts begins with if "
            '__name__ == "__main__".)',
        }.get(code, "")
        raise HyperlmError(
            f"{part.title}: its process {how}{why}. Runs already in the file are kept: start the "
            "same command again to go on."
        ) from None


@contextmanager
def _workers(count: int, path: Path) -> Iterator[dict[Connection, BaseProcess]]:
    """Processes by the line to each; ended, whatever they do, when the context is."""
    context = get_context("spawn")  # torch's threads do not survive a fork
    workers: dict[Connection, BaseProcess] = {}
    try:
        with _surroundings(max(1, cores() // count)):
            for _ in range(count):
                ours, theirs = context.Pipe()
                process: BaseProcess = context.Process(
                    target=_serve, args=(theirs, path), daemon=True
                )
                process.start()
                theirs.close()
                workers[ours] = process
        yield workers
    finally:
        for process in workers.values():
            process.terminate()
        for line, process in workers.items():
            process.join(_TICK)
            process.kill()  # one that was started deaf to SIGTERM as well
            process.join()
            line.close()


@contextmanager
def _surroundings(threads: int) -> Iterator[None]:
    """What processes that start now inherit: threads, memory that is kept, deaf to Ctrl-C.

    Ctrl-C goes to all processes of a terminal; the first of them ends the others.
    """
    before = dict(os.environ)
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    os.environ.update({"OMP_NUM_THREADS": str(threads)} | _KEEP_MEMORY | before)
    try:
        yield
    finally:
        for name in {"OMP_NUM_THREADS", *_KEEP_MEMORY} - set(before):
            del os.environ[name]
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


class _Counted(ResultsFile):
    """A results file that says how many runs it was given."""

    def __init__(self, path: Path, line: Connection) -> None:
        super().__init__(path)
        self._line = line

    def append(self, records: Sequence[Record]) -> None:
        super().append(records)
        self._line.send(len(records))


def _serve(line: Connection, path: Path) -> None:
    """The life of a worker: parts in, news out, until it is ended."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    quiet_libraries()
    # Squares of gradients that hardly are any fall below 1e-38, where arithmetic is many times
    # slower; beside Adam's 1e-8 they are nothing.
    torch.set_flush_denormal(True)
    bars.set_lock(threading.RLock())  # its own would be one between processes, left when ended
    usual = warnings.showwarning

    def tell(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if isinstance(message, HyperlmWarning):
            line.send(message)  # for the command to say
        else:
            usual(message, category, *where, **more)

    warnings.showwarning = tell
    at: tuple[str, str] | None = None
    data: Any = None
    while True:
        try:
            part: Part = line.recv()
        except (EOFError, OSError):
            return
        try:
            module = importlib.import_module(part.experiment)
            if at != (part.experiment, part.source):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", HyperlmWarning)  # said when it was read first
                    data = None  # the last one makes room first
                    data = _reader(module)(part.source, **part.reading)
                at = part.experiment, part.source
            module.run(data, _Counted(path, line), **part.settings)
            line.send(None)
        except Exception as error:
            with suppress(OSError):
                line.send(_sendable(error))


def _reader(module: Any) -> Any:
    from hyperlm.experiments.features import FrozenData

    return getattr(module, "read", FrozenData)


def _sendable(error: Exception) -> Exception:
    """The error, or one that says the same and can go through a pipe; with where it was raised."""
    where = traceback.format_exc()
    if not isinstance(error, HyperlmError):
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"In a worker:\n{where}")
    return error


def _follow_parent() -> None:
    """End this process with the one that started it, be that one killed."""
    parent = parent_process()
    assert parent is not None  # workers are started by one
    wait([parent.sentinel])
    os._exit(1)
