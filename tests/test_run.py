"""A run folder: what is in it, that equal seeds give equal runs, and that a kill costs nothing.

The oracle of a resumed run is the same run without interruption, bit for bit.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import Trainer

import hyperlm
from hyperlm import run as run_module
from hyperlm.card import model_card
from hyperlm.data import load_data
from hyperlm.errors import DataError, HyperlmError, ModelError, OptionError, OutputError
from hyperlm.lm import HierarchicalLM
from hyperlm.options import TrainingOptions
from hyperlm.progress import TrainingProgress
from hyperlm.run import train
from hyperlm.runfolder import read_record

FILES = {
    "README.md", "config.json", "labels.png", "metrics.json", "model.safetensors", "run.json",
    "tokenizer.json", "tokenizer_config.json", "train_log.jsonl",
}  # fmt: skip


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it on purpose."""


@pytest.fixture(scope="module")
def settings(tiny_backbone: Path, demo_like: Path) -> dict[str, Any]:
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


@pytest.fixture(scope="module")
def options(settings: dict[str, Any]) -> TrainingOptions:
    return TrainingOptions(**settings)


@pytest.fixture(scope="module")
def finished(options: TrainingOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run, for tests that only read it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(options, folder, progress=False)
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


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def results(folder: Path) -> dict[str, Any]:
    """Metrics without the one figure that is a time."""
    document = json.loads((folder / "metrics.json").read_text())
    for part in document.values():
        part.pop("texts_per_second", None)
    return document


def log(folder: Path) -> list[dict[str, Any]]:
    """Logged figures that are no times."""
    timed = ("time", "runtime", "per_second", "flos", "train_loss")
    lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.endswith(timed)} for line in lines
    ]


# -- what a run leaves ---------------------------------------------------------------------


def test_a_run_leaves_its_files_and_nothing_else(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == FILES
    record = read_record(finished)
    assert record["status"] == "finished"
    assert record["replaces"] is None
    assert record["seconds"] > 0
    assert (finished / "labels.png").read_bytes().startswith(b"\x89PNG")
    assert len({(finished / name).stat().st_mode for name in FILES}) == 1


def test_metrics_are_those_of_the_saved_model(finished: Path, demo_like: Path) -> None:
    model = hyperlm.load(finished)
    bundle = load_data(demo_like)
    for split in ("val", "test"):
        again = model.evaluate(bundle.split(split))
        again.pop("texts_per_second")
        assert results(finished)[split] == again
    assert results(finished)["test"]["levels"][0]["accuracy"] > 0.7  # it did learn


def test_the_card_is_valid_and_complete(finished: Path, options: TrainingOptions) -> None:
    card = (finished / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["library_name"] == "hyperlm"
    assert {"hyperlm", "poincare"} <= set(metadata["tags"])
    assert "base_model" not in metadata  # a folder of this machine means nothing on the hub
    assert options.command(finished) in body
    digest = read_record(finished)["data"]["files"]["test"]["sha256"]
    for part in (digest, "path accuracy", "| seed | 0 |", "transformers", "cores", "float32"):
        assert part in body


@pytest.mark.parametrize(
    ("backbone", "base"),
    [("minilm", "sentence-transformers/all-MiniLM-L6-v2"), ("owner/model", "owner/model")],
)
def test_the_card_names_a_base_model_of_the_hub(finished: Path, backbone: str, base: str) -> None:
    model = hyperlm.load(finished).model
    source = {"name": "owner/data", "kind": "hub"}
    made = TrainingOptions(backbone=backbone)
    metrics = {"val": None, "test": None}
    card = model_card(model, made, source, metrics, command="", seconds=1)
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert (metadata["base_model"], metadata["datasets"]) == (base, ["owner/data"])


def test_options_can_be_read_back(finished: Path, options: TrainingOptions) -> None:
    assert TrainingOptions.read(finished / "run.json") == options


def test_a_split_that_is_absent_is_null(
    settings: dict[str, Any], demo_like: Path, tmp_path: Path
) -> None:
    for name in ("train.csv", "val.csv"):
        shutil.copy(demo_like / name, tmp_path)
    options = TrainingOptions(**settings | {"data": str(tmp_path), "epochs": 1})
    metrics = train(options, tmp_path / "run", progress=False)
    assert metrics["test"] is None
    assert metrics["val"]["n"] == 32


def test_logs_for_tensorboard_outlive_the_checkpoints(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    options = TrainingOptions(**settings | {"epochs": 1, "report_to": "tensorboard"})
    train(options, tmp_path / "run", progress=False)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | {"tensorboard"}
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


# -- seeds -----------------------------------------------------------------------------------


def test_equal_seeds_give_equal_runs(
    finished: Path, options: TrainingOptions, tmp_path: Path
) -> None:
    train(options, tmp_path / "run", progress=False)
    assert_same_weights(finished, tmp_path / "run")
    assert results(finished) == results(tmp_path / "run")
    assert log(finished) == log(tmp_path / "run")


# -- interruption ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"geometry": "lorentz", "coordinates": "native"},
        {"learn_curvature": True, "patience": 1},
        {"cone_weight": 0.1, "text_cone_weight": 0.1, "accumulate": 2},
        {"lora": 2, "init": "tree", "precision": "bf16"},
        {"freeze": True, "head": "linear"},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_a_killed_run_resumes_exactly(
    settings: dict[str, Any], changes: dict[str, Any], tmp_path: Path, kill_at: Any
) -> None:
    options = TrainingOptions(**settings | changes)
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
    assert {path.name for path in killed.iterdir()} == FILES


def test_a_run_killed_before_its_first_checkpoint_resumes_from_the_start(
    finished: Path, options: TrainingOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    done = subprocess.run([sys.executable, "-c", code, finished / "run.json", folder], timeout=120)
    assert done.returncode == -9
    assert not (folder / "config.json").exists()
    with pytest.raises(ModelError, match="--resume"):
        hyperlm.load(folder)
    train(None, folder, resume=True, progress=False)
    assert_same_weights(finished, folder)
    assert log(finished) == log(folder)


@pytest.mark.parametrize("step", ["save_pretrained", "draw_labels"])
def test_a_kill_while_saving_loses_nothing(
    finished: Path,
    options: TrainingOptions,
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
            train(options, folder, progress=False)
    steps: list[int] = []
    monkeypatch.setattr(
        Trainer, "training_step", lambda *args, **kwargs: steps.append(1) or torch.zeros(())
    )
    train(None, folder, resume=True, progress=False)
    assert steps == []  # all epochs were done already
    assert_same_weights(finished, folder)
    assert results(finished) == results(folder)
    assert {path.name for path in folder.iterdir()} == FILES


def test_a_run_that_stopped_early_stays_stopped(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing moves, so val never gets better after the first epoch.
    still = {"learning_rate": 1e-12, "head_learning_rate": 1e-12, "point_learning_rate": 1e-12}
    options = TrainingOptions(**settings | still | {"epochs": 6, "patience": 1})
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
    finished: Path, options: TrainingOptions, tmp_path: Path, kill_at: Any
) -> None:
    kill_at(12)
    with pytest.raises(Killed):
        train(options, tmp_path / "before", progress=False)
    kill_at(None)
    (tmp_path / "before").rename(tmp_path / "after")
    train(None, tmp_path / "after", resume=True, progress=False)
    assert_same_weights(finished, tmp_path / "after")


def test_resuming_a_finished_run_changes_nothing(finished: Path, options: TrainingOptions) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
    assert train(options, finished, resume=True, progress=False)["test"]["n"] == 32
    assert {path.name: path.stat().st_mtime_ns for path in finished.iterdir()} == before


def test_resuming_refuses_other_options(finished: Path, settings: dict[str, Any]) -> None:
    other = TrainingOptions(**settings | {"dim": 5, "loss": "leaf"})
    with pytest.raises(OptionError, match=r"--dim 5 \(the run has 4\), --loss leaf"):
        train(other, finished, resume=True)


def test_resuming_refuses_other_data(
    settings: dict[str, Any], demo_like: Path, tmp_path: Path, kill_at: Any
) -> None:
    data = shutil.copytree(demo_like, tmp_path / "data")
    kill_at(9)
    with pytest.raises(Killed):
        train(TrainingOptions(**settings | {"data": str(data)}), tmp_path / "run", progress=False)
    with (data / "val.csv").open("a") as file:
        file.write("word1 word2,animal,bird,owl\n")
    with pytest.raises(DataError, match=r"the val file val\.csv changed"):
        train(None, tmp_path / "run", resume=True)


def test_there_must_be_something_to_resume(tmp_path: Path, options: TrainingOptions) -> None:
    with pytest.raises(OutputError, match="no hyperlm run here"):
        train(options, tmp_path, resume=True)


# -- the output folder -------------------------------------------------------------------------


def test_an_existing_folder_is_refused_with_both_ways_out(
    finished: Path, options: TrainingOptions
) -> None:
    with pytest.raises(OutputError, match=r"--overwrite .* --resume"):
        train(options, finished)


def test_a_folder_of_something_else_is_never_replaced(
    tmp_path: Path, options: TrainingOptions
) -> None:
    (tmp_path / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            train(options, tmp_path, overwrite=overwrite)
    (tmp_path / "run.json").write_text('{"speed": 5}')  # somebody else's run.json
    with pytest.raises(ModelError, match="not the record of a hyperlm run"):
        train(options, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_a_replaced_run_is_gone_only_at_the_end(
    finished: Path, settings: dict[str, Any], tmp_path: Path, kill_at: Any
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    options = TrainingOptions(**settings | {"seed": 1})
    kill_at(9)
    with pytest.raises(Killed):
        train(options, folder, overwrite=True, progress=False)
    (old,) = tmp_path.glob("run.old-*")
    assert_same_weights(finished, old)
    kill_at(None)
    train(None, folder, resume=True, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert read_record(folder)["options"]["seed"] == 1


def test_a_replaced_run_comes_back_when_the_new_one_fails(
    finished: Path, settings: dict[str, Any], tmp_path: Path, kill_at: Any
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    kill_at(3)
    with pytest.raises(Killed):
        train(TrainingOptions(**settings | {"seed": 1}), folder, overwrite=True, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert_same_weights(finished, folder)


def test_a_run_that_fails_at_once_leaves_no_folder(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    for changes in ({"layers": "7"}, {"precision": "fp16"}):
        with pytest.raises(HyperlmError):
            train(TrainingOptions(**settings | changes), tmp_path / "run", progress=False)
    assert not any(tmp_path.iterdir())


def test_overwriting_spares_what_the_run_reads(
    finished: Path, settings: dict[str, Any], demo_like: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    shutil.copytree(demo_like, folder / "data")
    options = TrainingOptions(**settings | {"data": str(folder / "data")})
    with pytest.raises(OutputError, match="which this run reads"):
        train(options, folder, overwrite=True)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
        RuntimeError("[enforce fail at inline_container.cc:668] . PytorchStreamWriter failed"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1489 vs 1488"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_is_explained_and_costs_nothing(
    finished: Path,
    options: TrainingOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    original = HierarchicalLM.save_pretrained

    def save(self: Any, path: Any, **kwargs: Any) -> None:
        if "checkpoint-8" not in str(path):
            raise error
        original(self, path, **kwargs)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(HierarchicalLM, "save_pretrained", save)
        with pytest.raises(OutputError, match=r"run: no space left .* MB .* with --resume"):
            train(options, folder, progress=False)
    train(None, folder, resume=True, progress=False)
    assert_same_weights(finished, folder)


def test_too_small_a_disk_is_noticed_before_training(
    options: TrainingOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"needs about \d+ kB of disk space, 1\.0 kB"):
        train(options, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# -- adapters ----------------------------------------------------------------------------------


def test_adapters_are_saved_as_they_are_or_merged(settings: dict[str, Any], tmp_path: Path) -> None:
    options = TrainingOptions(**settings | {"lora": 2, "epochs": 1})
    train(options, tmp_path / "adapters", progress=False)
    train(options, tmp_path / "merged", merge=True, progress=False)
    assert any("lora_A" in name for name in weights(tmp_path / "adapters"))
    assert not any("lora" in name for name in weights(tmp_path / "merged"))
    assert "--merge" in (tmp_path / "merged/README.md").read_text()
    texts = ["owl0 word3 animal1", "word1", "sage2 plant0"]
    kept, merged = (hyperlm.load(tmp_path / name).logits(texts) for name in ("adapters", "merged"))
    torch.testing.assert_close(kept, merged, atol=1e-4, rtol=1e-4)


def test_merging_needs_adapters(options: TrainingOptions, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="needs --lora"):
        train(options, tmp_path / "run", merge=True)


# -- several processes ---------------------------------------------------------------------------


def test_two_processes_make_one_run(settings: dict[str, Any], tmp_path: Path) -> None:
    options = TrainingOptions(**settings | {"epochs": 1})
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
