"""Texts with several labels, from a table to a run, its answers and its figures."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_words import Command
from conftest import synthetic_text, tree_paths

import hyperlm
from hyperlm.classifier import Classifier
from hyperlm.data import LabelledTexts, gold_nodes, load_data, read_labelled, read_rows
from hyperlm.errors import HyperlmError
from hyperlm.several import decode_several
from hyperlm.taxonomy import Taxonomy
from hyperlm.viz.answering import answerer

pytest_plugins = ["cli_fixtures", "run_fixtures"]

SEVERAL = {"micro_f1", "macro_f1", "p_f1", "exact", "paths_per_text", "gold_paths_per_text"}


@pytest.fixture(scope="session")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of train, val, test.csv (text, topics): a third of the texts have two labels."""
    folder, random = tmp_path_factory.mktemp("topics"), np.random.default_rng(0)
    for split, count in (("train", 192), ("val", 48), ("test", 48)):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "topics"])
            for row in range(count):
                some = random.choice(len(tree_paths()), 2 if row % 3 == 0 else 1, replace=False)
                paths = [tree_paths()[at] for at in some]
                text = " ".join(synthetic_text(path, random) for path in paths)
                writer.writerow([text, "; ".join(" > ".join(path) for path in paths)])
    return folder


@pytest.fixture(scope="session")
def several_run(topics: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory):
    """A run on them, made from Python."""
    folder = tmp_path_factory.mktemp("runs") / "topics"
    options = hyperlm.TrainingOptions(
        data=topics, label_separator=";", backbone=tiny_backbone, dim=8, epochs=24, batch_size=16,
        learning_rate=3e-3, head_learning_rate=3e-2, precision="fp32",
    )  # fmt: skip
    return folder, hyperlm.train(options, folder, progress=False)


def test_a_cell_holds_several_labels(topics: Path, tmp_path: Path) -> None:
    bundle = load_data(topics, label_separator=";")
    counts = [len(paths) for paths in bundle.split("train").paths]
    assert (counts.count(1), counts.count(2)) == (128, 64)
    assert len(bundle.taxonomy.terminals) == 8
    # The same as a list of paths in JSON lines says.
    rows = [{"text": t, "label": [list(p) for p in paths]}
            for t, paths in zip(bundle.test.texts, bundle.test.paths, strict=True)]  # fmt: skip
    table = tmp_path / "t.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    again = read_labelled(table, taxonomy=bundle.taxonomy)
    assert (again.texts, again.paths) == (bundle.test.texts, bundle.test.paths)


def test_separators_without_a_meaning_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("text,l1,l2\none,a,b\n", encoding="utf-8")
    with pytest.raises(HyperlmError, match="in 2 columns here, l1, l2"):
        load_data(table, label_separator=";")
    for sign in (" ", ""):
        with pytest.raises(HyperlmError, match="nothing to see"):
            load_data(table, label_columns=["l1"], label_separator=sign)
    with pytest.raises(HyperlmError, match="one contains the other"):
        load_data(table, label_columns=["l1"], label_separator=">")
    # A sign at the end, or twice, stands between nothing.
    table.write_text("text,l1\none,a > b;\ntwo,a > c;;d\n", encoding="utf-8")
    found = read_labelled(
        table,
        taxonomy=Taxonomy.from_paths([("a", "b"), ("a", "c"), ("d",)]),
        label_separator=";",
    )
    assert found.paths == ((("a", "b"),), (("a", "c"), ("d",)))


def test_labels_above_others_are_no_labels_of_their_own(tmp_path: Path) -> None:
    """Published sets often list every node; so may several ways of writing one."""
    table = tmp_path / "t.csv"
    table.write_text("text,l\none,a; a > b; a > b > c\ntwo,a > b > c; d; a\nthree,a > e\n", "utf-8")
    bundle = load_data(table, label_separator=";", val_fraction=0.5)
    ends = {tuple(bundle.taxonomy.path(node)) for node in bundle.taxonomy.terminals}
    assert ends == {("a", "b", "c"), ("d",), ("a", "e")}
    dag = Taxonomy.from_edges([("oak", "tree"), ("oak", "wood"), ("leaf", "oak")])
    texts = LabelledTexts(("one", "two"), ((("tree", "oak"), ("wood", "oak"), ("oak",)),
                                           (("tree",), ("wood", "oak", "leaf"))))  # fmt: skip
    found = [nodes.tolist() for nodes in gold_nodes(texts, dag)]
    assert found == [[dag.index("oak")], [dag.index("leaf")]]


def test_names_in_a_list_are_labels_of_their_own_where_the_option_says_so(tmp_path: Path) -> None:
    rows = [["carp", "pike"], ["carp", "wren"], ["owl"], ["pike", "wren"], ["owl; oak > pine"]]
    table = tmp_path / "t.jsonl"
    lines = (json.dumps({"text": f"t{at}", "labels": row}) for at, row in enumerate(rows))
    table.write_text("\n".join(lines), encoding="utf-8")
    warnings = " ".join(load_data(table, splits=("train",)).source["warnings"])
    assert "stand on top too, as 'pike'" not in warnings  # the one of three below
    with table.open("a") as file:
        file.write("\n" + json.dumps({"text": "t", "labels": ["wren"]}))
    warnings = " ".join(load_data(table, splits=("train",)).source["warnings"])
    assert "2 of 3 names below others stand on top too, as 'pike'" in warnings
    tree = Taxonomy.from_paths([("carp",), ("pike",), ("wren",), ("owl",), ("oak", "pine")])
    found = read_labelled(table, taxonomy=tree, label_separator=" ; ")
    assert found.paths[0] == (("carp",), ("pike",))
    assert found.paths[4] == (("owl",), ("oak", "pine"))


def test_lists_of_all_nodes_with_a_taxonomy_as_the_field_publishes_them(tmp_path: Path) -> None:
    (tmp_path / "topics.taxonomy").write_text("Root\tC\tG\nC\tC1\nC1\tC15\tC16\n", "utf-8")
    rows = [["C", "C1", "C15", "G"], ["G"], ["C", "C1"], ["C", "C1", "C16"]]
    lines = (json.dumps({"token": ["a", str(at)], "label": row}) for at, row in enumerate(rows))
    (tmp_path / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(HyperlmError, match=r"If the names in a list .* --label-separator ';'"):
        load_data(tmp_path)
    bundle = load_data(tmp_path, label_separator=";", splits=("train",))
    ends = [{bundle.taxonomy.name(node) for node in nodes} for nodes in bundle.gold("train")]
    assert ends == [{"C15", "G"}, {"G"}, {"C1"}, {"C16"}]


def test_texts_in_several_rows_with_different_labels_are_doubted(tmp_path: Path) -> None:
    rows = [f"text {row},{label}" for row in range(20) for label in ("a", "b")[: 1 + row % 2]]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["text,l1", *rows, ",a", ",b"]), encoding="utf-8")
    warnings = load_data(table, splits=("train",)).source["warnings"]
    (told,) = [words for words in warnings if "stand in several rows" in words]
    assert "different training texts" in told
    assert "one row (docs/data.md)" in told
    once = [f"text {row},{'ab'[row % 2]}" for row in range(20)]
    table.write_text("\n".join(["text,l1", *once, *once[:4]]), encoding="utf-8")
    assert "several rows" not in " ".join(load_data(table).source["warnings"])


def test_the_run_answers_as_many_paths_as_val_says(several_run) -> None:
    folder, metrics = several_run
    model = hyperlm.load(folder)
    assert 0.02 <= model.several_from < 1
    for split in ("val", "test"):
        figures = metrics[split]["several"]
        assert figures.keys() == SEVERAL | {"from"}
        assert figures["from"] == model.several_from
        assert figures["gold_paths_per_text"] == pytest.approx(4 / 3)
        # Where gold labels are more than one, one path has not all of them.
        assert figures["micro_f1"] > metrics[split]["hierarchical"]["f1"]
        assert figures["exact"] > 0.5
    texts = model.texts("test")
    answers = model.predict(texts.texts)
    kind, cut = model.model.head.loss_kind, model.several_from
    ends = decode_several(model.logits(texts.texts), model.taxonomy, cut, loss=kind)
    for row, answer in enumerate(answers):
        said = [model.taxonomy.path(node) for node in ends.nodes[row].tolist() if node >= 0]
        assert list(answer.paths) == said
        assert answer.path == answer.paths[0]
    gold = [set(paths) for paths in texts.paths]
    exact = np.mean([set(a.paths) == g for a, g in zip(answers, gold, strict=True)])
    assert metrics["test"]["several"]["exact"] == pytest.approx(exact)
    # With a threshold every label answered is as probable as that.
    sure = model.predict(texts.texts, threshold=0.4)
    assert sum(len(answer.paths) for answer in sure) < sum(len(a.paths) for a in answers)
    assert all(not a.paths for a in model.predict([" "], threshold=0.1))


def test_a_run_on_single_labels_answers_one_path(finished_run: Path, demo_like: Path) -> None:
    model = hyperlm.load(finished_run)
    assert model.several_from is None
    texts = read_labelled(demo_like / "test.csv", taxonomy=model.taxonomy)
    assert "several" not in model.evaluate(texts)
    for answer in model.predict(texts.texts):
        assert answer.paths == (answer.path,)
    model.calibrate(texts)
    assert model.several_from is None


def test_the_command_tells_all_paths(command: Command, several_run, tmp_path: Path) -> None:
    run, metrics = several_run
    model = hyperlm.load(run)
    texts = model.texts("test")
    answers = model.predict(texts.texts)
    row = next(at for at, answer in enumerate(answers) if len(answer.paths) > 1)
    said = command("predict", run, "--text", texts.texts[row])
    assert said.exit_code == 0, said.stderr
    assert f"  and {' > '.join(answers[row].paths[1])}\n" in said.stdout
    (told,) = json.loads(command("predict", run, "--text", texts.texts[row], "--json").stdout)
    assert [tuple(path) for path in told["paths"]] == list(answers[row].paths)
    # Tables: a cell that train reads again, or lists.
    table = tmp_path / "texts.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts.texts)])
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        done = command("predict", run, "-i", table, "-o", tmp_path / name)
        assert done.exit_code == 0, done.stderr
        read = read_labelled(
            tmp_path / name,
            taxonomy=model.taxonomy,
            label_columns=["paths"],
            label_separator="|",
        )
        assert read.paths == tuple(answer.paths for answer in answers)
    # None of a table is sure enough.
    for name in ("none.csv", "none.jsonl", "none.parquet"):
        done = command("predict", run, "-i", table, "-o", tmp_path / name, "--threshold", "1")
        assert done.exit_code == 0, done.stderr
        assert len(list(read_rows(tmp_path / name))) == len(answers)
    measured = json.loads(command("evaluate", run, "--json").stdout)
    assert measured["several"] == metrics["test"]["several"]
    shown = command("evaluate", run).stdout
    assert "several paths: micro-F1" in shown
    assert f"at least {model.several_from:g} (fitted)" in command("info", run).stdout
    card = (run / "README.md").read_text("utf-8")
    assert f"from a share of {model.several_from:g} on" in card
    assert "--label-separator ';'" in card


def test_the_page_is_told_which_paths_are_answered(several_run) -> None:
    model = hyperlm.load(several_run[0])
    answer = answerer(model, [])
    texts = model.texts("test").texts[:12]
    for text, said in zip(texts, model.predict(texts), strict=True):
        told = [tuple(path["path"]) for path in answer(text)["top"] if path["answered"]]
        assert told == list(said.paths)[:5]


def test_calibrate_fits_how_many_paths_too(
    command: Command, several_run, topics: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(several_run[0], tmp_path / "run"))
    trained = json.loads((run / "config.json").read_text("utf-8"))
    # Texts with one label each, of another table, whose cells are read as those of the run.
    rows = [row for row in read_rows(topics / "test.csv") if ";" not in row["topics"]]
    table = tmp_path / "single.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "topics"])
        writer.writeheader()
        writer.writerows(rows)
    result = command("calibrate", run, "--data", table, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    # They say nothing of how many.
    cut = trained["several_from"]
    assert document["before"]["several_from"] == document["after"]["several_from"] == cut
    kept = json.loads((run / "config.json").read_text("utf-8"))["calibrated_on"]
    assert kept["trained_several_from"] == cut
    result = command("calibrate", run, "--data", topics, "--split", "test")
    after = hyperlm.load(run).several_from
    told = f"Further paths are answered from a share of {after:g} on (it was {cut:g})."
    assert (told in result.stdout) == (after != cut)
    assert command("calibrate", run, "--reset").exit_code == 0
    assert json.loads((run / "config.json").read_text("utf-8")) == trained | {"calibrated_on": None}


def test_a_cell_that_was_not_divided_names_the_option(several_run, tmp_path: Path) -> None:
    model = hyperlm.load(several_run[0])
    table = tmp_path / "other.csv"
    rows = ["text,labels", '"x","plant > tree > oak| plant > herb > mint"']
    table.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(HyperlmError, match=r"give --label-separator '\|'"):
        read_labelled(table, taxonomy=model.taxonomy)
    table.write_text(rows[0] + "\n" + rows[1].replace("|", ";"), encoding="utf-8")
    # A single column of labels of any name is read as that of the run.
    texts = read_labelled(
        table, taxonomy=model.taxonomy, trained_on=("text", ["topics"], None, ";")
    )
    assert texts.paths == ((("plant", "tree", "oak"), ("plant", "herb", "mint")),)


def test_a_path_that_is_not_sure_may_leave_others(monkeypatch, several_run, command) -> None:
    """The best single path is one of many alike; another class is surer as a whole."""
    model = hyperlm.load(several_run[0])
    taxonomy, kind = model.taxonomy, model.model.head.loss_kind
    scores = torch.full((1, len(taxonomy)), -9.0, dtype=torch.float64)
    assert kind == "level"
    shares = {"owl": 0.3, "oak": 0.24, "pine": 0.24, "mint": 0.22}
    for node in range(len(taxonomy)):
        name = taxonomy.name(node)
        if name in shares:
            scores[0, node] = np.log(shares[name])
        elif taxonomy.depth[node] < 3:
            scores[0, node] = 0.0
    monkeypatch.setattr(Classifier, "logits", lambda self, texts: scores.repeat(len(texts), 1))
    monkeypatch.setattr(Classifier, "several_from", 0.2)
    monkeypatch.setattr(Classifier, "temperature", 1.0)
    (answer,) = model.predict(["x"], threshold=0.5)
    assert answer.path == ()
    assert answer.paths == (("plant",),)
    said = command("predict", several_run[0], "--text", "x", "--threshold", "0.5").stdout
    assert "\n  plant\n" in said
    assert "no label is sure enough" not in said


def test_another_table_of_columns_for_levels_can_be_measured(
    command: Command, several_run, demo_like: Path
) -> None:
    result = command("evaluate", several_run[0], "--data", demo_like / "test.csv", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["several"]["gold_paths_per_text"] == 1
