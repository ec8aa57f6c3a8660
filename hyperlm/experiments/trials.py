"""Runs that are more, or other, than one head on frozen features: whole models, peers, baselines.

A trial is known by its method and settings, as a :class:`~.settings.HeadRun` is by its own: equal
ones are made once, and each is in the results file as soon as it ends.
"""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from hyperlm import __version__
from hyperlm.errors import DataError

if TYPE_CHECKING:
    from hyperlm.experiments.results import Record, ResultsFile

__all__ = ["Trial", "machine", "run_trials"]


@dataclass(frozen=True)
class Trial:
    """One run of a method.

    Attributes:
        method: what runs, in a word or two; ``fine-tuning``, ``tf-idf svm``.
        settings: JSON-ready; all that decides the result beside the seed.
        seed: of everything drawn.
    """

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"method": self.method, "settings": dict(self.settings), "seed": self.seed}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Trial":
        """The reverse of :meth:`to_json`; anything else is a DataError."""
        if set(data) != {"method", "settings", "seed"}:
            raise DataError(
                f"A trial has the keys {', '.join(sorted(data))}; expected are method, settings "
                "and seed. Read the results with the version of hyperlm that wrote them."
            )
        return cls(data["method"], data["settings"], data["seed"])

    def key(self) -> str:
        """Method, settings and seed as one line."""
        return json.dumps(self.to_json(), sort_keys=True)


def run_trials(
    trials: Sequence[Trial],
    work: Callable[[Trial], dict[str, Any]],
    results: "ResultsFile",
    *,
    source: dict[str, Any],
    labels: dict[str, Any],
    progress: bool = False,
) -> "list[Record]":
    """The records of trials, from the results file or from ``work``, one after the other.

    Args:
        work: makes the figures of one trial: ``val`` and ``test`` where it answers texts, as
            :func:`~.measure.measure` has them, and what else there is. ``seconds`` among them is
            taken as the time of training; otherwise all of the call counts.
        results: the :class:`~.results.ResultsFile`.
        source: what tells the data from other data, as :meth:`~.features.FrozenData.describe`.
        labels: what the trials are for (``experiment``, ``arm`` and the like).
    Returns:
        One record per trial, in order.
    """
    from hyperlm.experiments.results import Record

    found = []
    what = " ".join(str(value) for value in labels.values())
    bar = tqdm(trials, desc=what, disable=not progress, leave=False)
    for trial in bar:
        record = results.find(source, trial, labels)
        if record is None:
            results.making(1)
            start, cpu = time.perf_counter(), time.process_time()
            figures = work(trial)
            seconds = figures.pop("seconds", time.perf_counter() - start)
            record = Record(
                run=trial,
                data=source,
                labels=labels,
                figures=figures,
                seconds=round(seconds, 3),
                context={
                    "together": 1,
                    "cpu_seconds": round(time.process_time() - cpu, 3),
                    "machine": machine(),
                    "hyperlm": __version__,
                    "at": datetime.now(UTC).isoformat(timespec="seconds"),
                },
            )
            results.append([record])
        found.append(record)
    return found


def machine() -> str:
    """The processor, how many threads were used, and the GPU if there is one, in words."""
    threads = torch.get_num_threads()
    parts = [_processor(), f"{threads} thread{'s' * (threads != 1)}"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"torch {torch.__version__}"])


def _processor() -> str:
    """As ``AMD EPYC (x86_64)`` where the system tells, else the architecture alone."""
    architecture = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return architecture
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(named, "")
    return f"{name} ({architecture})" if name else architecture
