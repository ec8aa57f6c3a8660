"""A tiny untrained model behind a server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_requests import serving

from hyperlm import Classifier, HierarchicalLM
from hyperlm.data import load_data
from hyperlm.viz.answering import answerer
from hyperlm.viz.explorer import page_layouts
from hyperlm.viz.serve import PageServer
from hyperlm.viz.sources import collect_model


@pytest.fixture(scope="module")
def served_model(tiny_backbone: Path, demo_like: Path) -> Classifier:
    bundle = load_data(demo_like)
    return Classifier(
        HierarchicalLM.from_backbone(
            str(tiny_backbone), bundle.taxonomy, head={"dim": 4}, level_names=bundle.level_names
        )
    )


@pytest.fixture(scope="module")
def page_server(served_model: Classifier) -> Iterator[PageServer]:
    layouts = page_layouts(collect_model(served_model, "nowhere", limit=0))
    with serving(answerer(served_model, layouts)) as made:
        yield made
