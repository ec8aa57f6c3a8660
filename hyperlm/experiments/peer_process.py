"""One system, trained and asked in a process of its own, so that time and memory are its own.

Run as a file: imported through the package, it would bring torch into the memory of systems that
never use it. Enters: a folder with ``job.json``, texts as JSON lines, gold paths and features as
arrays. Leaves in it: ``val.npy`` and ``test.npy``, what the system answers, and ``cost.json``.
"""

import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = ["Job", "System", "main", "peak_memory"]


@dataclass(frozen=True)
class Job:
    """What a system is given.

    Attributes:
        folder: its own; anything it writes goes there.
        settings: those of the trial.
        seed: of everything drawn.
        backbone, max_length, precision: as ``hyperlm train`` takes them.
    """

    folder: Path
    settings: dict[str, Any]
    seed: int
    backbone: str
    max_length: int
    precision: str

    def texts(self, split: str) -> list[str]:
        """The texts of ``train``, ``val`` or ``test``."""
        lines = (self.folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["text"] for line in lines]

    def paths(self, split: str) -> np.ndarray:
        """Gold nodes ``(n, L)`` of ``train`` or ``val``, level by level, -1 below a path's end."""
        return np.load(self.folder / f"paths-{split}.npy")

    def features(self, split: str) -> np.ndarray:
        """Frozen features ``(n, taps, D)``, float32."""
        return np.load(self.folder / f"features-{split}.npy")


class System(Protocol):
    """What is measured. Making it reads the inputs, which no clock counts."""

    def __init__(self, job: Job) -> None: ...

    def train(self) -> None: ...

    def predict(self, split: str) -> np.ndarray | None:
        """Nodes ``(n, L)`` level by level, or node scores ``(n, N)`` as floating numbers."""


def peak_memory() -> float | None:
    """Largest resident set of this process so far in MB (10^6 bytes); None where unknown.

    Read from Linux itself: the figure of ``getrusage`` begins with that of the process that
    started this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 / 1e6 if found else None


def main(arguments: Sequence[str]) -> None:
    """Run the job of a folder."""
    folder = Path(arguments[0])
    told = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    kind: type[System] = getattr(_module(told["module"]), told["class"])
    given = (told[key] for key in ("settings", "seed", "backbone", "max_length", "precision"))
    job = Job(folder, *given)
    system = kind(job)
    start = _clocks()
    system.train()
    trained = _clocks()
    answers = {"val": system.predict("val")}  # also warms up
    asked = _clocks()
    answers["test"] = system.predict("test")
    done = _clocks()
    for split, found in answers.items():
        if found is not None:
            np.save(folder / f"{split}.npy", found)
    texts = len(job.texts("test"))
    cost = {
        "train_seconds": trained[0] - start[0],
        "train_cpu": trained[1] - start[1],
        "ms_a_text": 1000 * (done[0] - asked[0]) / texts,
        "cpu_ms_a_text": 1000 * (done[1] - asked[1]) / texts,
        "peak_mb": peak_memory(),
    }
    (folder / "cost.json").write_text(json.dumps(cost), encoding="utf-8")


def _clocks() -> tuple[float, float]:
    """Wall and processor seconds."""
    return time.perf_counter(), time.process_time()


def _module(name: str) -> Any:
    """A file beside this one, by its path: importing it by name would import the package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for the names of their fields
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(sys.argv[1:])
