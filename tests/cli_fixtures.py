"""The command, and one run that it made, for all tests of the command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_words import Command
from transformers.utils import logging
from typer.testing import CliRunner, Result

from hyperlm.cli import app


@contextmanager
def verbosity_kept() -> Iterator[None]:
    """The command silences transformers; other tests may listen to it."""
    before = logging.get_verbosity()
    yield
    logging.set_verbosity(before)
    logging.enable_progress_bar()


@pytest.fixture
def command() -> Iterator[Command]:
    def run(*words: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    with verbosity_kept():
        yield run


@pytest.fixture(scope="session")
def train_words(tiny_backbone: Path, demo_like: Path) -> list[str]:
    words = f"--data {demo_like} --backbone {tiny_backbone} --dim 4 --epochs 2 --batch-size 16"
    return [*words.split(), "--learning-rate", "3e-3", "--head-learning-rate", "3e-2"]


@pytest.fixture(scope="session")
def command_trained(
    train_words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """One run made by the command, and what the command said."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with verbosity_kept():
        result = CliRunner().invoke(app, ["train", *train_words, "--output", str(folder)])
    assert result.exit_code == 0, result.stderr
    return folder, result


@pytest.fixture(scope="session")
def command_run(command_trained: tuple[Path, Result]) -> Path:
    return command_trained[0]
