"""One progress bar for a run, and a log that a program can read."""

import json
import time
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

__all__ = ["TrainingProgress"]

_OF_ALL_STEPS = ("train_loss", "train_samples_per_second", "train_steps_per_second")


class TrainingProgress(TrainerCallback):
    """Shows loss and val figures beside the bar; appends every log to ``train_log.jsonl``.

    Args:
        log_path: file to append to; lines are whole JSON documents, so a kill loses at most one.
        show: whether to draw the bar (on standard error).
    """

    def __init__(self, log_path: Path | None, *, show: bool) -> None:
        self.log_path, self.show = log_path, show
        self.bar: tqdm | None = None
        self.figures: dict[str, str] = {}
        self.resumed = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.resumed = state.global_step > 0
        if state.is_world_process_zero and self.show:
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="training", unit="step"
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        # Losses are means since the line before: a line at the end of each epoch, where
        # checkpoints are, makes the log of a resumed run equal to that of an uninterrupted one.
        control.should_log = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs:
            return
        if self.resumed:  # sums since then, divided by all steps of the run
            logs = {key: value for key, value in logs.items() if key not in _OF_ALL_STEPS}
        if self.log_path is not None:
            record = {"step": state.global_step, **logs, "time": round(time.time(), 3)}
            with self.log_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        for key, label in (("loss", "loss"), ("eval_path_accuracy", "val")):
            if key in logs:
                self.figures[label] = f"{logs[key]:.3f}"
        if self.bar is not None:
            self.bar.set_postfix(self.figures)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
