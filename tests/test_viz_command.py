"""``hyperlm visualize``: every figure from the command line, measured and explained."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_viz_figures import TREE, a_run
from typer.testing import CliRunner

import hyperlm.viz
from hyperlm.cli import app
from hyperlm.cli.visualize import FigureName, ProjectionName


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs the command in an empty folder; ``RUN`` is a run that needs no model."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def read(path, **options):
        asked.append(options)
        run = a_run()
        return run if options["limit"] else replace(run, texts=None)

    def run(*words):
        with monkeypatch.context() as patch:
            if "RUN" in words:
                patch.setattr(hyperlm.viz, "read_source", read)
            return CliRunner().invoke(app, ["visualize", *map(str, words)])

    run.asked = asked
    return run


def test_the_command_knows_every_figure_and_projection():
    assert {name.value for name in FigureName} == {*hyperlm.viz.FIGURES, "sweep"}
    assert {name.value for name in ProjectionName} == set(hyperlm.viz.PROJECTIONS)


@pytest.mark.parametrize("figure", hyperlm.viz.FIGURES)
def test_figures_are_written(command, figure, tmp_path):
    result = command("RUN", "--figure", figure, "--theme", "dark", "-o", "x.svg")
    assert result.exit_code == 0, result.output
    assert result.stdout == "x.svg\n"
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")
    # Texts are read where they are needed alone.
    assert bool(command.asked[0]["limit"]) == (figure in ("confusion", "reliability"))


def test_the_tree_with_all_there_is_and_its_measure(command, tmp_path):
    words = ("--cones", "--texts", "--confusion", "--labels", "25%", "--projection", "horopca")
    result = command("RUN", *words, "--seed", "3", "--title", "T")
    assert result.exit_code == 0, result.output
    assert result.stdout == "labels.png\n"
    assert "Learned points by hyperbolic PCA" in result.stderr
    assert "distortion" in result.stderr
    facts = json.loads(command("RUN", *words, "--json").stdout)
    assert facts["output"] == "labels.png"
    assert facts["projection"] == "horopca"
    plan = hyperlm.viz.project(a_run(), "horopca")
    assert facts["quality"]["distortion"] == pytest.approx(plan.quality.distortion)
    assert facts["quality"]["of"] == "learned distances"


def test_a_taxonomy_has_its_tree_alone(command, tmp_path):
    TREE.write(tmp_path / "tree.json")
    assert command("tree.json", "--figure", "distances").stdout == "distances.png\n"
    assert "Drawn from the taxonomy alone" in command("tree.json").stderr
    for words, reason in (
        (("--projection", "pca"), "the projection pca needs label points"),
        (("--texts",), "there are no texts to show"),
        (("--figure", "training"), "has no training log"),
        (("--data", "x.csv"), "Leave out --data"),
        (("--limit", "5", "-o", "x.html"), "its labels alone are shown"),
        (("--labels", "some"), "--labels some: give a number of names"),
        (("--labels", "120%"), "--labels 120%: give a number of names"),
        (("--figure", "norms", "--projection", "tree"), "norms shows none"),
    ):
        result = command("tree.json", *words)
        assert result.exit_code == 1, words
        assert reason in result.stderr
        assert "Traceback" not in result.stderr


def test_a_sweep_is_drawn_from_a_table(command, tmp_path):
    (tmp_path / "scores.csv").write_text("layer,L1\n1,0.5\n2,0.7\n")
    assert command("scores.csv", "--figure", "sweep").stdout == "sweep.png\n"
    result = command("scores.csv", "--figure", "sweep", "-o", "x.html")
    assert result.exit_code == 1
    assert "a layer sweep is a figure" in result.stderr


def test_html_is_the_page(command, monkeypatch, tmp_path):
    from hyperlm.viz import explorer

    written = []

    def write(run, output, *, how=None, seed=0, say=None):
        written.append((run.texts is not None, output.name, how, seed))
        output.write_text("page")

    monkeypatch.setattr(explorer, "write_explorer", write)
    assert command("RUN", "-o", "x.html").stdout == "x.html\n"
    assert command("RUN", "-o", "y.html", "--projection", "pca", "--seed", "3").exit_code == 0
    assert written == [(True, "x.html", None, 0), (True, "y.html", ["pca", "tree", "horopca"], 3)]


def test_places_that_cannot_be_written(command, tmp_path):
    (tmp_path / "folder.png").mkdir()
    for target, reason in (
        ("x.docx", ".png, .svg, .pdf, pages in .html"),
        ("nowhere/x.png", "Make it first"),
        ("folder.png", "this is a folder"),
    ):
        result = command("RUN", "-o", target)
        assert result.exit_code == 1
        assert reason in result.stderr
    assert not command.asked  # refused before anything is read
    assert command("RUN", "--figure", "pie").exit_code == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--level", "1"), "--level is of --figure confusion; tree shows no"),
        (("--figure", "norms", "--cones"), "--cones is of --figure tree; norms shows no"),
        (("--figure", "training", "--texts"), "--texts is of --figure tree and norms; training"),
        (("-o", "x.html", "--cones", "--labels", "5"), "--cones, --labels: the page does without"),
        (("-o", "x.html", "--figure", "norms"), "--figure: the page does without"),
        (("--figure", "reliability", "--seed", "7"), "--seed is of --figure tree and distances"),
        (("--data", "x.csv"), "--data: of texts; --figure tree shows none by itself"),
        (("--figure", "norms", "--split", "test"), "--split: of texts; --figure norms shows none"),
        (("-o", "x.html", "--theme", "dark"), "--theme: the page does without"),
    ],
)
def test_options_that_would_change_nothing_are_refused(command, words, reason, tmp_path):
    result = command("RUN", *words)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert not command.asked  # before anything is read
    assert not list(tmp_path.iterdir())


def test_a_share_of_names(command):
    from hyperlm.cli.visualize import _most

    assert [_most(said, 200) for said in (None, "7", "25%", "0", "12.5%")] == [None, 7, 50, 0, 25]
    assert np.isfinite(_most("100%", 3))
