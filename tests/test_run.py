"""A run from options to a finished folder: its files, its figures, adapters, two processes."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from run_records import FILES, assert_same_weights, log, results, weights
from transformers.utils import logging as transformers_logging

import hyperlm
from hyperlm.card import model_card
from hyperlm.data import load_data
from hyperlm.errors import DataWarning, OptionError
from hyperlm.options import TrainingOptions
from hyperlm.quiet import library_bars
from hyperlm.run import train
from hyperlm.runfolder import read_record

pytest_plugins = ["run_fixtures"]

run_module = importlib.import_module("hyperlm.run")


# -- what a run leaves ---------------------------------------------------------------------


def test_a_run_leaves_its_files_and_nothing_else(finished_run: Path) -> None:
    assert {path.name for path in finished_run.iterdir()} == FILES
    record = read_record(finished_run)
    assert record["status"] == "finished"
    assert record["replaces"] is None
    assert record["seconds"] > 0
    assert (finished_run / "labels.png").read_bytes().startswith(b"\x89PNG")
    assert len({(finished_run / name).stat().st_mode for name in FILES}) == 1


def test_the_package_trains_under_the_name_that_the_readme_gives(
    finished_run: Path, run_settings: dict[str, Any], tmp_path: Path, capsys: Any
) -> None:
    options = hyperlm.TrainingOptions(**run_settings | {"data": Path(run_settings["data"])})
    transformers_logging.enable_progress_bar()  # a command of another test has hidden them
    metrics = hyperlm.train(options, tmp_path / "run", progress=False)
    # No bar where none was asked for, not even of the libraries; afterwards theirs are back.
    assert capsys.readouterr().err == ""
    assert transformers_logging.is_progress_bar_enabled()
    assert not are_progress_bars_disabled()
    assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert_same_weights(tmp_path / "run", finished_run)


def test_bars_are_afterwards_as_the_user_had_them() -> None:
    transformers_logging.enable_progress_bar()
    disable_progress_bars()
    with library_bars(downloads=True):
        assert not transformers_logging.is_progress_bar_enabled()
        assert are_progress_bars_disabled()
    assert transformers_logging.is_progress_bar_enabled()
    assert are_progress_bars_disabled()
    enable_progress_bars()
    for downloads in (True, False):
        with library_bars(downloads=downloads):
            assert are_progress_bars_disabled() is not downloads
    assert not are_progress_bars_disabled()


def test_what_looks_like_a_mistake_in_the_labels_is_warned_of(
    run_settings: dict[str, Any], tmp_path: Path
) -> None:
    table = tmp_path / "t.csv"
    rows = [f"owl{n % 3} word{n},animal,NA" for n in range(6)]
    rows += [f"oak{n % 3} word{n},plant,tree" for n in range(6)]
    table.write_text("\n".join(["text,l1,l2", *rows]) + "\n")
    settings = run_settings | {"data": table, "epochs": 0, "freeze": True, "learning_rate": 1e-4}
    with pytest.warns(DataWarning, match="NA"):
        hyperlm.train(hyperlm.TrainingOptions(**settings), tmp_path / "run", progress=False)


def test_metrics_are_those_of_the_saved_model(finished_run: Path, demo_like: Path) -> None:
    model = hyperlm.load(finished_run)
    bundle = load_data(demo_like)
    for split in ("val", "test"):
        again = model.evaluate(bundle.split(split))
        again.pop("texts_per_second")
        assert results(finished_run)[split] == again
    assert results(finished_run)["test"]["levels"][0]["accuracy"] > 0.7  # it did learn


def test_probabilities_are_calibrated_on_val(finished_run: Path, demo_like: Path) -> None:
    model, bundle = hyperlm.load(finished_run), load_data(demo_like)
    fitted = model.temperature
    assert fitted != 1
    assert fitted == model.calibrate(bundle.split("val"))
    assert f"have the temperature {fitted:g}," in (finished_run / "README.md").read_text()


def test_the_card_is_valid_and_complete(finished_run: Path, run_options: TrainingOptions) -> None:
    card = (finished_run / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["library_name"] == "hyperlm"
    assert {"hyperlm", "poincare"} <= set(metadata["tags"])
    assert "base_model" not in metadata  # a folder of this machine means nothing on the hub
    # The length that was read stands in it: another default would be another run.
    assert replace(run_options, max_length=128).command(finished_run) in body
    digest = read_record(finished_run)["data"]["files"]["test"]["sha256"]
    for part in (digest, "path accuracy", "| seed | 0 |", "transformers", "cores", "float32"):
        assert part in body


@pytest.mark.parametrize(
    ("backbone", "base"),
    [("minilm", "sentence-transformers/all-MiniLM-L6-v2"), ("owner/model", "owner/model")],
)
def test_the_card_names_a_base_model_of_the_hub(
    finished_run: Path, backbone: str, base: str
) -> None:
    model = hyperlm.load(finished_run).model
    source = {"name": "owner/data", "kind": "hub"}
    made = TrainingOptions(backbone=backbone)
    metrics = {"val": None, "test": None}
    card = model_card(model, made, source, metrics, command="", seconds=1)
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert (metadata["base_model"], metadata["datasets"]) == (base, ["owner/data"])


def test_options_can_be_read_back(finished_run: Path, run_options: TrainingOptions) -> None:
    read = replace(run_options.resolved(), max_length=128)
    assert TrainingOptions.read(finished_run / "run.json") == read


def test_a_split_that_is_absent_is_null(
    run_settings: dict[str, Any], demo_like: Path, tmp_path: Path
) -> None:
    for name in ("train.csv", "val.csv"):
        shutil.copy(demo_like / name, tmp_path)
    options = TrainingOptions(**run_settings | {"data": str(tmp_path), "epochs": 1})
    metrics = train(options, tmp_path / "run", progress=False)
    assert metrics["test"] is None
    assert metrics["val"]["n"] == 32


def test_logs_for_tensorboard_outlive_the_checkpoints(
    run_settings: dict[str, Any], tmp_path: Path
) -> None:
    options = TrainingOptions(**run_settings | {"epochs": 1, "report_to": "tensorboard"})
    train(options, tmp_path / "run", progress=False)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | {"tensorboard"}
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


# -- seeds -----------------------------------------------------------------------------------


def test_equal_seeds_give_equal_runs(
    finished_run: Path, run_options: TrainingOptions, tmp_path: Path
) -> None:
    train(run_options, tmp_path / "run", progress=False)
    assert_same_weights(finished_run, tmp_path / "run")
    assert results(finished_run) == results(tmp_path / "run")
    assert log(finished_run) == log(tmp_path / "run")


# -- adapters ----------------------------------------------------------------------------------


def test_adapters_are_saved_as_they_are_or_merged(
    run_settings: dict[str, Any], tmp_path: Path
) -> None:
    options = TrainingOptions(**run_settings | {"lora": 2, "epochs": 1})
    train(options, tmp_path / "adapters", progress=False)
    train(options, tmp_path / "merged", merge=True, progress=False)
    assert any("lora_A" in name for name in weights(tmp_path / "adapters"))
    assert not any("lora" in name for name in weights(tmp_path / "merged"))
    assert "--merge" in (tmp_path / "merged/README.md").read_text()
    texts = ["owl0 word3 animal1", "word1", "sage2 plant0"]
    kept, merged = (hyperlm.load(tmp_path / name).logits(texts) for name in ("adapters", "merged"))
    torch.testing.assert_close(kept, merged, atol=1e-4, rtol=1e-4)


def test_merging_needs_adapters(run_options: TrainingOptions, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="needs --lora"):
        train(run_options, tmp_path / "run", merge=True)


# -- several processes ---------------------------------------------------------------------------


def test_two_processes_make_one_run(run_settings: dict[str, Any], tmp_path: Path) -> None:
    options = TrainingOptions(**run_settings | {"epochs": 1})
    words = options.command(tmp_path / "run").split()[1:]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "hyperlm", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[:4000]
    document = json.loads(done.stdout)  # one process speaks
    assert document["test"]["n"] == 32
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    # 128 texts, 2 processes, 16 texts each: 4 steps, where one process takes 8.
    assert max(line["step"] for line in log(tmp_path / "run")) == 4


def test_the_time_of_a_run_is_that_of_its_start_too(
    run_options: TrainingOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = run_module.build_model

    def slow(*given: Any, **named: Any) -> Any:
        time.sleep(1.5)
        return build(*given, **named)

    monkeypatch.setattr(run_module, "build_model", slow)
    begun = time.monotonic()
    train(replace(run_options, epochs=1), tmp_path / "run", progress=False)
    seconds = read_record(tmp_path / "run")["seconds"]
    assert 1.5 <= seconds <= time.monotonic() - begun + 0.1
