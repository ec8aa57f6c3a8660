"""Synthetic features, small heads and made-up records for the tests of experiments."""

import re
from dataclasses import replace

import numpy as np
import torch

from hyperlm.experiments import arms
from hyperlm.experiments.features import Split
from hyperlm.experiments.measure import measure, node_logits
from hyperlm.experiments.results import Record
from hyperlm.experiments.settings import HeadRun
from hyperlm.heads import build_head
from hyperlm.taxonomy import Taxonomy

WIDTH = 12
TREE = Taxonomy.from_paths([("a", "x"), ("a", "y"), ("b", "z"), ("b", "w"), ("c",)])
DAG = Taxonomy.from_edges([("x", "a"), ("x", "b"), ("y", "a"), ("z", "b"), ("w", "b")])


def features(taxonomy, count=40, taps=2, seed=0):
    """Features ``(n, taps, WIDTH)`` and the end nodes of the texts."""
    random = np.random.default_rng(seed)
    ends = random.choice(taxonomy.terminals, count)
    centres = random.normal(size=(len(taxonomy), taps, WIDTH))
    noisy = centres[ends] + 0.3 * random.normal(size=(count, taps, WIDTH))
    return torch.tensor(noisy, dtype=torch.float32), torch.tensor(ends)


def head_of(run, taxonomy):
    taps = [min(level, 1) for level in range(taxonomy.num_levels)]
    return build_head(hidden_size=WIDTH, taxonomy=taxonomy, tap_of_level=taps, **run.head_options())


BASE = HeadRun(dim=4, epochs=4, batch_size=16, head_lr=1e-2)


def document(taxonomy=TREE, seed=0):
    x, ends = features(taxonomy, seed=seed)
    head = head_of(BASE, taxonomy)
    split = Split(x, [np.array([int(end)]) for end in ends], ends)
    few = np.arange(len(x)) % 3 == 0
    return measure(node_logits(head, x), taxonomy, split, loss="level", few=few)


def pictures(document):
    """Kinds of pictures that a report shows, each of which must be there, and no other."""
    shown = re.findall(r"]\(images/(.+?)\)", document.read_text(encoding="utf-8"))
    there = {path.name for path in (document.parent / "images").iterdir()}
    assert sorted(shown) == sorted(there)
    return {name.rpartition("-")[0] for name in there}


def record(seed=0, arm="poincare", dim=4, path=0.5, **labels):
    figures = document(seed=seed)
    figures["path_accuracy"] = path
    return Record(
        run=replace(arms.GEOMETRIES.get(arm, HeadRun()), seed=seed, dim=dim),
        data={"name": "made up", "files": {}},
        labels={"experiment": "compare-geometries", "arm": arm, "stage": "measure", **labels},
        figures={"val": figures, "test": figures, "geometry": {}, "train_texts": 40},
        seconds=1.5,
        context={
            "together": 1,
            "cpu_seconds": 1.5,
            "machine": "a computer",
            "hyperlm": "0",
            "at": "2026-01-01T00",
        },
    )
