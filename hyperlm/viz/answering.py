"""One text at a time: what the model makes of it and where it lies on the page.

In: a loaded model, the layouts of its page, and a text. Out: what ``POST /predict`` answers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hyperlm.classifier import Classifier
from hyperlm.viz.layout import Layout
from hyperlm.viz.reading import read_texts
from hyperlm.viz.rundata import TextData

__all__ = ["answerer"]

_TOP = 5


def answerer(model: Classifier, layouts: Sequence[Layout]) -> Callable[[str], dict[str, Any]]:
    """A function that reads one text and says what the model makes of it.

    Its answer has the keys ``text path nodes probabilities top positions empty``: the decoded path
    with the probability of being at or below each of its nodes, the most probable paths (and
    whether each is ``answered``), and where the text lies in each layout that can place it, as a
    tangent vector at the origin.
    """

    def answer(text: str) -> dict[str, Any]:
        read = read_texts(model, [text], k=_TOP)
        taxonomy = model.taxonomy
        nodes = [node for node in read.path_nodes[0].tolist() if node >= 0]
        tops = zip(
            read.top_nodes[0].tolist(),
            read.top_paths[0].tolist(),
            read.top_probabilities[0].tolist(),
            read.answered[0].tolist(),
            strict=True,
        )
        one = TextData(
            (text,),
            read.tangents,
            np.array([-1]),
            read.predicted,
            read.probability,
            read.top_nodes,
            read.top_probabilities,
            "",
        )
        return {
            "text": text,
            "path": [taxonomy.name(node) for node in nodes],
            "nodes": nodes,
            "probabilities": read.marginals[0, : len(nodes)].tolist(),
            "top": [
                {
                    "path": [taxonomy.name(n) for n in path if n >= 0],
                    "node": node,
                    "probability": probability,
                    "answered": answered,
                }
                for node, path, probability, answered in tops
                if node >= 0
            ],
            "positions": {
                plan.name: plan.place(one)[0].tolist() for plan in layouts if plan.place is not None
            },
            "empty": not text.strip(),
        }

    return answer
