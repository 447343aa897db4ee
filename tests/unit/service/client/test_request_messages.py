"""What the client packs is what the worker unpacks: the truth is the request itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

from onnxscape.core.direction import Ignore
from onnxscape.core.grid import Axis, Grid
from onnxscape.core.normalization import Normalization
from onnxscape.data import Dataset, Preprocessing
from onnxscape.errors import DataError, DirectionError, ModelFileError, UsageError
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest
from onnxscape.jobs.job_inputs import request_of
from onnxscape.jobs.order import DataRef
from onnxscape.service.client.request_messages import Offered, pack
from onnxscape.service.orders.checks import OrderLimits, refuse_violations
from onnxscape.service.orders.messages import order_of
from onnxscape.v1 import jobs_pb2

GRID = Grid(Axis(-0.5, 1.0, 4), Axis(-1.0, 2.0, 3))
PLAIN = {
    "name", "seed", "normalization", "ignore", "orthogonal", "include", "exclude",
    "filter_axis", "output", "class_axis", "ignore_index", "label_smoothing", "huber_delta",
    "split", "samples", "layout", "mean", "std", "scale", "precision", "adaptive", "tolerance",
    "stderr", "two_level", "grid", "device", "strategy", "batch_size",
}  # fmt: skip


@pytest.fixture
def blobs():
    return {}


@pytest.fixture
def sent(tmp_path, reference, blobs):
    """Packs a request, sends it through the server's own checks, and unpacks it again."""

    def send(**options):
        fields = {"model": reference / "model.onnx", "data": "digits", "grid": GRID} | options
        request = EvalRequest(**fields)
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        offered = {"digits": Offered("dataSets/digits", ("train", "test"))}
        parcel = pack(request, folder, offered, QuietObserver())
        for blob in parcel.blobs:
            with blob.open() as file:
                content = file.read()
            assert len(content) == blob.size
            blobs[blob.sha256] = tmp_path / blob.sha256
            blobs[blob.sha256].write_bytes(content)
        spec = jobs_pb2.JobSpec()
        spec.CopyFrom(parcel.spec)
        spec.model, spec.data = "models/m", "dataSets/d"
        refuse_violations(
            jobs_pb2.CreateJobRequest(spec=spec, execution=parcel.execution),
            OrderLimits(devices=frozenset({"cpu", "cuda"})),
        )
        name = parcel.data if isinstance(parcel.data, str) else parcel.data.name
        ref = DataRef(name=name.removeprefix("dataSets/"))
        if not isinstance(parcel.data, str):
            how = parcel.data.format
            steps = None
            if how.HasField("preprocessing"):
                p = how.preprocessing
                steps = {
                    "scale": p.scale,
                    "mean": list(p.mean) or None,
                    "std": list(p.std) or None,
                }
            with np.load(blobs[parcel.data.blob.sha256]) as arrays:
                names = tuple(arrays)
            ref = DataRef(
                name=parcel.data.name,
                blob=parcel.data.blob.sha256,
                layout=how.layout or None,
                preprocessing=steps,
                table=how.table,
                arrays=names,
            )
        order = order_of(
            spec,
            parcel.execution,
            model=parcel.model.blob.sha256,
            model_name="model",
            data=ref,
        )
        got = request_of(
            order,
            blobs.__getitem__,
            device="cpu",
            threads=1,
            data_dir=None,
            offline=True,
        )
        return request, got

    return send


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seed": 2**32 - 1, "orthogonal": True, "ignore": Ignore.NONE},
        {"normalization": Normalization.DLAYER, "include": ("a*", "b"), "exclude": ("c",)},
        {"filter_axis": {"conv.weight": -1}},
        {"grid": Grid(Axis(-1, 1, 5), None)},
        {"grid": Grid(None, Axis(-1e-3, 1e300, 2))},
        {"class_axis": -1, "ignore_index": 0, "label_smoothing": 0.1, "huber_delta": 0.25},
        {"class_axis": 0},
        {"samples": 7},
        {"samples": "all"},
        {"samples": "auto", "stderr": 0.01},
        {
            "split": "test",
            "layout": "NHWC",
            "scale": "unit",
            "mean": (0.1,),
            "std": (0.3, 2.0),
        },
        {"scale": 16.1, "mean": (0.0,)},
        {"adaptive": True},
        {"adaptive": True, "tolerance": 1 / 3},
        {"two_level": 10},
        {"precision": "native", "output": "logits"},
        {"strategy": "overriding", "batch_size": 3, "device": "cpu"},
    ],
    ids=str,
)
def test_every_option_arrives_as_it_was_given(sent, options):
    request, got = sent(**options)
    names = PLAIN - {"name", "device"}
    assert {n: getattr(got, n) for n in names} == {n: getattr(request, n) for n in names}


def test_all_fields_of_a_request_are_sent_or_refused_or_of_this_machine():
    named = {
        "model", "data", "directions", "weights", "loss", "metrics", "graphs",  # sent as blobs
        "data_dir",  # where the client looks
        "provider", "threads", "workers",  # refused
    }  # fmt: skip
    assert {f.name for f in dataclasses.fields(EvalRequest)} == PLAIN | named


@pytest.mark.parametrize(
    ("metrics", "loss"),
    [(None, None), ((), "mse"), (("accuracy", "top5"), "cross-entropy"), (("error",), None)],
)
def test_names_of_losses_and_metrics_arrive(sent, metrics, loss):
    _, got = sent(metrics=metrics, loss=loss)
    assert (got.metrics, got.loss) == (metrics, loss)


def test_data_that_are_offered_are_named_and_only_in_splits_that_are(tmp_path, reference):
    offered = {"digits": Offered("dataSets/public", ("train",))}
    for split, named in (("train", True), ("test", False)):
        folder = tmp_path / split
        folder.mkdir()
        request = EvalRequest(
            model=reference / "model.onnx", data="digits", grid=GRID, split=split
        )
        parcel = pack(request, folder, offered, QuietObserver())
        assert (parcel.data == "dataSets/public") is named


@pytest.mark.parametrize("layout", [None, "NHWC"])
@pytest.mark.parametrize(
    "steps", [None, Preprocessing(scale=255.0, mean=(0.5, 0.25, 0.1), std=(0.3,))]
)
def test_a_data_set_arrives_with_all_that_is_known_of_it(sent, layout, steps):
    rng = np.random.default_rng(0)
    data = Dataset(
        name="mine",
        fields={"x": rng.integers(0, 256, (6, 4, 4, 3), np.uint8)},
        labels=np.arange(6),
        layout=layout,
        preprocessing=steps,
    )
    _, got = sent(data=data)
    assert got.data.digest() == data.digest()
    assert (got.data.layout, got.data.preprocessing) == (layout, steps)
    assert (got.data.name, got.data.table) == ("mine", False)


def test_a_table_keeps_the_order_of_its_columns(sent):
    columns = {"z": np.arange(4.0), "a": np.arange(4), "y": np.arange(4)}
    data = Dataset.from_arrays("table", columns, table=True)
    _, got = sent(data=data)
    assert list(got.data.fields) == ["z", "a"]
    assert got.data.table
    assert got.data.digest() == data.digest()


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(12.0).reshape(4, 3)),
        np.arange(8, dtype=">i2").reshape(4, 2),
        np.arange(24.0, dtype=np.float16).reshape(4, 6)[:, ::2],
        np.array([True, False, True, False]),
    ],
    ids=["fortran", "big-endian", "strided", "bool"],
)
def test_arrays_of_any_form_have_the_same_digest_there(sent, array):
    _, got = sent(data={"x": array, "y": np.arange(4)})
    assert (
        got.data.digest() == Dataset.from_arrays("a", {"x": array, "y": np.arange(4)}).digest()
    )


def test_single_values_and_odd_names_arrive(sent):
    arrays = {"file": np.arange(3.0), "a/b": np.float32(2.5), "y": np.arange(3)}
    _, got = sent(
        data=Dataset.from_arrays("odd", {n: np.asarray(a) for n, a in arrays.items()})
    )
    assert set(got.data.fields) == {"file", "a/b"}
    assert got.data.fields["a/b"].shape == ()


def test_the_same_arrays_are_the_same_blob(tmp_path, reference):
    found = set()
    for turn in range(2):
        folder = tmp_path / str(turn)
        folder.mkdir()
        request = EvalRequest(
            model=reference / "model.onnx", data=(np.ones((4, 64)), np.arange(4)), grid=GRID
        )
        found.add(pack(request, folder, {}, QuietObserver()).data.blob.sha256)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"x": np.array(["a", "b"]), "y": np.arange(2)}, "expected numbers"),
        (
            Dataset(name="odd", fields={"y": np.ones(3)}, labels=None),
            "has an input called 'y'",
        ),
    ],
)
def test_data_that_no_file_can_hold_are_refused(sent, data, message):
    with pytest.raises(DataError, match=message):
        sent(data=data)


def test_types_that_numpy_does_not_know_are_refused(sent):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.ones((4, 2), ml_dtypes.bfloat16)
    with pytest.raises(DataError, match="bfloat16 values, which cannot be uploaded; convert"):
        sent(data={"x": x, "y": np.arange(4)})


@pytest.mark.parametrize("as_file", [True, False])
def test_weights_arrive(sent, tmp_path, as_file):
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3)}
    given = weights
    if as_file:
        given = tmp_path / "weights.npz"
        np.savez_compressed(given, **weights)
    _, got = sent(weights=given)
    with np.load(got.weights) as found:
        assert {n: a.tolist() for n, a in found.items()} == {
            n: a.tolist() for n, a in weights.items()
        }


def test_a_direction_file_arrives_to_the_byte(sent, reference):
    _, got = sent(directions=str(reference / "directions.h5"))
    assert got.directions.read_bytes() == (reference / "directions.h5").read_bytes()


def test_a_model_with_external_data_becomes_self_contained(sent, tmp_path, reference):
    path = tmp_path / "external.onnx"
    onnx.save_model(
        onnx.load(reference / "model.onnx"),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    _, got = sent(model=path)
    model = onnx.load_from_string(got.model)
    assert not any(t.external_data for t in model.graph.initializer)
    truth = onnx.load(reference / "model.onnx")
    assert {t.name: t.raw_data for t in model.graph.initializer} == {
        t.name: onnx.numpy_helper.to_array(t).tobytes() for t in truth.graph.initializer
    }


@pytest.mark.parametrize("form", ["path", "bytes", "proto"])
def test_a_model_arrives_to_the_byte_and_with_its_name(sent, reference, form):
    path = reference / "model.onnx"
    content = path.read_bytes()
    model = {"path": str(path), "bytes": content, "proto": onnx.load(path)}[form]
    _, got = sent(model=model, name=None if form == "path" else "model")
    same = content if form != "proto" else onnx.load(path).SerializeToString()
    assert got.model == same


@pytest.fixture
def graph(tmp_path):
    """Makes a graph that computes a loss, in a folder of its own."""

    def make(folder, name, operator="ReduceSum"):
        at = tmp_path / folder / name
        at.parent.mkdir(exist_ok=True)
        logits = onnx.helper.make_tensor_value_info("logits", 1, ["n", 10])
        loss = onnx.helper.make_tensor_value_info("out", 1, ["n"])
        axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
        node = onnx.helper.make_node(operator, ["logits", "axes"], ["out"], keepdims=0)
        made = onnx.helper.make_graph([node], "g", [logits], [loss], [axes])
        opset = onnx.helper.make_opsetid("", 18)
        onnx.save(onnx.helper.make_model(made, opset_imports=[opset], ir_version=8), at)
        return str(at)

    return make


def test_graphs_arrive_by_the_names_that_metrics_have_from_them(sent, graph):
    loss, metric = graph("a", "one.onnx"), graph("b", "two.onnx", "ReduceMax")
    _, got = sent(loss=loss, metrics=("accuracy", metric))
    assert (got.loss, got.metrics) == ("one.onnx", ("accuracy", "two.onnx"))
    for path in (loss, metric):
        name = path.rpartition("/")[2]
        with open(path, "rb") as file:  # noqa: PTH123 - a plain name
            assert got.graphs[name] == file.read()


def test_two_graphs_of_one_name_are_kept_apart_and_the_metric_keeps_its_name(sent, graph):
    loss, metric = graph("a", "x.onnx"), graph("b", "x.onnx", "ReduceMax")
    _, got = sent(loss=loss, metrics=(metric,))
    assert got.metrics == ("x.onnx",)
    assert got.loss.startswith("x-")
    assert got.graphs[got.loss] != got.graphs["x.onnx"]
    _, same = sent(loss=loss, metrics=(loss,))
    assert (same.loss, same.metrics) == ("x.onnx", ("x.onnx",))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threads": 2}, UsageError, "--threads says how to run it on this machine"),
        ({"device": "cuda:0"}, UsageError, "expected --device auto, cpu or cuda"),
        ({"samples": 2.5}, UsageError, "--samples as a whole number, got 2.5"),
        ({"samples": "many"}, UsageError, "a number of samples, 'all' or 'auto'"),
        ({"two_level": "few"}, UsageError, "--two-level as a number of samples"),
        ({"mean": ()}, DataError, "expected --mean as numbers"),
        ({"directions": "none.h5"}, DirectionError, "no direction file none.h5"),
        ({"weights": "none.npz"}, DataError, "cannot read none.npz"),
        ({"model": "none.onnx"}, ModelFileError, "no model file at none.onnx"),
        ({"loss": "none.onnx"}, ModelFileError, "no loss or metric file at none.onnx"),
        ({"data": "none.npz"}, DataError, "none.npz does not exist"),
    ],
)
def test_what_cannot_be_sent_is_refused_here(sent, options, error, message):
    with pytest.raises(error, match=message):
        sent(**options)
