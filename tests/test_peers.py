"""Peers: every system is alone, and nothing is measured twice.

Systems run on a small synthetic job, most of them in this process; two in one of their own.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hyperlm.errors import DataError, ModelError, OptionError
from hyperlm.experiments import peer_methods, peer_process, peers, report_peers
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.peer_geoopt import Prototypes
from hyperlm.experiments.peer_local import Local, PerLevel, joined
from hyperlm.experiments.peer_methods import answered, ask, end_nodes
from hyperlm.experiments.peer_process import Job
from hyperlm.experiments.peer_setfit import SetFit
from hyperlm.experiments.peer_tfidf import TfidfSvm
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.runner import run_all
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.trials import Trial
from hyperlm.taxonomy import Taxonomy

TREE = Taxonomy.from_paths(
    [("a", "x", "p"), ("a", "x", "q"), ("a", "y", "r"), ("b", "x", "p"), ("b", "z", "s")]
)
RAGGED = Taxonomy.from_paths([("a", "x", "p"), ("a", "y"), ("b",)])


# -- the systems --------------------------------------------------------------------------------

COUNTS = {"train": 60, "val": 20, "test": 20}
TAPS, WIDTH = 2, 12


@pytest.fixture(scope="module")
def job_folder(tmp_path_factory):
    """Texts, paths and features in which every class has words and a direction of its own."""
    folder = tmp_path_factory.mktemp("job")
    random = np.random.default_rng(0)
    centres = 3 * random.normal(size=(len(TREE), TAPS, WIDTH)) + 5
    for split, count in COUNTS.items():
        ends = TREE.terminals[np.arange(count) % len(TREE.terminals)]
        with (folder / f"{split}.jsonl").open("w") as file:
            for end in ends:
                words = [f"{'-'.join(TREE.path(end)[:k])}cue".replace("-", "") for k in (1, 2, 3)]
                text = " ".join([*random.permutation(words), f"filler{random.integers(9)}"])
                file.write(json.dumps({"text": text, "label": [list(TREE.path(end))]}) + "\n")
        np.save(folder / f"paths-{split}.npy", TREE.path_matrix[ends])
        noisy = centres[ends] + 0.3 * random.normal(size=(count, TAPS, WIDTH))
        np.save(folder / f"features-{split}.npy", noisy.astype(np.float32))
    return folder


def job(folder, seed=0, **chosen):
    return Job(folder, chosen, seed, "nowhere", 32, "fp32")


SYSTEMS = {
    "tf-idf": (TfidfSvm, {"sublinear": True, "min_texts": 1, "C": 1.0}),
    "per level": (PerLevel, {"C": 1.0}),
    "hiclass parent": (Local, {"per": "parent", "C": 1.0}),
    "hiclass node": (Local, {"per": "node", "C": 1.0}),
    "hiclass level": (Local, {"per": "level", "C": 1.0}),
    "geoopt": (Prototypes, {"dim": 8, "epochs": 15, "batch": 16, "rate": 3e-2, "scale": 5.0}),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_learns_what_can_be_learnt(name, job_folder):
    kind, chosen = SYSTEMS[name]
    if kind is Local:
        pytest.importorskip("hiclass")
    system = kind(job(job_folder, **chosen))
    system.train()
    found = system.predict("test")
    wanted = np.load(job_folder / "paths-test.npy")
    assert found.shape == wanted.shape
    assert np.issubdtype(found.dtype, np.integer)
    assert (found == wanted).all(1).mean() >= 0.9
    assert TREE.path_matrix[end_nodes(found)].tolist() == found.tolist()


def test_labels_of_unequal_depth_reach_hiclass_and_come_back(job_folder, tmp_path):
    pytest.importorskip("hiclass")
    for split in COUNTS:
        features = np.load(job_folder / f"features-{split}.npy")
        np.save(tmp_path / f"features-{split}.npy", features)
    ends = np.array([0, *RAGGED.terminals[1:]])[np.arange(COUNTS["train"]) % 5 % 3]
    ends = np.where(ends == 0, RAGGED.terminals[0], ends)
    paths = RAGGED.path_matrix[ends]
    np.save(tmp_path / "paths-train.npy", paths)
    system = Local(job(tmp_path, per="parent", C=10.0))
    system.train()
    assert (system.predict("train") == paths).all(1).mean() >= 0.9


def test_joined_features_are_those_of_our_projections():
    x = torch.randn(7, 3, 16) * 4 + 2
    wanted = F.layer_norm(x, (16,)).flatten(1)
    np.testing.assert_allclose(joined(x.numpy()), wanted.numpy(), atol=1e-5)


def test_prototypes_stay_in_the_ball_and_repeat_by_their_seed(job_folder):
    kind, chosen = SYSTEMS["geoopt"]
    first, second, other = (kind(job(job_folder, seed, **chosen)) for seed in (1, 1, 2))
    for system in (first, second, other):
        system.train()
    points = first.model.points.detach()
    assert float(points.norm(dim=1).max()) < 1
    torch.testing.assert_close(points, second.model.points.detach(), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(points, other.model.points.detach())


def test_setfit_is_given_its_budget_and_whole_paths(job_folder, tiny_backbone, monkeypatch):
    """With a stand-in for the package: what it gets, and that its classes become paths again."""
    told = {}

    class Model:
        model_body = SimpleNamespace(max_seq_length=0)

        @classmethod
        def from_pretrained(cls, place):
            told["place"] = place
            return cls()

        def predict(self, texts, **_):
            return np.arange(len(texts)) % len(TREE.terminals)

    class Trainer:
        def __init__(self, *, model, args):
            told["steps"] = args.max_steps * args.batch_size

        def train_embeddings(self, texts, labels, *, args):
            told["pairs"] = labels

        def train_classifier(self, texts, labels, *, args):
            told["classifier"] = labels

    library = SimpleNamespace(
        SetFitModel=Model, Trainer=Trainer, TrainingArguments=lambda **kw: SimpleNamespace(**kw)
    )
    monkeypatch.setitem(sys.modules, "setfit", library)
    system = SetFit(Job(job_folder, {"steps": 3, "batch": 4}, 0, str(tiny_backbone), 32, "fp32"))
    system.train()
    paths = np.load(job_folder / "paths-train.npy")
    assert told["steps"] == 12
    assert told["pairs"] == told["classifier"]
    assert len({(label, *path) for label, path in zip(told["pairs"], paths, strict=True)}) == 5
    assert Model.model_body.max_seq_length == 32
    ends = end_nodes(system.predict("val"))
    assert set(ends) == set(TREE.terminals)


# -- a process of its own -----------------------------------------------------------------------


def alone(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_words_are_counted_without_torch_in_memory(job_folder, tmp_path):
    kind = {"module": "peer_tfidf", "class": "TfidfSvm", "seed": 0, "backbone": "-"}
    told = kind | {"max_length": 8, "precision": "fp32", "settings": SYSTEMS["tf-idf"][1]}
    for path in job_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "job.json").write_text(json.dumps(told))
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1])['main'](sys.argv[2:]);"
        "print(sorted({'torch', 'hyperlm', 'transformers'} & set(sys.modules)))"
    )
    assert alone(code, peer_process.__file__, tmp_path) == "[]"
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert all(cost[key] >= 0 for key in ("train_seconds", "train_cpu", "cpu_ms_a_text"))
    found = np.load(tmp_path / "test.npy")
    assert (found == np.load(job_folder / "paths-test.npy")).all(1).mean() >= 0.9


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux")
def test_the_memory_of_a_process_is_its_own():
    held = np.ones(40_000_000)  # 320 MB that the child must not inherit
    code = (
        "import runpy, sys, numpy as np; m = runpy.run_path(sys.argv[1])['peak_memory'];"
        "before = m(); x = np.ones(int(sys.argv[2])); del x; print(before, m())"
    )
    before, after = map(float, alone(code, peer_process.__file__, 20_000_000).split())
    assert before < held.nbytes / 1e6 / 2
    # What was given back counts as well.
    assert 150 < after - before < 170


@pytest.fixture(scope="module")
def frozen(demo_like, tiny_backbone):
    return FrozenData(str(demo_like), backbone=str(tiny_backbone), max_length=32)


def test_a_head_of_its_own_process_is_the_head_of_the_others(frozen, tmp_path):
    run = HeadRun(dim=4, epochs=2, batch_size=32, init="names")
    told = {key: value for key, value in run.to_json().items() if key != "seed"}
    figures = ask(frozen, Trial("hyperlm head", told, run.seed))
    (record,) = run_all([run], frozen, ResultsFile(tmp_path / "r.jsonl"), labels={})
    for split in ("val", "test"):
        found, wanted = figures[split], record.figures[split]
        assert found["answers"] == wanted["answers"]
        assert found["ece"] == pytest.approx(wanted["ece"], abs=1e-5)
    assert figures["cost"]["threads"] == torch.get_num_threads()


def test_a_process_that_fails_says_why(frozen, monkeypatch):
    monkeypatch.setitem(peer_methods.METHODS, "broken", ("peer_process", "Nobody"))
    with pytest.raises(ModelError, match=r"broken ended with status 1 .*Nobody"):
        ask(frozen, Trial("broken"))


def test_data_that_the_peers_cannot_be_given_is_refused(tmp_path, tiny_backbone):
    rows = [{"text": f"owl{i} wren{i}", "label": [["a", "x"], ["b", "y"]]} for i in range(6)]
    for split in COUNTS:
        text = "\n".join(json.dumps(row) for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(text + "\n")
    data = FrozenData(str(tmp_path), backbone=str(tiny_backbone))
    with pytest.raises(DataError, match="texts with several paths"):
        peers.run(data, ResultsFile(tmp_path / "r.jsonl"), systems="tfidf")


# -- the experiment -----------------------------------------------------------------------------


@pytest.fixture
def asked(frozen, monkeypatch):
    """No processes: answers that are right for a share of the texts, which the settings decide."""
    trials = []

    def answer(data, trial):
        trials.append(trial)
        cost = {"train_seconds": 3.0, "train_cpu": 2.0, "ms_a_text": 2.0, "cpu_ms_a_text": 1.0}
        figures = {"cost": cost | {"peak_mb": 100.0, "threads": 1}, "seconds": 3.0}
        if trial.method == "features":
            figures["cost"] |= {"train_cpu": 40.0, "peak_mb": 700.0}
            return figures
        share = 0.9 if trial.settings.get("C") == 1.0 else 0.5
        for split in ("val", "test"):
            gold = data.bundle.gold(split)
            paths = data.taxonomy.path_matrix[[int(ends[0]) for ends in gold]].copy()
            wrong = np.arange(len(paths)) >= share * len(paths)
            paths[wrong, -1] = data.taxonomy.leaves[0]
            figures[split] = answered(data.taxonomy, gold, paths, few=data.few(split))
        return figures

    monkeypatch.setattr(peers, "ask", answer)
    return trials


def test_the_best_setting_on_val_is_measured_once(frozen, asked, tmp_path):
    results = ResultsFile(tmp_path / "r.jsonl")
    peers.run(frozen, results, seeds=2, systems="per-level,geoopt")
    arms = peers.arms_of(results, frozen.name)
    assert [record.run.settings["C"] for record in arms["per-level"]] == [1.0]
    assert [record.run.seed for record in arms["geoopt"]] == [0, 1]
    assert arms["per-level"][0].seconds == 3.0
    count = len(asked)
    peers.run(frozen, results, seeds=2, systems="per-level,geoopt")
    assert len(asked) == count, "an equal run was made again"
    assert peers.features_of(results, frozen.name).figures["cost"]["peak_mb"] == 700


def test_unknown_systems_and_missing_libraries_are_explained(frozen, monkeypatch, tmp_path):
    results = ResultsFile(tmp_path / "r.jsonl")
    with pytest.raises(OptionError, match=r"systems 'svm': choose from tfidf, hiclass-parent"):
        peers.run(frozen, results, systems="svm")
    there = peers.importlib.util.find_spec
    monkeypatch.setattr(
        peers.importlib.util,
        "find_spec",
        lambda name: None if name in ("setfit", "hiclass") else there(name),
    )
    with pytest.raises(OptionError, match=r"hiclass and setfit.*pip install 'hyperlm-tool.*peers"):
        peers.run(frozen, results, systems="setfit,hiclass-node,tfidf")
    assert not len(results)


def test_the_report_adds_the_features_and_draws(frozen, asked, tmp_path):
    results = ResultsFile(tmp_path / "r.jsonl")
    assert report_peers.section(results, tmp_path) == []
    peers.run(frozen, results, seeds=2, systems="tfidf,per-level,geoopt")
    text = "\n".join(report_peers.section(results, tmp_path))
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if "|" in line}
    cells = lines["logistic regression per level"].split(" | ")
    assert cells[-3:] == ["40.0 + 2.0", "1.0 + 1.0", "700 and 100 |"]
    assert lines["TF-IDF, linear SVM"].endswith("| 2.0 | 1.0 | 100 |")
    level = peers.arms_of(results, frozen.name)["per-level"][0].figures["test"]
    assert f"| {100 * level['path_consistency']:.1f} |" in lines["logistic regression per level"]
    assert level["path_consistency"] < 1
    assert "computed in" not in text  # no backbone was trained
    image = tmp_path / f"peers-{frozen.name}.png"
    assert image.read_bytes().startswith(b"\x89PNG")


def test_the_report_says_in_what_backbones_computed(frozen, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: name)
    results = ResultsFile(tmp_path / "r.jsonl")
    peers.run(frozen, results, systems="flat-tuned,setfit,hyperbolic-tuned")
    assert (
        f"The backbone of flat fine-tuning and hyperlm, fine-tuned computed in {frozen.precision}; "
        "SetFit trained in fp32."
    ) in report_peers.section(results, tmp_path)


def test_repeats_of_what_draws_nothing_are_one_run(frozen, asked, tmp_path):
    results, still = (ResultsFile(tmp_path / name) for name in ("r.jsonl", "still.jsonl"))
    peers.run(frozen, results, seeds=3, systems="geoopt")
    for found in results.records:
        run = found.run
        if isinstance(run, Trial) and found.labels["arm"] == "geoopt":
            run = replace(run, settings=run.settings | {"epochs": 0})
        still.append([replace(found, run=run)])
    for records, wanted in ((results, "| geoopt prototypes | 3 |"), (still, "| 1, untrained |")):
        text = "\n".join(report_peers.section(records, tmp_path))
        (line,) = (line for line in text.splitlines() if wanted in line)
        assert ("±" in line) == (records is results)


def test_equals_on_val_are_told_apart_by_macro_f1_and_a_changed_grid_is_followed(tmp_path):
    """Of two settings of one accuracy the better macro-F1; measured runs of others are left out."""
    results = ResultsFile(tmp_path / "r.jsonl")

    def record(stage, c, accuracy, macro):
        figures = {"path_accuracy": accuracy, "levels": [{"macro_f1": macro}]}
        return Record(
            run=Trial("tf-idf svm", {"C": c}),
            data={"name": "set"},
            labels={"experiment": peers.NAME, "arm": "tfidf", "stage": stage},
            figures={"val": figures, "test": figures},
            seconds=1.0,
            context={},
        )

    results.append([record("tune", 1.0, 0.8, 0.5), record("measure", 1.0, 0.8, 0.5)])
    assert [r.run.settings["C"] for r in peers.arms_of(results, "set")["tfidf"]] == [1.0]
    results.append([record("tune", 2.0, 0.8, 0.6), record("tune", 3.0, 0.7, 0.9)])
    results.append([record("measure", 2.0, 0.8, 0.6)])
    assert [r.run.settings["C"] for r in peers.arms_of(results, "set")["tfidf"]] == [2.0]
    assert peers.arms_of(results, "another set") == {}
