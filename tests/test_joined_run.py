"""``--answer joined`` from data to command."""

import pytest
import torch
from conftest import tree_paths
from joined_models import encoded, gradients
from typer.testing import CliRunner

import hyperlm
from hyperlm.cli import app
from hyperlm.cli.train import default_output
from hyperlm.data import load_data
from hyperlm.errors import HyperlmError, OptionError
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.run_start import build_model

pytest_plugins = ["backbone_fixtures"]


def options(data, folder, **changes):
    return TrainingOptions(
        **{
            "data": str(data), "backbone": str(folder), "answer": "joined", "layers": "1,2,3",
            "dim": 8, "epochs": 3, "batch_size": 16, "max_length": 24, "learning_rate": 1e-2,
            "head_learning_rate": 1e-2, "precision": "fp32", **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(demo_like, backbone_of, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "joined"
    given = options(demo_like, backbone_of("llama"), lora=4, gradient_checkpointing=True)
    return output, train(given, output, progress=False)


def test_a_run_learns_and_answers_like_every_other(run, demo_like):
    output, metrics = run
    assert metrics["test"]["path_consistency"] == 1
    assert metrics["test"]["levels"][0]["accuracy"] > 0.7
    model = hyperlm.load(output)
    assert model.model.conditioning.weight.abs().amax(dim=(1, 2)).min() > 1e-3  # both were learned
    texts = load_data(demo_like).split("test")
    again = model.evaluate(texts)
    assert again["path_accuracy"] == metrics["test"]["path_accuracy"]
    paths = set(tree_paths())
    assert all(answer.path in paths for answer in model.predict(texts.texts[:20]))


def test_the_run_depends_on_what_it_learned_to_inject(run, demo_like):
    model = hyperlm.load(run[0])
    texts = load_data(demo_like).split("test").texts
    with_maps = model.logits(texts)
    with torch.no_grad():
        model.model.conditioning.reset_parameters()
    first = model.taxonomy.level_slices[0]
    without = model.logits(texts)
    assert torch.equal(with_maps[:, first], without[:, first])
    assert (with_maps - without).abs().max() > 1e-2


def test_the_command_and_the_card_name_it(run, demo_like, tmp_path):
    output, _ = run
    card = (output / "README.md").read_text()
    assert "each level's point passed to the layers above" in card
    assert "--answer joined" in card
    runner = CliRunner()
    test = str(demo_like / "test.csv")
    for arguments in (
        ["predict", str(output), "--text", "owl0 bird1 animal2", "--json"],
        ["evaluate", str(output), "--data", test, "--json"],
        ["info", str(output)],
        ["visualize", str(output), "--output", str(tmp_path / "labels.html")],
    ):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 0, (arguments, result.output)
    assert (tmp_path / "labels.html").stat().st_size > 10_000


def test_the_command_refuses_what_cannot_be(demo_like, backbone_of, tmp_path):
    shared = ["train", "--data", str(demo_like), "--backbone", backbone_of("llama"), "--answer"]
    for extra, message in (
        (["--freeze"], "--freeze trains the head on features computed once"),
        (["--layers", "3"], "--layers 1,2,3"),
    ):
        result = CliRunner().invoke(
            app, [*shared, "joined", *extra, "--output", str(tmp_path / "run")]
        )
        assert result.exit_code == 1
        assert message in " ".join(result.output.split())
        assert not (tmp_path / "run").exists()
    assert default_output(TrainingOptions(answer="joined")).name == "demo-joined"


@pytest.mark.parametrize("architecture", ["bert", "mamba"])
def test_encoders_and_state_spaces_train_as_well(architecture, demo_like, backbone_of):
    given = options(demo_like, backbone_of(architecture), init="tree")
    model = build_model(given, load_data(demo_like))
    assert model.conditioning is not None
    grads = gradients(model.train(), encoded(model))
    assert grads["head.conditioning.weight"].abs().amax(dim=(1, 2)).min() > 0


def test_hyplora_in_bf16_trains_and_is_found_again(demo_like, backbone_of, tmp_path):
    given = options(
        demo_like, backbone_of("gpt2"), lora=2, adapter="hyplora", precision="bf16", epochs=1,
        curvature=1.6, geometry="lorentz",
    )  # fmt: skip
    metrics = train(given, tmp_path / "run", progress=False)
    again = hyperlm.load(tmp_path / "run").evaluate(load_data(demo_like).split("val"))
    assert again["path_accuracy"] == pytest.approx(metrics["val"]["path_accuracy"], abs=0.05)
    assert issubclass(OptionError, HyperlmError)
