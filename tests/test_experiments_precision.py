"""Runs in another precision are other runs, whatever a machine takes by default."""

import pytest
import torch
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.errors import OptionError
from hyperlm.experiments import compare_tuned, whole
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.runner import run_all
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.trials import Trial
from hyperlm.training import resolve_precision


@pytest.fixture
def read(tiny_backbone, demo_like):
    def read(precision="auto"):
        return FrozenData(
            str(demo_like), backbone=str(tiny_backbone), max_length=32, precision=precision
        )

    return read


def test_heads_on_other_features_are_made_anew(read, tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    run = HeadRun(dim=4, epochs=1)
    exact, rounded = read("fp32"), read("bf16")
    for data in (exact, rounded, exact, rounded):
        run_all([run], data, results, labels={"experiment": "one"})
    one, other = (record.data for record in results.records)
    assert {key for key in one if one[key] != other[key]} == {"precision"}
    assert (one["precision"], other["precision"]) == ("fp32", "bf16")
    of_exact, of_rounded = (data.splits(run)["val"].features for data in (exact, rounded))
    assert 0 < (of_exact - of_rounded).abs().max() < 0.1 * of_exact.abs().max()


def test_the_default_is_told_by_what_it_is_here(read):
    data = read()
    wanted = resolve_precision("auto", torch.device(data.device))
    assert resolve_precision(data.precision, data.device) == wanted
    assert data.describe()["precision"] == data.precision != "auto"


def as_told(data, trial):
    return whole.train_and_measure(data.bundle, trial, precision=data.precision)


@pytest.mark.parametrize(
    ("module", "train"), [(compare_tuned, compare_tuned.train_and_score), (whole, as_told)]
)
def test_whole_models_train_in_it(read, monkeypatch, module, train):
    class Built(Exception):
        pass

    def build(options, bundle):
        raise Built(options.precision)

    monkeypatch.setattr(module, "build_model", build)
    data = read("bf16")
    trial = Trial("any", {"options": {"dim": 4}, "texts": 8, "words": 4, "answered": 4}, 0)
    with pytest.raises(Built, match="bf16"):
        train(data, trial)


def test_what_is_no_precision_is_refused(read, demo_like, tmp_path):
    with pytest.raises(OptionError, match=r"--precision 'half' is unknown; .*fp32, bf16"):
        read("half")
    command = ["experiment", "starts", "--data", str(demo_like), "--precision", "half"]
    done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "results.jsonl")])
    assert done.exit_code != 0
    assert "--precision 'half' is unknown" in " ".join(done.stderr.split())
