"""Local classifiers on frozen features, as HiClass and scikit-learn offer them.

Features of all tapped layers side by side, each layer normalised as our projections do: all that
our heads read. Labels are node numbers, so that equal names under different parents stay apart.
"""

from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression

if TYPE_CHECKING:
    from hyperlm.experiments.peer_process import Job

__all__ = ["Local", "PerLevel", "joined"]


def joined(features: np.ndarray) -> np.ndarray:
    """``(n, taps, D)`` to ``(n, taps D)``: every tap with mean 0 and variance 1."""
    centred = features - features.mean(2, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(2, keepdims=True) + 1e-5)
    return scaled.reshape(len(features), -1)


def _regression(c: float) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=1000)


class Local:
    """HiClass with logistic regressions. Settings: ``per`` (parent, node, level) and ``C``."""

    def __init__(self, job: "Job") -> None:
        self.settings = job.settings
        self.features = {s: joined(job.features(s)) for s in ("train", "val", "test")}
        # HiClass marks the end of a shorter path by an empty name.
        self.labels = np.array(
            [["" if node < 0 else str(node) for node in row] for row in job.paths("train")]
        )

    def train(self) -> None:
        import hiclass

        kind = {
            "parent": hiclass.LocalClassifierPerParentNode,
            "node": hiclass.LocalClassifierPerNode,
            "level": hiclass.LocalClassifierPerLevel,
        }[self.settings["per"]]
        self.classifier = kind(local_classifier=_regression(self.settings["C"]))
        self.classifier.fit(self.features["train"], self.labels)

    def predict(self, split: str) -> np.ndarray:
        found = np.asarray(self.classifier.predict(self.features[split]))
        found = found.reshape(len(found), -1)
        return np.array([[int(name) if name else -1 for name in row] for row in found])


class PerLevel:
    """One logistic regression a level, and nobody asks whether the answers fit. Setting: ``C``."""

    def __init__(self, job: "Job") -> None:
        self.settings = job.settings
        self.features = {s: joined(job.features(s)) for s in ("train", "val", "test")}
        self.paths = job.paths("train")

    def train(self) -> None:
        # Where paths end early, -1 is one more class.
        self.classifiers = [
            _regression(self.settings["C"]).fit(self.features["train"], nodes)
            for nodes in self.paths.T
        ]

    def predict(self, split: str) -> np.ndarray:
        return np.stack([c.predict(self.features[split]) for c in self.classifiers], 1)
