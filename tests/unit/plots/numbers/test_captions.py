from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from onnxscape.core.grid import Axis, Grid
from onnxscape.plots.numbers import captions

GRID = Grid(Axis(-1, 1, 5), Axis(-1, 1, 5))


@pytest.mark.parametrize(
    ("normalization", "text"),
    [
        ("filter", "α  (filter-normalized direction δ)"),
        ("layer", "α  (layer-normalized direction δ)"),
        ("weight", "α  (weight-normalized direction δ)"),
        ("dfilter", "α  (direction δ, filters of norm 1)"),
        ("dlayer", "α  (direction δ, layers of norm 1)"),
        ("none", "α  (direction δ, not normalized)"),
    ],
)
def test_an_axis_names_its_direction_and_normalization(make_spec, normalization, text):
    assert captions.axis_label("x", make_spec(GRID, normalization=normalization)) == text


def test_the_other_axis_is_beta_along_eta(make_spec):
    label = captions.axis_label("y", make_spec(GRID))
    assert label == "β  (filter-normalized direction η)"


def test_directions_from_a_file_are_called_so(make_spec):
    spec = make_spec(GRID, normalization=None, directions="c" * 64)
    assert captions.axis_label("x", spec) == "α  (direction δ from a file)"


def test_without_a_spec_an_axis_is_just_named():
    assert captions.axis_label("x", None) == "α"
    assert captions.axis_label("y", None) == "β"


def test_metrics_are_named_with_their_unit():
    assert captions.metric_label("loss") == "loss"
    assert captions.metric_label("accuracy") == "accuracy (%)"
    assert captions.metric_label("top5") == "top5 (%)"
    assert captions.metric_label("loss_stderr") == "standard error of the loss"
    assert not captions.is_percent("topology")


def test_a_heading_tells_model_data_samples_and_center(make_landscape):
    heading = captions.heading(make_landscape(GRID, 1.0), "loss", width=100)
    assert heading.name == ("resnet20",)
    assert heading.details == (
        "cifar10 test, 1000 samples, center: loss 0.3, accuracy 91.2 %",
    )


def test_a_heading_tells_how_much_is_missing(make_landscape):
    known = np.zeros(GRID.shape, dtype=bool)
    known[0, :3] = True
    landscape = make_landscape(GRID, 1.0, evaluated=known)
    assert captions.heading(landscape, "loss").details[-1] == "incomplete: 3 of 25 points"
    empty = captions.heading(landscape, "loss", title="")
    assert empty == captions.Heading((), ("incomplete: 3 of 25 points",))


def test_interpolated_points_are_told_and_are_not_missing(make_landscape, interpolated):
    known = np.zeros(GRID.shape, dtype=bool)
    known[0, :3] = True
    landscape = interpolated(make_landscape(GRID, 1.0), known)
    text = "3 of 25 points evaluated, the others interpolated"
    assert captions.heading(landscape, "loss").details[-1] == text
    assert captions.heading(landscape, "loss", title="").details == (text,)


def test_estimated_points_are_told_apart_from_interpolated_ones(make_landscape, interpolated):
    known = np.zeros(GRID.shape, dtype=bool)
    known[0, :3] = True
    landscape = interpolated(make_landscape(GRID, 1.0), known)
    record = dataclasses.replace(landscape.interpolation, method="two-level", samples=100)
    landscape = dataclasses.replace(landscape, interpolation=record)
    text = "3 of 25 points on all samples, the others estimated"
    assert captions.heading(landscape, "loss").details[-1] == text


def test_a_title_replaces_the_name_and_an_empty_one_everything(make_landscape):
    landscape = make_landscape(GRID, 1.0)
    assert captions.heading(landscape, "loss", title="Mine").name == ("Mine",)
    assert captions.heading(landscape, "loss", title="Mine").details
    assert captions.heading(landscape, "loss", title="") == captions.Heading((), ())


def test_a_heading_without_knowledge_is_empty(make_landscape):
    landscape = make_landscape(GRID, 1.0, center={}, spec=None, model="", data="")
    assert captions.heading(landscape, "loss") == captions.Heading((), ())


def test_the_center_of_the_metric_drawn_is_told_too(make_landscape):
    landscape = make_landscape(GRID, 1.0, center={"loss": -1.25, "top5": 0.5}, data="")
    heading = captions.heading(landscape, "top5", width=100)
    assert heading.details == ("1000 samples, center: loss −1.25, top5 50.0 %",)


@pytest.mark.parametrize("width", [20, 33, 60])
def test_no_line_is_longer_than_there_is_room(make_landscape, width):
    landscape = make_landscape(GRID, 1.0, model="resnet_" * 30, data="a data set " * 9)
    heading = captions.heading(landscape, "loss", name_width=width, width=width)
    assert len(heading.name) == 2
    for text in heading.name + heading.details:
        assert len(text) <= width


def test_a_long_name_keeps_its_beginning_and_its_end():
    text = "model_" + "x" * 300 + "_epoch_7"
    lines = captions.wrap(text, 30)
    assert len(lines) == 2
    assert lines[0].startswith("model_x")
    assert lines[1].endswith("x_epoch_7")
    assert "…" in "".join(lines)


def test_words_are_kept_whole_where_they_fit():
    assert captions.wrap("ResNet-20 without\nshortcuts", 20) == [
        "ResNet-20 without",
        "shortcuts",
    ]
    assert captions.wrap("", 20) == []


def test_headings_of_a_shared_panel_are_joined():
    first, second = captions.Heading(("a",), ("x",)), captions.Heading(("b",), ("y", "z"))
    assert captions.joined([first, second]) == captions.Heading(("a",), ("x", "y", "z"))


def test_counts_are_spoken():
    assert captions.count(1, "point") == "1 point"
    assert captions.count(2, "point") == "2 points"
