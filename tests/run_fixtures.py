"""Options of a short run, the finished run, and a way to kill one."""

from pathlib import Path
from typing import Any

import pytest
from run_records import Killed

from hyperlm.options import TrainingOptions
from hyperlm.progress import TrainingProgress
from hyperlm.run import train


@pytest.fixture(scope="session")
def run_settings(tiny_backbone: Path, demo_like: Path) -> dict[str, Any]:
    return {
        "data": str(demo_like),
        "backbone": str(tiny_backbone),
        "dim": 4,
        "epochs": 2,
        "batch_size": 16,  # 8 steps an epoch
        "dropout": 0.2,
        "learning_rate": 3e-3,
        "head_learning_rate": 3e-2,
        "precision": "fp32",
    }


@pytest.fixture(scope="session")
def run_options(run_settings: dict[str, Any]) -> TrainingOptions:
    return TrainingOptions(**run_settings)


@pytest.fixture(scope="session")
def finished_run(run_options: TrainingOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run, for tests that only read it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(run_options, folder, progress=False)
    return folder


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch):
    """Stop a training dead once it has taken so many steps; ``None`` lets it go on again."""
    limit: list[int | None] = [None]
    original = TrainingProgress.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        original(self, args, state, control, **kwargs)
        if limit[0] is not None and state.global_step >= limit[0]:
            raise Killed

    monkeypatch.setattr(TrainingProgress, "on_step_end", on_step_end)
    return lambda step: limit.__setitem__(0, step)
