"""Words counted, and a linear classifier over whole paths: the baseline that costs nothing."""

from typing import TYPE_CHECKING

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

if TYPE_CHECKING:
    from hyperlm.experiments.peer_process import Job

__all__ = ["TfidfSvm"]


class TfidfSvm:
    """TF-IDF of words and pairs of words, and one linear SVM whose classes are the paths.

    Settings: ``sublinear``, ``min_texts`` a word must be in, and ``C``.
    """

    def __init__(self, job: "Job") -> None:
        self.settings, self.seed = job.settings, job.seed
        self.texts = {split: job.texts(split) for split in ("train", "val", "test")}
        self.paths = job.paths("train")

    def train(self) -> None:
        self.words = TfidfVectorizer(
            ngram_range=(1, 2),
            sublinear_tf=self.settings["sublinear"],
            min_df=self.settings["min_texts"],
        )
        counted = self.words.fit_transform(self.texts["train"])
        self.known, classes = np.unique(self.paths, axis=0, return_inverse=True)
        self.classifier = LinearSVC(C=self.settings["C"], random_state=self.seed)
        self.classifier.fit(counted, classes)

    def predict(self, split: str) -> np.ndarray:
        return self.known[self.classifier.predict(self.words.transform(self.texts[split]))]
