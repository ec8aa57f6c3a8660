"""What labels mean: read with line numbers, told to the start, remembered by the run."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from explorer_documents import flat

from hyperlm.data import load_data
from hyperlm.data.descriptions import read_descriptions
from hyperlm.errors import DataError, HyperlmWarning, OptionError
from hyperlm.experiments import FrozenData, ResultsFile, few_shot, report
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.batches import pooled_features, tokenise
from hyperlm.lm.names import name_features, name_texts
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.taxonomy import Taxonomy
from hyperlm.viz.pagedata import page_document
from hyperlm.viz.sources import collect_run

pytest_plugins = ["run_fixtures"]

TREE = Taxonomy.from_paths(
    [("Medical", "Depression"), ("Psychology", "Depression"), ("Medical", "Asthma")]
)
ROWS = [
    ("Asthma", "airways that\n close"),
    ("Psychology > Depression", "low mood"),
    ("Medical", ""),
]
FOUND = {
    TREE.index("Asthma"): "airways that close",
    TREE.index("Psychology > Depression"): "low mood",
}  # fmt: skip


def csv(rows):
    return "label,description\n" + "".join(f'"{label}","{text}"\n' for label, text in rows)


def test_every_kind_of_table_and_both_ways_to_name_a_node(tmp_path):
    (tmp_path / "d.csv").write_text(csv(ROWS))
    (tmp_path / "d.jsonl").write_text(
        "".join(json.dumps({"label": a, "description": b or None}) + "\n" for a, b in ROWS)
    )
    with gzip.open(tmp_path / "d.csv.gz", "wt") as file:
        file.write(csv(ROWS))
    columns = {"label": [a for a, _ in ROWS], "description": [b for _, b in ROWS]}
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    for name in ("d.csv", "d.jsonl", "d.csv.gz", "d.parquet"):
        assert read_descriptions(tmp_path / name, TREE) == FOUND


@pytest.mark.parametrize("names", ["Sport", "a > b"])
def test_every_node_has_a_path_that_names_it(tmp_path, names):
    """A top label that is a name elsewhere too, and names with the separator in them."""
    tree = Taxonomy.from_paths([(names, "Golf"), ("Other", names), (names, names), ("Other", "x")])
    paths = [" > ".join(tree.path(node)) for node in range(len(tree))]
    (tmp_path / "d.csv").write_text(csv([(path, f"of {path}") for path in paths]))
    wanted = {node: f"of {path}" for node, path in enumerate(paths)}
    assert read_descriptions(tmp_path / "d.csv", tree) == wanted


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (csv([("Depression", "a")]), r"line 2: .*names 2 nodes.*Psychology > Depression"),
        (csv([("Asthma", "a"), ("Medical > Asthma", "b")]), r"line 3: .*before, in .*line 2"),
        (csv([("Asthma", "")]), r"no label of the taxonomy is described\. Fill"),
        (csv([("Astma", "b")]), r"no label .*line 2: .*'Astma'.*Asthma"),
        ("label,text\nAsthma,a\n", r"line 2: no column 'description'.*\['label', 'text'\]"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line(tmp_path, content, message):
    (tmp_path / "d.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_descriptions(tmp_path / "d.csv", TREE)


def test_labels_of_a_larger_catalogue_are_left_out_with_a_warning(tmp_path):
    (tmp_path / "d.csv").write_text(csv([("Astma", "typo"), ("Gout", "joints"), *ROWS]))
    with pytest.warns(HyperlmWarning, match=r"2 of 5 labels .* line 2: .*'Astma'.*Asthma"):
        assert read_descriptions(tmp_path / "d.csv", TREE) == FOUND


def test_near_names_are_looked_for_once(tmp_path, monkeypatch):
    """Each takes as long as there are names, and one alone is told."""
    asked = []
    index = Taxonomy.index
    monkeypatch.setattr(Taxonomy, "index", lambda *args: asked.append(args) or index(*args))
    (tmp_path / "d.csv").write_text(csv([*((f"Astma {i}", "typo") for i in range(50)), *ROWS]))
    with pytest.warns(HyperlmWarning, match="50 of 53 labels"):
        assert read_descriptions(tmp_path / "d.csv", TREE) == FOUND
    assert len(asked) == 1


def test_a_label_of_a_dag_is_described_by_any_of_its_paths(tmp_path):
    dag = Taxonomy.from_edges([("b", "a"), ("c", "a"), ("d", "b"), ("d", "c")])
    for path in ("b > d", "c > d", "d"):
        (tmp_path / "d.csv").write_text(csv([(path, "meant")]))
        assert read_descriptions(tmp_path / "d.csv", dag) == {dag.index("d"): "meant"}


def test_a_described_name_is_the_mean_of_the_name_and_the_name_with_its_meaning(tiny_backbone):
    model = HierarchicalLM.from_backbone(
        str(tiny_backbone), TREE, layers="1,2", head={"dim": 4}, max_length=32
    ).eval()

    def alone(text):
        return pooled_features(model, tokenise([text], model.tokenizer, 32))[0]

    bare, told = name_features(model), name_features(model, descriptions=FOUND)
    for node, name in enumerate(name_texts(TREE)):
        torch.testing.assert_close(bare[node], alone(name))
        wanted = bare[node]
        if node in FOUND:
            short = name_texts(TREE, parents=False)[node]
            wanted = (wanted + alone(f"{short}: {FOUND[node]}")) / 2
        torch.testing.assert_close(told[node], wanted)


@pytest.fixture
def described(demo_like, tmp_path):
    taxonomy = load_data(demo_like).taxonomy
    path = tmp_path / "meanings.csv"
    path.write_text(csv([(" > ".join(taxonomy.path(7)), "something quite different")]))
    return path


@pytest.mark.parametrize("freeze", [False, True])
def test_a_run_starts_from_them_and_remembers_them(run_settings, described, tmp_path, freeze):
    settings = {key: value for key, value in run_settings.items() if key != "epochs"}
    settings |= {"epochs": 0, "init": "names", "freeze": freeze}
    points = []
    for name, more in (("plain", {}), ("told", {"descriptions": str(described)})):
        train(TrainingOptions(**settings, **more), tmp_path / name, progress=False)
        model = HierarchicalLM.from_pretrained(tmp_path / name)
        points.append(model.head.node_tangents().detach())
    assert not torch.allclose(*points)
    record = json.loads((tmp_path / "told" / "run.json").read_text())
    assert record["data"]["descriptions"]["file"] == "meanings.csv"
    assert record["data"]["descriptions"]["sentences"] == {"7": "something quite different"}
    assert not collect_run(tmp_path / "plain", limit=0).descriptions
    shown = collect_run(tmp_path / "told", limit=0)
    column = page_document(shown, [flat(shown)])["nodes"]["description"]
    assert column == [None] * 7 + ["something quite different"] + [None] * (len(column) - 8)
    assert f"--descriptions {described}" in (tmp_path / "told" / "README.md").read_text()


def test_a_resumed_run_wants_the_same(run_settings, described, tmp_path, kill_at):
    from run_records import Killed

    options = TrainingOptions(**run_settings, descriptions=str(described))
    kill_at(11)
    with pytest.raises(Killed):
        train(options, tmp_path / "run", progress=False)
    kill_at(None)
    described.write_text(described.read_text().replace("quite", "rather"))
    with pytest.raises(DataError, match="the descriptions of labels changed"):
        train(None, tmp_path / "run", resume=True, progress=False)


@pytest.mark.parametrize(
    "options", [{"init": "random"}, {"init": "tree"}, {"answer": "text", "layers": "1,2,2"}]
)
def test_a_start_that_reads_no_names_refuses_them(options):
    with pytest.raises(OptionError, match="--descriptions"):
        TrainingOptions(descriptions="x.csv", **options)


def test_few_shot_compares_names_with_and_without(tiny_backbone, demo_like, described, tmp_path):
    data = FrozenData(str(demo_like), backbone=str(tiny_backbone), max_length=32)
    results = ResultsFile(tmp_path / "results.jsonl")
    arms = ["names alone", "names alone, described", "poincare", "poincare, described"]
    settings = {"seeds": 2, "dims": [4], "shots": "1", "arms": arms}
    with pytest.raises(OptionError, match="descriptions=FILE"):
        few_shot.run(data, results, **settings)
    few_shot.run(data, results, descriptions=str(described), **settings)
    made = len(results)
    few_shot.run(data, results, descriptions=str(described), **settings)
    assert len(results) == made
    told = {arm: "descriptions" in records[0].run.settings
            for (arm, _), records in few_shot.arms_of(results, data.name).items()}  # fmt: skip
    assert told == {arm: arm.endswith("described") for arm in arms}
    # Better sentences: those of the last file stand in the report.
    described.write_text(described.read_text().replace("quite", "rather"))
    few_shot.run(data, results, descriptions=str(described), **settings)
    assert {at: len(found) for at, found in few_shot.arms_of(results, data.name).items()} == {
        (arm, 0 if "alone" in arm else 1): 1 if "alone" in arm else 2 for arm in arms
    }
    text = report.write_report(results, tmp_path / "r.md") or (tmp_path / "r.md").read_text()
    assert "- poincare, described less poincare, P-F1:" in text
    assert "--set descriptions=FILE" in text
