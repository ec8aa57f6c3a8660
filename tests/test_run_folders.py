"""Folders that are taken, runs that replace others, disks that are full."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_records import Killed, assert_same_weights
from safetensors import SafetensorError

from hyperlm.checkpoints import discard_torn, last_checkpoint
from hyperlm.errors import HyperlmError, HyperlmWarning, ModelError, OutputError
from hyperlm.lm import HierarchicalLM
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.runfolder import RunFolder, filling, read_record

pytest_plugins = ["run_fixtures"]


def test_an_existing_folder_is_refused_with_both_ways_out(
    finished_run: Path, run_options: TrainingOptions
) -> None:
    with pytest.raises(OutputError, match=r"--overwrite .* --resume"):
        train(run_options, finished_run)


def test_a_folder_of_something_else_is_never_replaced(
    tmp_path: Path, run_options: TrainingOptions
) -> None:
    (tmp_path / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            train(run_options, tmp_path, overwrite=overwrite)
    (tmp_path / "run.json").write_text('{"speed": 5}')  # somebody else's run.json
    with pytest.raises(ModelError, match="not the record of a hyperlm run"):
        train(run_options, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_a_replaced_run_is_gone_only_at_the_end(
    finished_run: Path, run_settings: dict[str, Any], tmp_path: Path, kill_at: Any
) -> None:
    folder = shutil.copytree(finished_run, tmp_path / "run")
    options = TrainingOptions(**run_settings | {"seed": 1})
    kill_at(9)
    with pytest.raises(Killed):
        train(options, folder, overwrite=True, progress=False)
    (old,) = tmp_path.glob("run.old-*")
    assert_same_weights(finished_run, old)
    kill_at(None)
    train(None, folder, resume=True, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert read_record(folder)["options"]["seed"] == 1


def test_a_replaced_run_comes_back_when_the_new_one_fails(
    finished_run: Path, run_settings: dict[str, Any], tmp_path: Path, kill_at: Any
) -> None:
    folder = shutil.copytree(finished_run, tmp_path / "run")
    kill_at(3)
    with pytest.raises(Killed):
        train(TrainingOptions(**run_settings | {"seed": 1}), folder, overwrite=True, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert_same_weights(finished_run, folder)


def test_a_run_that_fails_at_once_leaves_no_folder(
    run_settings: dict[str, Any], tmp_path: Path
) -> None:
    for changes in ({"layers": "7"}, {"precision": "fp16"}):
        with pytest.raises(HyperlmError):
            train(TrainingOptions(**run_settings | changes), tmp_path / "run", progress=False)
    assert not any(tmp_path.iterdir())


def test_overwriting_spares_what_the_run_reads(
    finished_run: Path, run_settings: dict[str, Any], demo_like: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished_run, tmp_path / "run")
    shutil.copytree(demo_like, folder / "data")
    options = TrainingOptions(**run_settings | {"data": str(folder / "data")})
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
    finished_run: Path,
    run_options: TrainingOptions,
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
            train(run_options, folder, progress=False)
    train(None, folder, resume=True, progress=False)
    assert_same_weights(finished_run, folder)


def test_too_small_a_disk_is_noticed_before_training(
    run_options: TrainingOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"needs about \d+ kB of disk space, 1\.0 kB"):
        train(run_options, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def record(who: str) -> dict[str, Any]:
    return {"hyperlm": "0", "status": "training", "options": {}, "who": who}


def test_of_two_runs_started_at_once_one_has_the_folder(tmp_path: Path) -> None:
    first, second = (RunFolder(tmp_path / "run") for _ in range(2))
    for folder in (first, second):
        folder.check_free(overwrite=False, inputs=())
    first.claim(record("first"))
    with pytest.raises(OutputError, match="another run has begun"):
        second.claim(record("second"))
    second.give_back(None)
    assert read_record(first.path)["who"] == "first"
    first.release()


def test_a_run_whose_folder_was_taken_while_it_trained_replaces_nothing(
    run_options: TrainingOptions, tmp_path: Path
) -> None:
    thief = RunFolder(tmp_path / "run")

    def take(*_: Any) -> None:
        (thief.path / ".training.lock").unlink()  # as from a machine that does not see the lock
        thief.claim(record("thief"), overwrite=True)
        (thief.path / "mine").touch()

    with pytest.raises(OutputError, match="has taken it"):
        train(run_options, tmp_path / "run", progress=False, on_start=take)
    assert read_record(thief.path)["who"] == "thief"
    assert (thief.path / "mine").exists()
    assert not (thief.path / "model.safetensors").exists()
    thief.release()
    assert read_record(thief.path)["status"] == "finished"


def test_a_folder_is_not_taken_from_a_run_that_trains_in_it(
    run_options: TrainingOptions, finished_run: Path, tmp_path: Path
) -> None:
    refused = []

    def others(*_: Any) -> None:
        for words in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(OutputError, match="is being trained in this folder"):
                train(run_options, tmp_path / "run", progress=False, **words)
            refused.append(words)
        torn = tmp_path / "run" / "checkpoints" / "checkpoint-4"
        assert not torn.exists()
        torn.mkdir(parents=True)  # being written, not torn
        with pytest.raises(OutputError, match="is being trained"):
            train(None, tmp_path / "run", progress=False, resume=True)
        assert torn.exists()
        torn.rmdir()

    train(run_options, tmp_path / "run", progress=False, on_start=others)
    assert len(refused) == 2
    assert_same_weights(finished_run, tmp_path / "run")
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        p.name for p in finished_run.iterdir()
    }


def test_a_lock_is_let_go_by_whom_it_belongs_to(tmp_path: Path) -> None:
    first, second, third = (RunFolder(tmp_path / "run") for _ in range(3))
    first.claim(record("first"))
    first.hold()
    shutil.rmtree(tmp_path / "run")  # by hand, while it trains
    second.claim(record("second"))
    second.hold()
    first.let_go()
    with pytest.raises(OutputError, match="is being trained"):
        third.check_free(overwrite=True, inputs=())
    second.give_back(None)
    assert not (tmp_path / "run").exists()
    second.let_go()  # again


def test_a_file_system_without_locks_is_done_without_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def acquire(self: Any, *_: Any, **__: Any) -> None:
        Path(self.lock_file).touch()
        raise NotImplementedError

    monkeypatch.setattr("hyperlm.runfolder.FileLock.acquire", acquire)
    folder = RunFolder(tmp_path / "run")
    folder.claim(record("only"))
    with pytest.warns(HyperlmWarning, match="has no locks.* local disk"):
        folder.hold()
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]
    folder.release()
    folder.let_go()


def test_what_a_kill_at_the_very_end_left_is_swept(finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (run / ".training.lock").touch()
    train(None, run, resume=True, progress=False)
    assert not (run / ".training.lock").exists()


def test_the_lock_of_a_dead_process_holds_nobody_off(
    run_options: TrainingOptions, tmp_path: Path, kill_at: Callable[[int | None], None]
) -> None:
    kill_at(10)
    with pytest.raises(Killed):
        train(run_options, tmp_path / "run", progress=False)
    (tmp_path / "run" / ".training.lock").touch()
    kill_at(None)
    train(None, tmp_path / "run", resume=True, progress=False)
    assert not (tmp_path / "run" / ".training.lock").exists()


def test_a_run_that_lost_its_folder_leaves_it_alone(tmp_path: Path) -> None:
    first, second = (RunFolder(tmp_path / "run") for _ in range(2))
    first.claim(record("first"))
    second.claim(record("second"), overwrite=True)
    with pytest.raises(OutputError, match="has taken it"):
        first.release()
    first.give_back(None)
    assert read_record(second.path)["who"] == "second"
    second.release()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_all_that_was_set_aside_goes_when_a_run_is_done(tmp_path: Path) -> None:
    finished, killed, last = (RunFolder(tmp_path / "run") for _ in range(3))
    finished.claim(record("finished"))
    finished.release()
    killed.claim(record("killed"), overwrite=True)
    last.claim(record("last"), overwrite=True)
    assert len(list(tmp_path.iterdir())) == 3  # nothing is lost before
    last.release()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert read_record(last.path)["who"] == "last"


def test_a_copied_folder_takes_nothing_of_the_first_with_it(tmp_path: Path) -> None:
    for who in ("finished", "begun"):
        run = RunFolder(tmp_path / "run")
        run.claim(record(who), overwrite=who == "begun")
        if who == "finished":
            run.release()
    (aside,) = tmp_path.glob("run.old-*")
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    other = RunFolder(tmp_path / "other")
    other.claim(record("other"), overwrite=True)
    other.release()
    assert read_record(aside)["who"] == "finished"


def test_what_a_dead_process_of_the_same_number_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """As in a container that was killed and started again."""
    (tmp_path / f".partial-{os.getpid()}").mkdir()
    (tmp_path / f".partial-{os.getpid()}" / "half").touch()
    for text in ("first", "second"):
        with filling(tmp_path) as temporary:
            (temporary / "file").write_text(text)
            (temporary / "templates").mkdir()  # as tokenizers with several chat templates write
            (temporary / "templates" / text).touch()
        assert (tmp_path / "file").read_text() == text
        assert [path.name for path in (tmp_path / "templates").iterdir()] == [text]
        assert (tmp_path / "templates").stat().st_mode & 0o500 == 0o500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "templates"]


def test_copies_of_checkpoints_are_nobodys_business(tmp_path: Path) -> None:
    for name in ("checkpoint-10", "checkpoint-10.bak", "checkpoint-10 copy", "checkpoint-9"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "trainer_state.json").write_text('{"epoch": 1}')
    (tmp_path / "checkpoints" / "checkpoint-11.bak").mkdir()
    last = last_checkpoint(tmp_path)
    assert last is not None
    assert last.name == "checkpoint-10"
    discard_torn(tmp_path)
    assert (tmp_path / "checkpoints" / "checkpoint-11.bak").exists()
