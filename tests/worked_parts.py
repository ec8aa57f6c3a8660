"""An experiment of a few numbers, whose parts do what tests of processes need."""

import os
import signal
import threading
import time
import warnings
from pathlib import Path

from hyperlm.errors import DataError, DataWarning
from hyperlm.experiments.results import Record
from hyperlm.experiments.trials import Trial

WAIT = 240.0  # seconds, at most: a process that imports torch on a busy machine is slow
STAY = 2 * WAIT


def read(source, *, offset=0):
    warnings.warn(f"{source} was read", DataWarning, stacklevel=1)
    return int(source) + offset


def run(data, results, *, number, then="", meet="", progress=False):
    """One record; before it, wait for a file that another part makes, or fail in some way."""
    if meet:
        mine, other = (Path(name) for name in meet)
        mine.touch()
        end = time.monotonic() + WAIT
        while not other.exists():
            assert time.monotonic() < end, f"{other} was not made"
            time.sleep(0.01)
    figures = {"sum": data + number, "threads": threading.active_count()}
    labels = {"omp": os.environ["OMP_NUM_THREADS"]}
    trial = Trial("sum", {"number": number, "data": data})
    context = {"pid": os.getpid()}
    results.append([Record(trial, {"name": str(data)}, labels, figures, 0.0, context)])
    if then == "warn":
        warnings.warn(f"{number} looks odd", DataWarning, stacklevel=1)
    elif then == "refuse":
        raise DataError("line 7: no number.")
    elif then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif then == "stay":
        time.sleep(STAY)
