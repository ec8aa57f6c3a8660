"""A finished run to draw."""

from pathlib import Path

import pytest

from hyperlm.options import TrainingOptions
from hyperlm.run import train


@pytest.fixture(scope="session")
def shown_run(
    tiny_backbone: Path, demo_like: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run, for tests that only read it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = TrainingOptions(
        data=str(demo_like), backbone=str(tiny_backbone), dim=4, epochs=1, batch_size=16,
        learning_rate=1e-2, head_learning_rate=1e-2, precision="fp32",
    )  # fmt: skip
    train(options, folder, progress=False)
    return folder
