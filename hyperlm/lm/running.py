"""How a model is run while somebody else may run it too, or has left it in training mode.

Two context managers: one thread at a time where blocks are watched or skipped, and no dropout
while a model answers.
"""

import contextlib
import threading
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from torch import nn

__all__ = ["alone", "at_rest"]

# Beside the models and not in them: a lock can be neither copied nor pickled.
_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_GUARD = threading.Lock()
# Parts that rest: for how many, and whether they were in training mode before the first.
_RESTING: dict[nn.Module, tuple[int, bool]] = {}


@contextlib.contextmanager
def alone(backbone: nn.Module) -> Iterator[None]:
    """Threads that run this backbone wait for one another.

    For passes that put hooks on its blocks or skip some of them: the hooks of one thread would see
    the states of all.
    """
    with _GUARD:
        lock = _LOCKS.setdefault(backbone, threading.RLock())
    with lock:
        yield


@contextlib.contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """Without dropout, also in training mode; each part is then in the mode it was in.

    Of several threads the last to leave brings training mode back.
    """
    parts = list(module.modules())
    with _GUARD:
        for part in parts:
            users, awake = _RESTING.get(part, (0, part.training))
            _RESTING[part] = users + 1, awake
            if part.training:
                part.training = False
    try:
        yield
    finally:
        with _GUARD:
            for part in parts:
                users, awake = _RESTING.pop(part)
                if users > 1:
                    _RESTING[part] = users - 1, awake
                elif awake:
                    part.training = True
