"""Geometries compared where the backbone is trained too: rates, runs, report."""

from pathlib import Path

import numpy as np
import pytest
from experiment_data import pictures
from hdlm_models import save_causal
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.errors import OptionError
from hyperlm.experiments import compare_geometries, compare_tuned, report
from hyperlm.experiments.compare_tuned import (
    arms_of,
    nodes_untried,
    pace_of,
    train_and_score,
    tries_of,
    untried,
)
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.measure import unbits
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.trials import Trial
from hyperlm.options import TrainingOptions


@pytest.fixture(scope="module")
def data(demo_like, tmp_path_factory):
    backbone = str(save_causal("llama", tmp_path_factory.mktemp("llama")))
    return FrozenData(str(demo_like), backbone=backbone, max_length=16)


def settings(**changed):
    options = {"dim": 4, "layers": "1,2,3", "epochs": 1, "batch_size": 8} | changed
    return {"options": options}


@pytest.mark.filterwarnings("ignore:.* texts were longer than the model takes")
def test_a_trial_is_repeatable_and_its_figures_are_those_of_its_answers(data, monkeypatch):
    trial = Trial("hyperlm train", settings(), 3)
    first, again = (train_and_score(data, trial) for _ in range(2))
    assert first.pop("seconds") > 0
    again.pop("seconds")
    assert first == again
    for split in ("val", "test"):
        count = first[split]["n"]
        right = unbits(first[split]["answers"]["right"][-1], count)
        assert right.mean() == pytest.approx(first[split]["path_accuracy"])
    assert first["geometry"]["c"] == 1.0
    fitted = first["calibrated"]
    assert fitted["temperature"] not in (1.0, None)
    assert fitted["ece"] != first["test"]["ece"]
    monkeypatch.setattr(compare_tuned, "fit_temperature", lambda *_, **__: 1.0)
    other = train_and_score(data, Trial("hyperlm train", settings(geometry="euclidean"), 3))
    assert other["geometry"]["c"] is None
    assert other["calibrated"] == {"temperature": 1.0, "ece": other["test"]["ece"]}


def fake(data, trial):
    """Points like the higher rate on val, linear heads the lower, and all the gentle pace."""
    options = trial.settings["options"]
    linear = options.get("head") == "linear"
    path = 0.5 + (-1 if linear else 1) * options["learning_rate"] * 100
    pace = options["head_learning_rate"], options.get("point_learning_rate")
    path += 0.1 * (pace in ((3e-4, 1e-2), (1e-3, None)))
    answers = np.zeros(4, bool)
    answers[: 1 + trial.seed % 3] = True
    document = {
        "n": 4, "levels": [{"accuracy": path, "macro_f1": path}], "path_accuracy": path,
        "hierarchical": {"f1": path}, "raw_consistency": path, "mistake_severity": 2.0,
        "mean_tree_distance": 1.0, "ece": 0.1, "few": {"texts": 0, "accuracy": None},
        "answers": {
            "right": [np.packbits(answers).tobytes().hex()] * 2,
            "consistent": np.packbits(answers).tobytes().hex(),
            "distance": [0.0, 2.0, 2.0, 2.0],
        },
    }  # fmt: skip
    geometry = {} if linear else {"node_radius": 1.5}
    calibrated = {"calibrated": {"temperature": 2.0, "ece": 0.03}} if trial.seed else {}
    return calibrated | {
        "val": document, "test": document, "geometry": geometry, "seconds": 60.0,
    }  # fmt: skip


def test_each_arm_takes_its_own_rate_by_val(data, tmp_path, monkeypatch):
    made = []

    def work(data, trial):
        made.append(trial)
        return fake(data, trial)

    monkeypatch.setattr(compare_tuned, "train_and_score", work)
    results = ResultsFile(tmp_path / "results.jsonl")
    compare_tuned.run(data, results, seeds=2, dims=(4,), rates="1e-4,2e-4", paces="fast")
    assert len(made) == 2 * 2 * 5
    # Seed after seed: what is stopped early has all arms.
    assert [trial.seed for trial in made] == [0] * 10 + [1] * 10
    rates = {
        arm: {record.run.settings["options"]["learning_rate"] for record in records}
        for (arm, _), records in arms_of(results, data.name).items()
    }
    high, low = {2e-4}, {1e-4}
    points = {"poincare": high, "lorentz": high, "euclidean": high}
    assert rates == points | {"linear": low, "linear, names": low}
    again = ResultsFile(results.path)
    compare_tuned.run(data, again, seeds=2, dims=(4,), rates="1e-4,2e-4", paces="fast")
    assert len(made) == 20
    # A rate that fewer seeds were trained at is listed, and not chosen.
    compare_tuned.run(data, results, seeds=1, dims=(4,), rates="3e-4", paces="fast")
    assert len(tries_of(results, data.name)["poincare", 4, 3e-4, 3e-3, 3e-2, 10.0]) == 1
    assert {
        r.run.settings["options"]["learning_rate"]
        for r in arms_of(results, data.name)["poincare", 4]
    } == high
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert f"### {data.name}, {Path(data.backbone).name}, 16 tokens, whole models" in text
    assert f"--data {data.name} --backbone {data.backbone} --max-length 16 --set" in text
    assert "--set trained=model --set rates=0.0001,0.0002,0.0003 --set paces=fast`" in text
    assert "| d = 4, 2 seeds |" in text
    assert "| poincare, d = 4, 0.0003, 0.003 (0.03) | 1 | 0 |" in text
    assert "lorentz against poincare" in text
    # Runs from before the temperature was kept do not count as fitted ones.
    assert "| euclidean, d = 4 | 1 | 2.00 | 10.0 | 3.0 |" in text
    assert pictures(tmp_path / "results.md") == {"whole-models"}
    # Coordinates are compared where nothing else differs.
    lines = results.path.read_text(encoding="utf-8").splitlines(keepends=True)
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text(
        "".join(x for x in lines if not ('"arm":"lorentz"' in x and '"seed":1' in x)),
        encoding="utf-8",
    )
    report.write_report(ResultsFile(fewer), tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "lorentz against poincare" not in text
    # Nor where one of them has chosen another pace.
    other = tmp_path / "other.jsonl"
    paced = ('"head_learning_rate":0.003', '"head_learning_rate":0.001')
    other.write_text(
        "".join(x.replace(*paced) if '"arm":"lorentz"' in x else x for x in lines),
        encoding="utf-8",
    )
    assert '"head_learning_rate":0.001' in other.read_text(encoding="utf-8")
    report.write_report(ResultsFile(other), tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "lorentz against poincare" not in text


def test_a_pace_is_tried_and_chosen_as_a_rate_is(data, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_tuned, "train_and_score", fake)
    results = ResultsFile(tmp_path / "results.jsonl")
    compare_tuned.run(data, results, seeds=2, dims=(4,), rates="1e-4")
    gentle = {"linear": 1e-3}
    for (arm, _), records in arms_of(results, data.name).items():
        options = [record.run.settings["options"] for record in records]
        rate = gentle.get(arm, 3e-4)
        assert [one["head_learning_rate"] for one in options] == [rate, rate]
        # What an arm has not is not said, and what is said a run accepts.
        assert ("point_learning_rate" in options[0]) == (arm != "linear")
        assert options[0].get("temperature") == (None if arm == "linear" else 20.0)
        TrainingOptions(**options[0])
    # A start from names is tried at low rates as well, one from nothing at high ones.
    tried: dict[str, set[float]] = {}
    for arm, _, _, head, *_ in tries_of(results, data.name):
        tried.setdefault(arm, set()).add(head)
    assert tried == {arm: {1e-4, 3e-4} for arm in ("poincare", "lorentz", "euclidean")} | {
        "linear": {1e-3, 3e-3},
        "linear, names": {3e-4},
    }
    nodes = {rates[-2] for arm, *rates in tries_of(results, data.name) if arm == "linear, names"}
    assert nodes == {1e-2, 3e-2}
    assert nodes_untried(results, data.name) == []


def test_nodes_have_rates_of_their_own(data, tmp_path, monkeypatch):
    """A linear head's among them: what is tried of it is what is tried of points."""
    made = []

    def work(data, trial):
        made.append(trial.settings["options"])
        return fake(data, trial)

    monkeypatch.setattr(compare_tuned, "train_and_score", work)
    results = ResultsFile(tmp_path / "results.jsonl")
    told = {"seeds": 2, "dims": (4,), "rates": "1e-4", "arms": ("linear, names", "poincare")}
    compare_tuned.run(data, results, paces="slow, 3e-4/3e-2", **told)
    assert [one.get("point_learning_rate") for one in made[:4]] == [None, 3e-2, 3e-3, 3e-2]
    for options in made:
        TrainingOptions(**options)
    found = {(arm, *rates) for arm, _, _, *rates in tries_of(results, data.name)}
    assert found == {
        ("linear, names", 3e-4, 0.0, 20.0), ("linear, names", 3e-4, 3e-2, 20.0),
        ("poincare", 1e-4, 3e-3, 20.0), ("poincare", 3e-4, 3e-2, 20.0),
    }  # fmt: skip
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "--set paces=slow,0.0003/0.03 --arm" in text
    assert "| linear, names, d = 4, 0.0001, 0.0003 | 2 |" in text
    assert "| linear, names, d = 4, 0.0001, 0.0003 (0.03) | 2 |" in text


def test_paces_in_numbers_are_told_apart_from_named_ones(data, tmp_path, monkeypatch):
    """The fast pace has these rates and another temperature."""
    monkeypatch.setattr(compare_tuned, "train_and_score", fake)
    results = ResultsFile(tmp_path / "results.jsonl")
    told = {"seeds": 3, "dims": (4,), "rates": "1e-4", "arms": ("poincare", "lorentz")}
    compare_tuned.run(data, results, paces="gentle,fast", **told)
    compare_tuned.run(data, results, paces="3e-3/3e-2", **told)
    assert sorted(map(len, tries_of(results, data.name).values())) == [3] * 6
    assert untried(results, data.name) == []
    # What another arm of the same kind has chosen in numbers counts as well.
    monkeypatch.setattr(compare_tuned, "train_and_score", lambda data, trial: fake(data, trial) | {
        "val": fake(data, trial)["val"] | {"path_accuracy": 0.99}
    })  # fmt: skip
    told["arms"] = ("poincare", "linear, names")
    compare_tuned.run(data, results, paces="3e-4/5e-2", **told)
    assert pace_of("poincare", 3e-4, 5e-2, 20.0) == "0.0003/0.05"
    assert untried(results, data.name) == ["lorentz"]
    assert nodes_untried(results, data.name) == []
    # Where linear nodes had the rate of their projection alone, or another with fewer seeds.
    for paces, seeds in (("slow,gentle", 3), ("3e-4/1e-2", 2)):
        compare_tuned.run(data, results := ResultsFile(tmp_path / "other.jsonl"), paces=paces,
                          **told | {"seeds": seeds, "arms": ("linear, names",)})  # fmt: skip
        assert nodes_untried(results, data.name) == ["linear, names"]
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "part of a difference may be that: linear, names." in text


@pytest.mark.parametrize(("own", "wanted"), [({}, 3e-4), ({"point_learning_rate": 3e-2}, 3e-2)])
def test_what_a_pace_does_not_say_of_linear_nodes_is_the_rate_of_the_head(
    data, monkeypatch, own, wanted
):
    """Published records were trained so, when the default was no other."""

    class Built(Exception):
        pass

    def build(options, bundle):
        raise Built(options.resolved().point_learning_rate)

    monkeypatch.setattr(compare_tuned, "build_model", build)
    options = compare_tuned._settings("linear, names", 4, 1e-4, "slow", None)["options"] | own
    with pytest.raises(Built) as told:
        train_and_score(data, Trial("hyperlm train", {"options": options}, 0))
    assert told.value.args == (wanted,)


def test_each_seed_chooses_for_itself_among_what_all_have_tried(data, tmp_path, monkeypatch):
    def work(data, trial):
        """Even seeds like the gentle pace, odd ones the slow; the fast is best of all."""
        figures = fake(data, trial)
        rate = trial.settings["options"]["head_learning_rate"]
        liked = {1e-4: trial.seed % 2, 3e-4: 1 - trial.seed % 2, 3e-3: 2}[rate]
        figures["val"] = figures["val"] | {"path_accuracy": 0.3 * liked}
        return figures

    monkeypatch.setattr(compare_tuned, "train_and_score", work)
    results = ResultsFile(tmp_path / "results.jsonl")
    told = {"dims": (4,), "rates": "1e-4", "arms": ("poincare",)}
    compare_tuned.run(data, results, seeds=4, paces="slow,gentle", **told)
    compare_tuned.run(data, results, seeds=3, paces="fast", **told)
    (found,) = arms_of(results, data.name).values()
    rates = [record.run.settings["options"]["head_learning_rate"] for record in found]
    assert [record.run.seed for record in found] == [0, 1, 2, 3]
    assert rates == [3e-4, 1e-4, 3e-4, 1e-4]
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    for rates, seeds, chosen in (("0.0001 (0.003)", 4, 2), ("0.0003 (0.01)", 4, 2),
                                 ("0.003 (0.03)", 3, 0)):  # fmt: skip
        assert f"| poincare, d = 4, 0.0001, {rates} | {seeds} | {chosen} |" in text
    assert "beyond which nothing was tried" not in text  # two seeds each
    compare_tuned.run(data, results, seeds=4, paces="fast", **told)
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "poincare (highest of head, 0.003, highest of nodes, 0.03)." in text


def test_tries_are_compared_on_the_seeds_they_share(data, tmp_path, monkeypatch):
    def work(data, trial):
        """The higher rate is better on each seed; later seeds are worse, whatever the rate."""
        figures = fake(data, trial)
        figures["val"] = figures["val"] | {
            "path_accuracy": 0.5 + trial.settings["options"]["learning_rate"] - 0.1 * trial.seed
        }
        return figures

    monkeypatch.setattr(compare_tuned, "train_and_score", work)
    results = ResultsFile(tmp_path / "results.jsonl")
    for rates, seeds in (("2e-4", 5), ("1e-4", 3)):
        compare_tuned.run(
            data, results, seeds=seeds, dims=(4,), arms=("poincare",), rates=rates, paces="slow"
        )
    (found,) = arms_of(results, data.name).values()
    assert {record.run.settings["options"]["learning_rate"] for record in found} == {2e-4}
    assert len(found) == 5  # all that it has are reported
    # Where no seeds are shared each try stands for itself: 3 and 4 are worse than 0 to 2.
    lines = results.path.read_text(encoding="utf-8").splitlines(keepends=True)
    low, early = '"learning_rate":0.0001', [f'"seed":{seed}' for seed in range(3)]
    apart = tmp_path / "apart.jsonl"
    apart.write_text(
        "".join(x for x in lines if low in x or not any(seed in x for seed in early)),
        encoding="utf-8",
    )
    monkeypatch.setattr(compare_tuned, "ENOUGH", 2)
    (found,) = arms_of(ResultsFile(apart), data.name).values()
    assert sorted(record.run.seed for record in found) == [0, 1, 2]


def test_arms_tried_at_fewer_paces_are_named(data, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_tuned, "train_and_score", fake)
    results = ResultsFile(tmp_path / "results.jsonl")
    compare_tuned.run(data, results, seeds=3, dims=(4,), rates="1e-4", paces="fast")
    assert untried(results, data.name) == []
    # Results from before the head's rate was said are those of the fast pace.
    older = tmp_path / "older.jsonl"
    lines = results.path.read_text(encoding="utf-8")
    older.write_text(lines.replace('"head_learning_rate":0.003,', ""), encoding="utf-8")
    assert older.stat().st_size < results.path.stat().st_size
    assert tries_of(ResultsFile(older), data.name).keys() == tries_of(results, data.name).keys()
    some = ("poincare", "linear, names")
    compare_tuned.run(data, results, seeds=3, dims=(4,), rates="1e-4", paces="gentle", arms=some)
    assert untried(results, data.name) == ["lorentz", "euclidean"]
    compare_tuned.run(data, results, seeds=2, dims=(4,), rates="1e-4", paces="gentle")
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "may be the rates: lorentz; euclidean." in text
    compare_tuned.run(data, results, seeds=3, dims=(4,), rates="1e-4", paces="gentle")
    assert untried(results, data.name) == []


def test_what_is_trained_must_be_known(data, demo_like, tmp_path):
    command = ["experiment", "compare-geometries", "--data", str(demo_like)]
    command += ["-o", str(tmp_path / "r.jsonl"), "--set", "trained=half"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "choose head or model" in done.output
    done = CliRunner().invoke(app, [*command[:-1], "trained=model", "--set", "rates=fast"])
    assert done.exit_code == 1
    assert "give numbers above 0 with commas" in done.output
    done = CliRunner().invoke(app, [*command[:-1], "trained=model", "--set", "paces=brisk"])
    assert done.exit_code == 1
    assert "'brisk' is none of own, slowest, slow, gentle, fast, nor two rates" in done.output
    for wrong in ("3e-4/0", "3e-4/1e-2/1", "x/y", "3e-4"):
        done = CliRunner().invoke(app, [*command[:-1], "trained=model", "--set", f"paces={wrong}"])
        assert done.exit_code == 1
        assert f"{wrong!r} is none of own" in done.output


def test_runs_of_other_dropout_stand_apart(data, tmp_path, monkeypatch):
    made = []

    def work(data, trial):
        made.append(trial.settings["options"].get("backbone_dropout"))
        return fake(data, trial)

    monkeypatch.setattr(compare_tuned, "train_and_score", work)
    results = ResultsFile(tmp_path / "results.jsonl")
    told = {"seeds": 2, "dims": (4,), "rates": "1e-4", "paces": "gentle", "arms": ("poincare",)}
    for dropout in "own", "0", "0.2":
        compare_tuned.run(data, results, backbone_dropout=dropout, **told)
    assert made[::2] == [None, 0.0, 0.2]
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    start = f"### {data.name}, {Path(data.backbone).name}, 16 tokens"
    for title, option in (
        ("", "--set paces=gentle --arm poincare`"),
        (", dropout 0", "--set paces=gentle --set backbone_dropout=0 --arm"),
        (", dropout 0.2", "--set paces=gentle --set backbone_dropout=0.2 --arm"),
    ):
        section = text[text.index(f"{start}{title}, whole models") :]
        assert option in section[: section.index("| d = 4, 2 seeds |")]
    for wrong in "much", "1.5":
        with pytest.raises(OptionError, match=r"backbone.dropout"):
            compare_tuned.run(data, results, backbone_dropout=wrong, **told)
    with pytest.raises(OptionError, match="backbone_dropout=0: of --set trained=model"):
        compare_geometries.run(data, results, dims=(4,), backbone_dropout="0")
