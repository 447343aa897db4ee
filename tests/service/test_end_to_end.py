"""A server in a process of its own: the same bits as a run here, whatever the order names."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest

import onnxscape as ox
from onnxscape.data import Dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FUNCTION = """
import numpy as np

def load(split):
    arrays = np.load({data!r})
    part = slice(0, 200) if split == "train" else slice(200, 300)
    return arrays["x"][part], arrays["y"][part]
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where a server listens; the tests' end ends it."""
    folder = tmp_path_factory.mktemp("server")
    port = folder / "port"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ONNXSCAPE_")}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "onnxscape_cli.main", "serve", "--data-dir"),
                *(folder / "data", "--port", "0", "--port-file", port, "--slots", "cpu:1"),
            ],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        give_up = time.monotonic() + 120
        while not (port.exists() and port.read_text().strip()):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < give_up
            time.sleep(0.05)
        yield f"127.0.0.1:{port.read_text().strip()}"
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)
        server.kill()
        server.wait()
    assert server.returncode == 0, (folder / "log").read_text()


@pytest.fixture
def client(address):
    with ox.Client(address) as made:
        yield made


@pytest.fixture
def compare(client, reference):
    """Evaluates there and here, and compares every bit."""

    def run(model=None, data=None, *, same_model=True, **options):
        model = reference / "model.onnx" if model is None else model
        data = reference / "data.npz" if data is None else data
        options = {"grid": "3x3", "samples": 50} | options
        there = client.evaluate(model, data, **options)
        here = ox.evaluate(model, data, threads=1, **options)
        if same_model:
            assert there.spec == here.spec
        assert there.plan == here.plan
        assert set(there.surfaces) == set(here.surfaces)
        for name, surface in here.surfaces.items():
            assert there.surfaces[name].tobytes() == surface.tobytes(), name
        assert there.evaluated.tobytes() == here.evaluated.tobytes()
        assert there.center == here.center
        assert there.interpolation == here.interpolation
        keys = ("model", "data", "split", "samples", "onnxscape")
        assert {k: there.provenance[k] for k in keys} == {k: here.provenance[k] for k in keys}
        return there

    return run


def test_data_that_the_server_has(compare, reference):
    assert compare(data="digits").provenance["data"] == "digits train"
    compare(data="digits", split="test", samples="all")


def test_a_file(compare):
    compare(samples="all", seed=3, normalize="layer", orthogonal=True)


def test_a_file_of_two_splits(compare, reference, tmp_path):
    with np.load(reference / "data.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    path = tmp_path / "both.npz"
    np.savez(path, x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    compare(data=path, split="test")


def test_a_function(compare, reference, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FUNCTION.format(data=str(reference / "data.npz")))
    monkeypatch.syspath_prepend(tmp_path)
    compare(data="mine:load", split="test", ignore="none")


def test_arrays(compare, digits_arrays):
    x, y = digits_arrays
    compare(data=(np.asfortranarray(x), y.astype(">i4")), scale=2.0, mean=[0.25], std=[1.5])


def test_labels_that_are_smoothed_and_a_line_along_eta(compare):
    compare(y="-1:0.5:5", label_smoothing=0.1, ignore_index=3, metrics=())


def test_fewer_points(compare):
    assert compare(grid="9x9", adaptive=True, tolerance=0.2).interpolation is not None


def test_two_levels_of_samples(compare):
    assert "samples_used" in compare(grid="5x5", samples=200, two_level=20).surfaces


def test_as_many_samples_as_it_takes(compare):
    compare(samples="auto", stderr=0.05)


def test_directions_of_a_file(compare, reference):
    compare(directions=reference / "directions.h5")


def test_a_loss_and_a_metric_that_are_graphs(compare, tmp_path, reference):
    output = onnx.load(reference / "model.onnx").graph.output[0].name
    names = []
    for name, operator in (("sum.onnx", "ReduceLogSumExp"), ("top.onnx", "ReduceMax")):
        value = onnx.helper.make_tensor_value_info(output, 1, ["n", 10])
        result = onnx.helper.make_tensor_value_info("out", 1, ["n"])

        node = onnx.helper.make_node(operator, [output], ["out"], axes=[1], keepdims=0)
        graph = onnx.helper.make_graph([node], "g", [value], [result])
        opset = onnx.load(reference / "model.onnx").opset_import[0]
        path = tmp_path / name
        onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
        names.append(str(path))
    loss, metric = names
    assert "top" in compare(loss=loss, metrics=(metric,)).surfaces


def test_weights_that_are_inputs(compare, make_model, digits_arrays):
    x, y = digits_arrays
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["out"])
    model = make_model([node], {"x": ["n", 64], "w": [64, 10]}, {"out": ["n", 10]}, {})
    weights = {"w": np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)}
    compare(model, (x.reshape(-1, 64), y), weights=weights, name="bare")


def test_a_table(compare, make_model):
    rng = np.random.default_rng(0)
    columns = {"b": rng.normal(size=60), "a": rng.normal(size=60), "y": rng.integers(0, 3, 60)}
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["out"])
    tensors = {"w": rng.normal(size=(2, 3)).astype(np.float32)}
    model = make_model([node], {"x": ["n", 2]}, {"out": ["n", 3]}, tensors)
    compare(model, Dataset.from_arrays("table", columns, table=True))


def test_a_model_with_external_data(compare, tmp_path, reference):
    path = tmp_path / "model.onnx"
    onnx.save_model(
        onnx.load(reference / "model.onnx"),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    compare(path, same_model=False)  # the file that the server has is another one


def test_what_moves(compare, reference):
    names = [t.name for t in onnx.load(reference / "model.onnx").graph.initializer]
    compare(exclude=names[:1], include=names[1:2])


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "no-such-loss"},
        {"samples": 10_000},
        {"class_axis": 5},
        {"exclude": ["*"]},
        {"two_level": 50},
        {"data": "labels out of range"},
    ],
    ids=str,
)
def test_an_error_of_the_server_is_the_error_of_a_run_here(
    client, reference, digits_arrays, options
):
    fields = {"data": reference / "data.npz", "samples": 50, "grid": "3x3"} | options
    if options.get("data") is not None:
        fields["data"] = (digits_arrays[0], digits_arrays[1] + 100)
    errors = []
    for evaluate in (client.evaluate, ox.evaluate):
        with pytest.raises(ox.OnnxscapeError) as raised:
            evaluate(reference / "model.onnx", **fields)
        errors.append(raised.value)
    there, here = errors
    assert (type(there), str(there)) == (type(here), str(here))


def test_the_same_command_on_the_command_line_leaves_the_same_file(
    address, reference, tmp_path
):
    line = ["eval", reference / "model.onnx", "--data", reference / "data.npz"]
    line += ["--samples", "50", "--grid", "4x3", "--no-plot", "--out"]
    for name, more in (("here.h5", ["--threads", "1"]), ("there.h5", ["--server", address])):
        subprocess.run(
            [sys.executable, "-m", "onnxscape_cli.main", *line, name, *more],
            check=True,
            cwd=tmp_path,
            capture_output=True,
        )
    here, there = ox.load(tmp_path / "here.h5"), ox.load(tmp_path / "there.h5")
    assert here.loss.tobytes() == there.loss.tobytes()
    assert set(here.provenance) == set(there.provenance)
    assert (tmp_path / "here.h5").stat().st_size == (tmp_path / "there.h5").stat().st_size
