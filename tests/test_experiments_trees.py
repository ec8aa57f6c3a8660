"""The experiment on trees without texts: what is tried, what is chosen, what the report says."""

import gzip

import pytest
from experiment_data import pictures
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.embedding import EmbeddingOptions, embed, reconstruction
from hyperlm.errors import (
    HyperlmError,
    HyperlmWarning,
    OffManifoldError,
    OptionError,
    TaxonomyError,
)
from hyperlm.experiments import report, report_trees, trees
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.trees import Tree, arms_of, enclosed
from hyperlm.taxonomy import Taxonomy

TREE = Taxonomy.from_paths([(a, a + b) for a in "xyz" for b in "pqr"])
DATA = Tree("small", TREE, {})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(trees, "EPOCHS", 3)
    monkeypatch.setattr(trees, "GRID", ((0.1, 2.0), (0.3, 8.0)))


def runs_of(results, arm="poincare", dim=2, seed=0):
    return {
        trees._rates(r): trees._score(r)[0]
        for r in results.of(experiment="trees", arm=arm)
        if r.run.settings["dim"] == dim and r.run.seed == seed
    }


def test_every_seed_climbs_to_what_beats_all_beside_it(tmp_path):
    results = ResultsFile(tmp_path / "r.jsonl")
    some = ("poincare", "euclidean")
    trees.run(DATA, results, seeds=2, dims=(2,), arms=some)
    arms = arms_of(results, "small", "closure")
    assert list(arms) == [("poincare", 2), ("euclidean", 2)]
    for (arm, dim), records in arms.items():
        assert [r.run.seed for r in records] == [0, 1]
        for record in records:
            tried = runs_of(results, arm, dim, record.run.seed)
            assert set(trees.GRID) <= set(tried)
            at = trees._rates(record)
            assert tried[at] == max(tried.values())
            assert set(trees._beside(*at)) <= set(tried)
            ends = at[0] in (trees.LADDER[0], trees.LADDER[-1])
            ends |= at[1] in (trees.TEMPERATURES[0], trees.TEMPERATURES[-1])
            assert enclosed(record, results) is not ends
    # Nothing is made twice, and a run that stopped half-way is not called enclosed.
    again = ResultsFile(results.path)
    trees.run(DATA, again, seeds=2, dims=(2,), arms=some)
    assert len(again) == len(results)
    less = ResultsFile(tmp_path / "less.jsonl")
    less.append(results.records[:1])
    assert not enclosed(less.records[0], less)


def test_figures_are_those_of_hyperlm_embed(tmp_path):
    results = ResultsFile(tmp_path / "r.jsonl")
    trees.run(DATA, results, seeds=1, dims=(3,), arms=("euclidean, construction",))
    record = results.records[0]
    settings = {"dim": 3, "geometry": "euclidean", "epochs": 3, "learning_rate": 0.1}
    points = embed(TREE, EmbeddingOptions(**settings, temperature=2.0))
    found = reconstruction(TREE, points, c=0.0)
    assert record.figures["test"]["map"] == found.map
    assert record.figures["test"]["mean_rank"] == found.mean_rank


def test_points_that_leave_the_numbers_are_never_chosen(tmp_path, monkeypatch):
    honest = trees.embed

    def broken(taxonomy, options):
        if options.learning_rate > 0.1:
            raise OffManifoldError("gone")
        return honest(taxonomy, options)

    monkeypatch.setattr(trees, "embed", broken)
    results = ResultsFile(tmp_path / "r.jsonl")
    trees.run(DATA, results, seeds=1, dims=(2,), arms=("poincare",))
    assert runs_of(results)[0.3, 8.0] == -1
    (records,) = arms_of(results, "small", "closure").values()
    assert trees._rates(records[0])[0] <= 0.1
    monkeypatch.setattr(trees, "GRID", ((1.0, 4.0),))
    lost = ResultsFile(tmp_path / "lost.jsonl")
    monkeypatch.setattr(trees, "_beside", lambda *_: [])
    trees.run(DATA, lost, seeds=1, dims=(2,), arms=("poincare",))
    assert arms_of(lost, "small", "closure") == {}


def test_the_command_reads_trees_and_data_sets_and_reports(tmp_path, demo_like):
    tree, out = tmp_path / "tree.tsv.gz", tmp_path / "r.jsonl"
    TREE.write(tree)
    told = ["--seeds", "1", "-o", str(out), "--jobs", "1"]
    for words in (
        ["--data", f"{tree},{demo_like}", "--dims", "2,4"],
        ["--data", str(tree), "--dims", "2", "--set", "pairs=edges", "--arm", "poincare"],
    ):
        done = CliRunner().invoke(app, ["experiment", "trees", *words, *told])
        assert done.exit_code == 0, done.output
    results = ResultsFile(out)
    assert {r.data["nodes"] for r in results.records if r.data["name"] == tree.name} == {len(TREE)}
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert f"### {tree.name}, {len(TREE)} nodes\n" in text
    assert f"### {tree.name}, {len(TREE)} nodes, from parents alone\n" in text
    told = "--seeds 1 --dims 2 --set pairs=edges --arm poincare"
    assert f"`hyperlm experiment trees --data {tree.name} {told}`" in text
    assert f"`hyperlm experiment trees --data {tree.name} --seeds 1 --dims 2,4`" in text
    assert f"### {demo_like.name}, " in text
    assert "| poincare less euclidean | d = 2 | d = 4 |" in text
    assert "no verdict: one seed alone" in text
    assert "on these texts" not in text.partition("## Trees without texts")[2]
    names = {path.name for path in (tmp_path / "images").iterdir()}
    assert names == {
        f"trees-{tree.name}-closure.png",
        f"trees-{tree.name}-edges.png",
        f"trees-{demo_like.name}-closure.png",
    }
    assert pictures(tmp_path / "results.md")


def test_wrong_words_and_broken_trees_are_explained(tmp_path):
    results = ResultsFile(tmp_path / "r.jsonl")
    for words, named in (
        ({"arms": ("lorentz",)}, "lorentz"),
        ({"pairs": "all"}, "pairs"),
    ):
        with pytest.raises(OptionError, match=named):
            trees.run(DATA, results, **{"seeds": 1, "dims": (2,)} | words)
    assert not len(results)
    for unread in ({"backbone": "smollm2"}, {"max_length": 64}, {"precision": "fp32"}):
        with pytest.raises(OptionError, match="read no texts"):
            trees.read("demo", **unread)
    ring = tmp_path / "ring.tsv.gz"
    with gzip.open(ring, "wt") as text:
        text.write("child\tparent\na\tb\nb\ta\n")
    with pytest.raises(TaxonomyError, match="Cycle"):
        trees.read(str(ring))
    broken = tmp_path / "broken.tsv.gz"
    broken.write_bytes(b"child\tparent\na\tb\n")
    with pytest.raises(HyperlmError, match="broken"):
        trees.read(str(broken))


def test_a_table_of_labels_alone_will_do(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("kind,sort,id\na,b,1\na,c,2\n")
    with (
        pytest.warns(HyperlmWarning, match=r"labels\.csv: Levels: kind > sort > id"),
        pytest.warns(HyperlmWarning, match="'id' was taken for a level and holds numbers"),
    ):
        assert len(trees.read(str(table)).taxonomy) == 5
    found = trees.read(str(table), columns={"label_columns": ("kind", "sort")})
    assert found.taxonomy == Taxonomy.from_paths([("a", "b"), ("a", "c")])
    assert (found.name, found.files) == ("labels.csv", {})


def test_a_start_that_begins_elsewhere_is_found(tmp_path, monkeypatch):
    """Two hills: the climb alone would stay on the lower one, beside which nothing is better."""

    def hills(taxonomy, trial):
        at = trial.settings["learning_rate"], trial.settings["temperature"]
        height = {(0.3, 0.5): 0.7, (0.1, 4.0): 0.3, (0.1, 2.0): 0.25}.get(at, 0.1)
        return {"test": {"map": height, "mean_rank": 1.0}}

    monkeypatch.undo()  # the grid that is run
    monkeypatch.setattr(trees, "_train", hills)
    results = ResultsFile(tmp_path / "r.jsonl")
    trees.run(DATA, results, seeds=1, dims=(2,), arms=("poincare",))
    (records,) = arms_of(results, "small", "closure").values()
    assert trees._rates(records[0]) == (0.3, 0.5)


def test_ties_do_not_depend_on_the_order_of_the_file(tmp_path):
    results = ResultsFile(tmp_path / "r.jsonl")
    trees.run(DATA, results, seeds=1, dims=(8,), arms=("poincare",))
    turned = ResultsFile(tmp_path / "turned.jsonl")
    turned.append(results.records[::-1])
    assert arms_of(results, "small", "closure") == arms_of(turned, "small", "closure")


def test_trees_of_one_level_have_no_ancestors_below_the_root(tmp_path):
    results = ResultsFile(tmp_path / "r.jsonl")
    flat = Tree("flat", Taxonomy.from_paths([("a",), ("b",), ("c",)]), {})
    trees.run(flat, results, seeds=2, dims=(2,), arms=("poincare",))
    trees.run(flat, results, seeds=2, dims=(3,), arms=("euclidean",))
    text = "\n".join(report_trees.section(results, tmp_path))
    assert "nan" not in text
    assert "without the root |" not in text
    assert "not measured" not in text  # the two have no dimension in common


def test_a_report_of_trees_alone_speaks_of_no_texts_and_replaces_no_other_file(tmp_path):
    results = ResultsFile(tmp_path / "r.jsonl")
    trees.run(DATA, results, seeds=2, dims=(2,), arms=("poincare",))
    document = tmp_path / "doc.md"
    for _ in range(2):  # a report is replaced
        report.write_report(results, document)
    text = document.read_text()
    assert "frozen features" not in text.split("##")[0]
    assert "Student's t" in text
    for mine in ("# My thesis\n", "\nnotes\n", "# Results\n\nof mine\n"):
        document.write_text(mine)
        with pytest.raises(HyperlmError, match="no report, and it is not replaced"):
            report.write_report(results, document)
        assert document.read_text() == mine
