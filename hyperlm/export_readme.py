"""What stands beside an exported graph: its inputs and outputs, and the lines that answer texts."""

from pathlib import Path

from hyperlm.classifier import Classifier

__all__ = ["readme"]

_README = """# Texts to paths of a label tree

Written by `hyperlm export`{run}: {backbone} with {labels:,} labels in {levels} levels.

| file | |
|---|---|
| `model.onnx` | {graph} |{data}
| `labels.json` | `paths[i]` and `nodes[i]`: the names of column i; `levels`: those of the levels |
| `tokenizer.json` | cuts texts at {tokens} tokens and pads them, on the right |

Probabilities are those that `hyperlm predict` gave when this was written; after `hyperlm calibrate`
export again.

`pip install onnxruntime tokenizers numpy`, and in this folder:

```python
import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

labels = json.loads(Path("labels.json").read_text(encoding="utf-8"))
tokenizer = Tokenizer.from_file("tokenizer.json")
session = onnxruntime.InferenceSession("model.onnx")

texts = ["A lamp on a reef, kept by three men in turn.", "Eight strings and a bow."]
encoded = tokenizer.encode_batch(texts)
tokens = {{
    "input_ids": np.array([text.ids for text in encoded], dtype=np.int64),
    "attention_mask": np.array([text.attention_mask for text in encoded], dtype=np.int64),
}}
paths, nodes = session.run(["paths", "nodes"], tokens)
for text, whole in zip(texts, paths):
    best = whole.argmax()
    print(text, " > ".join(labels["paths"][best]), f"{{whole[best]:.2f}}")
```

To stop where the model is no longer sure, keep the labels of the best path whose own probability,
in `nodes`, is high enough:

```python
number = {{tuple(path): column for column, path in enumerate(labels["nodes"])}}
for text, whole, each in zip(texts, paths, nodes):
    path = labels["paths"][whole.argmax()]
    sure = [name for level, name in enumerate(path, 1) if each[number[tuple(path[:level])]] >= 0.8]
    print(text, " > ".join(sure))
```
{notes}"""
_GRAPH = (
    "in: `input_ids` and `attention_mask`, `(batch, tokens)` int64; out: `paths` "
    "`(batch, {paths})`, the probability of every whole path, and `nodes` `(batch, {labels})`, "
    "that a text belongs at or below each label"
)
_DATA = "\n| `model.onnx.data` | its weights, which it looks for beside itself |"
_SEVERAL = """
This model was trained on texts with several labels. Its answers are the best path and every other
one whose share in the third output, `shares`, is at least `several_from` of `labels.json`; of two
paths of which one goes on in the other, the more probable.
"""
_DAG = """
Some labels have several parents here. A column of `paths` stands for its last label, with the best
way down to it; `labels.json` names the way along first parents.
"""


def readme(model: Classifier, *, large: bool) -> str:
    """The text, in Markdown.

    Args:
        large: weights stand in a file of their own.
    """
    taxonomy, config = model.taxonomy, model.model.config
    # Of a folder the name alone: what is handed on tells nothing of the machine.
    name = config.backbone_name
    graph = _GRAPH.format(paths=len(taxonomy.terminals), labels=len(taxonomy))
    several = model.several_from is not None
    return _README.format(
        run="" if model.run is None else f" from the run `{Path(model.run).resolve().name}`",
        backbone=Path(name).resolve().name if Path(name).is_dir() else name,
        labels=len(taxonomy),
        levels=taxonomy.num_levels,
        graph=graph + "; and `shares`, see below" * several,
        data=_DATA * large,
        tokens=config.max_length,
        notes=_SEVERAL * several + _DAG * (not taxonomy.is_tree),
    )
