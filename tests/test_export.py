"""A model as ONNX: the file answers as the model does, alone, and nothing half-written stays."""

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import synthetic_text, tree_paths
from tokenizers import Tokenizer

import hyperlm.export
from hyperlm import HierarchicalLM, HyperbolicHead, Taxonomy
from hyperlm.classifier import Classifier
from hyperlm.errors import ModelError, OptionError, OutputError
from hyperlm.export import export_onnx
from hyperlm.export_graph import quiet
from hyperlm.manifolds import _polar_ops, polar
from hyperlm.several import decode_several

pytest_plugins = ["backbone_fixtures", "cli_fixtures"]

TEXTS = [synthetic_text(path, np.random.default_rng(i)) for i, path in enumerate(tree_paths())]


def classifier(backbone, taxonomy=None, *, several=None, **options) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tree = taxonomy or Taxonomy.from_paths(tree_paths())
        model = HierarchicalLM.from_backbone(str(backbone), tree, max_length=12, **options)
    model.config.path_temperature, model.config.several_from = 1.7, several
    return Classifier(model)


def answers(folder: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """What the exported folder says, through its own tokenizer."""
    encoded = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(texts)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    feed = {
        "input_ids": np.array([text.ids for text in encoded], dtype=np.int64),
        "attention_mask": np.array([text.attention_mask for text in encoded], dtype=np.int64),
    }
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.fixture(scope="module")
def exported(tiny_backbone, tmp_path_factory):
    model = classifier(tiny_backbone, layers=[1, 2, 2], head={"dim": 4, "curvature": 0.5})
    folder = tmp_path_factory.mktemp("exports") / "onnx"
    return model, folder, export_onnx(model, folder)


def test_the_file_answers_as_the_model_does(exported) -> None:
    model, folder, difference = exported
    assert 0 < difference < 1e-5
    labels = json.loads((folder / "labels.json").read_text("utf-8"))
    texts = [*TEXTS, "carp0 " * 40]  # one that is cut
    found = answers(folder, texts)
    for row, answer in enumerate(model.predict(texts, top_k=8)):
        paths = {
            tuple(path): p for path, p in zip(labels["paths"], found["paths"][row], strict=True)
        }
        assert paths == pytest.approx({a.path: a.probability for a in answer.top}, abs=1e-5)
        nodes = {
            tuple(path): p for path, p in zip(labels["nodes"], found["nodes"][row], strict=True)
        }
        above = [nodes[answer.path[: level + 1]] for level in range(len(answer.path))]
        assert above == pytest.approx(answer.probabilities, abs=1e-5)
    # One text alone, in a batch of another size and length.
    np.testing.assert_allclose(answers(folder, texts[:1])["paths"], found["paths"][:1], atol=1e-5)


def test_the_readme_answers_without_torch(exported) -> None:
    model, folder, _ = exported
    code = "\n".join(
        re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.S)
    )
    code += "\nimport sys\nassert not {'torch', 'transformers', 'hyperlm'} & set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (texts,) = re.findall(r"texts = (\[.*\])", code)
    lines = iter(done.stdout.splitlines())
    for text, answer in zip(eval(texts), model.predict(eval(texts)), strict=True):
        best = answer.top[0]
        assert next(lines) == f"{text} {' > '.join(best.path)} {best.probability:.2f}"
    for text, answer in zip(eval(texts), model.predict(eval(texts), threshold=0.8), strict=True):
        assert next(lines) == f"{text} {' > '.join(answer.path)}"
    assert not list(lines)


def test_the_file_tells_nothing_of_the_machine(exported) -> None:
    _, folder, _ = exported
    graph = (folder / "model.onnx").read_bytes()
    assert b'.py"' not in graph  # as in: File "...py", line 1
    assert str(Path(torch.__file__).parent).encode() not in graph
    written = (folder / "README.md").read_text("utf-8")
    assert str(folder.parent) not in written + (folder / "labels.json").read_text("utf-8")


RAGGED = Taxonomy.from_paths([*tree_paths()[:5], ("plant",), ("plant", "herb"), ("stone",)])


@pytest.fixture(scope="module")
def exported_decoder(backbone_of, tmp_path_factory):
    """A decoder, whose tokenizer puts nothing around a text: an empty one has no token."""
    head = {"dim": 4, "loss": "path", "geometry": "lorentz"}
    model = classifier(backbone_of("llama"), RAGGED, several=0.1, head=head)
    bare = json.loads(model.model.tokenizer.backend_tokenizer.to_str()) | {"post_processor": None}
    model.model.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(bare))
    assert not Tokenizer.from_str(json.dumps(bare)).encode("").ids
    folder = tmp_path_factory.mktemp("exports") / "decoder"
    export_onnx(model, folder)
    return model, folder


def test_texts_without_tokens_are_read_as_the_model_reads_them(exported_decoder) -> None:
    model, folder = exported_decoder
    labels = json.loads((folder / "labels.json").read_text("utf-8"))
    for texts in ([""], ["", *TEXTS[:2], "carp0 " * 40]):
        found = answers(folder, texts)["paths"]
        for row, answer in enumerate(model.predict(texts, top_k=1)):
            best = answer.top[0]
            assert found[row, labels["paths"].index(list(best.path))] == pytest.approx(
                best.probability, abs=1e-5
            )


def test_ragged_trees_several_labels_and_another_loss(exported_decoder) -> None:
    _answers_alike(*exported_decoder)


def test_joined_levels_and_a_learned_curvature(backbone_of, tmp_path) -> None:
    head = {"dim": 4, "learn_curvature": True}
    model = classifier(backbone_of("bert"), RAGGED, several=0.1, head=head, joined=True)
    export_onnx(model, tmp_path / "out")
    _answers_alike(model, tmp_path / "out")


def _answers_alike(model: Classifier, folder: Path) -> None:
    """The best path of each text, and the further ones, are those of the model."""
    labels = json.loads((folder / "labels.json").read_text("utf-8"))
    assert labels["several_from"] == 0.1
    found = answers(folder, TEXTS)
    best = [tuple(labels["paths"][at]) for at in found["paths"].argmax(1)]
    assert best == [answer.path for answer in model.predict(TEXTS)]
    some = decode_several(model.logits(TEXTS), RAGGED, 0.1, loss=model.model.head.loss_kind)
    for row, shares in enumerate(found["shares"]):
        reach = {tuple(labels["paths"][at]) for at in np.flatnonzero(shares >= 0.1)}
        told = {RAGGED.path(int(end)) for end in some.nodes[row] if end >= 0}
        # More reach it than are told where one path goes on in another.
        assert told - {best[row]} <= reach
        assert all(any(p[: len(q)] == q or q[: len(p)] == p for q in told) for p in reach - told)


def test_two_parents_of_a_label_and_adapters_folded_in(tiny_backbone, tmp_path) -> None:
    """The caller's model, here in bf16, stays as it is."""
    edges = [("bird", "animal"), ("fish", "animal"), ("owl", "bird"), ("owl", "fish")]
    dag = Taxonomy.from_edges([*edges, ("carp", "fish"), ("fern", "plant")])
    head = {"dim": 4, "loss": "leaf", "geometry": "euclidean"}
    model = classifier(tiny_backbone, dag, head=head, lora={"rank": 2})
    for name, parameter in model.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.model.to(torch.bfloat16)
    before = {name: part.clone() for name, part in model.model.state_dict().items()}
    assert export_onnx(model, tmp_path / "out") < 1e-5  # of the same in float32
    after = model.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(part, after[name]) for name, part in before.items())
    found = answers(tmp_path / "out", TEXTS)["paths"]
    expected = [answer.top[0].probability for answer in model.predict(TEXTS, top_k=1)]
    assert found.max(1) == pytest.approx(expected, abs=0.02)
    model.model.float().merge_lora()
    exact = model.predict(TEXTS, top_k=1)
    assert found.max(1) == pytest.approx([a.top[0].probability for a in exact], abs=1e-3)
    labels = json.loads((tmp_path / "out" / "labels.json").read_text("utf-8"))
    ends = [labels["paths"][at][-1] for at in found.argmax(1)]
    assert ends == [answer.path[-1] for answer in exact]
    assert "several parents" in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.fixture
def cheaply(exported, monkeypatch):
    """The graph that is there already in place of a new one; other bytes on request."""
    graph = (exported[1] / "model.onnx").read_bytes()

    def use(written: bytes = graph, data: bytes | None = None) -> None:
        def write(model, ids, mask, path: Path) -> None:
            path.write_bytes(written)
            if data is not None:
                path.with_name(f"{path.name}.data").write_bytes(data)

        monkeypatch.setattr(hyperlm.export, "write_graph", write)

    use()
    return use


def test_what_is_there_is_kept(exported, cheaply, tmp_path) -> None:
    model, folder, _ = exported
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OutputError, match="--overwrite"):
        export_onnx(model, folder)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds notes\.txt"):
        export_onnx(model, tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="a file is in the way"):
        export_onnx(model, tmp_path / "notes.txt")

    # A file that answers otherwise is not kept, and leaves the earlier one.
    other = classifier(model.model.config.backbone_name, layers=[1, 2, 2])
    with pytest.raises(ModelError, match="other probabilities"):
        export_onnx(other, folder, overwrite=True)
    with pytest.raises(ModelError, match="other probabilities"):
        export_onnx(other, tmp_path / "new" / "folder")
    cheaply(b"no graph")
    with pytest.raises(ModelError, match="onnxruntime cannot run the graph"):
        export_onnx(model, tmp_path / "new" / "folder")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    cheaply()
    (tmp_path / "notes.txt").unlink()
    (tmp_path / ".partial-17").mkdir()  # of an export that was ended by force
    assert export_onnx(model, tmp_path) < 1e-5
    assert export_onnx(model, tmp_path, overwrite=True) < 1e-5


def test_large_weights_stand_in_a_file_of_their_own(exported, cheaply, tmp_path) -> None:
    cheaply(data=b"weights")
    export_onnx(exported[0], tmp_path)
    assert (tmp_path / "model.onnx.data").read_bytes() == b"weights"
    assert "`model.onnx.data`" in (tmp_path / "README.md").read_text("utf-8")
    cheaply()
    export_onnx(exported[0], tmp_path, overwrite=True)
    assert not (tmp_path / "model.onnx.data").exists()
    assert "`model.onnx.data`" not in (tmp_path / "README.md").read_text("utf-8")


@pytest.mark.parametrize("wrong", ["nodes", "one text", "shares"])
def test_every_output_is_compared(exported, cheaply, tmp_path, monkeypatch, wrong) -> None:
    class Runtime:
        """The real one, with a fault."""

        def __init__(self, *args, **kwargs) -> None:
            self.session = InferenceSession(*args, **kwargs)

        def run(self, names, feed):
            paths, nodes = self.session.run(names, feed)
            if wrong == "nodes":
                nodes[:] = np.nan
            if wrong == "one text" and len(paths) == 1:
                paths[:] = np.nan
            return [paths, nodes, paths * 0 + 99] if wrong == "shares" else [paths, nodes]

    InferenceSession = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", Runtime)
    model = exported[0]
    monkeypatch.setattr(model.model.config, "several_from", 0.1 if wrong == "shares" else None)
    with pytest.raises(ModelError, match="other probabilities"):
        export_onnx(model, tmp_path / "out")


def test_what_cannot_be_written_says_so(tiny_backbone, tmp_path, monkeypatch) -> None:
    model = classifier(tiny_backbone, Taxonomy.from_paths([("a",), ("b",)]), layers=[1])
    with monkeypatch.context() as patch:
        patch.setattr(polar, "_operators", lambda: _polar_ops)  # which no runtime knows
        with pytest.raises(ModelError, match=r"No ONNX function found .*polar_pairwise"):
            export_onnx(model, tmp_path / "out")
    with monkeypatch.context() as patch:
        full = OSError(28, "No space left on device")
        patch.setattr(hyperlm.export, "write_graph", Mock(side_effect=full))
        with pytest.raises(OutputError, match="cannot be written .No space left"):
            export_onnx(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(OptionError, match=r"hyperlm-toolkit\[onnx\]"):
        export_onnx(model, tmp_path / "out")


def test_the_command(command, exported, cheaply, tmp_path) -> None:
    model, *_ = exported
    model.save_pretrained(tmp_path / "run")
    done = command("export", tmp_path / "run", "--output", tmp_path / "run" / "onnx")
    assert done.exit_code == 0, done.output
    assert "model.onnx (0 MB)" in done.stdout
    assert "from the run `run`" in (tmp_path / "run" / "onnx" / "README.md").read_text("utf-8")
    again = command("export", tmp_path / "run", "--output", tmp_path / "run" / "onnx")
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    assert "Translating" not in again.stderr


def test_a_head_in_a_model_of_your_own_is_traced(tmp_path) -> None:
    class Scores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            taxonomy = Taxonomy.from_paths(tree_paths())
            self.head = HyperbolicHead(16, taxonomy, dim=4, geometry="lorentz", curvature=2.0)

        def forward(self, hidden):
            return self.head(hidden).logits

    model, hidden = Scores().eval(), torch.randn(5, 16)
    rows = ({0: torch.export.Dim("rows")},)
    program = torch.export.export(model, (hidden,), dynamic_shapes=rows)
    torch.testing.assert_close(program.module()(hidden[:3]), model(hidden[:3]))
    with quiet():
        torch.onnx.export(
            model, (hidden,), tmp_path / "head.onnx", dynamo=True, dynamic_shapes=rows,
            input_names=["hidden"], verbose=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(tmp_path / "head.onnx"))
    (found,) = session.run(None, {"hidden": hidden[:1].numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(hidden[:1]).detach())
