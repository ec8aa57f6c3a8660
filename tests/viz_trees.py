"""Random trees to draw, and whether any two names in a figure overlap."""

import numpy as np
from matplotlib.transforms import Affine2D

from hyperlm.taxonomy import Taxonomy
from hyperlm.viz.labels import overlapping


def random_tree(levels, widest, seed):
    rng = np.random.default_rng(seed)
    paths = [(f"class {i}",) for i in range(5)]
    grown = list(paths)
    for _ in range(levels - 1):
        grown = [(*p, f"n{i} {p[-1][-6:]}") for p in grown for i in range(rng.integers(0, widest))]
        paths += grown
    return Taxonomy.from_paths(paths)


def drawn_boxes(fig):
    """Corners of every text as the renderer measures it level, turned about its anchor."""
    renderer = fig.canvas.get_renderer()
    boxes = []
    for text in fig.axes[0].texts:
        x, y = text.get_transform().transform(text.get_position())
        angle = text.get_rotation()
        text.set_rotation(0)
        box = text.get_window_extent(renderer)
        text.set_rotation(angle)
        turn = Affine2D().rotate_deg_around(x, y, angle)
        boxes.append(turn.transform(box.corners()[[0, 2, 3, 1]]))
    return np.array(boxes)


def assert_no_overlap(fig):
    boxes = drawn_boxes(fig)
    page = fig.bbox
    assert boxes.min() >= 0
    assert (boxes <= (page.width, page.height)).all()
    for i in range(len(boxes) - 1):
        # A hair less: the renderer rounds to whole pixels.
        box = boxes[i].mean(0) + 0.99 * (boxes[i] - boxes[i].mean(0))
        hit = np.flatnonzero(overlapping(box, boxes[i + 1 :]))
        texts = [fig.axes[0].texts[j].get_text() for j in (i, *(hit + i + 1))]
        assert not len(hit), texts
