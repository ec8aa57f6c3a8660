"""SetFit: the backbone tuned on pairs of texts, then a logistic regression over whole paths."""

from typing import TYPE_CHECKING

import numpy as np

from hyperlm.lm.backbone import resolve_backbone

if TYPE_CHECKING:
    from hyperlm.experiments.peer_process import Job

__all__ = ["SetFit"]


class SetFit:
    """The package ``setfit`` with its own defaults, on a budget.

    Settings: ``steps`` of ``batch`` pairs of texts. All pairs of thousands of texts, which is what
    it draws by default, would take days.
    """

    def __init__(self, job: "Job") -> None:
        from setfit import SetFitModel, Trainer, TrainingArguments

        self.trainer_of, self.arguments_of = Trainer, TrainingArguments
        self.job, self.paths = job, job.paths("train")
        self.texts = {split: job.texts(split) for split in ("train", "val", "test")}
        self.model = SetFitModel.from_pretrained(resolve_backbone(job.backbone).location)
        self.model.model_body.max_seq_length = job.max_length

    def train(self) -> None:
        self.known, classes = np.unique(self.paths, axis=0, return_inverse=True)
        arguments = self.arguments_of(
            output_dir=str(self.job.folder / "run"),
            batch_size=self.job.settings["batch"],
            max_steps=self.job.settings["steps"],
            seed=self.job.seed,
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        trainer = self.trainer_of(model=self.model, args=arguments)
        labels = classes.tolist()
        trainer.train_embeddings(self.texts["train"], labels, args=arguments)
        trainer.train_classifier(self.texts["train"], labels, args=arguments)

    def predict(self, split: str) -> np.ndarray:
        found = self.model.predict(self.texts[split], as_numpy=True, show_progress_bar=False)
        return self.known[np.asarray(found, dtype=np.int64)]
