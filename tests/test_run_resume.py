"""A killed run goes on to the same end; what cannot be resumed is refused."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_records import FILES, Killed, assert_same_weights, log, results
from transformers import Trainer

import hyperlm
from hyperlm import run as run_module
from hyperlm.errors import DataError, ModelError, OptionError, OutputError
from hyperlm.lm import HierarchicalLM
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.run_resume import stored_options
from hyperlm.runfolder import read_record

pytest_plugins = ["run_fixtures"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"geometry": "lorentz", "coordinates": "native", "cone_weight": 0.1, "accumulate": 2},
        {"learn_curvature": True, "patience": 1, "text_cone_weight": 0.1},
        {"lora": 2, "init": "tree", "precision": "bf16"},
        {"freeze": True, "head": "linear"},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_a_killed_run_resumes_exactly(
    run_settings: dict[str, Any], changes: dict[str, Any], tmp_path: Path, kill_at: Any
) -> None:
    options = TrainingOptions(**run_settings | changes)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(options, whole, progress=False)
    kill_at(6 if options.accumulate == 2 else 11)  # in the second of two epochs
    with pytest.raises(Killed):
        train(options, killed, progress=False)
    assert read_record(killed)["status"] == "training"
    kill_at(None)
    metrics = train(None, killed, resume=True, progress=False)
    assert metrics == json.loads((killed / "metrics.json").read_text())
    assert_same_weights(whole, killed)
    assert log(whole) == log(killed)
    ends = [
        json.loads((folder / "train_log.jsonl").read_text().splitlines()[-1])
        for folder in (whole, killed)
    ]
    # Of the steps since, over all steps, it would be no mean of anything.
    assert ["train_loss" in end for end in ends] == [True, False]
    assert {path.name for path in killed.iterdir()} == FILES


def test_a_run_killed_before_its_first_checkpoint_resumes_from_the_start(
    finished_run: Path,
    run_options: TrainingOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A real SIGKILL: no handler of ours gets to run.
    code = (
        "import os, signal, sys\n"
        "from hyperlm.options import TrainingOptions\n"
        "from hyperlm.progress import TrainingProgress\n"
        "from hyperlm.run import train\n"
        "TrainingProgress.on_step_end = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "train(TrainingOptions.read(sys.argv[1]), sys.argv[2], progress=False)\n"
    )
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", code, finished_run / "run.json", folder], timeout=120
    )
    assert done.returncode == -9
    assert not (folder / "config.json").exists()
    with pytest.raises(ModelError, match="--resume"):
        hyperlm.load(folder)
    train(None, folder, resume=True, progress=False)
    assert_same_weights(finished_run, folder)
    assert log(finished_run) == log(folder)


@pytest.mark.parametrize("step", ["save_pretrained", "draw_labels"])
def test_a_kill_while_saving_loses_nothing(
    finished_run: Path,
    run_options: TrainingOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    def die(*args: Any, **kwargs: Any) -> None:
        raise Killed

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        if step == "draw_labels":
            patch.setattr(run_module, "draw_labels", die)
        else:
            # Checkpoints are saved through the same method, into folders of their own.
            original = HierarchicalLM.save_pretrained

            def save(self: Any, path: Any, **kwargs: Any) -> None:
                (original if "checkpoint" in str(path) else die)(self, path, **kwargs)

            patch.setattr(HierarchicalLM, "save_pretrained", save)
        with pytest.raises(Killed):
            train(run_options, folder, progress=False)
    steps: list[int] = []
    monkeypatch.setattr(
        Trainer, "training_step", lambda *args, **kwargs: steps.append(1) or torch.zeros(())
    )
    train(None, folder, resume=True, progress=False)
    assert steps == []  # all epochs were done already
    assert_same_weights(finished_run, folder)
    assert results(finished_run) == results(folder)
    assert {path.name for path in folder.iterdir()} == FILES


def test_a_run_that_stopped_early_stays_stopped(
    run_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing moves, so val never gets better after the first epoch.
    still = {"learning_rate": 1e-12, "head_learning_rate": 1e-12, "point_learning_rate": 1e-12}
    options = TrainingOptions(**run_settings | still | {"epochs": 6, "patience": 1})
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "draw_labels", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(options, folder, progress=False)
    before = [line for line in log(folder) if "loss" in line]
    assert before[-1]["step"] == 16  # two epochs of six
    train(None, folder, resume=True, progress=False)
    assert [line for line in log(folder) if "loss" in line] == before


def test_a_run_folder_may_move_before_it_is_resumed(
    finished_run: Path, run_options: TrainingOptions, tmp_path: Path, kill_at: Any
) -> None:
    kill_at(12)
    with pytest.raises(Killed):
        train(run_options, tmp_path / "before", progress=False)
    kill_at(None)
    (tmp_path / "before").rename(tmp_path / "after")
    train(None, tmp_path / "after", resume=True, progress=False)
    assert_same_weights(finished_run, tmp_path / "after")


def test_resuming_a_finished_run_changes_nothing(
    finished_run: Path, run_options: TrainingOptions
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in finished_run.iterdir()}
    assert train(run_options, finished_run, resume=True, progress=False)["test"]["n"] == 32
    assert {path.name: path.stat().st_mtime_ns for path in finished_run.iterdir()} == before


def test_resuming_refuses_other_options(finished_run: Path, run_settings: dict[str, Any]) -> None:
    other = TrainingOptions(**run_settings | {"dim": 5, "loss": "leaf"})
    with pytest.raises(OptionError, match=r"--dim 5 \(the run has 4\), --loss leaf"):
        train(other, finished_run, resume=True)


def test_resuming_refuses_other_data(
    run_settings: dict[str, Any], demo_like: Path, tmp_path: Path, kill_at: Any
) -> None:
    data = shutil.copytree(demo_like, tmp_path / "data")
    kill_at(9)
    with pytest.raises(Killed):
        train(
            TrainingOptions(**run_settings | {"data": str(data)}), tmp_path / "run", progress=False
        )
    with (data / "val.csv").open("a") as file:
        file.write("word1 word2,animal,bird,owl\n")
    with pytest.raises(DataError, match=r"the val file val\.csv changed"):
        train(None, tmp_path / "run", resume=True)


def test_the_length_that_was_read_is_stored_and_kept(
    finished_run: Path, run_options: TrainingOptions, tmp_path: Path
) -> None:
    """Not asked for, it is what the tiny backbone can read; a later default changes nothing."""
    assert run_options.max_length is None
    assert read_record(finished_run)["options"]["max_length"] == 128
    # The options that the run was given, which name no length, are those it has.
    given, record = run_options.resolved(), read_record(finished_run)
    assert stored_options(given, record, finished_run).max_length == 128
    shorter = replace(given, max_length=64)
    with pytest.raises(OptionError, match="--max-length 64"):
        stored_options(shorter, record, finished_run)


def test_there_must_be_something_to_resume(tmp_path: Path, run_options: TrainingOptions) -> None:
    with pytest.raises(OutputError, match="no hyperlm run here"):
        train(run_options, tmp_path, resume=True)
