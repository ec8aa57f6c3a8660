"""Training projections in whitened coordinates: what it changes, and what it must not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from torch.nn import functional as F

from hyperlm.errors import OptionError
from hyperlm.experiments.fitting import _enter, _leave, fit_together
from hyperlm.experiments.measure import node_logits
from hyperlm.experiments.settings import HeadRun
from hyperlm.heads import build_head, start_from_texts
from hyperlm.heads.discriminant import node_means, whitening
from hyperlm.taxonomy import Taxonomy

TREE = Taxonomy.from_paths([(a, f"{a}{b}") for a in "xyz" for b in "klm"])
D = 12
RUN = HeadRun(dim=4, epochs=6, batch_size=16, head_lr=3e-3, whiten=True, layers="1,2", dropout=0.1)


def texts(count=96, seed=0):
    """Two taps; a leaf shows in the coordinates of least spread."""
    spread = torch.linspace(0.05, 5, D)
    random = torch.Generator().manual_seed(seed)
    ends = torch.tensor(TREE.leaves.copy())[torch.arange(count) % len(TREE.leaves)]
    centres = torch.randn(2, len(TREE), D, generator=random) * 0.1
    noise = torch.randn(count, 2, D, generator=random) * spread
    return centres[:, ends].transpose(0, 1) + noise, ends


def head_of(run, features=None, ends=None):
    options = run.head_options() | {"tap_of_level": (0, 1)}
    head = build_head(hidden_size=D, taxonomy=TREE, **options)
    if run.init == "texts":
        start_from_texts(head, features, ends)
    return head


def test_the_spread_inside_labels_becomes_alike():
    """``A^-2`` is the covariance inside the labels, shrunk."""
    features, ends = texts()
    cuts = head_of(RUN).cuts(ends.device)
    for tap, (A, m) in enumerate(whitening(features, ends, cuts)):
        x = F.layer_norm(features[:, tap], (D,)).double()
        apart = (x - node_means(x, ends, torch.ones(len(x)).double(), cuts)[ends]).numpy()
        covariance = apart.T @ apart / len(x)
        share = ledoit_wolf_shrinkage(apart, assume_centered=True)
        wanted = (1 - share) * covariance + share * np.trace(covariance) / D * np.eye(D)
        np.testing.assert_allclose(np.linalg.inv((A @ A).numpy()), wanted, atol=1e-12)
        np.testing.assert_allclose(m.numpy(), x.mean(0).numpy(), atol=1e-12)


@pytest.mark.parametrize("head", ["points", "linear"])
def test_a_change_of_coordinates_changes_no_answer(head):
    features, ends = texts()
    made = head_of(replace(RUN, head=head)).eval()
    before = node_logits(made, features)
    states = [F.layer_norm(part, (D,)) for part in features.unbind(1)]
    frames = whitening(features, ends, made.cuts(ends.device))
    outside = [F.linear(x, p.linear.weight, p.linear.bias) for x, p in _pairs(states, made)]
    _enter(made, frames)
    white = [((x - m) @ A).float() for x, (A, m) in zip(states, frames, strict=True)]
    for (x, p), wanted in zip(_pairs(white, made), outside, strict=True):
        torch.testing.assert_close(F.linear(x, p.linear.weight, p.linear.bias), wanted)
    _leave(made, frames)
    torch.testing.assert_close(node_logits(made, features), before, rtol=1e-4, atol=1e-4)


def _pairs(states, head):
    return zip(states, head.each_projection(), strict=True)


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("init", ["random", "texts"])
def test_the_company_of_a_run_does_not_matter(share, init):
    features, ends = texts()
    # Runs of one seed share what it draws, whatever their rates and wherever they stand.
    own = [(0, 1.0), (1, 1.0), (0, 0.5), (2, 1.0), (1, 0.5)]
    runs = [
        replace(RUN, init=init, train_share=share, seed=seed, head_lr=RUN.head_lr * factor)
        for seed, factor in own
    ]
    heads = [head_of(run, features, ends) for run in runs]
    fit_together(heads, features, ends, runs)
    for at in (1, 2, 4):
        single = head_of(runs[at], features, ends)
        start = node_logits(single, features)
        fit_together([single], features, ends, [runs[at]])
        alone = node_logits(single, features)
        torch.testing.assert_close(node_logits(heads[at], features), alone, rtol=1e-3, atol=1e-3)
        assert (alone - start).abs().max() > 0.1, "nothing was learnt"


def test_a_start_from_texts_is_kept_while_nothing_is_learnt():
    features, ends = texts()
    run = replace(RUN, init="texts", head_lr=1e-12, node_lr=1e-12, weight_decay=0.0)
    head = head_of(run, features, ends)
    before = node_logits(head, features)
    fit_together([head], features, ends, [run])
    torch.testing.assert_close(node_logits(head, features), before, rtol=1e-3, atol=1e-3)


def test_whitening_needs_runs_that_train_together():
    with pytest.raises(OptionError, match="without whitening"):
        HeadRun(whiten=True, cone_weight=0.1)
