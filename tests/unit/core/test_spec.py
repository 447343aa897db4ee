from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from onnxscape.core.grid import Axis, Grid
from onnxscape.core.spec import EvalSpec
from onnxscape.errors import SurfaceFileError

SPEC = EvalSpec(
    model="a" * 64,
    data="b" * 64,
    preprocessing={"x": {"scale": 255.0, "mean": [0.5, 0.25], "layout": "NCHW"}},
    samples=1000,
    population=50000,
    loss="cross-entropy",
    metrics=("accuracy",),
    grid=Grid(Axis(-1.0, 1.0, 25), Axis(-0.5, 1.5, 5)),
    seed=0,
    normalization="filter",
    ignore="biasbn",
    orthogonal=False,
)

OTHERS = {
    "model": "c" * 64,
    "data": "d" * 64,
    "preprocessing": {"x": {"scale": 1.0, "mean": [0.5, 0.25], "layout": "NCHW"}},
    "samples": 999,
    "population": 1000,
    "loss": "mse",
    "metrics": (),
    "grid": Grid(Axis(-1.0, 1.0, 26), Axis(-0.5, 1.5, 5)),
    "seed": 1,
    "normalization": "layer",
    "ignore": "none",
    "orthogonal": True,
    "directions": "e" * 64,
    "include": ("pos*",),
    "exclude": ("head.weight",),
    "filter_axis": {"embed.weight": 1},
    "loss_file": "f" * 64,
    "metric_files": {"margin": "1" * 64},
    "output": "logits",
    "class_axis": 2,
    "ignore_index": 255,
    "label_smoothing": 0.1,
    "huber_delta": 0.5,
    "precision": "bf16",
    "scheme": 2,
    "tolerance": 0.05,
    "stderr": 0.01,
    "two_level": 100,
}


def test_these_tests_know_every_field():
    assert set(OTHERS) == {field.name for field in dataclasses.fields(EvalSpec)}


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        dataclasses.replace(SPEC, grid=Grid(Axis(-1.0, 1.0, 51), None)),
        dataclasses.replace(SPEC, grid=Grid(None, Axis(0.1, 0.30000000000000004, 2))),
        dataclasses.replace(
            SPEC,
            seed=None,
            normalization=None,
            ignore=None,
            orthogonal=None,
            directions="f" * 64,
        ),
        *(dataclasses.replace(SPEC, **{name: value}) for name, value in OTHERS.items()),
    ],
)
def test_a_spec_survives_json(spec):
    again = EvalSpec.from_dict(json.loads(spec.to_json()))
    assert again == spec
    assert again.digest() == spec.digest()


@pytest.mark.parametrize("field", OTHERS)
def test_a_difference_changes_the_digest_and_is_named(field):
    other = dataclasses.replace(SPEC, **{field: OTHERS[field]})
    assert other.digest() != SPEC.digest()
    (difference,) = SPEC.differences(other)
    named = {
        "grid": "x (",
        "preprocessing": "scale of x (255, not 1)",
        "filter_axis": "filter_axis of embed.weight (none, not 1)",
        "metric_files": "metric_files of margin (none, not 11111111…)",
    }
    assert difference.startswith(named.get(field, f"{field} ("))


def test_equal_specs_do_not_differ():
    assert SPEC.differences(dataclasses.replace(SPEC)) == []


def test_a_difference_reads_this_value_not_that_one():
    other = dataclasses.replace(SPEC, seed=7, model="c" * 64)
    assert SPEC.differences(other) == [
        "model (aaaaaaaa…, not cccccccc…)",
        "seed (0, not 7)",
    ]


def test_only_what_differs_of_the_preprocessing_is_named():
    steps = dict(SPEC.preprocessing["x"]) | {"mean": [0.5, 0.125], "std": [2.0]}
    other = dataclasses.replace(SPEC, preprocessing={"x": steps}, metrics=("top5", "error"))
    assert SPEC.differences(other) == [
        "mean of x (0.5 0.25, not 0.5 0.125)",
        "metrics (accuracy, not top5 error)",
        "std of x (none, not 2)",
    ]


def test_a_line_and_a_plane_differ_in_their_axes():
    line = dataclasses.replace(SPEC, grid=Grid(Axis(-1.0, 1.0, 25), None))
    assert SPEC.differences(line) == ["y (-0.5:1.5:5, not none)"]


def test_the_text_is_canonical():
    text = SPEC.to_json()
    assert " " not in text
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert SPEC.digest() == hashlib.sha256(text.encode()).hexdigest()


def test_the_order_of_preprocessing_means_nothing():
    turned = {"x": dict(reversed(SPEC.preprocessing["x"].items()))}
    assert dataclasses.replace(SPEC, preprocessing=turned).digest() == SPEC.digest()


@pytest.mark.parametrize("field", ["model", "samples", "metrics", "x", "seed"])
def test_a_missing_field_is_an_error(field):
    values = SPEC.to_dict()
    del values[field]
    with pytest.raises(SurfaceFileError, match=rf"not one this version can read \(.*{field}"):
        EvalSpec.from_dict(values)


def test_specs_from_before_overrides_still_read():
    values = SPEC.to_dict()
    for field in ("include", "exclude", "filter_axis"):
        del values[field]
    assert EvalSpec.from_dict(values) == SPEC


def test_a_spec_that_saves_no_evaluations_says_nothing_of_it():
    digest = "a3dca90d33a98efd0737a08a338943ee"
    assert not {"tolerance", "stderr", "two_level"} & set(SPEC.to_dict())
    assert SPEC.digest().startswith(digest)


def test_an_unknown_field_is_an_error():
    with pytest.raises(SurfaceFileError, match="wobble"):
        EvalSpec.from_dict(SPEC.to_dict() | {"wobble": 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("samples", "many"),
        ("samples", None),
        ("model", 5),
        ("metrics", "accuracy"),
        ("metrics", 5),
        ("seed", [1]),
        ("orthogonal", "yes"),
        ("preprocessing", [1]),
        ("x", "wide"),
        ("x", [1, 2]),
        ("x", {"start": 1}),
        ("y", 3),
        ("y", [1.0, -1.0, 5]),
        ("tolerance", "small"),
        ("stderr", [0.1]),
        ("two_level", 100.5),
    ],
)
def test_a_field_of_another_type_is_an_error(field, value):
    with pytest.raises(SurfaceFileError, match="not one this version can read"):
        EvalSpec.from_dict(SPEC.to_dict() | {field: value})


@pytest.mark.parametrize("values", [None, 5, "spec", [1]])
def test_values_that_are_no_object_are_an_error(values):
    with pytest.raises(SurfaceFileError, match="--restart"):
        EvalSpec.from_dict(values)
