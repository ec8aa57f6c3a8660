"""Figures of measured values: curves, intervals and a scatter."""

import os

import numpy as np
import pytest

from hyperlm.errors import OptionError
from hyperlm.viz import Panel, curves_figure, intervals_figure, save_figure
from hyperlm.viz.scatter import scatter_figure

NAN = float("nan")


def test_curves_share_colours_by_name():
    line = [(8, 0.5, 0.4, 0.6), (128, 0.7, 0.7, 0.7), (32, 0.6, 0.5, 0.7)]
    panels = [Panel("one", "per cent", {"a": line, "b": line}), Panel("two", "edges", {"b": line})]
    first, second = curves_figure(panels, x_label="dimension", notes=["note"]).axes
    assert first.lines[1].get_color() == second.lines[0].get_color() != first.lines[0].get_color()
    np.testing.assert_array_equal(first.lines[0].get_xdata(), [8, 32, 128])
    assert first.get_xscale() == "log"
    with pytest.raises(OptionError, match="every panel at least one series"):
        curves_figure([Panel("empty", "", {})], x_label="d")


def test_no_temporary_file_is_left(tmp_path):
    save_figure(
        curves_figure([Panel("", "", {"a": [(1, 2, 1, 3)]})], x_label="x"), tmp_path / "a.png"
    )
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_diagonal_has_equal_axes_and_a_panel_its_own_label():
    sure = [(20.0, 10.0, 10.0, 10.0), (95.0, 70.0, 70.0, 70.0)]
    panels = [
        Panel("reliability", "hold", {"a": sure}, "probability", diagonal=True),
        Panel("other", "hold", {"a": sure}),
    ]
    first, second = curves_figure(panels, x_label="share").axes
    assert first.get_xlim() == first.get_ylim()
    low, high = first.get_xlim()
    assert low == 0
    assert high > 95
    diagonal = first.lines[1]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert (first.get_xlabel(), second.get_xlabel()) == ("probability", "share")
    assert second.get_xlim() != second.get_ylim()


def test_intervals_share_their_lines_over_panels():
    panels = {
        "one": {"a": (1.0, 0.5, 1.5), "b": (2.0, NAN, NAN)},
        "two": {"b": (3.0, 2.0, 4.0), "c": (NAN, NAN, NAN)},
    }
    first, second = intervals_figure(panels, x_label="points", origin=0.0).axes
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["a", "b", "c"]
    assert not any(tick.get_text() for tick in second.get_yticklabels())
    # The origin; a bar and a marker; a marker without a bar.
    assert [line.get_xdata().tolist() for line in first.lines[1:]] == [[0.5, 1.5], [1.0], [2.0]]
    bar, marker = second.lines[1:]
    assert (bar.get_ydata().tolist(), marker.get_ydata().tolist()) == ([1, 1], [1])
    assert first.get_xlim() != second.get_xlim()
    again = intervals_figure(panels, x_label="points", same_scale=True).axes
    assert again[0].get_xlim() == again[1].get_xlim()
    assert again[0].get_xlim()[0] < 0.5 < 4.0 < again[0].get_xlim()[1]
    assert first.get_ylim()[0] > first.get_ylim()[1]  # the first name on top
    with pytest.raises(OptionError, match="every panel at least one line"):
        intervals_figure({"empty": {}}, x_label="x")


def test_two_dimensions_far_apart_stand_on_a_scale_of_doublings_and_layers_do_not():
    lines = {"a": [(2.0, 1.0, 0.5, 1.5), (64.0, 3.0, 2.5, 3.5)]}
    (axes,) = curves_figure([Panel("x", "percent", lines)], x_label="dimension").axes
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "64"]
    layers = {"a": [(float(x), 1.0, 0.5, 1.5) for x in range(1, 17)]}
    (axes,) = curves_figure([Panel("x", "percent", layers)], x_label="layer").axes
    assert axes.get_xscale() == "linear"


def test_a_scatter_refuses_what_has_no_place():
    with pytest.raises(OptionError, match="at least one point"):
        scatter_figure({}, x_label="x", y_label="y")
    with pytest.raises(OptionError, match="a: x is 0"):
        scatter_figure({"a": (0.0, 1.0, 1.0, 1.0)}, x_label="x", y_label="y")
    drawn = scatter_figure(
        {"a": (1.0, 2.0, NAN, NAN), "b": (9.0, 3.0, 2.5, 3.5)}, x_label="x", y_label="y"
    )
    axes = drawn.axes[0]
    assert axes.get_xscale() == "log"
    assert {"1", "10"} <= {tick.get_text() for tick in axes.get_xticklabels()}
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["a", "b"]
