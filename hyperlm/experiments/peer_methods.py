"""A system in a process of its own, from the outside: what it is given, what it answered, its cost.

Enters: a data set with one gold path a text, and a trial. Leaves: the figures of its answers as the
system gives them (nobody repairs an answer that is no path), and what they cost.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperlm.data import SPLITS, write_rows
from hyperlm.errors import DataError, ModelError
from hyperlm.experiments import peer_process
from hyperlm.experiments.features import FrozenData, Split
from hyperlm.experiments.measure import bits, measure
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.trials import Trial
from hyperlm.label_sets import LabelSets, overlap
from hyperlm.metrics import evaluate_predictions, form_paths, level_scores, tree_distances
from hyperlm.taxonomy import Taxonomy

__all__ = ["METHODS", "answered", "ask", "check_single_paths", "end_nodes"]

# Method of a trial -> file and class.
METHODS: Mapping[str, tuple[str, str]] = {
    "features": ("peer_hyperlm", "Features"),
    "geoopt prototypes": ("peer_geoopt", "Prototypes"),
    "hiclass": ("peer_local", "Local"),
    "hyperlm head": ("peer_hyperlm", "Head"),
    "hyperlm train": ("peer_hyperlm", "Whole"),
    "logistic regression per level": ("peer_local", "PerLevel"),
    "setfit": ("peer_setfit", "SetFit"),
    "tf-idf svm": ("peer_tfidf", "TfidfSvm"),
}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def ask(data: FrozenData, trial: Trial) -> dict[str, Any]:
    """Train the system of a trial and let it answer val and test.

    Returns:
        ``val`` and ``test`` documents, where the system answers; ``cost``: ``train_seconds``,
        ``train_cpu``, ``ms_a_text``, ``cpu_ms_a_text`` on test, ``peak_mb`` of resident memory and
        ``threads``; ``seconds`` of training.
    Raises:
        DataError: texts with several gold paths, or a DAG. ModelError: the process failed.
    """
    check_single_paths(data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _give(data, trial, folder)
        _process(folder, trial.method)
        cost = json.loads((folder / "cost.json").read_text(encoding="utf-8"))
        found = {
            split: np.load(folder / f"{split}.npy")
            for split in ("val", "test")
            if (folder / f"{split}.npy").is_file()
        }
    figures: dict[str, Any] = {
        split: _document(data, trial, split, answers) for split, answers in found.items()
    }
    figures["cost"] = cost | {"threads": torch.get_num_threads()}
    return figures | {"seconds": cost["train_seconds"]}


def check_single_paths(data: FrozenData) -> None:
    """Refuse what the peers cannot be given.

    Raises:
        DataError: texts with several gold paths, or a DAG.
    """
    several = any(len(ends) != 1 for split in SPLITS for ends in data.bundle.gold(split))
    if several or not data.taxonomy.is_tree:
        raise DataError(
            f"{data.name}: the peers take one gold path a text in a tree, and this data has "
            f"{'texts with several paths' if several else 'nodes with several parents'}. Choose "
            "another data set."
        )


def answered(
    taxonomy: Taxonomy, gold: list[np.ndarray], answers: np.ndarray, *, few: np.ndarray
) -> dict[str, Any]:
    """All figures of answers that are given level by level, as they are given.

    A level counts by the node answered there, whether or not the levels agree; a path is right
    where every level is. Tree distances are those of the deepest node.

    Args:
        gold: one end node a text.
        answers: ``(n, L)`` nodes, -1 for none.
        few: ``(n,)`` bool, texts of classes with few examples.
    Returns:
        A document as :func:`~.measure.measure` makes; ``path_consistency`` is the share of answers
        that form a path.
    """
    ends, wanted = end_nodes(answers), taxonomy.path_matrix[[int(nodes[0]) for nodes in gold]]
    consistent = form_paths(taxonomy, answers)
    right = (answers == wanted) & (wanted >= 0)
    whole = (answers == wanted).all(1)
    document = evaluate_predictions(taxonomy, gold, ends, level_predictions=answers)
    document["levels"] = level_scores(taxonomy, gold, answers, augment=False)
    document["path_accuracy"] = float(whole.mean())
    document["path_consistency"] = float(consistent.mean())
    document["hierarchical"] = overlap(
        LabelSets.of(taxonomy, gold, "gold").augmented(), LabelSets.of(taxonomy, answers, "answers")
    )
    document["few"] = {
        "texts": int(few.sum()),
        "accuracy": float(whole[few].mean()) if few.any() else None,
    }
    document["answers"] = {
        "right": [bits(hit) for hit in (*right.T, whole)],
        "consistent": bits(consistent),
        "distance": tree_distances(taxonomy, gold, ends).tolist(),
        "few": bits(few),
    }
    return document


def end_nodes(answers: np.ndarray) -> np.ndarray:
    """The deepest node of each row ``(n, L)``, -1 where there is none."""
    levels = np.arange(answers.shape[1])
    last = np.where(answers >= 0, levels, -1).max(1)
    return np.where(last < 0, -1, answers[np.arange(len(answers)), last.clip(0)])


def _document(data: FrozenData, trial: Trial, split: str, found: np.ndarray) -> dict[str, Any]:
    gold, few = data.bundle.gold(split), data.few(split)
    if not np.issubdtype(found.dtype, np.floating):
        return answered(data.taxonomy, gold, found, few=few)
    settings = trial.settings.get("options", trial.settings)
    unread = torch.empty(0)
    return measure(
        torch.from_numpy(found),
        data.taxonomy,
        Split(features=unread, gold=gold, targets=unread),
        loss=settings.get("loss", "level"),
        few=few,
    )


def _give(data: FrozenData, trial: Trial, folder: Path) -> None:
    """Write what :class:`~.peer_process.Job` reads."""
    module, kind = METHODS[trial.method]
    job = {
        "module": module,
        "class": kind,
        "settings": dict(trial.settings),
        "seed": trial.seed,
        "backbone": data.backbone,
        "max_length": data.max_length,
        "precision": data.precision,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    data.taxonomy.write(folder / "taxonomy.json")
    for split in SPLITS:
        part = data.bundle.split(split)
        rows = (
            {"text": text, "label": [list(path) for path in paths]}
            for text, paths in zip(part.texts, part.paths, strict=True)
        )
        write_rows(folder / f"{split}.jsonl", rows)
        ends = [int(nodes[0]) for nodes in data.bundle.gold(split)]
        if split != "test":  # its labels are for nobody to see
            np.save(folder / f"paths-{split}.npy", data.taxonomy.path_matrix[ends])
        if module in ("peer_local", "peer_geoopt"):
            features = data.splits(HeadRun())[split].features
            np.save(folder / f"features-{split}.npy", features.float().numpy())


def _process(folder: Path, method: str) -> None:
    threads = {name: str(torch.get_num_threads()) for name in _THREADS}
    with (folder / "log.txt").open("w+", encoding="utf-8") as log:
        # -P: beside the file there are names of the standard library.
        done = subprocess.run(
            [sys.executable, "-P", peer_process.__file__, str(folder)],
            env=os.environ | threads,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
        log.seek(0)
        said = log.read().strip().splitlines()
    if done.returncode:
        last = said[-1] if said else "it said nothing"
        raise ModelError(
            f"experiment peers: {method} ended with status {done.returncode} ({last}). Runs in the "
            "results file are kept; start the same command again once that is repaired."
        )
