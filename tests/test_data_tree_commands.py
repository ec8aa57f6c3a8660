"""``hyperlm visualize`` and ``embed`` of labels that no model has seen."""

import json
import re

import pytest
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.errors import ModelError, OptionError
from hyperlm.viz import read_source

TABLE = "body,kind,sort\nhello,a,b\nhello,a,c\nhello,a,b\n"


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def page_data(path):
    found = re.search(r'id="hyperlm-data"[^>]*>(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found.group(1))


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    return path


def test_the_page_of_a_table_counts_its_texts(table, tmp_path):
    page = tmp_path / "t.html"
    done = run("visualize", table, "--text-column", "body", "-o", page)
    assert done.exit_code == 0, done.output
    assert "Leaves with a single text: 1 of 2 (a > c)." in done.output
    data = page_data(page)
    assert data["nodes"]["name"] == ["a", "b", "c"]
    assert data["nodes"]["count"] == [3, 2, 1]
    assert data["levels"] == ["kind", "sort"]
    assert (data["title"], data["texts"]) == ("t", None)
    assert "Levels: kind > sort" in done.output
    # Options of a command say nothing to whoever looks at the page.
    assert data["notes"] == [
        "3 texts; 3 labels on 2 levels (1 + 2). Leaves with a single text: 1 of 2 (a > c)."
    ]


def test_embed_takes_the_same_columns(table, tmp_path):
    points = tmp_path / "p.safetensors"
    words = ("--dim", 2, "--epochs", 1, "--label-columns", "kind,sort", "-o", points, "--json")
    done = run("embed", table, *words)
    assert done.exit_code == 0, done.output
    assert read_source(points).taxonomy.names == ("a", "b", "c")


def test_a_folder_named_like_a_set_is_taken_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "train.csv").write_text("text,l1,l2\nx,a,b\ny,a,b\n")
    done = run("embed", "./demo", "--dim", 2, "--epochs", 1, "-o", "p.safetensors")
    assert done.exit_code == 0, done.output
    assert "Note: Levels: l1 > l2" in done.output  # embed tells what it read, too
    assert read_source("p.safetensors").taxonomy.names == ("a", "b")


def test_label_columns_beside_data_are_of_the_data(table):
    """A model on the hub stays one; without data the name is that of a data set."""
    with pytest.raises(ModelError, match="owner/name"):
        read_source("owner/name", data=table, columns={"label_columns": ("kind",)})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("t.csv", "--label-columns", "kind,srt"), "Did you mean 'sort'"),
        (("e.safetensors", "--text-column", "a"), "holds points and has no columns"),
        (("t.csv", "--text-column", "body", "--data", "t.csv"), "texts need a model"),
        (("t.csv", "--text-column", "body", "--texts"), "no texts to show"),
        (("s.csv", "--figure", "sweep", "--text-column", "a"), "sweep reads scores"),
        (("missing.csv",), "no such file"),
    ],
)
def test_what_cannot_be_shown_is_explained(words, message, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.safetensors").write_bytes(b"")
    done = run("visualize", *words, "-o", tmp_path / "x.png")
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "x.png").exists()


def test_a_figure_of_a_data_folder_is_not_put_into_it(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").write_text("text,l1,l2\nhello,a,b\nhello,a,c\n")
    monkeypatch.chdir(tmp_path)
    assert run("visualize", folder).exit_code == 0
    assert [p.name for p in folder.iterdir()] == ["train.csv"]
    assert (tmp_path / "labels.png").exists()


def test_columns_say_how_texts_are_read(tmp_path):
    from hyperlm.viz.sources import collect_model

    with pytest.raises(OptionError, match="--label-columns: say how texts are read"):
        collect_model(None, tmp_path, limit=0, columns={"label_columns": ("a",)})


def test_line_ends_of_an_old_mac_are_explained(tmp_path):
    (tmp_path / "mac.csv").write_text("text,l1\ra,b\r", newline="")
    for command, target in (("visualize", "x.html"), ("embed", "x.safetensors")):
        done = run(command, tmp_path / "mac.csv", "-o", tmp_path / target)
        assert done.exit_code == 1
        assert "mac.csv, line 1: a bare carriage return" in done.output
