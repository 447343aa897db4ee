"""Every exit status, each with one clear line and no traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxscape import errors
from onnxscape.errors import OnnxscapeError, SelfTestError, StorageError
from onnxscape.storage import PointStore
from onnxscape_cli.exit_status import EXIT_STATUS, exit_status

MODELS = Path(__file__).parents[2] / "models"


def subclasses(kind):
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_every_error_has_its_row_in_the_table():
    known = {kind for kind in subclasses(OnnxscapeError) if kind.__module__ == errors.__name__}
    assert set(EXIT_STATUS) == known
    assert set(EXIT_STATUS.values()) == {1, 2, 3, 4, 5, 6}
    assert len(known) > 10
    assert exit_status(StorageError("x")) == 6


def test_success_is_0(cli, arguments):
    assert cli(*arguments()).status == 0


# --- models ----------------------------------------------------------------------------------


def cut(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "change",
    [
        cut,
        lambda content: content[:-1],
        lambda _: b"",
        lambda _: np.random.default_rng(0).bytes(5000),
        lambda _: b"<html>not found</html>",
    ],
    ids=["half", "without its last byte", "empty", "random", "html"],
)
def test_bytes_that_are_no_model_are_2(cli, arguments, reference, here, change):
    path = here / "m.onnx"
    path.write_bytes(change((reference / "model.onnx").read_bytes()))
    result = cli(*arguments(model=path))
    assert result.status == 2
    assert "m.onnx" in result.error()
    assert result.out == ""


@pytest.mark.parametrize("model", ["nope.onnx", "."])
def test_a_model_that_is_not_there_is_2(cli, arguments, model):
    result = cli(*arguments(model=model))
    assert result.status == 2
    assert model in result.error()


def without_weights(proto):
    proto.graph.ClearField("initializer")
    proto.graph.ClearField("node")
    nodes = [
        onnx.helper.make_node("Flatten", ["input"], ["flat"]),
        onnx.helper.make_node("Relu", ["flat"], ["logits"]),
    ]
    proto.graph.node.extend(nodes)


def in_training_mode(proto):
    norm = next(node for node in proto.graph.node if node.op_type == "BatchNormalization")
    next(a for a in norm.attribute if a.name == "training_mode").i = 1
    norm.output.extend(["mean", "variance"])
    proto.graph.output.append(
        onnx.helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, None)
    )


def with_an_unknown_operator(proto):
    next(node for node in proto.graph.node if node.op_type == "Relu").op_type = "Relux"


def with_two_outputs(proto):
    proto.graph.output.append(
        onnx.helper.make_tensor_value_info("/Relu_output_0", onnx.TensorProto.FLOAT, None)
    )


def of_an_old_operator_set(proto):
    proto.opset_import[0].version = 9
    with_an_unknown_operator(proto)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without_weights, "nothing to move"),
        (in_training_mode, "in training mode and the model uses the statistics"),
        (with_an_unknown_operator, "Relux"),
        (with_two_outputs, "this one has 2"),
        (of_an_old_operator_set, "operator set 11 or newer"),
    ],
)
def test_a_model_that_cannot_be_handled_is_4(cli, arguments, reference, here, change, named):
    proto = onnx.load(reference / "model.onnx")
    change(proto)
    onnx.save(proto, here / "m.onnx")
    result = cli(*arguments(model="m.onnx"))
    assert result.status == 4
    assert named in result.error()


@pytest.mark.parametrize("batch", [(), ("--batch-size", 8)])
@pytest.mark.parametrize("time", [12, None])
def test_samples_along_another_axis_than_the_first_are_4(cli, here, time, batch, make_model):
    random = np.random.default_rng(0)
    sizes = {"w": (1, 24, 5), "r": (1, 24, 6), "last": (6, 3)}
    tensors = {name: np.float32(random.standard_normal(size)) for name, size in sizes.items()}
    nodes = [
        onnx.helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], hidden_size=6),
        onnx.helper.make_node("Squeeze", ["h", "axis"], ["s"]),
        onnx.helper.make_node("MatMul", ["s", "last"], ["z"]),
    ]
    shapes = {"x": [time, None, 5]}, {"z": [None, 3]}
    onnx.save(make_model(nodes, *shapes, tensors | {"axis": np.array([0])}), here / "m.onnx")
    x = np.float32(random.standard_normal((30, 12, 5)))
    np.savez(here / "d.npz", x=x, y=np.arange(30) % 3)
    result = cli("eval", "m.onnx", "--data", "d.npz", "--grid", "3", *batch)
    assert result.status == 4
    assert "expected a model that takes samples along the first axis" in result.error()
    assert "ONNXRuntime" not in result.err


# --- data ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda x, y: (x, y + 5), "0..9"),
        (lambda x, y: (x, y - 1), "-1"),
        (lambda x, y: (x[:, :, :7], y), "[N, 1, 7, 8]"),
        (lambda x, y: (np.repeat(x, 3, axis=1), y), "[N, 3, 8, 8]"),
        (lambda x, y: (np.where(x == x.max(), np.nan, x), y), "nan"),
        (lambda x, y: (x, y[:-1]), "300"),
        (lambda x, y: (x, np.eye(10)[y]), "one-hot"),
        (lambda x, y: (x[:0], y[:0]), "0 samples"),
    ],
    ids=["above", "below", "shape", "channels", "nan", "counts", "one-hot", "empty"],
)
def test_data_that_does_not_fit_is_2(cli, arguments, digits_arrays, here, change, named):
    x, y = change(*digits_arrays)
    np.savez(here / "d.npz", x=x, y=y)
    result = cli(*arguments(data="d.npz"))
    assert result.status == 2
    assert named in result.error()


def test_samples_without_labels_are_2(cli, arguments, digits_arrays, here):
    np.savez(here / "d.npz", x=digits_arrays[0])
    result = cli(*arguments(data="d.npz"))
    assert result.status == 2
    assert "'y'" in result.error()


@pytest.mark.parametrize("data", ["cifra10", "nope.npz", "no/folder", "nope:function"])
def test_unknown_data_is_2(cli, arguments, data):
    result = cli(*arguments(data=data))
    assert result.status == 2
    assert data.split(":")[0] in result.error()


def test_a_damaged_data_file_is_2(cli, arguments, reference, here):
    (here / "d.npz").write_bytes(cut((reference / "data.npz").read_bytes()))
    result = cli(*arguments(data="d.npz"))
    assert result.status == 2
    assert "d.npz" in result.error()


def works(*command):
    program = shutil.which(command[0])
    return (
        program is not None
        and not subprocess.run(
            [program, *command[1:]], check=False, capture_output=True
        ).returncode
    )


def test_known_data_without_network_and_npm_is_3(tmp_path, own_environment):
    if not works("unshare", "-n", "true"):
        pytest.skip("needs unshare -n")
    command = [shutil.which("unshare"), "-n", sys.executable, "-m", "onnxscape_cli.main"]
    command += ["eval", MODELS / "resnet20_cifar10.onnx", "--data", "cifar10", "--quiet"]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env=own_environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 3
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("onnxscape: error: cifar10 cannot be had here")
    assert "npm is not on the PATH" in line


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--grid", "0x0"], "0x0"),
        (["--grid", "5x1"], "5x1"),
        (["--grid", "5by5"], "5by5"),
        (["--grid", "100000x100000"], "16000000"),
        (["--radius", "0"], "radius"),
        (["--radius", "nan"], "radius"),
        (["--x", "1:1:5"], "1:1:5"),
        (["--x", "2:1:5"], "MIN below MAX"),
        (["--x", "-1:1"], "MIN:MAX:NUM"),
        (["--y", "-1:1:1"], "at least 2"),
        (["--samples", "many"], "many"),
        (["--samples", "301"], "300"),
        (["--samples", "0"], "at least 1"),
        (["--mean", "a,b"], "a,b"),
        (["--metric", "top99"], "top99"),
        (["--device", "tpu"], "tpu"),
        (["--directions", "nope.h5"], "nope.h5"),
        (["--save-directions", "s.h5"], "two files"),
        (["--save-directions", "no/d.h5"], "no folder"),
        (["--store", "nofolder"], "nofolder"),
    ],
)
def test_an_option_that_means_nothing_is_2(cli, arguments, here, options, named):
    result = cli(*arguments(*options))
    assert result.status == 2
    assert named in result.error()
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [["--seed", "-1"], ["--normalize", "bn"], ["--batch-size", "0"], ["--colour"]],
)
def test_an_option_that_is_no_option_is_2(cli, arguments, options):
    result = cli(*arguments(*options))
    assert result.status == 2
    error = result.error()
    assert error.endswith(" (see onnxscape eval --help)")
    assert options[0] in error


def test_an_absent_gpu_is_2(cli, arguments):
    result = cli(*arguments("--device", "cuda"))
    assert result.status == 2
    assert "--device cpu" in result.error()


# --- outputs ---------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="names folders of Linux")
@pytest.mark.parametrize(
    ("out", "named"),
    [
        ("no/folder/s.h5", "there is no folder"),
        ("file/s.h5", "there is no folder"),
        (".", "it is a folder"),
        ("a" * 300 + ".h5", "too long"),
        ("s\n.h5", "control characters"),
        ("/proc/x.h5", "'/proc/x.h5'"),  # nobody may write there, not even the superuser
        ("/dev/full", "device or pipe"),
    ],
)
def test_an_output_that_cannot_be_written_is_2(cli, arguments, here, out, named):
    (here / "file").write_text("")
    result = cli(*arguments(out=out))
    assert result.status == 2
    assert named in result.error()
    assert result.out == ""
    assert [path.name for path in here.iterdir()] == ["file"]


@pytest.mark.parametrize("content", [b"", b"notes", b"\x89HDF\r\n\x1a\n"])
def test_an_output_that_holds_something_else_is_2(cli, arguments, here, content):
    (here / "s.h5").write_bytes(content)
    result = cli(*arguments())
    assert result.status == 2
    assert "s.h5 exists and is no" in result.error()
    assert (here / "s.h5").read_bytes() == content


def test_another_landscape_in_the_output_is_2(cli, arguments):
    assert cli(*arguments()).status == 0
    result = cli(*arguments("--seed", "3", "--normalize", "layer"))
    assert result.status == 2
    assert "seed (0, not 3); normalization" in result.error()


def test_a_failed_self_test_is_1(cli, arguments, monkeypatch):
    def fail(*_arguments, **_options):
        raise SelfTestError("self-test failed at the center")

    monkeypatch.setattr("onnxscape.evaluation.bench.self_test", fail)
    result = cli(*arguments())
    assert result.status == 1
    assert result.error() == "self-test failed at the center"


def test_storage_that_fails_later_is_6(cli, arguments, monkeypatch):
    def fail(*_arguments):
        raise StorageError("the disk is full")

    monkeypatch.setattr(PointStore, "put", fail)
    result = cli(*arguments())
    assert result.status == 6
    assert result.error() == "the disk is full"


@pytest.mark.parametrize("trace", [False, True])
def test_what_nobody_foresaw_is_1_and_asks_for_a_report(cli, arguments, monkeypatch, trace):
    def fail(*_arguments, **_options):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("onnxscape_cli.eval.run_to_file", fail)
    monkeypatch.setenv("ONNXSCAPE_TRACEBACK", "1" if trace else "")
    result = cli(*arguments())
    assert result.status == 1
    assert result.err.startswith("onnxscape: internal error: ZeroDivisionError: oh; please")
    assert ("Traceback" in result.err) == trace
    assert trace or result.err.count("\n") == 1


def test_a_reader_that_goes_away_costs_no_point(start, cli, arguments):
    running = start(arguments(grid="15x15"))
    running.process.stdout.readline()
    running.process.stdout.close()
    assert running.process.wait(timeout=60) == 1
    assert running.process.stderr.read() == ""
    kept = running.points()
    report = json.loads(cli(*arguments("--json", grid="15x15")).out)
    assert report["points_reused"] == kept
    assert report["complete"]


def test_a_model_in_training_mode_is_0_with_a_warning(cli, arguments, reference, here):
    proto = onnx.load(reference / "model.onnx")
    norm = next(node for node in proto.graph.node if node.op_type == "BatchNormalization")
    next(a for a in norm.attribute if a.name == "training_mode").i = 1
    onnx.save(proto, here / "m.onnx")
    result = cli(*arguments(model="m.onnx"))
    assert result.status == 0
    assert "is in training mode: its stored statistics are used" in result.err


@pytest.mark.parametrize(
    ("weights", "named"),
    [("absent.npz", "absent.npz"), ("other.npz", "'other', which is no input")],
)
def test_weights_that_cannot_be_used_are_2(cli, arguments, here, weights, named):
    np.savez(here / "other.npz", other=np.zeros(3))
    result = cli(*arguments(), "--weights", weights)
    assert result.status == 2
    assert named in result.error()


def test_an_unknown_precision_is_2(cli, arguments):
    assert cli(*arguments(), "--precision", "fp8").status == 2
