"""Orders become the requests of local runs, and never reach for files."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import onnxscape as ox
from onnxscape.core.direction import Ignore
from onnxscape.core.grid import Axis, Grid
from onnxscape.core.normalization import Normalization
from onnxscape.data import Dataset
from onnxscape.errors import (
    DataError,
    DataUnavailableError,
    GridError,
    ModelFileError,
    UnknownDataError,
    UsageError,
)
from onnxscape.evaluation.inputs import resolve
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest
from onnxscape.jobs.job_inputs import _TYPES, request_of, without_paths
from onnxscape.jobs.order import DataRef, Order

MODEL = Path(__file__).parents[3] / "models" / "digits_cnn.onnx"


class Blobs:
    def __init__(self, folder):
        self.folder = folder

    def add(self, content):
        sha = hashlib.sha256(content).hexdigest()
        self.path(sha).write_bytes(content)
        return sha

    def add_arrays(self, **arrays):
        np.savez(self.folder / "new.npz", **arrays)
        return self.add((self.folder / "new.npz").read_bytes())

    def path(self, sha):
        return self.folder / sha


@pytest.fixture
def blobs(tmp_path):
    return Blobs(tmp_path)


@pytest.fixture
def order(blobs):
    return Order(
        model=blobs.add(MODEL.read_bytes()),
        model_name="digits_cnn",
        data=DataRef(name="digits"),
    )


@pytest.fixture
def request_for(blobs, tmp_path):
    def make(order, **options):
        settings = {"device": "cpu", "threads": 1, "data_dir": tmp_path, "offline": True}
        return request_of(order, blobs.path, **(settings | options))

    return make


def spec(request):
    return resolve(request, QuietObserver()).spec


def local(**options):
    return EvalRequest(
        **({"model": MODEL, "data": "digits", "grid": Grid.parse("25x25", 1)} | options)
    )


def test_an_order_without_options_is_the_default_run(order, request_for):
    request = request_for(order)
    assert spec(request) == spec(local())
    assert (request.name, request.device, request.threads) == ("digits_cnn", "cpu", 1)


def test_options_arrive_as_the_request_has_them(order, request_for):
    options = {
        "x": [-0.5, 1, 7],
        "y": None,
        "seed": 3,
        "normalization": "layer",
        "ignore": "none",
        "orthogonal": False,
        "exclude": ["*bias*"],
        "filter_axis": {},
        "metrics": ["accuracy"],
        "samples": 50,
        "split": "test",
        "scale": 8.0,
        "mean": [0.5],
        "label_smoothing": 0.1,
        "loss": "cross-entropy",
        "tolerance": None,
    }
    request = request_for(replace(order, options=options))
    assert request.grid == Grid(Axis(-0.5, 1.0, 7), None)
    assert (request.normalization, request.ignore) == (Normalization.LAYER, Ignore.NONE)
    assert spec(request) == spec(
        local(
            grid=Grid(Axis(-0.5, 1.0, 7), None),
            seed=3,
            normalization=Normalization.LAYER,
            ignore=Ignore.NONE,
            exclude=("*bias*",),
            metrics=("accuracy",),
            samples=50,
            split="test",
            scale=8.0,
            mean=(0.5,),
            label_smoothing=0.1,
            loss="cross-entropy",
        )
    )


def test_arrays_are_the_data_of_a_local_run(order, request_for, blobs):
    x = np.random.default_rng(0).normal(size=(30, 1, 8, 8)).astype(np.float32)
    y = np.arange(30) % 10
    data = DataRef(name="mine.npz", blob=blobs.add_arrays(x=x, y=y), arrays=("x", "y"))
    request = request_for(replace(order, data=data))
    assert spec(request) == spec(local(data=(x, y)))
    assert request.data.name == "mine.npz"


def test_what_is_known_of_arrays_is_kept(order, request_for, blobs):
    arrays = {"b": np.ones((4, 2, 2, 3)), "a": np.zeros((4, 2, 2, 3)), "y": np.arange(4)}
    data = DataRef(
        name="d",
        blob=blobs.add_arrays(**arrays),
        layout="NHWC",
        preprocessing={"scale": 255.0, "mean": [0.1, 0.2, 0.3], "std": None},
        table=True,
        arrays=("a", "b", "y"),
    )
    got = request_for(replace(order, data=data)).data
    assert isinstance(got, Dataset)
    assert list(got.fields) == ["a", "b"]
    assert (got.layout, got.table) == ("NHWC", True)
    assert got.preprocessing.as_json() == {
        "scale": 255.0,
        "mean": [0.1, 0.2, 0.3],
        "std": None,
    }


def test_directions_come_from_their_blob(order, request_for, blobs, tmp_path):
    ox.evaluate(
        MODEL, "digits", grid="3", samples=10, out=tmp_path / "s.h5",
        save_directions=tmp_path / "d.h5",
    )  # fmt: skip
    sha = blobs.add((tmp_path / "d.h5").read_bytes())
    options = {"x": [-1, 1, 3], "y": None}
    ordered = replace(order, directions=sha, options=options)
    line = Grid(Axis(-1, 1, 3), None)
    assert spec(request_for(ordered)) == spec(local(directions=tmp_path / "d.h5", grid=line))


def test_weights_and_graphs_come_from_their_blobs(order, request_for, blobs):
    weights, graph = blobs.add_arrays(w=np.ones(3)), blobs.add(b"an ONNX file")
    ordered = replace(
        order, weights=weights, graphs={"my.onnx": graph}, options={"loss": "my.onnx"}
    )
    request = request_for(ordered)
    assert request.weights == blobs.path(weights)
    assert request.graphs == {"my.onnx": b"an ONNX file"}


@pytest.mark.parametrize(
    "options", [{"loss": "/etc/passwd.onnx"}, {"metrics": ["a", "../secret.ONNX"]}]
)
def test_a_graph_that_does_not_come_with_the_order_is_not_looked_for(
    options, order, request_for
):
    with pytest.raises(UsageError, match="must come with it"):
        request_for(replace(order, options=options))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "module:function", "~/x.npz", "data.npz", "images,labels", ""]
)
def test_data_by_name_is_never_a_path_or_code(name, order, request_for, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x=np.ones((3, 1, 8, 8)), y=np.arange(3))
    with pytest.raises(UnknownDataError):
        request_for(replace(order, data=DataRef(name=name)))


def test_data_that_is_not_there_is_not_fetched(order, request_for):
    with pytest.raises(DataUnavailableError, match="does not have cifar10"):
        request_for(replace(order, data=DataRef(name="cifar10")))


@pytest.mark.parametrize(
    "options",
    [
        {"model": "/etc/passwd"},
        {"data_dir": "/"},
        {"directions": "/etc/passwd"},
        {"weights": "/etc/passwd"},
        {"graphs": {}},
        {"device": "cpu"},
        {"provider": "X"},
        {"threads": 64},
        {"workers": 64},
        {"seed": "1"},
        {"seed": True},
        {"seed": None},
        {"normalization": "huge"},
        {"ignore": 1},
        {"include": "abc"},
        {"include": [1]},
        {"filter_axis": {"w": "0"}},
        {"filter_axis": [["w", 0]]},
        {"mean": ["a"]},
        {"mean": 1.0},
        {"samples": 1.5},
        {"label_smoothing": "x"},
        {"x": [0, 1]},
        {"x": "0:1:5"},
        {"x": [0, 1, 2.5]},
        {"x": ["a", 1, 3]},
    ],
    ids=str,
)
def test_options_that_are_none_are_refused(options, order, request_for):
    with pytest.raises(UsageError):
        request_for(replace(order, options=options))


@pytest.mark.parametrize("axis", [[1, -1, 5], [0, float("inf"), 3], [0, 1, 1], [0, 1, 10**12]])
def test_a_grid_that_is_none_is_refused(axis, order, request_for):
    with pytest.raises(GridError):
        request_for(replace(order, options={"x": axis}))


def test_every_option_is_a_field_of_the_request():
    names = {f.name for f in dataclasses.fields(EvalRequest)}
    assert set(_TYPES) <= names
    others = "model data name directions weights graphs data_dir device provider threads"
    paths_and_places = {*others.split(), "workers", "strategy", "batch_size"}
    assert names - set(_TYPES) - {"grid"} == paths_and_places


@pytest.mark.parametrize(
    ("wanted", "given"),
    [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cpu", "cpu")],
)
def test_the_device_is_the_workers(wanted, given, order, request_for):
    assert request_for(replace(order, device=wanted), device=given).device == given


def test_another_kind_of_device_is_refused(order, request_for):
    with pytest.raises(UsageError, match="asks for the device 'cuda', this worker has cpu"):
        request_for(replace(order, device="cuda"))


def test_strategy_and_batch_size_are_passed_on(order, request_for):
    request = request_for(replace(order, strategy="overriding", batch_size=10))
    assert (request.strategy, request.batch_size) == ("overriding", 10)


def test_other_arrays_than_registered_are_refused(order, request_for, blobs):
    data = DataRef(name="d", blob=blobs.add_arrays(x=np.ones(3)), arrays=("x", "y"))
    with pytest.raises(DataError, match="registered with the arrays x, y, but holds x"):
        request_for(replace(order, data=data))


@pytest.mark.parametrize(
    "preprocessing", [{"scale": "x"}, {"scale": None}, {"mean": "ab"}, {"std": 3}]
)
def test_preprocessing_that_is_none_is_refused(preprocessing, order, request_for, blobs):
    blob = blobs.add_arrays(x=np.ones((3, 1)), y=np.arange(3))
    data = DataRef(name="d", blob=blob, preprocessing=preprocessing)
    with pytest.raises(DataError, match="preprocessing of d"):
        request_for(replace(order, data=data))


def test_a_missing_model_is_told_by_its_name(order, request_for):
    with pytest.raises(ModelFileError, match="cannot read digits_cnn: No such file"):
        request_for(replace(order, model="00" * 32))


def test_texts_do_not_tell_where_blobs_are(order, blobs):
    ordered = replace(
        order,
        data=DataRef(name="mine.npz", blob="11" * 32),
        directions="22" * 32,
        weights="33" * 32,
        graphs={"l.onnx": "44" * 32},
    )
    shas = [ordered.model, *(f"{n}{n}" * 32 for n in range(1, 5))]
    text = " ".join(str(blobs.path(sha)) for sha in shas)
    assert without_paths(ordered, blobs.path, text) == (
        "digits_cnn mine.npz the uploaded directions the uploaded weights l.onnx"
    )
