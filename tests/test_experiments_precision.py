"""Runs in another precision are other runs, whatever a machine takes by default."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.errors import OptionError
from hyperlm.experiments import answers, compare_tuned, features, peer_methods, report, whole
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.peer_hyperlm import Whole
from hyperlm.experiments.peer_process import Job
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.runner import run_all
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.trials import Trial
from hyperlm.lm import HierarchicalLM
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
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "; backbones compute in bf16 and fp32." in text


def test_the_default_is_told_by_what_it_is_here(read):
    data = read()
    device = torch.device("cpu")
    assert resolve_precision(data.precision, device) == resolve_precision("auto", device)
    assert data.describe()["precision"] == data.precision != "auto"


def test_a_gpu_decides_where_there_is_one(read, monkeypatch):
    """No GPU takes part: only what is asked of it, and that the models come back from there."""
    gpu, went = torch.device("cuda", 0), []
    monkeypatch.setattr(features, "first_device", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    data = read()
    assert data.precision == "bf16"
    assert read("fp16").precision == "fp16"  # which a processor refuses

    to = HierarchicalLM.to
    monkeypatch.setattr(
        HierarchicalLM, "to", lambda model, at: went.append(at) or to(model, torch.device("cpu"))
    )
    run = HeadRun(dim=4, epochs=1)
    here = data.splits(run)["val"].features
    assert went == [gpu] * 3
    torch.testing.assert_close(here, read("bf16").splits(run)["val"].features)
    assert data.head(run).points.device.type == here.device.type == "cpu"


def test_the_command_says_what_does_not_count_here(read, demo_like, tiny_backbone, tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    run_all([HeadRun(dim=4, epochs=1)], read("bf16"), results, labels={"experiment": "one"})
    untold = {key: value for key, value in read("fp32").describe().items() if key != "precision"}
    results.append([replace(results.records[0], data=untold)])
    command = ["experiment", "layer-sweep", "--data", str(demo_like), "--max-length", "32"]
    command += ["--backbone", str(tiny_backbone), "-o", str(results.path), "--dims", "4,5"]
    told = {}
    for precision in ("bf16", "fp32"):
        done = CliRunner().invoke(app, [*command, "--precision", precision])
        assert done.exit_code == 1, "two dimensions are one too many"
        told[precision] = " ".join(done.stderr.split())
    assert "in the file are in" not in told["bf16"]
    assert f"1 run on {demo_like.name} in the file are in bf16" in told["fp32"]
    assert "Go on with them by --precision bf16" in told["fp32"]
    assert all(
        f"1 run on {demo_like.name} in the file do not say" in words for words in told.values()
    )


def tuned(data, results):
    compare_tuned.run(data, results, seeds=1, dims=[4], arms=["poincare"], rates="1e-4")


def told(data, results):
    answers.run(data, results, seeds=1, arms=["points"], layers="1,2,2")


@pytest.mark.parametrize(("module", "run"), [(compare_tuned, tuned), (whole, told)])
def test_whole_models_train_in_it(read, monkeypatch, tmp_path, module, run):
    class Built(Exception):
        pass

    def build(options, bundle):
        raise Built(options.precision)

    monkeypatch.setattr(module, "build_model", build)
    with pytest.raises(Built, match="bf16"):
        run(read("bf16"), ResultsFile(tmp_path / "results.jsonl"))


def test_peers_are_told(read, tmp_path, monkeypatch):
    class Asked(Exception):
        pass

    def process(folder, method):
        given = json.loads((folder / "job.json").read_text("utf-8"))
        del given["module"], given["class"]
        raise Asked(Whole(Job(folder, **given)).options.precision)

    monkeypatch.setattr(peer_methods, "_process", process)
    with pytest.raises(Asked, match="bf16"):
        peer_methods.ask(read("bf16"), Trial("hyperlm train", {"options": {}}))


def test_what_is_no_precision_is_refused(read, demo_like, tmp_path):
    with pytest.raises(OptionError, match=r"--precision 'half' is unknown; .*fp32, bf16"):
        read("half")
    command = ["experiment", "starts", "--data", str(demo_like), "--precision", "half"]
    done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "results.jsonl")])
    assert done.exit_code != 0
    assert "--precision 'half' is unknown" in " ".join(done.stderr.split())
