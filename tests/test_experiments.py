"""Experiments: figures stand for texts, results survive a kill, the command goes on and reports."""

import json
import lzma
import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
from experiment_data import DAG, TREE, document, features, pictures, record
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.errors import DataError, OptionError, OutputError
from hyperlm.experiments import (
    ablate,
    arms,
    calibration,
    compare_geometries,
    report,
    starts,
)
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.measure import bits, unbits
from hyperlm.experiments.quantities import quantities
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.runner import run_all
from hyperlm.experiments.settings import HeadRun
from hyperlm.optim import points_of
from hyperlm.taxonomy import Taxonomy

# -- figures ------------------------------------------------------------------------------------


def test_what_each_text_contributes_averages_to_the_figure():
    for taxonomy in (TREE, DAG):
        figures = document(taxonomy)
        for quantity in quantities(taxonomy.num_levels):
            of_texts = quantity.by_text(figures)
            if of_texts is None:
                continue
            if quantity.name == "hF1":  # no mean: see the next test
                continue
            if quantity.texts[0] == "right" and quantity.texts[1] < taxonomy.num_levels:
                # Texts whose path ends higher up have no gold node on the level.
                level = taxonomy.level_slices[quantity.texts[1]]
                ends = features(taxonomy)[1].numpy()
                of_texts = of_texts[ends >= level.start]
            assert of_texts.mean() == pytest.approx(quantity.of(figures)), quantity.name


def test_hierarchical_f1_is_one_less_the_distances_by_the_lengths_of_paths():
    even = Taxonomy.from_paths([(a, a + b, a + b + c) for a in "xy" for b in "12" for c in "pq"])
    figures = document(even)
    (f1,) = (one for one in quantities(3) if one.name == "hF1")
    lost = f1.by_text(figures).mean() / (2 * even.num_levels)
    assert 0 < lost < 1
    assert f1.of(figures) == pytest.approx(100 * (1 - lost))


def test_bits_come_back():
    values = np.random.default_rng(0).random(37) > 0.5
    assert unbits(bits(values), 37).tolist() == values.tolist()


def test_few_and_calibration_stand_in_the_document():
    figures = document()
    assert figures["few"]["texts"] == 14
    assert all(0 <= level["ece"] <= 1 for level in figures["levels"])
    json.dumps(figures)


# -- the results file ---------------------------------------------------------------------------


def test_records_come_back_and_are_found(tmp_path):
    path = tmp_path / "results.jsonl"
    first, second = record(0), record(1)
    ResultsFile(path).append([first])
    ResultsFile(path).append([second])
    read = ResultsFile(path)
    assert [r.to_json() for r in read.records] == [first.to_json(), second.to_json()]
    assert read.find(first.data, first.run, first.labels) == first
    assert read.find(first.data, first.run, {"experiment": "another"}) is None
    assert read.find({"name": "other"}, first.run) is None
    assert read.find(first.data, replace(first.run, head_lr=1.0)) is None
    assert read.of(arm="poincare") == [first, second]


def test_a_run_that_two_commands_made_counts_once(tmp_path):
    one, other = (ResultsFile(tmp_path / "results.jsonl") for _ in range(2))
    one.append([record(0)])
    other.append([record(0, path=0.9), record(1)])
    read = ResultsFile(one.path)
    assert [r.run.seed for r in read.records] == [0, 1]
    assert read.records[0].figures["test"]["path_accuracy"] == 0.5
    read.append([record(0), record(0, stage="tune")])
    assert len(read) == 3


@pytest.mark.parametrize("keep", [1, 200, -1])
def test_a_torn_last_line_is_left_out_and_replaced(tmp_path, keep):
    path = tmp_path / "results.jsonl"
    ResultsFile(path).append([record(0), record(1)])
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    path.write_bytes(whole[: second + keep] if keep > 0 else whole[:keep])
    torn = ResultsFile(path)
    assert [r.run.seed for r in torn.records] == [0]
    torn.append([record(1)])
    assert path.read_bytes() == whole
    assert len(ResultsFile(path)) == 2


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"a": 1}\n')
    with pytest.raises(DataError, match="line 1"):
        ResultsFile(path)
    ResultsFile(tmp_path / "new.jsonl").append([record()])
    line = json.loads((tmp_path / "new.jsonl").read_text())
    line["run"]["from_the_future"] = 1
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match="from_the_future"):
        ResultsFile(path)
    with pytest.raises(OutputError, match="no folder"):
        ResultsFile(tmp_path / "missing" / "results.jsonl")


def test_published_results_are_read_and_not_added_to(tmp_path):
    published = tmp_path / "records"
    published.mkdir()
    plain = ResultsFile(published / "a.jsonl")
    plain.append([record(0), record(1)])
    packed = published / "b.jsonl.xz"
    more = ResultsFile(tmp_path / "b.jsonl")
    more.append([record(1), record(2)])
    packed.write_bytes(lzma.compress(more.path.read_bytes()))
    (published / "README.md").write_text("no results")
    read = ResultsFile(published)
    assert [r.to_json() for r in read.records] == [record(seed).to_json() for seed in range(3)]
    assert len(ResultsFile(packed)) == 2
    report.write_report(read, tmp_path / "results.md")
    for path in (packed, published):
        with pytest.raises(OutputError, match="read, not added to"):
            ResultsFile(path).append([record(3)])
        arguments = ["experiment", "starts", "--data", "demo", "-o", str(path)]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 1
        assert "unpack this one" in done.stderr  # before anything is trained
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="b.jsonl.xz: cannot be unpacked"):
        ResultsFile(published)


# -- the whole way ------------------------------------------------------------------------------


@pytest.fixture
def data(tiny_backbone, demo_like):
    return FrozenData(str(demo_like), backbone=str(tiny_backbone), max_length=32)


def test_runs_are_made_once_and_taken_over(data, tmp_path, monkeypatch):
    results = ResultsFile(tmp_path / "results.jsonl")
    runs = [HeadRun(dim=4, epochs=2, seed=seed) for seed in range(2)]
    runs += [HeadRun(dim=4, epochs=2, joined=True, init="tree", cone_weight=0.1, layers="1,2,2")]
    made = run_all(runs, data, results, labels={"experiment": "one"})
    assert [r.run for r in made] == runs
    assert [r.context["together"] for r in made] == [2, 2, 1]
    monkeypatch.setattr(
        "hyperlm.experiments.runner._train", lambda *_: pytest.fail("trained again")
    )
    again = run_all(runs, data, ResultsFile(results.path), labels={"experiment": "one"})
    assert [r.to_json() for r in again] == [r.to_json() for r in made]
    other = run_all(runs[:1], data, ResultsFile(results.path), labels={"experiment": "two"})
    assert other[0].figures == made[0].figures
    assert other[0].context["taken_over"]


@pytest.mark.parametrize("head", [{}, {"head": "linear"}, {"geometry": "lorentz"}], ids=str)
def test_heads_of_one_shape_share_their_start_from_names(data, head):
    run = HeadRun(dim=4, init="names", layers="1,2,2", seed=1, **head)
    first = data.head(run)
    shared = data.head(replace(run, seed=2, head_lr=0.1))
    data.head(replace(run, dim=5))  # another start lies between
    again = data.head(replace(run, seed=3))
    for name, value in first.state_dict().items():
        assert torch.equal(value, shared.state_dict()[name])
        assert torch.equal(value, again.state_dict()[name])
    assert len(points_of(shared)) == len(points_of(first))
    part = replace(run, train_share=0.5)
    drawn = [data.head(replace(part, seed=seed)).state_dict() for seed in (1, 2)]
    name = "projections.0.linear.bias"
    assert not torch.equal(drawn[0][name], drawn[1][name])


def test_names_start_needs_a_projection_per_tap(data):
    head = data.head(HeadRun(dim=4, init="names", layers="1,2,2"))
    assert head.node_tangents().norm(dim=1).mean().item() == pytest.approx(0.5, rel=1e-4)
    with pytest.raises(OptionError, match="joined"):
        data.head(HeadRun(dim=4, init="names", joined=True))


def test_the_command_goes_on_where_it_stopped_and_reports(
    tiny_backbone, demo_like, tmp_path, monkeypatch
):
    monkeypatch.setattr(arms, "LADDER", (1.0,))  # nothing beside what is listed
    monkeypatch.setattr(arms, "HEAD_RATES", (1e-3, 1e-2))
    monkeypatch.setattr(arms, "NODE_RATES", {"points": (1e-1,), "linear": (1e-2,)})

    def say(name, *more):
        words = ["experiment", name, "--data", str(demo_like), "--backbone", str(tiny_backbone)]
        words += ["-o", str(tmp_path / "results.jsonl"), "--json", "--max-length", "32"]
        words += ["--jobs", "1"] * (name != "report")  # other processes have the usual rates
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    arguments = ("compare-geometries", "--dims", "2", "--seeds", "2")
    first = say(*arguments)
    # Two rates for each of two seeds, and what they chose; the hyperboloid tunes as the ball.
    assert first["new"] == first["runs"] == 3 * (2 * 2 + 2) + 2
    assert say(*arguments)["new"] == 0
    document = tmp_path / "docs" / "results.md"
    document.parent.mkdir()
    say("report", "--document", str(document))
    text = document.read_text(encoding="utf-8")
    assert "## Geometry against geometry" in text
    assert "trained 14 heads in 0 minutes" in text  # what was tuned is not trained again
    assert "| poincare less linear | d = 2 |" in text
    assert "| accuracy at level 3 | " in text
    assert pictures(document) == {"compare-geometries"}
    assert not list(document.parent.glob(".*"))
    # Without --json it names the command that makes a document of it.
    words = ["experiment", *arguments, "--data", demo_like, "--backbone", tiny_backbone]
    words += ["-o", tmp_path / "results.jsonl", "--max-length", "32", "--jobs", "1"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert "0 new runs, 20 in the file." in done.stderr, done.output
    name, *command = shlex.split(done.stderr.splitlines()[-1])
    assert (name, CliRunner().invoke(app, command).exit_code) == ("hyperlm", 0)
    assert (tmp_path / "results.md").read_text(encoding="utf-8").startswith(text[:200])


def test_the_report_tells_of_starts(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    for start in starts.STARTS:
        for seed in range(2):
            results.append([record(seed, experiment="starts", arm=start, share=1.0)])
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "## Where a head starts" in text
    assert "Against random, paired:" in text
    assert "Rates that were not all compared with those beside them: random; " in text
    assert "untrained" not in text
    assert "- everywhere else: no difference found." in text
    assert "Geometry against geometry" not in text
    assert pictures(tmp_path / "results.md") == {"starts"}


def test_single_changes_and_calibration_are_run_and_reported(data, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "_BASE", HeadRun(epochs=2))
    results = ResultsFile(tmp_path / "results.jsonl")
    changes = (ablate.BASE, "c = 4", "path loss")
    ablate.run(data, results, seeds=2, dims=(4,), changes=changes)
    # The same runs made for another purpose lack what calibration asks for.
    monkeypatch.setattr(arms, "LADDER", (1.0,))
    monkeypatch.setattr(arms, "HEAD_RATES", (1e-3,))
    monkeypatch.setattr(arms, "NODE_RATES", {"linear": (1e-2,)})
    few = replace(arms.GEOMETRIES["linear"], dim=4, head_lr=1e-3, node_lr=1e-2)
    run_all([replace(few, seed=seed) for seed in range(2)], data, results, labels={"a": "b"})
    calibration.run(data, results, seeds=2, dims=(4,), arms=("linear",))
    # What a version without temperatures left is made again, and reported no more.
    (new,) = calibration.arms_of(results, data.name).values()
    old = ResultsFile(tmp_path / "old.jsonl")
    lacking = [
        replace(r, figures={k: v for k, v in r.figures.items() if k != "trust"} | {"extra": {}})
        for r in new
    ]
    old.append([*results.of(experiment="calibration", stage="tune"), *lacking])
    assert not calibration.arms_of(old, data.name)
    calibration.run(data, old, seeds=2, dims=(4,), arms=("linear",))
    (again,) = calibration.arms_of(ResultsFile(old.path), data.name).values()
    assert [r.figures["trust"] for r in again] == [r.figures["trust"] for r in new]
    for records in calibration.arms_of(results, data.name).values():
        assert len(records) == 2
        assert all(record.figures["trust"]["conformal"]["repeats"] > 1 for record in records)
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "## One change at a time" in text
    assert "| c = 4 |" in text
    assert "## What probabilities are worth" in text
    assert "| linear, 0.9 |" in text
    assert pictures(tmp_path / "results.md") == {"ablate", "calibration"}


def test_columns_are_named_as_for_train(tiny_backbone, demo_like, tmp_path, monkeypatch):
    monkeypatch.setattr(arms, "LADDER", (1.0,))
    monkeypatch.setattr(arms, "HEAD_RATES", (1e-3,))
    monkeypatch.setattr(arms, "NODE_RATES", {"points": (1e-1,), "linear": (1e-2,)})
    table = tmp_path / "mine.csv"
    header, *rows = (demo_like / "train.csv").read_text().splitlines(keepends=True)
    assert header == "text,l1,l2,l3\n"
    table.write_text("words;top;middle;last\n" + "".join(r.replace(",", ";") for r in rows))
    words = ["experiment", "compare-geometries", "--data", table, "--backbone", tiny_backbone]
    words += ["--dims", "2", "--seeds", "1", "-o", tmp_path / "r.jsonl", "--json", "--jobs", "1"]
    said = CliRunner().invoke(app, list(map(str, words)))
    assert (said.exit_code, "--text-column" in said.stderr) == (1, True)
    words += ["--text-column", "words", "--label-columns", "top,last"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    (first, *_) = ResultsFile(tmp_path / "r.jsonl").records
    assert first.data["columns"] == {"text_column": "words", "label_columns": ["top", "last"]}
    assert len(first.figures["test"]["levels"]) == 2
    # Other columns are other data, never averaged with these.
    words[-1] = "top,middle,last"
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0
    results = ResultsFile(tmp_path / "r.jsonl")
    names = {r.data["name"] for r in results.records}
    given = "mine.csv --text-column words --label-columns top,"
    assert names == {given + "last", given + "middle,last"}
    assert {len(compare_geometries.arms_of(results, name)["linear", 2]) for name in names} == {1}


def test_a_report_that_cannot_be_written_is_explained(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    results.append([record(0)])
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file" / "results.md", tmp_path):
        with pytest.raises(OutputError, match="Choose another --document"):
            report.write_report(results, place)
    assert (tmp_path / "file").read_text() == "in the way"
    assert not list(tmp_path.parent.glob(".*.part"))


def test_wrong_words_are_explained(tmp_path):
    for words, said in (
        (["nonsense"], "compare-geometries"),
        (["starts", "--dims", "4,x"], "--dims"),
        (["starts", "--data", "demo", "--set", "shares=1,2"], "shares=1,0.25"),
        (["starts", "--data", "demo", "--set", "shares=all"], "numbers above 0 and up to 1"),
        (["report"], "no results yet"),
    ):
        done = CliRunner().invoke(app, ["experiment", *words, "-o", str(tmp_path / "r.jsonl")])
        assert done.exit_code == 1
        assert said in done.stderr


def test_a_start_from_texts_may_be_left_as_it_is(data, tmp_path, monkeypatch):
    """It is one of the tries, and where val prefers it, it is what is measured."""
    # Ruin whatever they start from.
    monkeypatch.setattr(arms, "NEAR_RATES", ((10.0,), (10.0,)))
    monkeypatch.setattr(arms, "HEAD_RATES", (30.0,))
    monkeypatch.setattr(arms, "NODE_RATES", {"points": (30.0,)})
    arm = HeadRun(init="texts", temperature=20.0, dim=8, epochs=2)
    assert [run.epochs for run in arms.grid(arm)] == [0, 2, 2]
    assert all(run.epochs for run in arms.grid(replace(arm, init="random")))
    results = ResultsFile(tmp_path / "results.jsonl")
    labels = {"experiment": "starts", "arm": "texts", "share": 1.0}
    measured = arms.tuned(arm, data, results, seeds=range(2), labels=labels)
    assert [record.head.epochs for record in measured] == [0, 0]
    tests = [record.figures["test"] for record in measured]
    assert tests[0] == tests[1]
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| texts (untrained) |" in text
    assert "not all compared with" not in text  # nothing is beside a head that stays as it is
    # Earlier versions tried low rates alone: where that is all, the report says so.
    monkeypatch.setattr(arms, "HEAD_RATES", (30.0, 90.0))
    assert not any(arms.enclosed(r.head, results.of(stage="tune")) for r in measured)
    report.write_report(results, tmp_path / "results.md")
    assert "not all compared with" in (tmp_path / "results.md").read_text(encoding="utf-8")


def test_the_report_tells_how_many_seeds_stayed_untrained(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    for seed in range(2):
        one = record(seed, arm="texts", experiment="starts", share=1.0)
        run = replace(one.run, init="texts", epochs=20 * seed)
        results.append([replace(one, run=run, labels=one.labels | {"arm": "texts"})])
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| texts (untrained for 1 of 2) |" in text
    assert "for all seeds or for as many as it says" in text
