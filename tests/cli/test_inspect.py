"""`onnxscape inspect`: what goes to stdout and stderr, and the exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxscape as ox

MODELS = Path(__file__).parents[2] / "models"
DIGITS = MODELS / "digits_cnn.onnx"


def test_the_audit_is_printed_and_nothing_else(cli):
    result = cli("inspect", DIGITS)
    assert (result.status, result.err) == (0, "")
    assert result.out == f"{ox.inspect(DIGITS)}\n"


def test_json_is_one_object_on_stdout(cli):
    result = cli("inspect", DIGITS, "--json")
    (line,) = result.out.splitlines()
    assert (result.status, result.err) == (0, "")
    assert json.loads(line) == ox.inspect(DIGITS).to_dict()


def test_warnings_are_in_the_json_and_on_stderr(cli, here, dense_model):
    onnx.save(dense_model(np.eye(3, 2), np.zeros(2), softmax=True), here / "m.onnx")
    result = cli("inspect", "m.onnx", "--json")
    warnings = json.loads(result.out)["warnings"]
    assert len(warnings) > 0
    assert result.err.splitlines() == [f"onnxscape: warning: {text}" for text in warnings]


def test_warnings_are_part_of_the_text(cli, here, dense_model):
    onnx.save(dense_model(np.eye(3, 2), np.zeros(2), softmax=True), here / "m.onnx")
    result = cli("inspect", "m.onnx")
    assert result.err == ""
    assert "warning  probabilities out: " in result.out


def test_weights_that_are_not_finite_leave_the_json_valid(cli, here, dense_model):
    onnx.save(dense_model([[np.nan, np.inf], [1.0, 2.0]], [0.0, -np.inf]), here / "m.onnx")
    result = cli("inspect", "m.onnx", "--json")

    def refuse(constant):
        raise AssertionError(constant)

    assert result.status == 0
    assert json.loads(result.out, parse_constant=refuse)["format"] == 1


def test_options_reach_the_audit(cli):
    moved = json.loads(cli("inspect", DIGITS, "--ignore", "none", "--json").out)["totals"]
    assert moved["perturbed_values"] == moved["trainable_values"] == 28_842


def test_tensors_can_be_included_excluded_and_turned(cli):
    options = ["--include", "fc.bias", "--exclude", "conv?.weight", "--filter-axis"]
    result = cli("inspect", DIGITS, *options, "fc.weight=1", "--json")
    moved = {p["name"]: p for p in json.loads(result.out)["parameters"] if p["perturbed"]}
    assert set(moved) == {"fc.bias", "fc.weight"}
    assert moved["fc.weight"]["filters"] == 64
    assert cli("inspect", DIGITS, "--filter-axis", "fc.weight").status == 2
    assert cli("inspect", DIGITS, "--include", "no such name").status == 2


def test_weights_come_from_a_file(cli, here, make_model):
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"])
    model = make_model([gemm], {"x": ["n", 3], "w": [3, 2]}, {"y": ["n", 2]}, {})
    onnx.save(model, here / "m.onnx")
    np.savez(here / "w.npz", w=np.eye(3, 2, dtype=np.float32))
    assert cli("inspect", "m.onnx").status == 4
    assert cli("inspect", "m.onnx", "--weights", "w.npz").status == 0
    assert cli("inspect", "m.onnx", "--weights", "nope.npz").status == 2


def test_all_lists_what_is_summed_up_otherwise(cli):
    model = MODELS / "resnet20_cifar10.onnx"
    short, long = cli("inspect", model).out, cli("inspect", model, "--all").out
    assert "layer1.0.bn1.running_mean" not in short
    assert "layer1.0.bn1.running_mean" in long


# --- exit statuses ---------------------------------------------------------------------------


def test_a_model_with_nothing_to_move_is_4_and_its_audit_is_printed(cli, here, make_model):
    relu = helper.make_node("Relu", ["x"], ["y"])
    onnx.save(make_model([relu], {"x": ["n", 3]}, {"y": ["n", 3]}, {}), here / "m.onnx")
    result = cli("inspect", "m.onnx", "--json")
    assert result.status == 4
    assert "nothing to move" in result.error()
    assert json.loads(result.out)["totals"]["perturbed_tensors"] == 0


@pytest.mark.parametrize(
    "change",
    [lambda content: content[:-1], lambda _: b"", lambda _: b"<html>not found</html>"],
    ids=["cut", "empty", "html"],
)
def test_bytes_that_are_no_model_are_2(cli, here, change):
    (here / "m.onnx").write_bytes(change(DIGITS.read_bytes()))
    result = cli("inspect", "m.onnx")
    assert (result.status, result.out) == (2, "")
    assert "m.onnx" in result.error()


@pytest.mark.parametrize("model", ["nope.onnx", "."])
def test_a_model_that_is_not_there_is_2(cli, model):
    result = cli("inspect", model)
    assert (result.status, result.out) == (2, "")
    assert model in result.error()


def test_a_broken_graph_is_2(cli, here):
    proto = onnx.load(DIGITS)
    proto.graph.node[0].input[0] = "nothing makes this"
    onnx.save(proto, here / "m.onnx")
    result = cli("inspect", "m.onnx")
    assert (result.status, result.out) == (2, "")
    assert "nothing makes this" in result.error()


def test_a_shape_that_lies_about_its_values_is_2(cli, here):
    proto = onnx.load(DIGITS)
    proto.graph.initializer[0].dims[0] = 2**40
    onnx.save(proto, here / "m.onnx")
    result = cli("inspect", "m.onnx")
    assert (result.status, result.out) == (2, "")
    assert "graph is broken" in result.error()


def test_missing_external_data_is_2(cli, here):
    onnx.save(
        onnx.load(DIGITS), here / "m.onnx", save_as_external_data=True, location="m.data"
    )
    (here / "m.data").unlink()
    result = cli("inspect", "m.onnx")
    assert (result.status, result.out) == (2, "")
    assert "external data" in result.error()


def test_external_data_outside_the_folder_is_2(cli, here):
    proto = onnx.load(DIGITS)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    (here / "m.onnx").write_bytes(proto.SerializeToString())
    result = cli("inspect", "m.onnx")
    assert (result.status, result.out) == (2, "")
    assert "external data" in result.error()
    assert "root:" not in result.err


def test_a_model_that_cannot_be_handled_is_4(cli, here, make_model):
    random = helper.make_node("RandomNormalLike", ["x"], ["y"])
    onnx.save(make_model([random], {"x": ["n", 3]}, {"y": ["n", 3]}, {}), here / "m.onnx")
    result = cli("inspect", "m.onnx")
    assert (result.status, result.out) == (4, "")
    assert "random numbers" in result.error()


@pytest.mark.parametrize(
    "options", [[], ["a.onnx", "b.onnx"], [str(DIGITS), "--ignore", "all"]]
)
def test_bad_usage_is_2(cli, options):
    assert cli("inspect", *options).status == 2


def test_names_that_would_steer_a_terminal_do_not_reach_it(cli, here, dense_model):
    model = dense_model(np.eye(3, 2), np.zeros(2))
    spare = numpy_helper.from_array(np.ones(2, np.float32), "\x1b[2Jspare")
    model.graph.initializer.append(spare)
    onnx.save(model, here / "m.onnx")
    # click would take out whole sequences where it writes to no terminal
    assert "\N{REPLACEMENT CHARACTER}[2Jspare" in cli("inspect", "m.onnx").out
    assert "\N{REPLACEMENT CHARACTER}[2Jspare" in cli("inspect", "m.onnx", "--json").err


def test_the_model_is_not_run(here):
    program = (
        "import sys; from onnxscape_cli.inspect import command; "
        f"command([{str(DIGITS)!r}], standalone_mode=False); "
        "print([name for name in ('onnxruntime', 'matplotlib') if name in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=here
    ).stdout
    assert out.splitlines()[-1] == "[]"
