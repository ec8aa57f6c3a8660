"""The Python of the documents runs as it stands, and does what the words beside it say."""

import csv
import re
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch

import hyperlm
import hyperlm.export
from hyperlm.lm import backbone as backbones

ROOT = Path(__file__).parent.parent


@pytest.fixture
def runs(demo_like, tiny_backbone, tmp_path, monkeypatch):
    """Function that runs the Python blocks of a document, one after the other, beside a table."""
    with (tmp_path / "my_table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, split in enumerate(("train", "val", "test")):
            with (demo_like / f"{split}.csv").open(newline="", encoding="utf-8") as source:
                writer.writerows(list(csv.reader(source))[min(number, 1) :])
    monkeypatch.chdir(tmp_path)
    # What stands for the small real model must not be kept as if it were that one.
    monkeypatch.setenv("HYPERLM_CACHE", str(tmp_path / "cache"))
    resolve = backbones.resolve_backbone
    tiny = str(tiny_backbone)
    monkeypatch.setattr(
        backbones, "resolve_backbone", lambda name: resolve(tiny if name == "minilm" else name)
    )

    def run(document):
        text = (ROOT / document).read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        assert blocks
        found = {"__name__": "document"}
        for block in blocks:
            exec(compile(block, document, "exec"), found)
        return found

    return run


def test_the_readme(runs, tmp_path):
    found = runs("README.md")
    assert 0 <= found["metrics"]["test"]["path_accuracy"] <= 1
    assert found["answer"].path in [whole.path for whole in found["answer"].top]
    assert found["out"].logits.shape == (8, 5)
    assert hyperlm.Taxonomy.read(tmp_path / "labels.json") == found["taxonomy"]


def test_the_tutorial_keeps_test_texts(runs, tmp_path):
    options = hyperlm.TrainingOptions(data="my_table.csv", freeze=True, epochs=0)
    hyperlm.train(options, "runs/mine")
    test = runs("docs/tutorial.md")["test"]
    with (tmp_path / "mine" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = [list(filter(None, row)) for row in csv.reader(file)]
    assert rows[0] == ["text", "l1", "l2", "l3"]
    assert rows[1:] == [
        [text, *paths[0]] for text, paths in zip(test.texts, test.paths, strict=True)
    ]


def test_every_decision_is_in_the_index():
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    for file in sorted(folder.glob("0*.md")):
        number, title = file.read_text(encoding="utf-8").splitlines()[0][2:].split(": ", 1)
        assert f"| [{number}]({file.name}) | {title} |" in index


def test_the_table_of_descriptions(runs, tmp_path):
    tree = runs("docs/data.md")["tree"]
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row["label"].split(" > ")) for row in rows] == [
        tree.path(node) for node in range(len(tree))
    ]


@pytest.mark.filterwarnings("ignore:.*pin_memory")  # a plain Trainer's, without a GPU
def test_the_guide_for_python(runs, tmp_path, monkeypatch):
    # Half a minute of torch's; what it writes has tests of its own.
    export = create_autospec(hyperlm.export.export_onnx)
    monkeypatch.setattr(hyperlm.export, "export_onnx", export)
    found = runs("docs/python.md")
    export.assert_called_once_with(found["model"], "runs/mine/onnx")
    taxonomy = found["taxonomy"]
    again = found["metrics"]["test"]["path_accuracy"]
    assert found["model"].evaluate(found["test"])["path_accuracy"] == again
    # "the leaves are 2, 3, 4"; "its probabilities"
    torch.testing.assert_close(found["best"].log_prob.exp(), torch.tensor([0.5, 0.8]))
    assert taxonomy.leaves.tolist() == [2, 3, 4] == found["leaves"]
    # "the first stops at animal"
    first, second = found["sure"].nodes.tolist()
    assert (taxonomy.path(first), second) == (("animal",), 4)
    assert found["best"].nodes.tolist() == [2, 4]
    # "the last answer stops at plant"
    assert taxonomy.path(found["answered"][-1]) == ("plant",)
    assert found["report"]["mistake_severity"] == pytest.approx((2 + 1) / 2)
    # "about 1.5: an edge", "the bird lies in the animal's cone"
    tangents, bird = found["tangents"], found["bird"]
    assert taxonomy.parent[bird] == 0
    edge = found["polar"].dist(tangents[0], tangents[bird])
    torch.testing.assert_close(edge, torch.tensor(1.5, dtype=edge.dtype), rtol=1e-6, atol=0)
    inside, outside = found["inside"], found["polar_cone_energy"]
    plant = taxonomy.index(("plant",))
    assert outside(inside[0], inside[bird]) == 0
    assert outside(inside[plant], inside[bird]) > 0
    # Three steps of 0.1 have brought the point nearer.
    ball, goal = found["ball"], found["goal"]
    start = ball.dist(ball.expmap0(torch.tensor([[0.3, -0.2]])), goal)
    assert 0.1 < start - ball.dist(found["point"], goal) < 0.31
    for name in (
        "tree.svg",
        "confusion.png",
        "labels.html",
        "labels.json",
        "saved/model.safetensors",
    ):
        assert (tmp_path / name).stat().st_size > 0
